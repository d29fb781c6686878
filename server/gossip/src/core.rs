//! A member without a clock, sockets or tasks: packets, time and wishes in, packets and news out.
//!
//! Probing tells which lives at which addresses are up. Members' descriptions travel beside it as
//! news. What is shown of a member follows from the two: described and up is alive, described and
//! not up any more is failed, or left if it had said so.

mod admission;
mod bond;
#[cfg(test)]
mod bond_tests;
mod calls;
mod events;
mod probes;
mod reap;
mod records;
mod sift;
mod suspicion;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{AccumulatingRuntime, Foca, Incarnation, Member as Probed, PostcardCodec, Timer};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::bounds::{self, Horizon};
use crate::coordinate::{Coordinate, Vivaldi};
use crate::entries::Entries;
use crate::event::{Arrived, Events};
use crate::keyring::Keyring;
use crate::member::{Entry, Id, Member, RECORD_MAX, Record, Status};
use crate::news::{Inbox, MEMBERS_MAX, Reader};
use crate::peers::Peers;
use crate::timing::Timing;
use crate::wire::{self, DATAGRAM_MAX, Datagram, Dropped, Kind, News, Notice, State, Tail};

use calls::Calls;
pub(crate) use calls::{Call, LOOK};
use probes::{Probe, Relayed};
use suspicion::Suspected;

/// What a member wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Tell that the members are not what they were.
    Changed,
    /// Tell of an event.
    Event(Arrived),
    /// Tell that events were dropped because they may have come before, and that others were not passed on.
    EventsDropped { late: u64, held: u64 },
    /// Ask this life by stream whether it is there, for so long, and tell [`Core::stream_answered`].
    Ask(Id, Option<Incarnation>, Duration),
    /// Tell that this member answers by stream and that datagrams don't get through to it.
    StreamOnly(SocketAddr),
}

/// Something to be done later.
enum Later {
    Probing(Timer<Id>),
    /// Tell the first that the second has not answered, if it still has not.
    Silent(Relayed),
}

/// When something is to be done, and what tells it from what is to be done at the same time.
type Due = (Duration, u64);

/// Which parts of Lifeguard are at work: all of them, but where it is measured what each is good for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts {
    /// Suspicions start long and become shorter by confirmations. Without it they are as short as with
    /// all of them from the beginning.
    pub(crate) confirm: bool,
    /// Suspects are told so in each packet to them.
    pub(crate) tell: bool,
    /// Whom datagrams don't reach is tried by stream.
    pub(crate) stream: bool,
}

impl Parts {
    pub(crate) const ALL: Parts = Parts { confirm: true, tell: true, stream: true };
}

