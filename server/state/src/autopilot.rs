//! How servers are looked after: what the operator wants of the leader.

use crate::apply::Effects;
use crate::command::Compare;
use crate::id::LogIndex;
use crate::outcome::{Outcome, Refusal};
use crate::row::RowKey;
use crate::tables::{Indexed, Tables};

/// How servers are looked after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autopilot {
    /// Take failed servers out once they are replaced.
    pub cleanup_dead_servers: bool,
    /// A server that was not heard of for so many milliseconds is unhealthy.
    pub last_contact_threshold_ms: u64,
    /// A server that is further behind is unhealthy.
    pub max_trailing_logs: u64,
    /// Fewest voters that clean-up may leave; 0 sets no bound of its own.
    pub min_quorum: u32,
    /// How many milliseconds a new server must be healthy before it votes.
    pub server_stabilization_ms: u64,
    /// The index of the command that set it first; 0 while it is as it comes.
    pub create_index: LogIndex,
    /// The index of the last command that changed it.
    pub modify_index: LogIndex,
}

impl Default for Autopilot {
    fn default() -> Self {
        Autopilot {
            cleanup_dead_servers: true,
            last_contact_threshold_ms: 200,
            max_trailing_logs: 250,
            min_quorum: 0,
            server_stabilization_ms: 10_000,
            create_index: LogIndex::ZERO,
            modify_index: LogIndex::ZERO,
        }
    }
}

impl Tables {
    /// How servers are looked after.
    pub fn autopilot(&self) -> Indexed<Autopilot> {
        let autopilot = self.autopilot.unwrap_or_default();
        Indexed::exact(autopilot, autopilot.modify_index)
    }
}

/// Changes how servers are looked after, if `compare` holds.
pub(crate) fn set(
    tables: &mut Tables,
    index: LogIndex,
    wanted: &Autopilot,
    compare: Compare,
    effects: &mut Effects,
) -> Result<Outcome, Refusal> {
    let present = tables.autopilot;
    let found = present.map_or(LogIndex::ZERO, |autopilot| autopilot.modify_index);
    let failed = |expected| Err(Refusal::CompareFailed { subject: "autopilot".into(), expected, found });
    match compare {
        Compare::Any => {}
        Compare::ModifyIndex(expected) if expected == found => {}
        Compare::Absent if present.is_none() => {}
        Compare::Present if present.is_some() => {}
        Compare::ModifyIndex(expected) => return failed(expected),
        Compare::Absent => return failed(LogIndex::ZERO),
        Compare::Present | Compare::HeldBy(_) => return Err(Refusal::Absent { subject: "autopilot".into() }),
    }
    let create_index = present.map_or(index, |autopilot| autopilot.create_index);
    tables.autopilot = Some(Autopilot { create_index, modify_index: index, ..*wanted });
    effects.rows.push(RowKey::Autopilot);
    Ok(Outcome::DONE)
}
