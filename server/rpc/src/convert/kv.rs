//! Keys: entries, writes and what must hold for them.

use ::service::Error;
use ::service::kv::{Condition, Put};
use bytes::Bytes;
use proto::v1;
use proto::v1::precondition::Row;
use state::{Compare, KvEntry, LockAction, LogIndex};

use super::common::{fence, session};
use crate::status::invalid;

/// Values at least this large are shared with the answer instead of being copied into it.
const SHARED_BYTES_MIN: usize = 4096;

/// A value that lives as long as its entry.
struct Value(KvEntry);

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.0.value()
    }
}

/// An entry for the wire.
pub(crate) fn entry(entry: &KvEntry) -> v1::Entry {
    let value = match entry.value() {
        large if large.len() >= SHARED_BYTES_MIN => Bytes::from_owner(Value(entry.clone())),
        small => Bytes::copy_from_slice(small),
    };
    v1::Entry { value, ..entry_without_value(entry) }
}

/// An entry for the wire, without its value.
pub(crate) fn entry_without_value(entry: &KvEntry) -> v1::Entry {
    v1::Entry {
        key: Bytes::copy_from_slice(entry.key()),
        value: Bytes::new(),
        flags: entry.flags(),
        create_index: entry.create_index().0,
        modify_index: entry.modify_index().0,
        lock_index: entry.lock_index(),
        session_id: entry.session().map(|session| session.to_string()).unwrap_or_default(),
        fencing_token: entry.fence().0,
    }
}

/// A write of one key, and where to.
pub(crate) fn put(request: v1::PutRequest) -> Result<(Option<v1::WriteOptions>, Put), Error> {
    let v1::PutRequest { options, key, value, flags, precondition, lock } = request;
    let Condition { compare, fence } = condition(precondition)?;
    let lock = match lock {
        None => LockAction::Keep,
        Some(v1::put_request::Lock::Acquire(id)) => LockAction::Acquire(session("acquire", &id)?),
        Some(v1::put_request::Lock::Release(id)) => LockAction::Release(session("release", &id)?),
    };
    Ok((options, Put { key: key.into(), value: value.into(), flags, compare, lock, fence }))
}

/// What must hold for a write of one key.
pub(crate) fn condition(precondition: Option<v1::Precondition>) -> Result<Condition, Error> {
    let v1::Precondition { row, fence: proof } = precondition.unwrap_or_default();
    Ok(Condition { compare: compare(row)?, fence: fence(proof)? })
}

fn compare(row: Option<Row>) -> Result<Compare, Error> {
    match row {
        None => Ok(Compare::Any),
        Some(Row::Absent(true)) => Ok(Compare::Absent),
        Some(Row::ModifyIndex(0)) => Err(invalid("modify_index", "no row has index 0; use `absent` for a row that does not exist")),
        Some(Row::ModifyIndex(index)) => Ok(Compare::ModifyIndex(LogIndex(index))),
        Some(Row::Absent(false)) => Err(invalid("absent", "only `true` is valid")),
        Some(Row::Present(false)) => Err(invalid("present", "only `true` is valid")),
        Some(Row::Present(true)) => Ok(Compare::Present),
        Some(Row::HeldBy(id)) => session("held_by", &id).map(Compare::HeldBy),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use state::KvEntry;

    use super::*;

    #[test]
    fn preconditions_become_comparisons() {
        assert_eq!(compare(None).unwrap(), Compare::Any);
        assert_eq!(compare(Some(Row::Absent(true))).unwrap(), Compare::Absent);
        assert_eq!(compare(Some(Row::Present(true))).unwrap(), Compare::Present);
        assert_eq!(compare(Some(Row::ModifyIndex(7))).unwrap(), Compare::ModifyIndex(LogIndex(7)));
    }

    #[test]
    fn a_precondition_without_meaning_is_refused_and_never_dropped() {
        for row in [Row::Absent(false), Row::Present(false), Row::ModifyIndex(0), Row::HeldBy("x".into())] {
            assert_eq!(compare(Some(row)).unwrap_err().reason.as_str(), "INVALID_ARGUMENT");
        }
        let fenced = v1::Precondition { row: None, fence: Some(v1::Fence::default()) };
        assert_eq!(condition(Some(fenced)).unwrap_err().reason.as_str(), "INVALID_ARGUMENT");
    }

    #[test]
    fn a_session_that_is_no_uuid_is_refused() {
        let lock = Some(v1::put_request::Lock::Acquire("me".into()));
        let error = put(v1::PutRequest { lock, ..Default::default() }).unwrap_err();
        assert!(error.message.contains("`me`"), "{error}");
    }

    proptest! {
        #[test]
        fn an_entry_is_told_whole(key: Vec<u8>, value in prop::collection::vec(any::<u8>(), 0..6000), flags: u64, index: u64) {
            let header = state::kv::KvHeader { flags, modify_index: LogIndex(index), ..Default::default() };
            let told = entry(&KvEntry::new(&key, &value, header));
            prop_assert_eq!((&told.key[..], &told.value[..]), (&key[..], &value[..]));
            prop_assert_eq!((told.flags, told.modify_index, told.session_id.as_str()), (flags, index, ""));
        }
    }
}
