//! Writes to the key/value store.

use std::sync::Arc;

use crate::apply::Effects;
use crate::change::Change;
use crate::command::{Compare, Fence, KvWrite, LockAction};
use crate::id::{LogIndex, SessionId, Str};
use crate::kv::{KvEntry, KvHeader};
use crate::lock;
use crate::outcome::{Outcome, Refusal};
use crate::row::RowKey;
use crate::tables::Tables;
use crate::tombstone::Tombstone;

/// Applies one write, or says why not.
pub(crate) fn write(tables: &mut Tables, index: LogIndex, write: &KvWrite, effects: &mut Effects) -> Result<Outcome, Refusal> {
    match write {
        KvWrite::Set { key, value, flags, compare, lock } => {
            let entry = set(tables, index, Set { key, value, flags: *flags, compare: *compare, lock: *lock }, effects)?;
            Ok(Outcome::Done { entry: Some(entry), removed: 0 })
        }
        KvWrite::Delete { key, compare } => {
            let removed = delete(tables, index, key, *compare, effects)?;
            Ok(Outcome::Done { entry: None, removed: removed as u64 })
        }
        KvWrite::DeletePrefix { prefix } => Ok(Outcome::Done { entry: None, removed: delete_prefix(tables, index, prefix, effects) }),
    }
}

/// The arguments of [`set`].
pub(crate) struct Set<'a> {
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
    pub(crate) flags: u64,
    pub(crate) compare: Compare,
    pub(crate) lock: LockAction,
}

/// Creates or overwrites a key. Writing what already stands there changes nothing: not the modify
/// index, and nobody is woken.
pub(crate) fn set(tables: &mut Tables, index: LogIndex, request: Set<'_>, effects: &mut Effects) -> Result<KvEntry, Refusal> {
    let current = tables.kv.get(request.key);
    check(request.key, current, request.compare)?;
    let old = current.map(KvEntry::header);
    let session = lock_holder(tables, request.key, old.and_then(|old| old.session), request.lock)?;
    let entry = hold(tables, index, &request, session, effects);
    if let LockAction::Acquire(session) = request.lock {
        lock::taken(tables, request.key, session, effects);
    }
    Ok(entry)
}

/// Gives the lock on a key to the next one in its queue.
pub(crate) fn grant(tables: &mut Tables, index: LogIndex, key: &[u8], session: SessionId, value: &[u8], effects: &mut Effects) -> KvEntry {
    let flags = tables.kv.get(key).map_or(0, KvEntry::flags);
    let request = Set { key, value, flags, compare: Compare::Any, lock: LockAction::Acquire(session) };
    hold(tables, index, &request, Some(session), effects)
}

/// Writes what `request` says, with the lock held by `session`.
fn hold(tables: &mut Tables, index: LogIndex, request: &Set<'_>, session: Option<SessionId>, effects: &mut Effects) -> KvEntry {
    let current = tables.kv.get(request.key);
    let old = current.map(KvEntry::header);
    if let (Some(current), Some(old)) = (current, old)
        && old.flags == request.flags
        && old.session == session
        && current.value() == request.value
    {
        return current.clone();
    }
    let holder = old.and_then(|old| old.session);
    let granted = session.is_some() && session != holder;
    let header = KvHeader {
        flags: request.flags,
        create_index: old.map_or(index, |old| old.create_index),
        modify_index: index,
        lock_index: old.map_or(0, |old| old.lock_index) + granted as u64,
        session,
        fence: if granted { index } else { old.map_or(LogIndex::ZERO, |old| old.fence) },
    };
    let entry = KvEntry::new(request.key, request.value, header);
    tables.unbury(request.key, effects);
    put(tables, index, holder, &entry, effects);
    entry
}

/// Puts an entry in place of one whose lock `holder` had, and tells of it.
fn put(tables: &mut Tables, index: LogIndex, holder: Option<SessionId>, entry: &KvEntry, effects: &mut Effects) {
    if holder != entry.session() {
        let key: Arc<[u8]> = entry.key().into();
        if let Some(holder) = holder {
            tables.locks.remove(&(holder, key.clone()));
        }
        if let Some(session) = entry.session() {
            tables.locks.insert((session, key));
        }
    }
    tables.kv.insert(entry.clone());
    tables.meta.kv_index = index;
    effects.rows.push(RowKey::Kv(entry.clone()));
    effects.changes.push(Change::KvPut { entry: entry.clone() });
}

/// Takes the lock on a key from whoever holds it; value and flags stay.
pub(crate) fn unlock(tables: &mut Tables, index: LogIndex, key: &[u8], effects: &mut Effects) {
    let Some(current) = tables.kv.get(key) else { return };
    let header = KvHeader { session: None, fence: LogIndex::ZERO, modify_index: index, ..current.header() };
    let (holder, entry) = (current.session(), KvEntry::new(key, current.value(), header));
    put(tables, index, holder, &entry, effects);
}

