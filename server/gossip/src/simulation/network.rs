//! A network that is made up: who lives where, what is under way, and what time it is.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::core::{Call, Core, LOOK, Output, Parts};
use crate::event::NewEvent;
use crate::member::{Id, Record, Status};
use crate::timing::Timing;
use crate::wire::Dropped;

/// What the network does to packets.
#[derive(Clone, Copy)]
pub(super) struct Weather {
    /// The part of them that is lost.
    pub(super) loss: f64,
    /// How long the others are under way: at least, at most.
    pub(super) delay: (Duration, Duration),
}

/// How a slow member stands still: from the beginning of each period on it reads nothing that comes, while its
/// timers go on. So its probes fail, and what others say for themselves does not reach it.
#[derive(Clone, Copy)]
pub(super) struct Stall {
    pub(super) period: Duration,
    pub(super) still: Duration,
    /// Where in its period it begins.
    pub(super) offset: Duration,
}

impl Stall {
    /// How much longer it stands still at `now`.
    fn left(&self, now: Duration) -> Option<Duration> {
        let into = Duration::from_nanos(((now + self.offset).as_nanos() % self.period.as_nanos()) as u64);
        self.still.checked_sub(into).filter(|left| !left.is_zero())
    }
}

/// What an IPv4 and a UDP header take, in bytes.
const HEADERS: u64 = 28;

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    Packet {
        to: usize,
        bytes: Vec<u8>,
    },
    Timer {
        member: usize,
    },
    Compare {
        member: usize,
    },
    Look {
        member: usize,
    },
    /// A member is asked by stream, and its answer comes back.
    Asked {
        from: usize,
        to: usize,
        bump: u64,
        suspected: Option<u16>,
    },
    Answered {
        by: usize,
        bump: u64,
        to: usize,
    },
}

impl Happening {
    /// Who has to read for it to happen.
    fn reader(&self) -> Option<usize> {
        match self {
            Happening::Packet { to, .. } | Happening::Asked { to, .. } | Happening::Answered { to, .. } => Some(*to),
            Happening::Timer { .. } | Happening::Compare { .. } | Happening::Look { .. } => None,
        }
    }
}

pub(super) struct Network {
    pub(super) weather: Weather,
    pub(super) packets: u64,
    pub(super) bytes: u64,
    /// Bytes of comparisons, once they are wanted.
    pub(super) compared: Option<u64>,
    rng: SmallRng,
    now: Duration,
    members: Vec<Option<Core>>,
    queue: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    queued: u64,
    /// When each member's timer is set for.
    timers: HashMap<usize, Duration>,
    /// Members below this number can't reach the others.
    split: Option<usize>,
    /// Nobody can reach anybody.
    isolated: bool,
    repeat: bool,
    /// A member that no datagrams reach, and none of whose get out; whether streams do.
    pub(super) cut_off: Option<(usize, bool)>,
    /// Members that stand still for so long in each period.
    pub(super) slow: BTreeMap<usize, Stall>,
    /// Which parts of Lifeguard new members have.
    pub(super) parts: Parts,
    /// The pace of new members.
    pub(super) timing: Timing,
    /// Probes that were answered by stream alone.
    pub(super) streams: usize,
    told: BTreeMap<usize, usize>,
    deaths: BTreeMap<(usize, String), Status>,
    dead: BTreeSet<usize>,
    watch_deaths: bool,
}

pub(super) fn address(member: usize) -> SocketAddr {
    let [_, a, b, c] = (member as u32).to_be_bytes();
    SocketAddr::from(([10, a, b, c], 8301))
}

fn number(address: SocketAddr) -> usize {
    let SocketAddr::V4(address) = address else { unreachable!("every member has an address of the fourth version") };
    let [_, a, b, c] = address.ip().octets();
    u32::from_be_bytes([0, a, b, c]) as usize
}

fn name(member: usize) -> String {
    format!("n{member}")
}

