//! A snapshot put in the place of everything, in steps that each fit into the log.
//!
//! The rows come in parts and are *staged*: they stand beside the state, are written at rest and
//! travel with it, and nobody who reads sees them. One command then replaces the state by what is
//! staged, on every server at the same place of the log. A restore that is never finished leaves
//! nothing behind: the next one throws its rows away, and so does time.
//!
//! Revisions go on growing over both histories: that of the replaced state, and that of the
//! snapshot. Where the snapshot is ahead of the log, the revision runs ahead of the log from then on
//! by a constant. So the rows keep their indexes, a fencing token is never granted twice, and a
//! reader's index stays good.

use std::sync::Arc;

use crate::apply::Effects;
use crate::builder::TablesBuilder;
use crate::id::{LogIndex, Millis};
use crate::outcome::{Outcome, Refusal};
use crate::row::{MetaRow, Row, RowKey};
use crate::session::{LOCK_DELAY_MS_MAX, Session};
use crate::tables::Tables;
use crate::tombstone::Tombstone;

/// A restore that did not go on for so long, in milliseconds, is thrown away.
pub const STAGE_TTL_MS: u64 = 10 * 60 * 1000;

/// A step of a restore.
#[derive(Clone, Debug, PartialEq)]
pub enum RestoreStep {
    /// Begin, and throw away what another restore has staged.
    Begin,
    /// Stage some rows. Staging the same part again changes nothing.
    Stage {
        /// The part's place among the parts, from 0.
        sequence: u64,
        /// What it brings.
        rows: Arc<[Row]>,
    },
    /// Replace the state by what is staged.
    Commit {
        /// How many parts were staged.
        parts: u64,
        /// How many rows they have.
        rows: u64,
        /// The incarnation of the state from now on; never 0.
        incarnation: u64,
    },
    /// Throw away what is staged.
    Abandon,
}

/// Does one step of the restore `id`.
pub(crate) fn step(tables: &mut Tables, index: LogIndex, id: u64, step: &RestoreStep, effects: &mut Effects) -> Result<Outcome, Refusal> {
    if *step == RestoreStep::Begin {
        tables.unstage(effects);
        (tables.meta.restoring, tables.meta.restoring_at) = (id, tables.meta.clock);
        return Ok(Outcome::DONE);
    }
    if tables.meta.restoring != id {
        return Err(Refusal::Restore { why: "another restore has begun, or it did not go on for too long".into() });
    }
    match step {
        RestoreStep::Begin => {}
        RestoreStep::Stage { sequence, rows } => {
            tables.staged.insert(*sequence, rows.clone());
            tables.meta.restoring_at = tables.meta.clock;
            effects.rows.push(RowKey::Staged(*sequence));
        }
        RestoreStep::Commit { parts, rows, incarnation } => commit(tables, index, (*parts, *rows), *incarnation, effects)?,
        RestoreStep::Abandon => tables.unstage(effects),
    }
    Ok(Outcome::DONE)
}

/// Replaces everything by what is staged, if that is all that was sent.
fn commit(tables: &mut Tables, index: LogIndex, sent: (u64, u64), incarnation: u64, effects: &mut Effects) -> Result<(), Refusal> {
    let staged = (tables.staged.len() as u64, tables.staged.values().map(|rows| rows.len() as u64).sum());
    if staged != sent {
        let why = format!("{} of {} parts and {} of {} rows have arrived", staged.0, sent.0, staged.1, sent.1);
        return Err(Refusal::Restore { why: why.into() });
    }
    let mut builder = TablesBuilder::default();
    tables.staged.values().flat_map(|rows| rows.iter()).for_each(|row| builder.push(row.clone()));
    let mut restored = builder.finish().map_err(|error| Refusal::Restore { why: error.to_string().into() })?;
    let from = restored.meta;
    if from.applied == LogIndex::ZERO {
        return Err(Refusal::Restore { why: "the snapshot does not say at which revision it was taken".into() });
    }
    let revision = index.max(LogIndex(from.applied.0.saturating_add(1)));
    restored.meta = MetaRow {
        applied: revision,
        clock: tables.meta.clock,
        // Whoever looked before, at whichever of the two histories, has to look again.
        kv_index: revision,
        nodes_index: revision,
        services_index: revision,
        checks_index: revision,
        sessions_index: revision,
        reaped: revision,
        extinct_reaped: revision,
        incarnation,
        cluster: tables.meta.cluster,
        offset: tables.meta.offset + (revision.0 - index.0),
        restored: revision,
        restoring: 0,
        restoring_at: Millis(0),
    };
    restored.begin_anew(from.clock);
    *tables = restored;
    effects.replaced = true;
    Ok(())
}

impl Tables {
    /// The restore that is under way; 0 for none.
    pub fn restoring(&self) -> u64 {
        self.meta.restoring
    }

    /// Throws away what is staged.
    fn unstage(&mut self, effects: &mut Effects) {
        effects.rows.extend(self.staged.keys().map(|sequence| RowKey::Staged(*sequence)));
        self.staged.clear();
        (self.meta.restoring, self.meta.restoring_at) = (0, Millis(0));
    }

    /// Throws away a restore that nobody goes on with.
    pub(crate) fn reap_stage(&mut self, effects: &mut Effects) {
        let MetaRow { restoring, restoring_at, clock, .. } = self.meta;
        if restoring != 0 && restoring_at.0.saturating_add(STAGE_TTL_MS) <= clock.0 {
            self.unstage(effects);
        }
    }

    /// Times of another cluster's clock, which stood at `then`, become times of this one's: sessions
    /// count as renewed just now, keys stay free for what was left of their delay.
    fn begin_anew(&mut self, then: Millis) {
        let now = self.meta.clock;
        let sessions: Vec<Arc<Session>> = self.sessions.values().cloned().collect();
        for session in sessions {
            self.insert_session(Arc::new(Session { renewed: now, ..(*session).clone() }));
        }
        let delays: Vec<(Arc<[u8]>, Millis)> = self.lock_delays.iter().map(|(key, until)| (key.clone(), *until)).collect();
        for (key, until) in delays {
            let left = until.0.saturating_sub(then.0).min(LOCK_DELAY_MS_MAX);
            self.insert_lock_delay(key, Millis(now.0.saturating_add(left)));
        }
        let at = |tombstone: &Tombstone| Tombstone { at: tombstone.at.min(now), ..*tombstone };
        self.deleted_keys = self.deleted_keys.iter().map(|(key, tombstone)| (key.clone(), at(tombstone))).collect();
        self.deleted_prefixes = self.deleted_prefixes.iter().map(|(key, tombstone)| (key.clone(), at(tombstone))).collect();
        self.extinct = self.extinct.iter().map(|(name, tombstone)| (name.clone(), at(tombstone))).collect();
    }
}
