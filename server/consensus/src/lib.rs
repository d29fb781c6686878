//! Consensus: commands in, in one order, durable; the state machine's tables out.
//!
//! [`Consensus`] wraps the Raft library so that nobody above sees its types. A proposal returns
//! when its command is applied here and durable on a quorum; a read returns an O(1) snapshot of
//! the tables that is as fresh as asked. Changes go up, in the order of the log, through
//! [`ChangeSink`].

mod backup;
mod clock;
#[cfg(test)]
mod cluster_tests;
mod compaction;
mod contact;
mod encode;
mod error;
mod flusher;
mod followers;
mod forward;
mod log_store;
mod outcomes;
pub mod peer;
mod quorum;
mod readers;
pub mod recovery;
mod remote;
mod start;
mod state_machine;
mod status;
mod succession;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use openraft::async_runtime::watch::WatchReceiver;
use parking_lot::Mutex;
use state::{ChangeBatch, LogIndex, Millis, Operation, Outcome, Tables};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

pub use backup::{Restored, Restoring, Saving};
pub use error::Error;
pub use flusher::HistoryBounds;
pub use followers::Follower;
pub use peer::Peers;
pub use quorum::Identified;
pub use remote::{Candidates, Remote, RemoteFace};
pub use start::{Options, Start, Storage};
pub use status::{Peer, Status};
pub use types::Member;

use crate::clock::Clock;
use crate::contact::Contact;
use crate::error::RootCause;
use crate::flusher::Flusher;
use crate::log_store::LogStore;
use crate::outcomes::Outcomes;
use crate::peer::snapshot::receiving::Staging;
use crate::quorum::Promise;
use crate::readers::Readers;
use crate::succession::Streams;
use crate::types::Raft;

/// How long a proposal or a read waits for a leader, and a proposal for its quorum.
const HOLD: Duration = Duration::from_secs(7);

/// The pause between two looks for a leader.
const LEADER_POLL: Duration = Duration::from_millis(20);

/// Most proposals under way at once: bounds the memory that they hold, far above what a disk that
/// flushes ten thousand times a second needs.
const IN_FLIGHT_MAX: usize = 16_384;

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

/// Takes every change, in the order of the log, exactly once.
pub trait ChangeSink: Send + Sync + 'static {
    /// Changes of commands applied before a restart, oldest first; called once, before anything
    /// else. They are complete from index `complete_from` on, and `applied` is the index of the
    /// tables that they led to.
    fn restore(&self, history: Vec<Arc<ChangeBatch>>, complete_from: LogIndex, applied: LogIndex);
    /// The changes of one command. The tables that show them are published already. Must not block.
    fn publish(&self, batch: Arc<ChangeBatch>);
    /// `applied` has been reached: called once per group of commands, also when none of them
    /// changed anything. Must not block.
    fn advance(&self, applied: LogIndex);
    /// The state was replaced by a snapshot; what lies between is unknown.
    fn reset(&self, applied: LogIndex);
}

/// A handle to this server's consensus. Cheap to clone.
#[derive(Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

struct Inner {
    raft: Raft,
    id: u64,
    member: Member,
    datacenter: String,
    peers: Peers,
    readers: Readers,
    outcomes: Arc<Outcomes>,
    clock: Arc<Clock>,
    contact: Contact,
    streams: Streams,
    promise: Mutex<Promise>,
    staging: Staging,
    log_store: LogStore,
    published: Arc<ArcSwap<Tables>>,
    /// Everything that was acknowledged before this process began is applied.
    caught_up: AtomicBool,
    /// The last index that was in the log when this process began.
    target: u64,
    leader: watch::Receiver<Option<u64>>,
    in_flight: Semaphore,
    flusher: Flusher,
    stop: CancellationToken,
    failed: watch::Receiver<bool>,
    cause: RootCause,
}

impl Consensus {
    /// Starts this server's part in consensus: loads what is on disk, and where there is nothing
    /// does as [`Options::start`] says. Returns as soon as the protocol runs; [`Consensus::ready`] tells when
    /// reads and writes are answered.
    pub async fn start(options: Options, sink: Arc<dyn ChangeSink>) -> Result<Consensus, Error> {
        start::start(options, sink).await
    }

    /// Proposes a command and waits until it is applied here and durable on a quorum.
    pub async fn propose(&self, operation: Operation) -> Result<Proposed, Error> {
        let _permit = self.inner.in_flight.try_acquire().map_err(|_| Error::Overloaded(IN_FLIGHT_MAX))?;
        self.propose_until_led(operation).await
    }