fn record(member: usize) -> Record {
    let id = Id { address: address(member), bump: 1 };
    Record { name: name(member).into(), node_id: "".into(), id, version: 1, tags: BTreeMap::new(), leaving: false, pruned: false }
}

impl Network {
    pub(super) fn new(seed: u64, weather: Weather) -> Self {
        Network {
            weather,
            packets: 0,
            bytes: 0,
            compared: None,
            rng: SmallRng::seed_from_u64(seed),
            now: Duration::ZERO,
            members: Vec::new(),
            queue: BinaryHeap::new(),
            queued: 0,
            timers: HashMap::new(),
            split: None,
            isolated: false,
            timing: Timing::lan(),
            repeat: false,
            cut_off: None,
            slow: BTreeMap::new(),
            parts: Parts::ALL,
            streams: 0,
            told: BTreeMap::new(),
            deaths: BTreeMap::new(),
            dead: BTreeSet::new(),
            watch_deaths: true,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    /// A member that knows nobody.
    pub(super) fn add(&mut self, member: usize) {
        self.add_at(member, record(member).id);
    }

    /// A member that knows nobody and has a node id of another one.
    pub(super) fn add_copy(&mut self, member: usize, node_id: &str) {
        self.start(member, Record { node_id: node_id.into(), ..record(member) });
    }

    /// A member that knows nobody and says that it is at `id`, whoever lives there.
    pub(super) fn add_at(&mut self, member: usize, id: Id) {
        self.start(member, Record { id, node_id: format!("id{member}").into(), ..record(member) });
    }

    fn start(&mut self, member: usize, own: Record) {
        let seed = self.rng.random();
        let mut core = Core::new(own, self.timing, "lan:dc1", None, 0, seed);
        core.parts = self.parts;
        while self.members.len() <= member {
            self.members.push(None);
        }
        self.members[member] = Some(core);
        let pause = self.timing.compare.mul_f64(self.rng.random());
        self.push(pause, Happening::Compare { member });
        self.push(Duration::from_secs(1), Happening::Look { member });
        self.settle(member);
    }

    /// Ends a member and starts it again at once, at its name and address but with an empty data directory.
    pub(super) fn begin_anew(&mut self, member: usize) {
        let bump = self.members[member].as_ref().map_or(1, |core| core.state(false).from.id.bump) + 1;
        let id = Id { address: address(member), bump };
        let own = Record { id, node_id: format!("id{member}.{bump}").into(), ..record(member) };
        let seed = self.rng.random();
        self.members[member] = Some(Core::new(own, self.timing, "lan:dc1", None, 0, seed));
        self.timers.remove(&member);
        self.settle(member);
    }

    /// Starts a member again that has crashed, with its data directory.
    pub(super) fn restart(&mut self, member: usize, bump: u64) {
        self.timers.remove(&member);
        self.dead.remove(&member);
        self.add_at(member, Id { bump, ..record(member).id });
    }

    /// The node id that `viewer` knows a member by.
    pub(super) fn node_id(&self, viewer: usize, member: usize) -> Option<String> {
        let members = self.members[viewer].as_ref().expect("the viewer runs").members();
        members.into_iter().find(|shown| shown.name == name(member)).map(|shown| shown.node_id)
    }

    /// So many members that know each other.
    pub(super) fn populate(&mut self, members: usize) {
        for member in 0..members {
            self.add(member);
        }
        let described = |member| Arc::new(Record { node_id: format!("id{member}").into(), ..record(member) });
        let records: Vec<Arc<Record>> = (0..members).map(described).collect();
        for member in 0..members {
            let known = records.iter().filter(|record| record.id.address != address(member));
            let state = crate::wire::State {
                from: records[(member + 1) % members].clone(),
                bond: None,
                joining: false,
                probed: known.clone().map(|record| foca::Member::alive(record.id)).collect(),
                members: known.map(|record| (record.clone(), Status::Alive, None)).collect(),
                events: Vec::new(),
                clock: 0,
            };
            let now = self.now;
            self.with(member, |core| core.merge(now, state));
        }
    }

    pub(super) fn crash(&mut self, member: usize) {
        self.members[member] = None;
        self.dead.insert(member);
    }

    /// Cuts the members below `at` off from the others.
    pub(super) fn split(&mut self, at: usize) {
        self.split = Some(at);
    }

    /// Cuts everybody off from everybody.
    pub(super) fn isolate(&mut self) {
        self.isolated = true;
    }

    pub(super) fn heal(&mut self) {
        (self.split, self.isolated) = (None, false);
    }

    /// Has every packet arrive twice.
    pub(super) fn repeat_packets(&mut self, repeat: bool) {
        self.repeat = repeat;
    }

    pub(super) fn fire(&mut self, member: usize) {
        let now = self.now;
        self.told.clear();
        self.with(member, |core| core.fire(now, NewEvent { name: "deploy".into(), ..NewEvent::default() }).expect("the event is small"));
        self.told.remove(&member);
    }

    /// Has a member forget another one, and tell everybody to.
    pub(super) fn prune(&mut self, member: usize, gone: usize) {
        let now = self.now;
        self.with(member, |core| core.force_leave(now, &name(gone), true)).expect("it has failed");
    }

    /// Has everybody fire so many events in the same moment.
    pub(super) fn storm(&mut self, each: usize) {
        let now = self.now;
        self.told.clear();
        for member in (0..each).flat_map(|_| self.running().collect::<Vec<_>>()).collect::<Vec<_>>() {
            self.with(member, |core| core.fire(now, NewEvent { name: "cron".into(), ..NewEvent::default() }).expect("there is room"));
        }
    }

    /// How often each member was told of an event.
    pub(super) fn told(&self) -> &BTreeMap<usize, usize> {
        &self.told
    }

    pub(super) fn is_running(&self, member: usize) -> bool {
        self.members.get(member).is_some_and(Option::is_some)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.members.len()).filter(|member| self.is_running(*member))
    }

    /// Everybody as `viewer` sees them.
    pub(super) fn members(&self, viewer: usize) -> Vec<(usize, Status)> {
        let core = self.members[viewer].as_ref().expect("the viewer runs");
        core.members().into_iter().map(|member| (member.name[1..].parse().expect("names are numbers"), member.status)).collect()
    }

    /// How often somebody was told that a running member is dead.
    pub(super) fn deaths_told(&self) -> usize {
        self.deaths.keys().filter(|(_, name)| name[1..].parse().is_ok_and(|member: usize| !self.dead.contains(&member))).count()
    }

    /// Running members that somebody held for dead since the last call.
    pub(super) fn deaths_told_of(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.deaths).into_keys().map(|(_, name)| name).collect()
    }

