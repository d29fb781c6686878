//! From what is on disk to a running server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::counter;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Config, ServerState, SnapshotPolicy};
use parking_lot::Mutex;
use state::{ChangeBatch, LogIndex, Tables, TablesBuilder};
use store::log::{LogHandle, Recovered};
use store::state_store::StateStore;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::compaction::{self, Backlog};
use crate::contact::Contact;
use crate::encode;
use crate::error::{Error, RootCause};
use crate::flusher::{Flushed, Flusher, History, HistoryBounds, Position};
use crate::log_store::LogStore;
use crate::outcomes::Outcomes;
use crate::peer::Peers;
use crate::peer::network::Network;
use crate::peer::snapshot::held::Held;
use crate::peer::snapshot::receiving::Staging;
use crate::readers::Readers;
use crate::state_machine::{Shared, StateMachine};
use crate::succession::Streams;
use crate::types::{Member, Raft};
use crate::{ChangeSink, Consensus, IN_FLIGHT_MAX, Inner, fatal, status, succession};

/// How this server takes part.
pub struct Options {
    /// Its number in the log: drawn once for a data directory, never used for another.
    pub id: u64,
    /// Its name and address.
    pub member: Member,
    /// Its datacenter, for peers that ask who it is.
    pub datacenter: String,
    /// What it does when there is nothing on disk.
    pub start: Start,
    /// How much history is kept.
    pub history: HistoryBounds,
    /// What the other servers are reached through.
    pub network: net::Network,
    /// Where everything is kept.
    pub storage: Storage,
}

/// What a server does that finds nothing on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Forms a quorum of its own.
    #[default]
    Alone,
    /// Waits to be taken into a quorum, or to form one with others.
    Join,
}

/// Where log and state are kept.
#[expect(clippy::large_enum_variant, reason = "made once and taken apart at once")]
pub enum Storage {
    /// In memory, gone with the process.
    Memory,
    /// The log in a place of the caller's choice, and nothing else: what was applied is applied again after a restart. So the
    /// log must hold everything since the first entry.
    Log {
        /// The log, opened.
        log: LogHandle,
        /// What was found in it.
        recovered: Recovered,
    },
    /// On disk.
    Durable {
        /// The log, opened.
        log: LogHandle,
        /// What was found in it.
        recovered: Recovered,
        /// The state, opened.
        state: StateStore,
        /// Where the leader's state is kept while it arrives.
        arriving: PathBuf,
    },
}

/// Timing of the protocol, in milliseconds. A follower grants a vote once it has heard nothing for the
/// longest election timeout, and stands itself after a random one: a silent leader is replaced after
/// 1.05 to 1.4 seconds, one whose process has ended after 0.7 (see [`succession`]). Wide enough for two busy cores.
const HEARTBEAT_MS: u64 = 100;
const ELECTION_MIN_MS: u64 = 350;
const ELECTION_MAX_MS: u64 = 700;

/// How long after a word from the leader nobody else is voted for.
pub(crate) const LEASE: Duration = Duration::from_millis(ELECTION_MAX_MS);

/// A leader that its quorum has not answered for this long leads nobody: by now the others have elected another one, if
/// they can.
const QUORUM_SILENT: Duration = Duration::from_millis(2 * ELECTION_MAX_MS);

/// How often a leader looks whether its quorum answers.
const QUORUM_LOOK: Duration = Duration::from_millis(100);

/// What was on disk.
struct Found {
    tables: Tables,
    position: Position,
    history: Vec<Arc<ChangeBatch>>,
    history_floor: u64,
}

