//! Keys with their values, and deletions.

use bytes::Bytes;
use proto::storage::v1 as pb;
use state::kv::KvHeader;
use state::{KvEntry, LogIndex, Millis, Row, Tombstone};

use crate::encode::{Malformed, from_session, to_session};

pub(super) fn from_entry(entry: &KvEntry) -> pb::Kv {
    pb::Kv {
        key: Bytes::copy_from_slice(entry.key()),
        value: Bytes::copy_from_slice(entry.value()),
        flags: entry.flags(),
        create_index: entry.create_index().0,
        modify_index: entry.modify_index().0,
        lock_index: entry.lock_index(),
        session: from_session(entry.session()),
        fence: entry.fence().0,
    }
}

pub(super) fn to_entry(kv: &pb::Kv) -> Result<KvEntry, Malformed> {
    let header = KvHeader {
        flags: kv.flags,
        create_index: LogIndex(kv.create_index),
        modify_index: LogIndex(kv.modify_index),
        lock_index: kv.lock_index,
        session: to_session(&kv.session, "session")?,
        fence: LogIndex(kv.fence),
    };
    Ok(KvEntry::new(&kv.key, &kv.value, header))
}

pub(super) fn from_tombstone(key: &[u8], prefix: bool, tombstone: &Tombstone) -> pb::Tombstone {
    pb::Tombstone { key: Bytes::copy_from_slice(key), prefix, index: tombstone.index.0, at_ms: tombstone.at.0 }
}

pub(super) fn to_tombstone(row: &pb::Tombstone) -> Row {
    let tombstone = Tombstone { index: LogIndex(row.index), at: Millis(row.at_ms) };
    Row::Tombstone { key: row.key[..].into(), prefix: row.prefix, tombstone }
}
