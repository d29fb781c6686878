//! A member at work: [`Core`](crate::core::Core) with a clock, sockets and tasks.

mod events;
mod guests;
mod keys;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{counter, gauge};
use net::{Datagrams, Listener, Network, Stream};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::coordinate::Coordinate;
use crate::core::{Call, Core, LOOK, Output};
use crate::member::{Id, Member, Record, Status};
use crate::memory::{Memory, recall, replace};
use crate::options::{Error, JoinReport, Options};
use crate::sockets::Sockets;
use crate::stream::{self, Asked, Envelope, Room};
use crate::timing::Timing;
use crate::wire::{self, Dropped, Question, Reply};
pub use events::{Feed, Recent};
use guests::Guests;

/// Connections that are answered at a time; more wait in the system's queue.
const CONNECTIONS_MAX: usize = 64;

/// Connections that are answered at a time for one address: the others are left to others.
const CONNECTIONS_EACH: usize = CONNECTIONS_MAX / 4;

/// Each so often what a restart needs is written, if it has changed.
const REMEMBER: Duration = Duration::from_secs(5);

/// How long the system is given to name an address.
const RESOLVE: Duration = Duration::from_secs(2);

/// Dropped packets are told in the log at most each so often.
const COMPLAIN: Duration = Duration::from_secs(10);

/// So many errors of the socket for datagrams in a row are those of datagrams; beyond them there is a pause after each.
const RECEIVE_AT_ONCE: u32 = 64;

/// See [`RECEIVE_AT_ONCE`].
const RECEIVE_PAUSE: Duration = Duration::from_millis(100);