pub(crate) async fn start(options: Options, sink: Arc<dyn ChangeSink>) -> Result<Consensus, Error> {
    let Options { id, member, datacenter, start, history: bounds, network, storage } = options;
    let (log, recovered, store, arriving) = match storage {
        Storage::Memory => (LogHandle::in_memory(), Recovered::default(), None, None),
        Storage::Log { log, recovered } => (log, recovered, None, None),
        Storage::Durable { log, recovered, state, arriving } => (log, recovered, Some(state), Some(arriving)),
    };
    let cause = RootCause::default();
    let log_store = LogStore::new(id, log, recovered, cause.clone()).map_err(fatal)?;
    let had_term = log_store.has_term();
    let (found, store) = match store {
        // Nothing takes any time, so that a run on made-up time does not depend on another thread's.
        None => load(None)?,
        Some(_) => tokio::task::spawn_blocking(move || load(store)).await.map_err(fatal)??,
    };
    let Found { tables, position, history, history_floor } = found;
    let target = log_store.last().map_or(0, |last| last.index).max(tables.log_applied());

    let mut kept = History::new(bounds, history_floor);
    history.iter().for_each(|batch| kept.note(batch));
    sink.restore(history, LogIndex(history_floor), tables.applied());
    let published = Arc::new(ArcSwap::from_pointee(tables));
    let flushed = Flushed { position: position.clone(), tables: published.load_full() };
    let flusher = Flusher::start(store, flushed, kept, cause.clone()).map_err(fatal)?;
    let backlog = Arc::new(Backlog::default());
    let outcomes = Arc::new(Outcomes::new(published.load().log_applied()));
    let clock = Arc::new(Clock::new(published.load().clock()));
    let held = Arc::new(Held::default());
    let shared = Shared { published: published.clone(), outcomes: outcomes.clone(), clock: clock.clone(), held: held.clone() };
    let machine = StateMachine::new(position, sink, flusher.clone(), backlog.clone(), shared);

    let peers = Peers::new(network);
    let config = Arc::new(config().validate().map_err(fatal)?);
    let raft =
        Raft::new(id, config, Network { peers: peers.clone(), held: held.clone() }, log_store.clone(), machine).await.map_err(fatal)?;
    form_quorum(&raft, id, &member, start).await?;
    let voters = raft.with_raft_state(|state| state.membership_state.effective().voter_ids().collect::<Vec<_>>()).await.map_err(fatal)?;
    log_store.note_voters(voters.into_iter());
    // Another one leads, or has led: it may rely on this server.
    let was_led = had_term && !log_store.is_alone();

    let stop = CancellationToken::new();
    let contact = Contact::new(if was_led { LEASE } else { Duration::ZERO });
    if was_led {
        raft.runtime_config().elect(false);
        tokio::spawn(stand_later(raft.clone(), stop.clone()));
    }
    let (leader, failed) = follow(&raft, log_store.clone(), cause.clone());
    let staging = Staging::new(arriving);
    tokio::spawn(compaction::run(raft.clone(), backlog, held, staging.clone(), stop.clone()));
    let caught_up = AtomicBool::new(false);
    let in_flight = Semaphore::new(IN_FLIGHT_MAX);
    let readers = Readers::start(id, raft.clone(), peers.clone(), leader.clone(), cause.clone());
    let promise = Mutex::default();
    let inner = Arc::new(Inner {
        raft,
        id,
        member,
        datacenter,
        peers,
        readers,
        outcomes,
        clock,
        contact,
        streams: Streams::default(),
        promise,
        staging,
        log_store,
        published,
        caught_up,
        target,
        leader,
        in_flight,
        flusher,
        stop,
        failed,
        cause,
    });
    tokio::spawn(succession::run(Arc::downgrade(&inner), inner.streams.clone(), inner.stop.clone()));
    Ok(Consensus { inner })
}

