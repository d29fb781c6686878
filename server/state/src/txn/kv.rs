//! Steps on keys.

use crate::command::{Compare, KvVerb, LockAction};
use crate::id::{LogIndex, SessionId, Str};
use crate::kv::{KvEntry, KvHeader};
use crate::kv_write::{Set, delete, delete_prefix, set, text};
use crate::outcome::{Refusal, TxnRow};
use crate::txn::{Failure, Scratch};

/// A step on one key or prefix.
pub(super) struct Step<'a> {
    pub(super) verb: KvVerb,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) flags: u64,
    pub(super) index: LogIndex,
    pub(super) session: Option<SessionId>,
}

pub(super) fn step(scratch: &mut Scratch<'_>, op: &Step<'_>) -> Result<(), Failure> {
    let name = text(op.key);
    match op.verb {
        KvVerb::Set => write(scratch, op, Compare::Any, LockAction::Keep),
        KvVerb::Cas => write(scratch, op, cas(op.index), LockAction::Keep),
        KvVerb::Lock => write(scratch, op, Compare::Any, LockAction::Acquire(given(op.session)?)),
        KvVerb::Unlock => write(scratch, op, Compare::Any, LockAction::Release(given(op.session)?)),
        KvVerb::Get => {
            let absent = || Refusal::Absent { subject: name.clone() }.told(format!("key \"{name}\" doesn't exist"));
            let entry = current(scratch, op).ok_or_else(absent)?;
            show(scratch, entry, true)
        }
        KvVerb::GetOrEmpty => {
            let entry = current(scratch, op).unwrap_or_else(|| KvEntry::new(op.key, b"", KvHeader::default()));
            show(scratch, entry, true)
        }
        KvVerb::GetTree => {
            let entries: Vec<KvEntry> = scratch.tables.kv_range(op.key).cloned().collect();
            entries.into_iter().try_for_each(|entry| show(scratch, entry, true))
        }
        KvVerb::CheckIndex => check_index(&name, current(scratch, op), op.index).and_then(|entry| show(scratch, entry, false)),
        KvVerb::CheckSession => {
            let entry = check_session(&name, current(scratch, op), given(op.session)?)?;
            show(scratch, entry, false)
        }
        KvVerb::CheckNotExists => match current(scratch, op) {
            None => Ok(()),
            Some(entry) => Err(mismatch(&name, LogIndex::ZERO, entry.modify_index()).told(format!("key \"{name}\" exists"))),
        },
        KvVerb::Delete => remove(scratch, op, Compare::Any),
        KvVerb::DeleteCas => remove(scratch, op, cas(op.index)),
        KvVerb::DeleteTree => {
            delete_prefix(scratch.tables, scratch.index, op.key, scratch.effects);
            Ok(())
        }
    }
}

fn current(scratch: &Scratch<'_>, op: &Step<'_>) -> Option<KvEntry> {
    scratch.tables.kv.get(op.key).cloned()
}

/// Index 0 asks for absence.
fn cas(index: LogIndex) -> Compare {
    if index == LogIndex::ZERO { Compare::Absent } else { Compare::ModifyIndex(index) }
}

fn given(session: Option<SessionId>) -> Result<SessionId, Failure> {
    session.ok_or_else(|| Refusal::UnknownSession { session: SessionId([0; 16]) }.told("missing session"))
}

fn mismatch(name: &Str, expected: LogIndex, found: LogIndex) -> Refusal {
    Refusal::CompareFailed { subject: name.clone(), expected, found }
}

fn show(scratch: &mut Scratch<'_>, entry: KvEntry, with_value: bool) -> Result<(), Failure> {
    scratch.show(TxnRow::Kv { entry, with_value });
    Ok(())
}

fn write(scratch: &mut Scratch<'_>, op: &Step<'_>, compare: Compare, lock: LockAction) -> Result<(), Failure> {
    let request = Set { key: op.key, value: op.value, flags: op.flags, compare, lock };
    let written = set(scratch.tables, scratch.index, request, scratch.effects);
    let entry = written.map_err(|refusal| explain(&text(op.key), refusal))?;
    show(scratch, entry, false)
}

fn remove(scratch: &mut Scratch<'_>, op: &Step<'_>, compare: Compare) -> Result<(), Failure> {
    match delete(scratch.tables, scratch.index, op.key, compare, scratch.effects) {
        Ok(_) => Ok(()),
        Err(refusal) => Err(refusal.told(format!("failed to delete key \"{}\", index is stale", text(op.key)))),
    }
}

fn check_index(name: &Str, current: Option<KvEntry>, wanted: LogIndex) -> Result<KvEntry, Failure> {
    let found = current.as_ref().map_or(LogIndex::ZERO, KvEntry::modify_index);
    let failed = |why: String| mismatch(name, wanted, found).told(format!("failed index check for key \"{name}\", {why}"));
    match current {
        None => Err(failed("key does not exist".into())),
        Some(entry) if found == wanted => Ok(entry),
        Some(_) => Err(failed(format!("current modify index {found} != {wanted}"))),
    }
}

fn check_session(name: &Str, current: Option<KvEntry>, wanted: SessionId) -> Result<KvEntry, Failure> {
    let failed = |why: String| {
        let cause = Refusal::LockNotHeld { key: name.clone(), session: wanted };
        cause.told(format!("failed session check for key \"{name}\", {why}"))
    };
    let entry = current.ok_or_else(|| failed("key does not exist".into()))?;
    match entry.session() {
        Some(holder) if holder == wanted => Ok(entry),
        Some(holder) => Err(failed(format!("current session \"{holder}\" != \"{wanted}\""))),
        None => Err(failed(format!("current session \"\" != \"{wanted}\""))),
    }
}

fn explain(name: &Str, refusal: Refusal) -> Failure {
    let what = match &refusal {
        Refusal::UnknownSession { session } => format!("invalid session \"{session}\""),
        Refusal::LockDelay { remaining_ms, .. } => format!("failed to lock key \"{name}\" due to lock delay for {remaining_ms} ms more"),
        Refusal::LockHeld { .. } => format!("failed to lock key \"{name}\", lock is already held"),
        Refusal::LockNotHeld { .. } => format!("failed to unlock key \"{name}\", lock isn't held, or is held by another session"),
        _ => format!("failed to set key \"{name}\", index is stale"),
    };
    refusal.told(what)
}