    /// A snapshot of the tables that is as fresh as `consistency` asks.
    pub async fn read(&self, consistency: Consistency) -> Result<Arc<Tables>, Error> {
        if self.has_nobody_to_ask() {
            return Ok(self.tables());
        }
        if consistency == Consistency::Stale {
            self.check_caught_up()?;
            return Ok(self.tables());
        }
        let deadline = Instant::now() + HOLD;
        loop {
            match self.inner.readers.index(consistency).await {
                Ok(index) => {
                    let applied = timeout_at(deadline, self.inner.outcomes.applied(index)).await;
                    return applied
                        .map(|()| self.tables())
                        .map_err(|_| Error::NotReady { applied: self.tables().log_applied(), target: index });
                }
                Err(Error::NoLeader) if Instant::now() < deadline => sleep(LEADER_POLL).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether this server leads a quorum of which it is the only voter: nobody else can lead or
    /// commit, and whatever was acknowledged was published before, so that its tables are
    /// linearizable as they are.
    fn has_nobody_to_ask(&self) -> bool {
        self.inner.log_store.is_alone() && self.inner.caught_up.load(Ordering::Acquire) && self.is_leader()
    }

    /// The latest tables here, whatever their age. They may lack what was acknowledged before a
    /// restart: see [`Consensus::check_caught_up`].
    pub fn tables(&self) -> Arc<Tables> {
        self.inner.published.load_full()
    }

    /// Refuses until this server has applied everything that it had acknowledged before it was
    /// restarted.
    pub fn check_caught_up(&self) -> Result<(), Error> {
        if self.inner.caught_up.load(Ordering::Acquire) {
            return Ok(());
        }
        Err(Error::NotReady { applied: self.tables().log_applied(), target: self.inner.target })
    }

    /// Waits until this server has caught up and a leader answers, then returns the tables. However long that takes: a
    /// large log, a state that comes over a slow link and a quorum that is not there yet are no reasons to give up. Fails
    /// only when this server must end.
    pub async fn ready(&self) -> Result<Arc<Tables>, Error> {
        self.once_possible("answers", || self.read(Consistency::Linearizable)).await?;
        self.inner.caught_up.store(true, Ordering::Release);
        if self.tables().meta().incarnation == 0 {
            // Drawn once: whoever comes first has given it, and what comes again changes nothing.
            let incarnation = rand::random::<u64>() | 1;
            self.once_possible("begins", || self.propose(Operation::Begin { incarnation })).await?;
        }
        Ok(self.tables())
    }

    /// Tries until it works, or this server must end. Each attempt takes as long as [`HOLD`], so it tells every some
    /// seconds how far it is.
    async fn once_possible<T, F>(&self, what: &str, attempt: impl Fn() -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        loop {
            match attempt().await {
                Ok(done) => return Ok(done),
                Err(error @ Error::Fatal(_)) => return Err(error),
                // Whoever starts is alone for a moment.
                Err(Error::NoLeader) => tracing::debug!("nobody leads yet"),
                Err(error) => tracing::info!("it takes a while until this server {what}: {error}"),
            }
            sleep(LEADER_POLL).await;
        }
    }

    /// Whether a leader is known, and how long ago this server heard from it. On the leader: how long ago its quorum
    /// answered, and zero while that is no longer than its lease.
    pub fn contact(&self) -> (bool, Duration) {
        let leader = self.leader_id();
        if self.inner.log_store.is_alone() {
            return (leader.is_some(), Duration::ZERO);
        }
        let age = match status::quorum_age(&self.inner.raft.metrics().borrow_watched()) {
            Some(acknowledged) if acknowledged <= start::LEASE => Duration::ZERO,
            Some(acknowledged) => acknowledged,
            None => self.inner.contact.age(),
        };
        (leader.is_some(), age)
    }

    /// Whether this server leads.
    pub fn is_leader(&self) -> bool {
        self.leader_id() == Some(self.inner.id)
    }

    /// The number of the server that leads, as far as this one knows.
    pub fn leader_id(&self) -> Option<u64> {
        *self.inner.leader.borrow()
    }

    /// The other servers: where they live.
    pub fn peers(&self) -> &Peers {
        &self.inner.peers
    }

    /// Follows who leads: `None` while nobody does.
    pub fn leader(&self) -> watch::Receiver<Option<u64>> {
        self.inner.leader.clone()
    }

    /// This server's number in the log.
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// Completes when storage has failed and the process must end.
    pub async fn failed(&self) {
        let mut failed = self.inner.failed.clone();
        // Without a sender consensus was stopped, which is no failure.
        if failed.wait_for(|failed| *failed).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The time of the cluster, by which commands are stamped. It is never ahead of what has really
    /// passed since an earlier command, on whichever server that was stamped.
    pub fn now(&self) -> Millis {
        self.inner.clock.now()
    }

    /// Where consensus stands.
    pub fn status(&self) -> Status {
        Status { leader: self.leader_id(), ..status::of(&self.inner.raft, self.inner.id) }
    }

    /// Writes the state to disk, so that the next start has nothing to apply again, and stops.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(%error, "consensus did not end cleanly");
        }
        if let Err(error) = self.inner.flusher.flush().await {
            tracing::warn!(%error, "the state was not written at the end; the next start applies the log instead");
        }
    }
}

fn fatal(error: impl std::error::Error) -> Error {
    Error::Fatal(error::chain(&error).into())
}