/// One member.
pub(crate) struct Core {
    probing: Foca<Id, PostcardCodec, SmallRng, Reader>,
    runtime: AccumulatingRuntime<Id>,
    inbox: Arc<Mutex<Inbox>>,
    timing: Timing,
    label: u32,
    pub(crate) label_text: String,
    pub(crate) keyring: Option<Keyring>,
    me: Arc<Record>,
    /// The tag that members have in common, and the value that this one has met first.
    bond: (Option<&'static str>, Option<String>),
    entries: Entries,
    /// Descriptions of members that nobody has seen up yet, by address.
    unseen: HashMap<SocketAddr, Arc<Record>>,
    calls: Calls,
    peers: Peers,
    vivaldi: Vivaldi,
    /// The probe under way.
    probe: Option<Probe>,
    /// Probes for others that have not been answered so far.
    relayed: BTreeSet<Relayed>,
    /// Whom this member has found not to answer.
    suspected: HashMap<SocketAddr, Suspected>,
    /// The incarnation that this life has come to.
    incarnation: (u64, Incarnation),
    health: u32,
    pub(crate) parts: Parts,
    /// Datagrams that this life has sent.
    sent: u32,
    timers: BTreeMap<Due, Later>,
    timers_made: u64,
    rng: SmallRng,
    now: Duration,
    reaped: Duration,
    outputs: Vec<Output>,
    #[cfg(test)]
    failed: Vec<String>,
    configured: usize,
}

impl Core {
    /// A member that knows only itself. `label` tells its pool from others, `clock` is where its
    /// Lamport clock stood, `seed` decides every chance.
    pub(crate) fn new(me: Record, timing: Timing, label: &str, keyring: Option<Keyring>, clock: u64, seed: u64) -> Self {
        let inbox = Arc::new(Mutex::new(Inbox { events: Events::new(clock), horizon: Horizon::new(me.id.bump), ..Inbox::default() }));
        let mut rng = SmallRng::seed_from_u64(seed);
        let own = SmallRng::seed_from_u64(rng.random());
        let reader = Reader { inbox: inbox.clone() };
        let probing = Foca::with_custom_broadcast(me.id, timing.config(1), rng, PostcardCodec, reader);
        let mut core = Core {
            probing,
            runtime: AccumulatingRuntime::new(),
            inbox,
            timing,
            label: wire::digest(label),
            label_text: label.to_owned(),
            keyring,
            bond: (None, None),
            entries: Entries::default(),
            unseen: HashMap::new(),
            calls: Calls::default(),
            peers: Peers::default(),
            vivaldi: Vivaldi::default(),
            probe: None,
            relayed: BTreeSet::new(),
            suspected: HashMap::new(),
            incarnation: (me.id.bump, 0),
            health: 0,
            parts: Parts::ALL,
            sent: 0,
            timers: BTreeMap::new(),
            timers_made: 0,
            rng: own,
            now: Duration::ZERO,
            reaped: Duration::ZERO,
            outputs: Vec::new(),
            #[cfg(test)]
            failed: Vec::new(),
            configured: 1,
            me: Arc::new(me),
        };
        core.show_me();
        core
    }

    /// A datagram has come.
    pub(crate) fn datagram(&mut self, now: Duration, bytes: &[u8]) -> Result<(), Dropped> {
        self.now = now;
        if bytes.len() > DATAGRAM_MAX {
            return Err(Dropped::Oversized);
        }
        let content = wire::unwrap(self.label, self.keyring.as_ref(), Kind::Datagram, bytes)?;
        let (datagram, rest) = postcard::take_from_bytes::<Datagram<'_>>(&content).map_err(|_| Dropped::Malformed)?;
        let tail = if rest.is_empty() { None } else { Some(wire::decode::<Tail>(rest)?) };
        let notice = tail.and_then(|tail| tail.notice);
        let count = tail.map(|tail| tail.count);
        if datagram.packet.is_empty() {
            if let Some((count, Notice::Silent { number, by })) = count.zip(notice) {
                if self.peers.has_come(by, count) {
                    return Err(Dropped::Replayed);
                }
                self.relay_is_there(by, number);
                self.peers.come(by, count);
            }
            return Ok(());
        }
        let sifted = {
            let horizon = &mut self.inbox.lock().horizon;
            horizon.pass(now);
            sift::sift(datagram.packet, self.me.id, &self.peers, horizon).ok_or(Dropped::Malformed)?
        };
        let from = sifted.header.src;
        let strange = bounds::refuse_id(&from, &mut self.inbox.lock().horizon).or_else(|| self.peers.refuse(from.address));
        if let Some(wrong) = strange {
            return Err(Dropped::OutOfBounds(wrong));
        }
        if count.is_some_and(|count| self.peers.has_come(from, count)) {
            return Err(Dropped::Replayed);
        }
        let meant = sifted.header.dst == *self.probing.identity();
        if let Some(Notice::Suspected(incarnation)) = notice
            && meant
            && self.peers.is_up(from.address)
        {
            self.am_suspected(incarnation);
        }
        self.make_room();
        let result = self.probing.handle_data(&sifted.packet, &mut self.runtime);
        self.settle(Some(datagram.coordinate));
        if let Some(count) = count {
            self.peers.come(from, count);
        }
        // Of whom it thinks that they are down, the probing believes nothing.
        if result.is_ok() && meant && self.peers.life(from.address) == Some(from.bump) {
            sifted.new.iter().for_each(|update| self.learn(update));
            self.contest(sifted.here);
        }
        let refused = sifted.refused.or_else(|| self.refused());
        // A packet that was understood in part has done its part.
        match result {
            Err(foca::Error::Decode(_) | foca::Error::MalformedPacket | foca::Error::CustomBroadcast(_)) => Err(Dropped::Malformed),
            Err(foca::Error::DataTooBig) => Err(Dropped::Oversized),
            _ => refused.map_or(Ok(()), |wrong| Err(Dropped::OutOfBounds(wrong))),
        }
    }

