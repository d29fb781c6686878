//! Consensus: commands in, in one order, durable; the state machine's tables out.
#![allow(unused)]
pub mod error;

use std::sync::Arc;
use std::time::Duration;

pub use error::Error;
use state::{ChangeBatch, LogIndex, Operation, Outcome, Tables};

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began (read index: Ongaro 2014, §6.4).
    #[default]
    Linearizable,
    /// The same as long as clocks drift within bounds: the leader answers under its lease without
    /// asking the quorum.
    Leased,
    /// What this server has applied, whatever its age.
    Stale,
}

/// A command that was applied.
#[derive(Clone, Debug)]
pub struct Proposed {
    /// Its log index.
    pub index: LogIndex,
    /// What it answered.
    pub outcome: Outcome,
}

/// One server of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number in the log.
    pub id: u64,
    /// The name of its node.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub address: String,
    /// Whether it has a vote.
    pub voter: bool,
}

/// Where consensus stands on this server.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// This server's number.
    pub id: u64,
    /// The leader's number, when one is known.
    pub leader: Option<u64>,
    /// The current term.
    pub term: u64,
    /// The last index in this server's log.
    pub last_index: u64,
    /// The last index applied here.
    pub applied: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `shutdown`.
    pub state: &'static str,
    /// How long ago this server last heard from a quorum (leader) or the leader (follower).
    pub last_contact: Option<Duration>,
    /// The members of the quorum and its learners.
    pub peers: Vec<Peer>,
}

/// Takes every change, in the order of the log, exactly once.
pub trait ChangeSink: Send + Sync + 'static {
    /// Changes of commands applied before a restart, oldest first; called once, before anything
    /// else. `applied` is the index of the tables that they led to.
    fn restore(&self, history: Vec<Arc<ChangeBatch>>, applied: LogIndex);
    /// The changes of one command. The tables that show them are published already. Must not block.
    fn publish(&self, batch: Arc<ChangeBatch>);
    /// `applied` has been reached: called once per group of commands, also when none of them
    /// changed anything.
    fn advance(&self, applied: LogIndex);
    /// The state was replaced by a snapshot; what lies between is unknown.
    fn reset(&self, applied: LogIndex);
}

/// A handle to this server's consensus. Cheap to clone.
#[derive(Clone)]
pub struct Consensus;

impl Consensus {
    /// Proposes a command and waits until it is applied here and durable on a quorum.
    pub async fn propose(&self, operation: Operation) -> Result<Proposed, Error> { unimplemented!() }
    /// A snapshot of the tables that is as fresh as `consistency` asks.
    pub async fn read(&self, consistency: Consistency) -> Result<Arc<Tables>, Error> { unimplemented!() }
    /// The latest tables here, whatever their age.
    pub fn tables(&self) -> Arc<Tables> { unimplemented!() }
    /// Where consensus stands.
    pub fn status(&self) -> Status { unimplemented!() }
}
impl Consensus {
    /// Whether a leader is known, and how long ago this server heard from it (zero on the leader).
    pub fn contact(&self) -> (bool, Duration) { unimplemented!() }
}