    /// Rounds of gossip until an event of `member` is known to all.
    pub(super) fn spread(&mut self, member: usize) -> f64 {
        let others = self.running().count() - 1;
        let from = self.now;
        self.fire(member);
        while self.told.len() < others && self.now - from < Duration::from_secs(60) {
            self.run(Duration::from_millis(20));
        }
        (self.now - from).as_secs_f64() / Timing::lan().gossip.as_secs_f64()
    }

    /// The time until the first one knows that `member` has crashed, and until everybody does.
    pub(super) fn detect(&mut self, member: usize) -> (Duration, Duration) {
        let from = self.now;
        self.crash(member);
        let name = name(member);
        let knows = |network: &Network| network.deaths.keys().filter(|(_, dead)| *dead == name).count();
        let others = self.running().count();
        let mut first = None;
        while knows(self) < others && self.now - from < Duration::from_secs(120) {
            self.run(Duration::from_millis(100));
            if first.is_none() && knows(self) > 0 {
                first = Some(self.now - from);
            }
        }
        let all = self.now - from;
        (first.unwrap_or(all), all)
    }

    /// Has a member join by another one: what TCP would carry is carried at once. Says whether it was let in.
    pub(super) fn join(&mut self, member: usize, by: usize) -> bool {
        self.exchange(member, by, true)
    }