/// One agent's part in one pool. Clones share it.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    core: Mutex<Core>,
    started: Instant,
    advertise: SocketAddr,
    label: String,
    network: Network,
    datagrams: Box<dyn Datagrams>,
    changes: watch::Sender<u64>,
    /// The number of the last event.
    arrivals: watch::Sender<u64>,
    rescheduled: Notify,
    memory: Option<PathBuf>,
    keyring_file: Option<PathBuf>,
    room: Room,
    complaints: Mutex<BTreeMap<&'static str, Instant>>,
    stream_only: Mutex<Option<Instant>>,
    left: std::sync::atomic::AtomicBool,
    timing: Timing,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Pool {
    /// Takes part from now on. Alone, until it joins others or, after a restart, finds those that it
    /// knew.
    pub fn start(options: Options, sockets: Sockets) -> Result<Pool, Error> {
        let failed = |source| Error::Socket { address: options.advertise, source };
        let port = sockets.local_address().map_err(failed)?.port();
        let advertise =
            SocketAddr::new(options.advertise.ip(), if options.advertise.port() == 0 { port } else { options.advertise.port() });
        let memory = options.memory.as_deref().map(recall).unwrap_or_default();
        let bump = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        let id = Id { address: advertise, bump };
        let me = Record {
            name: options.name.into(),
            node_id: options.node_id.into(),
            id,
            version: 1,
            tags: options.tags,
            leaving: false,
            pruned: false,
        };
        let mut core = Core::new(me, options.timing, &options.label, options.keyring, memory.clock, rand::random());
        if let Some(bond) = options.bond {
            core.set_bond(bond);
        }
        if !memory.left || options.rejoin_after_leave {
            core.remember(memory.peers);
        }
        let shared = Arc::new(Shared {
            core: Mutex::new(core),
            started: Instant::now(),
            advertise,
            label: options.label,
            network: sockets.network,
            datagrams: sockets.datagrams,
            changes: watch::Sender::new(0),
            arrivals: watch::Sender::new(0),
            rescheduled: Notify::new(),
            memory: options.memory,
            keyring_file: options.keyring_file,
            room: Room::default(),
            complaints: Mutex::new(BTreeMap::new()),
            stream_only: Mutex::new(None),
            left: std::sync::atomic::AtomicBool::new(false),
            timing: options.timing,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        let pool = Pool { shared };
        pool.spawn(pool.clone().receive());
        pool.spawn(pool.clone().keep_time());
        pool.spawn(pool.clone().accept(sockets.listener));
        pool.spawn(pool.clone().compare());
        pool.spawn(pool.clone().reconnect());
        pool.spawn(pool.clone().remember());
        Ok(pool)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.shared.stop.clone();
        self.shared.tasks.spawn(async move {
            tokio::select! {
                () = task => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Where others reach this member.
    pub fn address(&self) -> SocketAddr {
        self.shared.advertise
    }

    /// Everybody that is known, this member included, by name.
    pub fn members(&self) -> Vec<Member> {
        self.shared.core.lock().members()
    }

    /// Tells of a member whether it goes by the same value as this one of the tag that all have in common, as far as it
    /// has one: see [`Options::bond`].
    pub fn kinship(&self) -> impl Fn(&Member) -> bool + use<> {
        let bond = self.shared.core.lock().kinship();
        move |member| bond.as_ref().is_none_or(|(name, here)| member.tags.get(*name).is_none_or(|there| there == here))
    }

    /// Changes whenever the members do.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// Joins by way of each of `addresses` (`host` or `host:port`), all at once. When it returns,
    /// everybody that those knew is known here.
    pub async fn join(&self, addresses: &[String]) -> JoinReport {
        let mut attempts = JoinSet::new();
        for address in addresses {
            let (pool, address) = (self.clone(), address.clone());
            attempts.spawn(async move {
                let result = pool.join_one(&address).await;
                (address, result)
            });
        }
        let mut report = JoinReport::default();
        while let Some(Ok((address, result))) = attempts.join_next().await {
            match result {
                Ok(Met::Another) => report.joined += 1,
                Ok(Met::Itself) => report.own.push(address),
                Err(why) => {
                    counter!("consul_gossip_joins_failed").increment(1);
                    report.failed.push((address, why));
                }
            }
        }
        report
    }

    async fn join_one(&self, address: &str) -> Result<Met, String> {
        let target = with_port(address, self.shared.advertise.port());
        let found =
            self.shared.network.resolve(&target, RESOLVE).await.map_err(|error| format!("`{address}` can't be resolved: {error}"))?;
        let mut result = Err(format!("`{address}` names no address"));
        for candidate in found {
            match (self.compare_with(&candidate.to_string(), true).await, &result) {
                (Ok(Met::Another), _) => return Ok(Met::Another),
                // A name of several servers names this one as well.
                (Err(_), Ok(Met::Itself)) => {}
                (other, _) => result = other,
            }
        }
        result
    }

    /// Tells everybody that this member is about to go. It takes part until it does.
    pub async fn announce_leave(&self) {
        self.drive(|core, now| core.announce_leave(now));
        // By stream as well: a datagram may be lost, and the next one never comes.
        for _ in 0..2 {
            let peer = self.shared.core.lock().pick(Status::Alive);
            if let Some(peer) = peer {
                let _ = self.compare_with(&peer.to_string(), false).await;
            }
        }
    }

    /// Tells everybody that this member goes, and goes. Nothing is answered any more afterwards.
    pub async fn leave(&self) {
        self.shared.left.store(true, std::sync::atomic::Ordering::Release);
        self.announce_leave().await;
        sleep(self.shared.timing.gossip * 4).await;
        self.drive(|core, now| core.depart(now));
        self.write_memory();
        self.stop().await;
    }

    /// Stops without a word: the others will find this member failed.
    pub async fn stop(&self) {
        self.write_memory();
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    /// Tells everybody that a failed member is gone for good; with `prune`, to forget it.
    pub fn force_leave(&self, name: &str, prune: bool) -> Result<(), Error> {
        self.drive(|core, now| core.force_leave(now, name, prune)).map_err(Error::Refused)
    }

    /// Says something else of this member.
    pub fn set_tags(&self, tags: BTreeMap<String, String>) -> Result<(), Error> {
        self.drive(|core, now| core.set_tags(now, tags)).map_err(Error::Refused)
    }

    /// This member's place in the network.
    pub fn coordinate(&self) -> Coordinate {
        self.shared.core.lock().coordinate()
    }

    /// The place of a member, once it was heard.
    pub fn coordinate_of(&self, name: &str) -> Option<Coordinate> {
        self.shared.core.lock().coordinate_of(name)
    }

    /// Whether packets are sealed.
    pub fn is_sealed(&self) -> bool {
        self.shared.core.lock().keyring.is_some()
    }

    fn now(&self) -> Duration {
        self.shared.started.elapsed()
    }

    /// Lets the core work, and does what it wants done.
    fn drive<T>(&self, work: impl FnOnce(&mut Core, Duration) -> T) -> T {
        let (result, outputs) = {
            let mut core = self.shared.core.lock();
            let before = core.next();
            let result = work(&mut core, self.now());
            if core.next() != before {
                self.shared.rescheduled.notify_one();
            }
            (result, core.outputs())
        };
        for output in outputs {
            match output {
                // A datagram that the system won't take now is lost, like any other.
                Output::Send(to, bytes) => match self.shared.datagrams.try_send(&bytes, to) {
                    Ok(_) => counter!("consul_gossip_datagrams_sent").increment(1),
                    Err(error) => tracing::debug!(%error, %to, "a datagram was not sent"),
                },
                Output::Changed => self.shared.changes.send_modify(|changes| *changes += 1),
                // Two that drive at once may come here in the other order.
                Output::Event(arrived) => self.shared.arrivals.send_modify(|last| *last = arrived.number.max(*last)),
                Output::EventsDropped { late, held } => self.complain_of_events(late, held),
                Output::Ask(id, suspected, within) => self.ask_by_stream(id, suspected, within),
                Output::StreamOnly(address) => self.warn_of_datagrams(address),
            }
        }
        result
    }

    /// Asks a member whether it is there. The probing asks for one at a time, each for a bounded time.
    fn ask_by_stream(&self, id: Id, suspected: Option<foca::Incarnation>, within: Duration) {
        let pool = self.clone();
        self.spawn(async move {
            let question = Question::Ping { to: id, suspected };
            match timeout(within, pool.ask(&id.address.to_string(), &question)).await {
                Ok(Ok(Reply::Pong)) => pool.drive(|core, now| core.stream_answered(now, id)),
                Ok(Ok(_)) => tracing::debug!(to = %id.address, "a probe by stream was answered by another life or program"),
                Ok(Err(error)) => tracing::debug!(error, to = %id.address, "a probe by stream was not answered"),
                Err(_) => tracing::debug!(to = %id.address, "a probe by stream was not answered in time"),
            }
        });
    }

    /// Tells now and then that a member is reached by stream alone.
    fn warn_of_datagrams(&self, address: SocketAddr) {
        let mut last = self.shared.stream_only.lock();
        if last.is_none_or(|last| last.elapsed() > COMPLAIN) {
            *last = Some(Instant::now());
            drop(last);
            let name = self.shared.core.lock().name_at(address);
            tracing::warn!(%address, pool = self.shared.label, "udp to `{name}` does not get through, tcp does; is the port open for udp on the whole way?");
        }
    }

    fn envelope(&self) -> Envelope {
        let core = self.shared.core.lock();
        Envelope { label: wire::digest(&core.label_text), keyring: core.keyring.clone() }
    }

    async fn receive(self) {
        let mut buffer = vec![0; 64 << 10];
        let mut failures = 0u32;
        loop {
            let (length, from) = match self.shared.datagrams.receive(&mut buffer).await {
                Ok(received) => received,
                Err(error) => {
                    // Such as the refusal of an earlier datagram: not this socket's fault.
                    tracing::debug!(%error, "a datagram was not received");
                    // One that does not go away is asked for now and then only.
                    failures = failures.saturating_add(1);
                    if failures > RECEIVE_AT_ONCE {
                        sleep(RECEIVE_PAUSE).await;
                    }
                    continue;
                }
            };
            failures = 0;
            counter!("consul_gossip_datagrams_received").increment(1);
            if let Err(dropped) = self.drive(|core, now| core.datagram(now, &buffer[..length])) {
                self.complain(dropped, from);
            }
        }
    }

    /// Counts what was dropped, and tells of it now and then, for each reason.
    fn complain(&self, dropped: Dropped, from: impl std::fmt::Display) {
        counter!("consul_gossip_dropped", "reason" => dropped.as_str()).increment(1);
        if self.is_time_to_complain(dropped.as_str()) {
            tracing::warn!(%from, pool = self.shared.label, reason = dropped.as_str(), detail = dropped.detail(), "gossip was dropped; it is counted in `consul_gossip_dropped`");
        }
    }

    /// Whether nothing was told of `what` for a while.
    fn is_time_to_complain(&self, what: &'static str) -> bool {
        let mut told = self.shared.complaints.lock();
        let due = told.get(what).is_none_or(|last| last.elapsed() > COMPLAIN);
        if due {
            told.insert(what, Instant::now());
        }
        due
    }

    async fn keep_time(self) {
        loop {
            let next = self.shared.core.lock().next();
            let due = next.map(|at| self.shared.started + at);
            tokio::select! {
                () = self.shared.rescheduled.notified() => continue,
                () = async { match due { Some(due) => sleep_until(due).await, None => std::future::pending().await } } => {}
            }
            self.drive(|core, now| core.tick(now));
            gauge!("consul_gossip_health", "pool" => self.shared.label.clone()).set(f64::from(self.shared.core.lock().health()));
        }
    }

    async fn accept(self, listener: Box<dyn Listener>) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let guests = Guests::default();
        loop {
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, from)) => {
                    let Some(guest) = guests.enter(from.ip()) else {
                        self.complain(Dropped::Crowded, from);
                        continue;
                    };
                    let pool = self.clone();
                    self.spawn(async move {
                        let _guest = guest;
                        if let Err(error) = pool.answer(stream, from).await {
                            tracing::debug!(%error, %from, "a gossip connection has ended early");
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "gossip connections can't be accepted");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn answer(&self, mut stream: Stream, from: SocketAddr) -> io::Result<()> {
        let envelope = self.envelope();
        let (question, mark) = match stream::question(&envelope, &self.shared.label, &self.shared.room, &mut stream).await? {
            Asked::Question(question, mark) => (question, mark),
            Asked::Dropped(dropped, refusal) => {
                self.complain(dropped, from);
                return match refusal {
                    Some(bytes) => stream::answer_bytes(&mut stream, &bytes).await,
                    None => Ok(()),
                };
            }
        };
        let reply = match question {
            Question::Compare(state) => self.take_state(*state, from),
            Question::Keys(command) => self.do_keys(&command),
            Question::Ping { to, suspected } => match self.drive(|core, now| core.asked_by_stream(now, to, suspected)) {
                true => Reply::Pong,
                false => Reply::Refused("another life of the member is here".into()),
            },
        };
        stream::answer(&envelope, &mut stream, mark, &reply).await
    }

    /// Takes over what another member knows, and tells it what is known here.
    fn take_state(&self, state: wire::State, from: SocketAddr) -> Reply {
        let name = state.from.name.clone();
        // In one go, so that of two that come at once with one name the second one is refused.
        let (answer, strange) = self.drive(|core, now| {
            let answer = core.refuse(&state).map_or_else(
                || {
                    core.merge(now, state);
                    Ok(core.state(false))
                },
                Err,
            );
            (answer, core.refused())
        });
        if let Some(what) = strange {
            self.complain(Dropped::OutOfBounds(what), from);
        }
        match answer {
            Ok(state) => Reply::State(Box::new(state)),
            Err(why) => {
                counter!("consul_gossip_joins_refused").increment(1);
                tracing::warn!(%from, ?name, "a member was not let in: {why}");
                Reply::Refused(why)
            }
        }
    }

    async fn ask(&self, address: &str, question: &Question) -> Result<Reply, String> {
        stream::ask(&self.shared.network, &self.envelope(), address, question).await
    }

    /// Compares everything with the member at `address`.
    async fn compare_with(&self, address: &str, joining: bool) -> Result<Met, String> {
        let state = self.shared.core.lock().state(joining);
        match self.ask(address, &Question::Compare(Box::new(state))).await? {
            Reply::State(state) if state.from.id.address == self.shared.advertise => {
                self.shared.core.lock().recognize(&state.from).map_or(Ok(Met::Itself), Err)
            }
            Reply::State(state) => {
                if let Some(why) = self.shared.core.lock().refuse_stranger(&state) {
                    return Err(why);
                }
                let strange = self.drive(|core, now| {
                    if joining {
                        core.adopt(&state);
                    }
                    core.merge(now, *state);
                    core.refused()
                });
                if let Some(what) = strange {
                    self.complain(Dropped::OutOfBounds(what), address);
                }
                Ok(Met::Another)
            }
            Reply::Refused(why) => Err(why),
            Reply::Keys(_) | Reply::Pong => Err("it answered something else".into()),
        }
    }

    async fn compare(self) {
        loop {
            let every = self.shared.timing.compare_every(self.shared.core.lock().size());
            sleep(every.mul_f64(0.8 + 0.4 * rand::random::<f64>())).await;
            let peer = self.shared.core.lock().pick(Status::Alive);
            if let Some(peer) = peer
                && let Err(error) = self.compare_with(&peer.to_string(), false).await
            {
                tracing::debug!(error, %peer, "the pool was not compared");
            }
        }
    }

    /// Calls those that were lost, after a restart those that were known, and those that were never described here.
    async fn reconnect(self) {
        loop {
            let calls = self.drive(|core, now| core.calls(now));
            for Call { to, joining } in calls {
                match self.compare_with(&to.to_string(), joining).await {
                    Ok(_) if joining && self.shared.core.lock().is_up(to) => tracing::info!(peer = %to, "joined again"),
                    Ok(_) => tracing::debug!(peer = %to, "the pool was compared"),
                    Err(error) => {
                        tracing::debug!(error, peer = %to, joining, "a member that was lost or never described was called in vain")
                    }
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn remember(self) {
        let mut written = Memory::default();
        loop {
            sleep(REMEMBER).await;
            let memory = self.memory();
            if memory != written {
                self.write_memory();
                written = memory;
            }
        }
    }

    fn memory(&self) -> Memory {
        let core = self.shared.core.lock();
        let left = self.shared.left.load(std::sync::atomic::Ordering::Acquire);
        Memory { clock: core.clock(), left, peers: core.remembered() }
    }

    /// Losing it costs a restarted member one configured address to join by.
    fn write_memory(&self) {
        let Some(path) = &self.shared.memory else { return };
        let bytes = serde_json::to_vec(&self.memory()).expect("plain data can always be written as JSON");
        if let Err(error) = replace(path, &bytes) {
            tracing::warn!(%error, file = %path.display(), "the pool's members can't be remembered for the next start");
        }
    }
}

/// Who has answered.
enum Met {
    Another,
    /// The address was this member's own.
    Itself,
}

/// `address` with a port.
fn with_port(address: &str, port: u16) -> String {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return SocketAddr::new(ip, port).to_string();
    }
    let bracketed = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|ip| ip.parse::<IpAddr>().ok());
    match bracketed {
        Some(ip) => SocketAddr::new(ip, port).to_string(),
        None if address.contains(':') => address.to_owned(),
        None => format!("{address}:{port}"),
    }
}
