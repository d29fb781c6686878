//! What the agent and the prober say to each other: which checks to run, and what came of it.
//!
//! Each registration of a check is a *run* with a number of its own, drawn from one growing
//! counter. Both sides drop what carries an older number than they know, so a report that was
//! under way while its check was replaced or renewed can't undo what is newer.

use crate::catalog::check::{CheckDefinition, Status};
use crate::id::Str;

/// Grows with each registration, renewal and removal of a check on one agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(pub u64);

/// A check to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Unique on its agent.
    pub check_id: Str,
    /// The number of this run.
    pub run: Run,
    /// How it is run. Of any kind but `alias`, which follows other checks instead of asking anybody.
    pub definition: CheckDefinition,
    /// Largest output to report, in bytes.
    pub output_bytes_max: usize,
}

/// Asked of the prober.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Run this check from now on, in place of the one that had its id.
    Start(Box<Probe>),
    /// A TTL check was heard of: its time begins anew, under a new number.
    Renew {
        /// The check.
        check_id: Str,
        /// The number that reports carry from now on.
        run: Run,
    },
    /// Run this check no more, unless it was started again under a later number.
    Stop {
        /// The check.
        check_id: Str,
        /// The number of the removal.
        run: Run,
    },
}

/// What a run of a check came to, after the thresholds of its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The check.
    pub check_id: Str,
    /// The run that it belongs to.
    pub run: Run,
    /// The verdict.
    pub status: Status,
    /// What was found, in words for people; bounded.
    pub output: Str,
    /// Whether the time of a TTL check ran out; `output` is empty then.
    pub expired: bool,
}
