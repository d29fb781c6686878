//! A whole state from the leader to a follower that the log no longer reaches.
//!
//! The leader names the [pieces](store::pieces) of its state; the follower says which of them it has not got, gets those, and
//! builds the state from all of them. A piece is known by its digest, so that it does not matter where it
//! came from: a transfer that broke off goes on where it ended, also when the follower was started again, when the leader's
//! state has gone on meanwhile, or when another server leads; and who lagged for an hour gets what has changed.
//! Whatever differs from its name is thrown away, and nothing of a state is visible before all of it is here.
//!
//! [`held`] keeps the snapshot and the log behind it while it is being sent, so that the follower can go on from there.

pub(crate) mod held;
pub(crate) mod receiving;
pub(crate) mod sending;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use prost::Message;
use proto::internal::v1 as pb;
use sha2::{Digest, Sha256};

use crate::state_machine::SnapshotData;
use crate::types::TypeConfig;

pub(crate) type SnapshotOf = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// The digest of everything that a head says of the state.
fn digest(head: &pb::SnapshotHead) -> Bytes {
    let mut hash = Sha256::new();
    hash.update(head.applied.as_ref().map(Message::encode_to_vec).unwrap_or_default());
    head.pieces.iter().for_each(|piece| hash.update(&piece.sha256));
    hash.finalize().to_vec().into()
}
