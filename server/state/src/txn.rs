//! Transactions: several steps, all or none, at one index.

use crate::apply::Effects;
use crate::command::{Compare, KvVerb, LockAction, TxnOp};
use crate::id::{LogIndex, SessionId};
use crate::kv::{KvEntry, KvHeader};
use crate::kv_write::{Set, delete, delete_prefix, set, text};
use crate::outcome::{Outcome, Refusal, TxnFailure, TxnResult};
use crate::tables::Tables;

/// Runs `ops` in order; later steps see what earlier ones wrote. If any fails, nothing happened
/// and every failing step is named.
pub(crate) fn run(tables: &mut Tables, index: LogIndex, ops: &[TxnOp], effects: &mut Effects) -> Result<Outcome, Refusal> {
    let mut scratch = tables.clone();
    let mut scratch_effects = Effects::default();
    let (results, failures) = steps(&mut scratch, index, ops, &mut scratch_effects);
    if !failures.is_empty() {
        return Err(Refusal::Txn { failures });
    }
    *tables = scratch;
    effects.changes.append(&mut scratch_effects.changes);
    effects.rows.append(&mut scratch_effects.rows);
    Ok(Outcome::Txn(results))
}

/// Runs the steps of a transaction that only reads, on a snapshot and without the log.
pub fn read(tables: &Tables, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Refusal> {
    debug_assert!(ops.iter().all(TxnOp::is_read), "only reading steps may bypass the log");
    let (results, failures) = steps(&mut tables.clone(), tables.applied(), ops, &mut Effects::default());
    if failures.is_empty() { Ok(results) } else { Err(Refusal::Txn { failures }) }
}

impl TxnOp {
    /// Whether the step changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            TxnOp::Kv { verb, .. } => verb.is_read(),
        }
    }
}

/// The rows of a transaction's answer, and the step that shows rows at present.
#[derive(Default)]
struct Results {
    op_index: usize,
    rows: Vec<TxnResult>,
}

impl Results {
    fn push(&mut self, entry: KvEntry, with_value: bool) {
        self.rows.push(TxnResult { op_index: self.op_index, entry, with_value });
    }
}

fn steps(tables: &mut Tables, index: LogIndex, ops: &[TxnOp], effects: &mut Effects) -> (Vec<TxnResult>, Vec<TxnFailure>) {
    let mut results = Results::default();
    let mut failures = Vec::new();
    for (op_index, op) in ops.iter().enumerate() {
        results.op_index = op_index;
        if let Err(what) = step(tables, index, op, &mut results, effects) {
            failures.push(TxnFailure { op_index, what });
        }
    }
    (results.rows, failures)
}

fn step(tables: &mut Tables, at: LogIndex, op: &TxnOp, results: &mut Results, effects: &mut Effects) -> Result<(), String> {
    let TxnOp::Kv { verb, key, value, flags, index, session } = op;
    let name = text(key);
    let current = tables.kv.get(&**key).cloned();
    let mut write = |tables: &mut Tables, compare, lock, failure: &dyn Fn() -> String| {
        let request = Set { key, value, flags: *flags, compare, lock };
        let entry = set(tables, at, request, effects).map_err(|refusal| explain(refusal, failure))?;
        results.push(entry, false);
        Ok(())
    };
    let stale = || format!("failed to set key \"{name}\", index is stale");
    match verb {
        KvVerb::Set => write(tables, Compare::Any, LockAction::Keep, &stale),
        KvVerb::Cas => write(tables, cas(*index), LockAction::Keep, &stale),
        KvVerb::Lock => {
            let session = session.ok_or("missing session")?;
            write(tables, Compare::Any, LockAction::Acquire(session), &|| format!("failed to lock key \"{name}\", lock is already held"))
        }
        KvVerb::Unlock => {
            let session = session.ok_or("missing session")?;
            let failure = || format!("failed to unlock key \"{name}\", lock isn't held, or is held by another session");
            write(tables, Compare::Any, LockAction::Release(session), &failure)
        }
        KvVerb::Get => show(results, current.ok_or_else(|| format!("key \"{name}\" doesn't exist"))?),
        KvVerb::GetOrEmpty => show(results, current.unwrap_or_else(|| KvEntry::new(key, b"", KvHeader::default()))),
        KvVerb::GetTree => tables.kv_range(key).cloned().try_for_each(|entry| show(results, entry)),
        KvVerb::CheckIndex => {
            let entry = current.ok_or_else(|| format!("failed index check for key \"{name}\", key does not exist"))?;
            let found = entry.modify_index();
            if found != *index {
                return Err(format!("failed index check for key \"{name}\", current modify index {found} != {index}"));
            }
            checked(results, entry)
        }
        KvVerb::CheckSession => check_session(&name, current, *session).and_then(|entry| checked(results, entry)),
        KvVerb::CheckNotExists => current.map_or(Ok(()), |_| Err(format!("key \"{name}\" exists"))),
        KvVerb::Delete => remove(tables, at, key, Compare::Any, effects),
        KvVerb::DeleteCas => {
            remove(tables, at, key, cas(*index), effects).map_err(|_| format!("failed to delete key \"{name}\", index is stale"))
        }
        KvVerb::DeleteTree => {
            delete_prefix(tables, at, key, effects);
            Ok(())
        }
    }
}

/// Index 0 asks for absence.
fn cas(index: LogIndex) -> Compare {
    if index == LogIndex::ZERO { Compare::Absent } else { Compare::ModifyIndex(index) }
}

fn show(results: &mut Results, entry: KvEntry) -> Result<(), String> {
    results.push(entry, true);
    Ok(())
}

fn checked(results: &mut Results, entry: KvEntry) -> Result<(), String> {
    results.push(entry, false);
    Ok(())
}

fn remove(tables: &mut Tables, at: LogIndex, key: &[u8], compare: Compare, effects: &mut Effects) -> Result<(), String> {
    delete(tables, at, key, compare, effects).map(|_| ()).map_err(|refusal| refusal.to_string())
}

fn check_session(name: &str, current: Option<KvEntry>, session: Option<SessionId>) -> Result<KvEntry, String> {
    let wanted = session.ok_or("missing session")?;
    let entry = current.ok_or_else(|| format!("failed session check for key \"{name}\", key does not exist"))?;
    match entry.session() {
        Some(holder) if holder == wanted => Ok(entry),
        Some(holder) => Err(format!("failed session check for key \"{name}\", current session \"{holder}\" != \"{wanted}\"")),
        None => Err(format!("failed session check for key \"{name}\", current session \"\" != \"{wanted}\"")),
    }
}

fn explain(refusal: Refusal, failure: &dyn Fn() -> String) -> String {
    match refusal {
        Refusal::UnknownSession { session } => format!("invalid session \"{session}\""),
        Refusal::LockDelay { key, remaining_ms } => format!("failed to lock key \"{key}\" due to lock delay for {remaining_ms} ms more"),
        _ => failure(),
    }
}