    /// Somebody says that a later life than this one is here.
    fn contest(&mut self, here: u64) {
        if here > self.me.id.bump {
            self.outbid(here);
            self.settle(None);
        }
    }

    /// Something that was not believed since the last call, if there was any.
    pub(crate) fn refused(&mut self) -> Option<&'static str> {
        self.inbox.lock().refused.take()
    }

    /// Takes the time from the member that sent `state`, which this one was told to ask, unless it knows somebody.
    pub(crate) fn adopt(&mut self, state: &State) {
        if self.size() == 1 {
            self.inbox.lock().horizon.adopt(state);
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.now = now;
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            match first.remove() {
                Later::Probing(timer) => self.probing_is_due(timer),
                Later::Silent(relayed) => self.tell_of_silence(relayed),
            }
            self.settle(None);
        }
        self.reap();
    }

    /// When [`Core::tick`] has something to do next.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.timers.first_key_value().map(|((at, _), _)| *at)
    }

    /// What is to be done since the last call.
    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// Everything that this member knows.
    pub(crate) fn state(&self, joining: bool) -> State {
        let members = self.entries.values().map(|entry| {
            let coordinate = self.peers.coordinate(entry.record.id.address);
            (entry.record.clone(), entry.status, coordinate)
        });
        let (events, clock) = self.told_events();
        // Who was cut off when somebody was pruned hears of it here.
        let inbox = self.inbox.lock();
        let pruned = inbox.pruned().map(|record| (record.clone(), Status::Left, None));
        State {
            from: self.me.clone(),
            bond: self.bond(),
            joining,
            probed: self.probing.iter_membership_state().cloned().collect(),
            members: members.chain(pruned).collect(),
            events,
            clock,
        }
    }

    /// Takes over what another member knows.
    pub(crate) fn merge(&mut self, now: Duration, state: State) {
        self.now = now;
        let me = self.me.id;
        if let Some(bond) = &state.bond {
            self.meet(bond);
        }
        let stranger = self.is_stranger(&state);
        let mut news = state.probed;
        // Two that compare themselves agree on nearly all.
        news.retain(|member| !self.peers.covers(member));
        {
            let mut inbox = self.inbox.lock();
            inbox.horizon.pass(now);
            if !inbox.is_refused(|inbox| bounds::refuse_clock(state.clock, inbox.events.clock())) {
                inbox.events.witness(state.clock);
            }
            inbox.is_refused(|inbox| bounds::believed(&mut news, &mut inbox.horizon));
            if !inbox.believes(&state.from) {
                return;
            }
        }
        let here = || news.iter().filter(|member| member.id().address == me.address);
        let latest = here().map(|member| member.id().bump).max().unwrap_or_default();
        // What this life says does not reach whoever holds it for dead: only another life does.
        let dead = here().any(|member| member.state() == foca::State::Down && member.id().bump == me.bump);
        let room = MEMBERS_MAX.saturating_sub(self.peers.len());
        news.retain(|member| member.id().address != me.address);
        news.truncate(room);
        let _ = self.probing.apply_many(news.iter().cloned(), false, &mut self.runtime);
        let _ = self.probing.apply_many(std::iter::once(Probed::alive(state.from.id)), state.joining, &mut self.runtime);
        news.iter().for_each(|update| self.learn(update));
        match dead && latest <= me.bump {
            true => self.return_from_the_dead(),
            false => self.contest(latest),
        }
        if state.joining {
            // Whoever is here already has never heard of it.
            let news = wire::encode(&News::Record(state.from.clone()));
            if let Err(error) = self.probing.add_broadcast(&news) {
                tracing::warn!(%error, name = %state.from.name, "what a new member says of itself can't be told to the others");
            }
        }
        // Who is up comes first, so that nobody is shown as failed for a moment.
        self.settle(None);
        let from = (state.from.clone(), Status::Alive, None);
        for (record, status, coordinate) in state.members.into_iter().chain([from]) {
            if let Some(coordinate) = coordinate.filter(Coordinate::is_valid) {
                self.peers.place_first(record.id.address, coordinate);
            }
            if record.pruned && !self.inbox.lock().known.contains_key(&record.name) {
                // Whoever tells this forgets it one day, if nobody who has never heard of it keeps it alive.
                continue;
            }
            if record.name == self.me.name || self.inbox.lock().note(&record) || self.is_back(&record, state.from.id) {
                self.take_record(record, Some(status));
            }
        }
        self.take_events(state.events, stranger, state.joining);
        self.settle(None);
    }

    /// Whether it is the member at `itself` that says this, and is up but not shown: old news bring nobody back, and
    /// whoever was forgotten may have lived on.
    fn is_back(&self, record: &Arc<Record>, itself: Id) -> bool {
        let here = record.id == itself && self.peers.is_up(itself.address);
        here && self.inbox.lock().note_again(record, self.entries.contains(&record.name))
    }

    /// Says something else of oneself.
    pub(crate) fn set_tags(&mut self, now: Duration, tags: BTreeMap<String, String>) -> Result<(), String> {
        let record = Record { tags, version: self.me.version + 1, ..(*self.me).clone() };
        let bytes = wire::encode(&record).len();
        if bytes > RECORD_MAX {
            return Err(format!("the tags of this node take {bytes} bytes, and {RECORD_MAX} are allowed"));
        }
        self.now = now;
        self.me = Arc::new(record);
        self.tell_of_me();
        self.settle(None);
        Ok(())
    }

    /// Says that this member goes. It still answers until [`Core::depart`].
    pub(crate) fn announce_leave(&mut self, now: Duration) {
        self.now = now;
        let me = Arc::make_mut(&mut self.me);
        me.leaving = true;
        me.version += 1;
        self.tell_of_me();
        self.settle(None);
    }

    /// Goes.
    pub(crate) fn depart(&mut self, now: Duration) {
        self.now = now;
        let _ = self.probing.leave_cluster(&mut self.runtime);
        self.settle(None);
        self.timers.clear();
    }

    /// Tells everybody that a failed member is gone for good; with `prune`, to forget it.
    pub(crate) fn force_leave(&mut self, now: Duration, name: &str, prune: bool) -> Result<(), String> {
        self.now = now;
        let entry = self.entries.get(name).ok_or_else(|| format!("there is no member `{name}`"))?;
        if entry.status == Status::Alive {
            return Err(format!("`{name}` is alive and would come back at once; stop it, or have it leave"));
        }
        let record = Record { leaving: true, pruned: prune, version: entry.record.version.saturating_add(1), ..(*entry.record).clone() };
        let bytes = wire::encode(&News::Record(Arc::new(record)));
        let news = self.probing.add_broadcast(&bytes).map_err(|error| format!("the news can't be sent: {error}"))?;
        let _ = self.probing.broadcast(&mut self.runtime);
        self.settle(None);
        let newer = || format!("something newer was heard of `{name}` in the meantime; look at it with `lictor members`, and try again");
        news.then_some(()).ok_or_else(newer)
    }

    /// Everybody by name, this member included.
    pub(crate) fn members(&self) -> Vec<Member> {
        let mut entries: Vec<&Entry> = self.entries.values().collect();
        entries.sort_unstable_by(|one, other| one.record.name.cmp(&other.record.name));
        entries.into_iter().map(Entry::member).collect()
    }

    /// This member's own coordinate.
    pub(crate) fn coordinate(&self) -> Coordinate {
        self.vivaldi.at
    }

    /// The coordinate of a member, once it was heard.
    pub(crate) fn coordinate_of(&self, name: &str) -> Option<Coordinate> {
        if name == &*self.me.name {
            return Some(self.vivaldi.at);
        }
        self.peers.coordinate(self.entries.get(name)?.record.id.address)
    }

    /// What the member at `address` is called, as far as it is known.
    pub(crate) fn name_at(&self, address: SocketAddr) -> String {
        let newest = self.entries.at(address).max_by_key(|entry| entry.record.id.bump);
        newest.map_or_else(|| address.to_string(), |entry| entry.record.name.to_string())
    }

    /// How many members are up, this one included.
    pub(crate) fn size(&self) -> usize {
        self.peers.up() + 1
    }

    /// How this member rates its own health: 0 is well.
    pub(crate) fn health(&self) -> u32 {
        self.health
    }

    /// Some other member that is as `wanted`, by chance.
    pub(crate) fn pick(&mut self, wanted: Status) -> Option<SocketAddr> {
        let me = self.me.id.address;
        // Where one has failed another one may live by now.
        let there = |entry: &Entry| wanted != Status::Failed || !self.peers.is_up(entry.record.id.address);
        let fit = |entry: &&Entry| entry.status == wanted && entry.record.id.address != me && there(entry);
        let count = self.entries.values().filter(fit).count();
        let chosen = (count > 0).then(|| self.rng.random_range(0..count))?;
        self.entries.values().filter(fit).nth(chosen).map(|entry| entry.record.id.address)
    }

    /// Members that turned out to have failed since the last call.
    #[cfg(test)]
    pub(crate) fn newly_failed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failed)
    }

    /// Whether somebody is up at `address`.
    pub(crate) fn is_up(&self, address: SocketAddr) -> bool {
        self.peers.is_up(address)
    }

    fn tell_of_me(&mut self) {
        let bytes = wire::encode(&News::Record(self.me.clone()));
        if let Err(error) = self.probing.add_broadcast(&bytes) {
            tracing::warn!(%error, "what this node says of itself can't be sent");
        }
        let _ = self.probing.broadcast(&mut self.runtime);
        self.show_me();
    }

    fn show_me(&mut self) {
        self.inbox.lock().note(&self.me);
        let status = if self.me.leaving { Status::Leaving } else { Status::Alive };
        self.entries.insert(Entry { record: self.me.clone(), status, since: self.now });
        self.know_alive(&self.me.name.clone(), true);
        self.outputs.push(Output::Changed);
    }

    /// Brings everything that the probing has left behind to where it belongs.
    fn settle(&mut self, coordinate: Option<Coordinate>) {
        loop {
            let mut quiet = true;
            while let Some((to, packet)) = self.runtime.to_send() {
                let suspected = self.peers.suspected(to).filter(|_| self.parts.tell);
                self.send(to.address, &packet, suspected.map(Notice::Suspected));
            }
            while let Some((after, timer)) = self.runtime.to_schedule() {
                self.schedule(after, timer);
            }
            while let Some(notification) = self.runtime.to_notify() {
                quiet = false;
                self.notice(notification, coordinate);
            }
            let news = std::mem::take(&mut self.inbox.lock().news);
            for news in news {
                quiet = false;
                match news {
                    News::Event(_) => {}
                    News::Record(record) => self.take_record(record, None),
                    News::Suspicion(suspicion) => self.confirmed(suspicion.of.address),
                }
            }
            if quiet {
                break;
            }
        }
        self.tell_events();
        self.reconfigure();
    }

    /// Sends a packet of the probing, or none, and what is for its receiver alone.
    fn send(&mut self, to: SocketAddr, packet: &[u8], notice: Option<Notice>) {
        let mut content = wire::encode(&Datagram { coordinate: self.vivaldi.at, packet });
        content.extend(wire::encode(&Tail { count: self.sent, notice }));
        self.sent = self.sent.wrapping_add(1);
        self.outputs.push(Output::Send(to, wire::wrap(self.label, self.keyring.as_ref(), Kind::Datagram, &content)));
    }

    fn later(&mut self, at: Duration, what: Later) -> Due {
        self.timers_made += 1;
        let due = (at, self.timers_made);
        self.timers.insert(due, what);
        due
    }

    /// Gives the probing what depends on the pool's size.
    fn reconfigure(&mut self) {
        // News of every member come one by one: a tenth more or less changes nothing.
        let size = self.size();
        if size.abs_diff(self.configured) * 10 > self.configured {
            self.configured = size;
            if let Err(error) = self.probing.set_config(self.timing.config(size)) {
                tracing::warn!(%error, "the probing keeps its old pace");
            }
        }
    }
}