    /// What a member knows.
    pub(super) fn state(&self, member: usize) -> crate::wire::State {
        self.members[member].as_ref().expect("the member runs").state(false)
    }

    /// Tells a member what another one knew.
    pub(super) fn merge(&mut self, member: usize, state: crate::wire::State) {
        let now = self.now;
        self.with(member, |core| core.merge(now, state));
    }

    /// Lets much time pass at once, in which nobody sleeps or speaks.
    pub(super) fn jump(&mut self, time: Duration) {
        self.now += time;
        let happenings = std::mem::take(&mut self.queue).into_vec();
        self.queue = happenings.into_iter().map(|Reverse((at, order, happening))| Reverse((at.max(self.now), order, happening))).collect();
        self.timers.clear();
        for member in 0..self.members.len() {
            self.settle(member);
        }
    }

    fn exchange(&mut self, from: usize, with: usize, joining: bool) -> bool {
        if from == with || self.is_cut(from, with) || !self.is_running(with) {
            return false;
        }
        let now = self.now;
        let Some(question) = self.members[from].as_ref().map(|core| core.state(joining)) else { return false };
        let answer = self.with(with, |core| {
            core.refuse(&question).map_or_else(
                || {
                    core.merge(now, question);
                    Some(core.state(false))
                },
                |_| None,
            )
        });
        if let Some(bytes) = &mut self.compared {
            *bytes += answer.iter().map(|answer| 2 * crate::wire::encode(answer).len() as u64).sum::<u64>();
        }
        let Some(answer) = answer else { return false };
        self.with(from, |core| core.merge(now, answer));
        true
    }

