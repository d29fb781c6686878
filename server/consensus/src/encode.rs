//! Raft's own records as bytes at rest, in messages of ours: the library's shapes may change
//! between versions, what is on disk may not.

use std::collections::BTreeSet;
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use openraft::vote::RaftLeaderId;
use prost::Message;
use proto::storage::v1;
use store::encode;

use crate::types::{Entry, LogId, Member, Membership, Payload, Proposal, StoredMembership, Vote};

/// The first byte of an entry that changes the membership. No command starts with it: it would be
/// the tag of a field far beyond those that a command has.
const MEMBERSHIP: u8 = 0xff;

/// Bytes at rest that mean nothing.
pub(crate) fn malformed(what: &'static str, source: impl std::fmt::Display) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a stored {what} can't be read: {source}; the file was written by another program or is damaged"),
    )
}

pub(crate) fn payload_to_bytes(payload: &Payload) -> Bytes {
    match payload {
        Payload::Blank => Bytes::new(),
        Payload::Normal(proposal) => proposal.bytes.clone(),
        Payload::Membership(membership) => {
            let mut bytes = BytesMut::new();
            bytes.put_u8(MEMBERSHIP);
            membership_to_proto(membership).encode(&mut bytes).expect("a buffer that grows takes everything");
            bytes.freeze()
        }
    }
}

/// Whether an entry of the log changes the membership, seen by its first byte.
pub(crate) fn is_membership(payload: &[u8]) -> bool {
    payload.first() == Some(&MEMBERSHIP)
}

pub(crate) fn entry_from_log(entry: store::log::LogEntry) -> io::Result<Entry> {
    let payload = match entry.payload.first() {
        None => Payload::Blank,
        Some(&MEMBERSHIP) => {
            let stored = v1::Membership::decode(entry.payload.slice(1..)).map_err(|error| malformed("membership", error))?;
            Payload::Membership(membership_from_proto(stored)?)
        }
        Some(_) => {
            let command = encode::command::decode(entry.payload.clone()).map_err(|error| malformed("command", error))?;
            Payload::Normal(Proposal { command: std::sync::Arc::new(command), bytes: entry.payload })
        }
    };
    Ok(Entry { log_id: log_id(entry.term, entry.index), payload })
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new_term_index(term, index)
}

pub(crate) fn log_id_to_bytes(id: &LogId) -> Bytes {
    log_id_to_proto(id).encode_to_vec().into()
}

pub(crate) fn log_id_from_bytes(bytes: &[u8]) -> io::Result<LogId> {
    let stored = v1::LogId::decode(bytes).map_err(|error| malformed("log position", error))?;
    Ok(log_id(stored.term, stored.index))
}

pub(crate) fn vote_to_bytes(vote: &Vote) -> Bytes {
    vote_to_proto(vote).encode_to_vec().into()
}

pub(crate) fn vote_from_bytes(bytes: &[u8]) -> io::Result<Vote> {
    v1::Vote::decode(bytes).map(vote_from_proto).map_err(|error| malformed("vote", error))
}

pub(crate) fn vote_to_proto(vote: &Vote) -> v1::Vote {
    v1::Vote { term: vote.leader_id.term, node_id: *vote.leader_id.node_id(), committed: vote.committed }
}

pub(crate) fn vote_from_proto(stored: v1::Vote) -> Vote {
    if stored.committed { Vote::new_committed(stored.term, stored.node_id) } else { Vote::new(stored.term, stored.node_id) }
}

pub(crate) fn applied_to_bytes(applied: &LogId, membership: &StoredMembership) -> Bytes {
    applied_to_proto(applied, membership).encode_to_vec().into()
}

pub(crate) fn applied_to_proto(applied: &LogId, membership: &StoredMembership) -> v1::Applied {
    v1::Applied {
        log_id: Some(log_id_to_proto(applied)),
        membership_log_id: membership.log_id().as_ref().map(log_id_to_proto),
        membership: Some(membership_to_proto(membership.membership())),
    }
}

pub(crate) fn applied_from_bytes(bytes: &[u8]) -> io::Result<(LogId, StoredMembership)> {
    applied_from_proto(v1::Applied::decode(bytes).map_err(|error| malformed("applied position", error))?)
}

pub(crate) fn applied_from_proto(stored: v1::Applied) -> io::Result<(LogId, StoredMembership)> {
    let id = stored.log_id.ok_or_else(|| malformed("applied position", "it has no index"))?;
    let membership_id = stored.membership_log_id.map(|id| log_id(id.term, id.index));
    let membership = membership_from_proto(stored.membership.unwrap_or_default())?;
    Ok((log_id(id.term, id.index), StoredMembership::new(membership_id, membership)))
}

pub(crate) fn log_id_from_proto(stored: v1::LogId) -> LogId {
    log_id(stored.term, stored.index)
}

pub(crate) fn log_id_to_proto(id: &LogId) -> v1::LogId {
    v1::LogId { term: id.leader_id.term, index: id.index }
}

fn membership_to_proto(membership: &Membership) -> v1::Membership {
    let configs = membership.get_joint_config().iter().map(|voters| v1::VoterSet { node_ids: voters.iter().copied().collect() });
    let member = |(id, member): (&u64, &Member)| v1::Member { id: *id, name: member.name.clone(), address: member.address.clone() };
    v1::Membership { configs: configs.collect(), members: membership.nodes().map(member).collect() }
}

fn membership_from_proto(stored: v1::Membership) -> io::Result<Membership> {
    let configs: Vec<BTreeSet<u64>> = stored.configs.into_iter().map(|set| set.node_ids.into_iter().collect()).collect();
    if configs.is_empty() {
        return Ok(Membership::default());
    }
    let members = stored.members.into_iter().map(|member| (member.id, Member { name: member.name, address: member.address }));
    Membership::new(configs, members.collect::<std::collections::BTreeMap<_, _>>()).map_err(|error| malformed("membership", error))
}
