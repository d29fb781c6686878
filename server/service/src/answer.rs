//! What every read carries in and out.

use std::time::Duration;

use consensus::Consistency;
use state::{LogIndex, Str};

/// How a read is to be answered.
#[derive(Clone, Debug, Default)]
pub struct ReadOptions {
    /// Which datacenter answers; `None` is this one.
    pub datacenter: Option<Str>,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// The answer must be at least as new as this index; waits for it, within bounds.
    pub min_index: LogIndex,
    /// With [`Consistency::Stale`]: refuse an answer that may be older than this.
    pub max_staleness: Option<Duration>,
}

impl ReadOptions {
    /// The defaults with another consistency.
    pub fn with(consistency: Consistency) -> Self {
        ReadOptions { consistency, ..Default::default() }
    }
}

/// Asks a read to wait until its answer changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocking {
    /// The index that the caller has seen; the answer is due once something changed after it.
    pub index: LogIndex,
    /// The longest wait. When it is over, the answer is given as it stands.
    pub wait: Duration,
}

/// An answer and its place in time.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    /// What was asked for.
    pub value: T,
    /// Its place in time.
    pub meta: Meta,
}

impl<T> Answer<T> {
    /// The same place in time with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Answer<U> {
        Answer { value: f(self.value), meta: self.meta }
    }
}

/// The place in time of an answer.
#[derive(Clone, Debug)]
pub struct Meta {
    /// What a caller passes as [`Blocking::index`] to wait for the next answer. At least 1.
    pub index: LogIndex,
    /// The last command that the answering server had applied.
    pub applied: LogIndex,
    /// The datacenter that answered.
    pub datacenter: Str,
    /// Whether the answering server knew a leader.
    pub leader_known: bool,
    /// How long ago the answering server heard from its leader; zero on the leader.
    pub last_contact: Duration,
    /// How fresh the answer was asked to be.
    pub consistency: Consistency,
}