    /// Whether no stream opens between the two.
    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.isolated
            || self.split.is_some_and(|at| (a < at) != (b < at))
            || self.cut_off.is_some_and(|(off, streams)| !streams && (off == a || off == b))
    }

    fn loses_datagrams(&self, a: usize, b: usize) -> bool {
        self.is_cut(a, b) || self.cut_off.is_some_and(|(off, _)| off == a || off == b)
    }

    /// Lets so much time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, _, _))) = self.queue.peek() {
            if *at > until {
                break;
            }
            let Some(Reverse((at, _, happening))) = self.queue.pop() else { break };
            self.now = at;
            let reader = happening.reader();
            if let Some(left) = reader.and_then(|member| self.slow.get(&member)).and_then(|stall| stall.left(at)) {
                self.push(left, happening);
                continue;
            }
            match happening {
                Happening::Packet { to, bytes } => {
                    let now = self.now;
                    if self.is_running(to) {
                        let taken = self.with(to, |core| core.datagram(now, &bytes));
                        assert!(matches!(taken, Ok(()) | Err(Dropped::Replayed)), "packets are whole: {taken:?}");
                    }
                }
                Happening::Timer { member } => {
                    self.timers.remove(&member);
                    let now = self.now;
                    if self.is_running(member) {
                        self.with(member, |core| core.tick(now));
                    }
                }
                Happening::Compare { member } => self.compare(member),
                Happening::Look { member } => self.look(member),
                Happening::Asked { from, to, bump, suspected } => {
                    let (now, id) = (self.now, Id { address: address(to), bump });
                    if self.is_running(to) && self.with(to, |core| core.asked_by_stream(now, id, suspected)) {
                        self.push(Duration::ZERO, Happening::Answered { by: to, bump, to: from });
                    }
                }
                Happening::Answered { by, bump, to } => {
                    let (now, id) = (self.now, Id { address: address(by), bump });
                    if self.is_running(to) {
                        self.with(to, |core| core.stream_answered(now, id));
                    }
                }
            }
        }
        self.now = until;
    }

    /// What the pool's task does now and then: compares with a living member.
    fn compare(&mut self, member: usize) {
        let Some(core) = self.members[member].as_mut() else { return };
        if let Some(peer) = core.pick(Status::Alive) {
            self.exchange(member, number(peer), false);
        }
        let every = self.timing.compare_every(self.members[member].as_ref().map_or(1, Core::size));
        let pause = every.mul_f64(0.8 + 0.4 * self.rng.random::<f64>());
        self.push(pause, Happening::Compare { member });
    }

    /// What the pool's task does each second: calls those that were lost, and those that nobody has described.
    fn look(&mut self, member: usize) {
        let now = self.now;
        let Some(core) = self.members[member].as_mut() else { return };
        for Call { to, joining } in core.calls(now) {
            self.exchange(member, number(to), joining);
        }
        self.push(LOOK, Happening::Look { member });
    }

    fn with<T>(&mut self, member: usize, work: impl FnOnce(&mut Core) -> T) -> T {
        let core = self.members[member].as_mut().expect("only running members are asked");
        let result = work(core);
        self.settle(member);
        result
    }

    /// Carries out what a member wants, and sets its timer.
    fn settle(&mut self, member: usize) {
        let Some(core) = self.members[member].as_mut() else { return };
        let (outputs, next) = (core.outputs(), core.next());
        if self.watch_deaths && outputs.iter().any(|output| matches!(output, Output::Changed)) {
            for name in core.newly_failed() {
                self.deaths.insert((member, name), Status::Failed);
            }
        }
        for output in outputs {
            match output {
                Output::Send(to, bytes) => self.send(member, number(to), bytes),
                Output::Event(arrived) => *self.told.entry(member).or_default() += usize::from(arrived.news),
                Output::EventsDropped { .. } | Output::Changed => {}
                Output::StreamOnly(_) => self.streams += 1,
                Output::Ask(to, suspected, _) => self.ask(member, to, suspected),
            }
        }
        if let Some(next) = next
            && self.timers.get(&member).is_none_or(|set| next < *set)
        {
            self.timers.insert(member, next);
            let pause = next.saturating_sub(self.now);
            self.push(pause, Happening::Timer { member });
        }
    }

    fn send(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        self.packets += 1;
        self.bytes += bytes.len() as u64 + HEADERS;
        for _ in 0..1 + usize::from(self.repeat) {
            if self.loses_datagrams(from, to) || self.rng.random::<f64>() < self.weather.loss {
                continue;
            }
            let (least, most) = self.weather.delay;
            let delay = least + (most - least).mul_f64(self.rng.random());
            self.push(delay, Happening::Packet { to, bytes: bytes.clone() });
        }
    }

    /// A stream opens and carries a question: two packets each way have to come. Lost ones are sent again after
    /// 200 ms, and those that open the stream too late to matter.
    fn ask(&mut self, from: usize, id: Id, suspected: Option<u16>) {
        let to = number(id.address);
        let Some(trip) = self.round_trip(from, to, 1) else { return };
        if let Some(question) = self.round_trip(from, to, 3) {
            self.push(trip + question, Happening::Asked { from, to, bump: id.bump, suspected });
        }
    }

    /// How long two packets take there and back, when they may be sent so often.
    fn round_trip(&mut self, from: usize, to: usize, times: u32) -> Option<Duration> {
        let (least, most) = self.weather.delay;
        let came = (1.0 - self.weather.loss).powi(2);
        let lost = (0..times).take_while(|_| self.rng.random::<f64>() >= came).count() as u32;
        (lost < times && !self.is_cut(from, to)).then(|| least + most + Duration::from_millis(200) * lost)
    }

    fn push(&mut self, after: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.push(Reverse((self.now + after, self.queued, happening)));
    }
}