/// Deletes a key and says whether it was there. A missing key satisfies every condition.
pub(crate) fn delete(tables: &mut Tables, index: LogIndex, key: &[u8], compare: Compare, effects: &mut Effects) -> Result<bool, Refusal> {
    let Some(current) = tables.kv.get(key) else { return Ok(false) };
    check(key, Some(current), compare)?;
    remove(tables, index, key, effects);
    Ok(true)
}

/// Deletes a key, if it is there, and remembers that.
pub(crate) fn remove(tables: &mut Tables, index: LogIndex, key: &[u8], effects: &mut Effects) {
    let Some(entry) = tables.kv.remove(key) else { return };
    let at = tables.meta.clock;
    let key: Arc<[u8]> = key.into();
    tables.bury(key.clone(), false, Tombstone { index, at });
    tables.meta.kv_index = index;
    effects.rows.push(RowKey::Tombstone { key, prefix: false });
    removed(tables, entry, effects);
}

/// Deletes everything under `prefix` and says how much that was. One tombstone stands for all.
pub(crate) fn delete_prefix(tables: &mut Tables, index: LogIndex, prefix: &[u8], effects: &mut Effects) -> u64 {
    let entries: Vec<KvEntry> = tables.kv_range(prefix).cloned().collect();
    if entries.is_empty() {
        return 0;
    }
    let count = entries.len() as u64;
    for entry in entries {
        tables.kv.remove(entry.key());
        removed(tables, entry, effects);
    }
    let at = tables.meta.clock;
    let prefix: Arc<[u8]> = prefix.into();
    tables.bury(prefix.clone(), true, Tombstone { index, at });
    tables.meta.kv_index = index;
    effects.rows.push(RowKey::Tombstone { key: prefix, prefix: true });
    count
}

/// Whether `compare` holds for what stands at `key`.
pub(crate) fn check(key: &[u8], current: Option<&KvEntry>, compare: Compare) -> Result<(), Refusal> {
    let found = current.map_or(LogIndex::ZERO, KvEntry::modify_index);
    let expected = match compare {
        Compare::Any => return Ok(()),
        Compare::Absent => LogIndex::ZERO,
        Compare::ModifyIndex(expected) => expected,
        Compare::Present if current.is_some() => return Ok(()),
        Compare::Present => return Err(Refusal::Absent { subject: text(key) }),
        Compare::HeldBy(session) if current.is_some_and(|entry| entry.session() == Some(session)) => return Ok(()),
        Compare::HeldBy(session) => return Err(Refusal::LockNotHeld { key: text(key), session }),
    };
    if found == expected { Ok(()) } else { Err(Refusal::CompareFailed { subject: text(key), expected, found }) }
}

/// A key as text for messages.
pub(crate) fn text(key: &[u8]) -> Str {
    String::from_utf8_lossy(key).into()
}

fn removed(tables: &mut Tables, entry: KvEntry, effects: &mut Effects) {
    if let Some(holder) = entry.session() {
        tables.locks.remove(&(holder, entry.key().into()));
    }
    effects.rows.push(RowKey::Kv(entry.clone()));
    effects.changes.push(Change::KvDelete { entry });
}

/// Refuses unless the lock is still held under the grant that the fence names.
pub(crate) fn check_fence(tables: &Tables, fence: &Fence) -> Result<(), Refusal> {
    let current = tables.kv.get(&*fence.key).map_or(LogIndex::ZERO, KvEntry::fence);
    if current == fence.token && current != LogIndex::ZERO {
        return Ok(());
    }
    Err(Refusal::StaleFence { key: text(&fence.key), token: fence.token, current })
}

/// Who holds the lock after `action`. A holder may take it again; others only when it is free, its
/// lock delay is over, and nobody else is first in its queue.
fn lock_holder(tables: &Tables, key: &[u8], holder: Option<SessionId>, action: LockAction) -> Result<Option<SessionId>, Refusal> {
    match (action, holder) {
        (LockAction::Keep, holder) => Ok(holder),
        (LockAction::Acquire(session), _) if !tables.sessions.contains_key(&session) => Err(Refusal::UnknownSession { session }),
        (LockAction::Acquire(session), Some(holder)) if holder == session => Ok(Some(session)),
        (LockAction::Acquire(_), Some(holder)) => Err(Refusal::LockHeld { key: text(key), holder }),
        (LockAction::Acquire(session), None) => match tables.lock_delay(key) {
            None => match lock::first_in_line(tables, key).filter(|first| *first != session) {
                None => Ok(Some(session)),
                Some(holder) => Err(Refusal::LockHeld { key: text(key), holder }),
            },
            Some(until) => Err(Refusal::LockDelay { key: text(key), remaining_ms: until.0 - tables.meta.clock.0 }),
        },
        (LockAction::Release(session), holder) if holder == Some(session) => Ok(None),
        (LockAction::Release(session), _) => Err(Refusal::LockNotHeld { key: text(key), session }),
    }
}
