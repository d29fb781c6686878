//! What lies on disk and what the state machine works with, each turned into the other.
//!
//! One module a noun. Encoding cannot fail. Decoding checks everything that a program relies on and answers
//! with [`Malformed`], never with a panic: the bytes come from a disk or from another server.

mod catalog;
mod change;
mod check;
pub mod command;
mod key;
mod kv;
mod lock;
mod operator;
pub mod row;
mod session;
#[cfg(test)]
pub(crate) mod tests;
mod txn;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::storage::v1 as pb;
use state::{ChangeBatch, SessionId, Str};

pub(crate) use key::{Table, key_of, row_key};

/// Bytes that do not say what they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Not a message of that kind.
    #[error("the bytes are not a message")]
    NotAMessage(#[from] prost::DecodeError),
    /// A field without which the message means nothing.
    #[error("`{0}` is not set")]
    Missing(&'static str),
    /// A field with a value that does not exist. A later release may know it.
    #[error("`{0}` has a value that this release does not know")]
    Unknown(&'static str),
}

/// Encodes a batch of changes for the history.
pub fn encode_changes(batch: &ChangeBatch) -> Vec<u8> {
    change::from_batch(batch).encode_to_vec()
}

/// Decodes a batch of changes.
///
/// # Errors
///
/// [`Malformed`] when the bytes are not what [`encode_changes`] makes.
pub fn decode_changes(bytes: &[u8]) -> Result<ChangeBatch, Malformed> {
    change::to_batch(pb::ChangeBatch::decode(bytes)?)
}

fn from_session(session: Option<SessionId>) -> Bytes {
    session.map_or_else(Bytes::new, |session| Bytes::copy_from_slice(&session.0))
}

fn to_session(bytes: &[u8], field: &'static str) -> Result<Option<SessionId>, Malformed> {
    match bytes {
        [] => Ok(None),
        bytes => bytes.try_into().map(|bytes| Some(SessionId(bytes))).map_err(|_| Malformed::Unknown(field)),
    }
}

fn from_pairs(pairs: &BTreeMap<Str, Str>) -> Vec<pb::Pair> {
    pairs.iter().map(|(key, value)| pb::Pair { key: key.to_string(), value: value.to_string() }).collect()
}

fn to_pairs(pairs: Vec<pb::Pair>) -> BTreeMap<Str, Str> {
    pairs.into_iter().map(|pair| (pair.key.into(), pair.value.into())).collect()
}

fn from_strs(strs: &[Str]) -> Vec<String> {
    strs.iter().map(|text| text.to_string()).collect()
}

fn to_strs(strings: Vec<String>) -> Vec<Str> {
    strings.into_iter().map(Str::from).collect()
}

fn from_option(text: &Option<Str>) -> Option<String> {
    text.as_ref().map(|text| text.to_string())
}

fn to_option(text: Option<String>) -> Option<Str> {
    text.map(Str::from)
}
