//! One command applied to the tables.

use std::sync::Arc;

use crate::autopilot;
use crate::catalog::{deregister::deregister, register::register};
use crate::change::Change;
use crate::command::{Command, Operation};
use crate::id::{LogIndex, Millis};
use crate::kv_write;
use crate::lock;
use crate::outcome::{Outcome, Refusal};
use crate::restore;
use crate::row::RowKey;
use crate::session;
use crate::tables::Tables;
use crate::tombstone::{REAP_PER_COMMAND, Tombstone};
use crate::txn;

/// What a command did besides its outcome.
#[derive(Debug, Default)]
pub struct Effects {
    /// Rows before and after, for those who watch.
    pub changes: Vec<Change>,
    /// Rows that must be written at rest; the same row may appear more than once.
    pub rows: Vec<RowKey>,
    /// Everything was replaced, by a restore: what the tables are now is not what they were but for
    /// `changes` and `rows`.
    pub replaced: bool,
}

/// Applies `command` at `index`, which must be greater than every index applied before.
///
/// A refused command changes nothing but the applied index and the clock, and what was due by then: a
/// lock whose delay is over goes to the first who waits for it. The work is bounded by
/// the command's size and the rows it touches, plus at most [`REAP_PER_COMMAND`] expired
/// tombstones.
pub fn apply(tables: &mut Tables, index: LogIndex, command: &Command, effects: &mut Effects) -> Outcome {
    debug_assert!(index > tables.meta.applied, "a command is applied once, in the order of the log");
    tables.meta.applied = index;
    tables.meta.clock = tables.meta.clock.max(command.at);
    let outcome = run(tables, index, &command.operation, effects);
    tables.reap(effects);
    outcome.unwrap_or_else(Outcome::Refused)
}

/// Does one operation, and whatever follows from it.
fn run(tables: &mut Tables, index: LogIndex, operation: &Operation, effects: &mut Effects) -> Result<Outcome, Refusal> {
    let from = effects.changes.len();
    let outcome = match operation {
        Operation::Kv(write) => kv_write::write(tables, index, write, effects),
        Operation::Txn(ops) => txn::run(tables, index, ops, effects),
        Operation::Register(registration) => register(tables, index, registration, effects),
        Operation::Deregister(request) => deregister(tables, index, request, effects),
        Operation::SessionCreate(session) => session::create(tables, index, session, effects),
        Operation::SessionRenew(id) => session::renew(tables, *id, effects),
        Operation::SessionEnd { id, cause, term: _, delays } => Ok(session::finish(tables, index, *id, *cause, *delays, effects)),
        Operation::LockAcquire(wish) => lock::acquire(tables, index, wish, effects),
        Operation::LockRelease { key, session, token } => lock::release(tables, index, key, *session, *token, effects),
        Operation::Fenced { fence, operation } => {
            kv_write::check_fence(tables, fence)?;
            return run(tables, index, operation, effects);
        }
        Operation::Begin { incarnation } => {
            if tables.meta.incarnation == 0 {
                (tables.meta.incarnation, tables.meta.cluster) = (*incarnation, *incarnation);
            }
            Ok(Outcome::DONE)
        }
        Operation::Restore { id, step } => restore::step(tables, index, *id, step, effects),
        Operation::SetAutopilot { wanted, compare } => autopilot::set(tables, index, wanted, *compare, effects),
        Operation::Noop => Ok(Outcome::DONE),
    }?;
    session::invalidate(tables, index, from, effects);
    lock::settle(tables, index, from, effects);
    Ok(outcome)
}

impl Tables {
    /// Takes note that an entry of the log without a command (a membership change) was applied.
    pub fn advance(&mut self, index: LogIndex) {
        self.meta.applied = index;
    }

    /// Remembers a deletion.
    pub(crate) fn bury(&mut self, key: Arc<[u8]>, prefix: bool, tombstone: Tombstone) {
        let table = if prefix { &mut self.deleted_prefixes } else { &mut self.deleted_keys };
        if let Some(old) = table.insert(key.clone(), tombstone) {
            self.expiry.remove(&(old.index, key.clone(), prefix));
        }
        self.expiry.insert((tombstone.index, key, prefix));
    }

    /// Forgets that a key was deleted, because it exists again.
    pub(crate) fn unbury(&mut self, key: &[u8], effects: &mut Effects) {
        if self.deleted_keys.is_empty() {
            return;
        }
        if let Some((key, old)) = self.deleted_keys.remove_with_key(key) {
            self.expiry.remove(&(old.index, key.clone(), false));
            effects.rows.push(RowKey::Tombstone { key, prefix: false });
        }
    }

    /// Forgets a few deletions that have [expired](Tombstone::expired).
    fn reap(&mut self, effects: &mut Effects) {
        let now = self.meta.clock;
        for _ in 0..REAP_PER_COMMAND {
            let Some((index, key, prefix)) = self.expiry.get_min().cloned() else { break };
            let table = if prefix { &mut self.deleted_prefixes } else { &mut self.deleted_keys };
            if table.get(&key).is_some_and(|tombstone| !tombstone.expired(now)) {
                break;
            }
            table.remove(&key);
            self.expiry.remove_min();
            self.meta.reaped = self.meta.reaped.max(index);
            effects.rows.push(RowKey::Tombstone { key, prefix });
        }
        self.reap_stage(effects);
        self.reap_extinct(now, effects);
        self.reap_lock_delays(REAP_PER_COMMAND, effects);
    }

    /// Forgets services that have been gone for long. There are few of them, so that the one with
    /// the smallest index is found by looking at all, and only when one has just been added.
    fn reap_extinct(&mut self, now: Millis, effects: &mut Effects) {
        let added = effects.rows.iter().any(|row| matches!(row, RowKey::ServiceIndex(_)));
        if !added || self.extinct.is_empty() {
            return;
        }
        let old: Vec<_> = self.extinct.iter().filter(|(_, tombstone)| tombstone.expired(now)).map(|(name, _)| name.clone()).collect();
        for name in old {
            let reaped = self.extinct.remove(&name).map_or(LogIndex::ZERO, |tombstone| tombstone.index);
            self.meta.extinct_reaped = self.meta.extinct_reaped.max(reaped);
            effects.rows.push(RowKey::ServiceIndex(name));
        }
    }
}