fn config() -> Config {
    Config {
        cluster_name: "lictor".into(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        enable_pre_vote: Some(true),
        install_snapshot_timeout: 10 * 60 * 1000,
        snapshot_policy: SnapshotPolicy::Never,
        replication_lag_threshold: 100_000,
        // The log is dropped by `compaction`, which knows of snapshots that are being sent.
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    }
}

/// Loads the state, which takes a second for a million rows.
fn load(store: Option<StateStore>) -> Result<(Found, Option<StateStore>), Error> {
    let mut builder = TablesBuilder::default();
    let Some(store) = store else {
        let tables = builder.finish().map_err(fatal)?;
        return Ok((Found { tables, position: Position::default(), history: Vec::new(), history_floor: 0 }, None));
    };
    let loaded = store.load(|row| builder.push(row)).map_err(fatal)?;
    let tables = builder.finish().map_err(fatal)?;
    let position = match &loaded.meta {
        None => Position::default(),
        Some(meta) => {
            let (log_id, membership) = encode::applied_from_bytes(meta).map_err(fatal)?;
            Position { log_id: Some(log_id), membership }
        }
    };
    let history = loaded.history.into_iter().map(Arc::new).collect();
    Ok((Found { tables, position, history, history_floor: loaded.history_floor }, Some(store)))
}

/// A new server begins a quorum of its own, unless it is to join one; one that was its quorum's only voter need not wait for
/// anybody's heartbeat before it leads again.
async fn form_quorum(raft: &Raft, id: u64, member: &Member, start: Start) -> Result<(), Error> {
    if !raft.is_initialized().await.map_err(fatal)? {
        return match start {
            Start::Alone => raft.initialize(BTreeMap::from([(id, member.clone())])).await.map_err(fatal),
            Start::Join => Ok(()),
        };
    }
    let voters: Vec<u64> = raft.voter_ids().collect();
    if voters == [id] {
        raft.trigger().elect(false).await.map_err(fatal)?;
    }
    Ok(())
}

/// Lets this server stand for election once a lease that it may have given before it was started is over; a little
/// later than others that were started at the same moment, or a little earlier.
async fn stand_later(raft: Raft, stop: CancellationToken) {
    let turn = Duration::from_millis(rand::random_range(0..ELECTION_MIN_MS));
    stop.run_until_cancelled(sleep(LEASE + turn)).await;
    raft.runtime_config().elect(true);
}

/// Follows who leads and whether storage still works.
fn follow(raft: &Raft, log_store: LogStore, cause: RootCause) -> (watch::Receiver<Option<u64>>, watch::Receiver<bool>) {
    let (leader_sender, leader) = watch::channel(None);
    let (failed_sender, failed) = watch::channel(false);
    let mut server = raft.server_metrics();
    let all = raft.metrics();
    tokio::spawn(async move {
        let mut role = (ServerState::Learner, 0);
        let mut since = Instant::now();
        let mut silent = false;
        loop {
            let (current, state, term) = {
                let metrics = server.borrow_and_update();
                (metrics.current_leader, metrics.state, metrics.vote.leader_id.term)
            };
            let leads = state == ServerState::Leader;
            match std::mem::replace(&mut role, (state, term)) {
                before if before == (state, term) => {}
                _ if leads => {
                    counter!("consul_raft_state_leader").increment(1);
                    since = Instant::now();
                }
                _ if state == ServerState::Candidate => counter!("consul_raft_state_candidate").increment(1),
                _ => {}
            }
            let age = status::quorum_age(&all.borrow_watched()).unwrap_or(Duration::MAX).min(since.elapsed());
            let was_silent = std::mem::replace(&mut silent, leads && !log_store.is_alone() && age > QUORUM_SILENT);
            if silent && !was_silent {
                tracing::warn!("no majority of the servers has answered this leader for {age:?}: it leads nobody until one does");
            }
            let current = current.filter(|_| !silent);
            leader_sender.send_if_modified(|known| std::mem::replace(known, current) != current);
            let changed = if leads { timeout(QUORUM_LOOK, server.changed()).await.unwrap_or(Ok(())) } else { server.changed().await };
            if changed.is_err() {
                break;
            }
        }
        if let Err(error) = &all.borrow_watched().running_state
            && !matches!(error, openraft::errors::Fatal::Stopped)
        {
            tracing::error!("{}", cause.behind(error));
            failed_sender.send_replace(true);
        }
    });
    (leader, failed)
}
