//! A member without a clock, sockets or tasks: packets, time and wishes in, packets and news out.
//!
//! Probing tells which lives at which addresses are up. Members' descriptions travel beside it as
//! news. What is shown of a member follows from the two: described and up is alive, described and
//! not up any more is failed, or left if it had said so.

mod reap;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{AccumulatingRuntime, Foca, Member as Probed, OwnedNotification, PostcardCodec, Timer};
use metrics::counter;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::coordinate::{Coordinate, Vivaldi};
use crate::entries::Entries;
use crate::event::{self, Event, Events, NewEvent};
use crate::keyring::Keyring;
use crate::member::{Entry, Id, Member, RECORD_MAX, Record, Status};
use crate::news::{Inbox, MEMBERS_MAX, Reader};
use crate::timing::Timing;
use crate::wire::{self, Datagram, Dropped, News, State};

/// The worst that one's own health can be rated.
const HEALTH_MAX: u32 = 8;

/// What a member wants done.
#[derive(Debug)]
pub(crate) enum Output {
    /// Send a datagram.
    Send(SocketAddr, Vec<u8>),
    /// Tell that the members are not what they were.
    Changed,
    /// Tell of an event.
    Event(Event),
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
    entries: Entries,
    /// Descriptions of members that nobody has seen up yet, by address.
    unseen: HashMap<SocketAddr, Arc<Record>>,
    /// Who is up and not in `entries`: the news of them were lost.
    undescribed: BTreeSet<SocketAddr>,
    /// Lives that are up, by address.
    up: HashMap<SocketAddr, u64>,
    coordinates: HashMap<SocketAddr, Coordinate>,
    vivaldi: Vivaldi,
    /// Probes under way: when they left.
    probes: HashMap<SocketAddr, (u8, Duration)>,
    health: u32,
    timers: BTreeMap<(Duration, u64), Timer<Id>>,
    timers_made: u64,
    rng: SmallRng,
    now: Duration,
    reaped: Duration,
    outputs: Vec<Output>,
    #[cfg(test)]
    failed: Vec<String>,
    configured: (usize, u32),
}

impl Core {
    /// A member that knows only itself. `label` tells its pool from others, `clock` is where its
    /// Lamport clock stood, `seed` decides every chance.
    pub(crate) fn new(me: Record, timing: Timing, label: &str, keyring: Option<Keyring>, clock: u64, seed: u64) -> Self {
        let inbox = Arc::new(Mutex::new(Inbox { events: Events::new(clock), ..Inbox::default() }));
        let mut rng = SmallRng::seed_from_u64(seed);
        let own = SmallRng::seed_from_u64(rng.random());
        let reader = Reader { inbox: inbox.clone() };
        let probing = Foca::with_custom_broadcast(me.id, timing.config(1, 0), rng, PostcardCodec, reader);
        let mut core = Core {
            probing,
            runtime: AccumulatingRuntime::new(),
            inbox,
            timing,
            label: wire::digest(label),
            label_text: label.to_owned(),
            keyring,
            entries: Entries::default(),
            unseen: HashMap::new(),
            undescribed: BTreeSet::new(),
            up: HashMap::new(),
            coordinates: HashMap::new(),
            vivaldi: Vivaldi::default(),
            probes: HashMap::new(),
            health: 0,
            timers: BTreeMap::new(),
            timers_made: 0,
            rng: own,
            now: Duration::ZERO,
            reaped: Duration::ZERO,
            outputs: Vec::new(),
            #[cfg(test)]
            failed: Vec::new(),
            configured: (1, 0),
            me: Arc::new(me),
        };
        core.show_me();
        core
    }

    /// A datagram has come.
    pub(crate) fn datagram(&mut self, now: Duration, bytes: &[u8]) -> Result<(), Dropped> {
        self.now = now;
        let content = wire::unwrap(self.label, self.keyring.as_ref(), bytes)?;
        let datagram: Datagram<'_> = postcard::from_bytes(&content).map_err(|_| Dropped::Malformed)?;
        let result = self.probing.handle_data(datagram.packet, &mut self.runtime);
        self.settle(Some(datagram.coordinate));
        // A packet that was understood in part has done its part.
        match result {
            Err(foca::Error::Decode(_) | foca::Error::MalformedPacket | foca::Error::CustomBroadcast(_)) => Err(Dropped::Malformed),
            _ => Ok(()),
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.now = now;
        while let Some(first) = self.timers.first_entry() {
            if first.key().0 > now {
                break;
            }
            let timer = first.remove();
            // A timer that has become superfluous is no failure.
            let _ = self.probing.handle_timer(timer, &mut self.runtime);
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
            let coordinate = self.coordinates.get(&entry.record.id.address).copied();
            (entry.record.clone(), entry.status, coordinate)
        });
        let inbox = self.inbox.lock();
        State {
            from: self.me.clone(),
            joining,
            probed: self.probing.iter_membership_state().cloned().collect(),
            members: members.collect(),
            events: inbox.events.kept().cloned().collect(),
            clock: inbox.events.clock(),
        }
    }

    /// Why the member that sent `state` can't be let in.
    pub(crate) fn refuse(&self, state: &State) -> Option<String> {
        let new = &state.from;
        let living = |entry: &&Entry| matches!(entry.status, Status::Alive | Status::Leaving);
        if let Some(other) = self.entries.get(&new.name).filter(living)
            && other.record.node_id != new.node_id
        {
            let at = other.record.id.address;
            return Some(format!("the name `{}` belongs to a living node at {at}; give this node another with `-node`", new.name));
        }
        let twin = self.entries.values().filter(living).find(|entry| entry.record.node_id == new.node_id && entry.record.name != new.name);
        twin.map(|twin| {
            let (id, name, at) = (&new.node_id, &twin.record.name, twin.record.id.address);
            format!("the node id {id} belongs to the living node `{name}` at {at}; was a data directory copied? remove its `lictor.json`, or give `-node-id`")
        })
    }

    /// Takes over what another member knows.
    pub(crate) fn merge(&mut self, now: Duration, state: State) {
        self.now = now;
        self.inbox.lock().events.witness(state.clock);
        let news = self.unlike_known(state.probed);
        let _ = self.probing.apply_many(news.into_iter(), false, &mut self.runtime);
        let _ = self.probing.apply_many(std::iter::once(Probed::alive(state.from.id)), state.joining, &mut self.runtime);
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
                self.coordinates.entry(record.id.address).or_insert(coordinate);
            }
            if record.name == self.me.name || self.inbox.lock().note(&record) {
                self.take_record(record, Some(status));
            }
        }
        for event in state.events {
            if self.inbox.lock().events.take(&event) {
                self.outputs.push(Output::Event(event));
            }
        }
        self.settle(None);
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

    /// Fires an event.
    pub(crate) fn fire(&mut self, now: Duration, new: NewEvent) -> Result<Event, String> {
        if let Some(refusal) = event::refuse(&new) {
            return Err(refusal);
        }
        self.now = now;
        let NewEvent { name, payload, node_filter, service_filter, tag_filter } = new;
        let ltime = self.inbox.lock().events.tick();
        let mut id: [u8; 16] = self.rng.random();
        // The marks of a random UUID (RFC 9562, §5.4).
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        let event = Event { id, ltime, name, payload, node_filter, service_filter, tag_filter };
        let bytes = wire::encode(&News::Event(event.clone()));
        self.probing.add_broadcast(&bytes).map_err(|error| format!("the event can't be sent: {error}"))?;
        let _ = self.probing.broadcast(&mut self.runtime);
        self.settle(None);
        Ok(event)
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
        let record = Record { leaving: true, pruned: prune, version: entry.record.version + 1, ..(*entry.record).clone() };
        let bytes = wire::encode(&News::Record(Arc::new(record)));
        self.probing.add_broadcast(&bytes).map_err(|error| format!("the news can't be sent: {error}"))?;
        let _ = self.probing.broadcast(&mut self.runtime);
        self.settle(None);
        Ok(())
    }

    /// Everybody, this member included.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.entries.values().map(Entry::member).collect()
    }

    /// The events that are kept, oldest first.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.inbox.lock().events.kept().cloned().collect()
    }

    /// Where the Lamport clock stands.
    pub(crate) fn clock(&self) -> u64 {
        self.inbox.lock().events.clock()
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
        self.coordinates.get(&self.entries.get(name)?.record.id.address).copied()
    }

    /// How many members are up, this one included.
    pub(crate) fn size(&self) -> usize {
        self.up.len() + 1
    }

    /// How this member rates its own health: 0 is well.
    pub(crate) fn health(&self) -> u32 {
        self.health
    }

    /// Some other member that is as `wanted`, by chance.
    pub(crate) fn pick(&mut self, wanted: Status) -> Option<SocketAddr> {
        let me = self.me.id.address;
        let fit = |entry: &&Entry| entry.status == wanted && entry.record.id.address != me;
        let count = self.entries.values().filter(fit).count();
        let chosen = (count > 0).then(|| self.rng.random_range(0..count))?;
        self.entries.values().filter(fit).nth(chosen).map(|entry| entry.record.id.address)
    }

    /// Members that turned out to have failed since the last call.
    #[cfg(test)]
    pub(crate) fn newly_failed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.failed)
    }

    /// Some member that is up and has not been described here: the news of it were lost.
    pub(crate) fn pick_undescribed(&self) -> Option<SocketAddr> {
        self.undescribed.first().copied()
    }

    /// Those of `probed` that say something which the probing does not know. It searches its members
    /// for each that it is told, and two that compare themselves agree on nearly all.
    fn unlike_known(&self, mut probed: Vec<Probed<Id>>) -> Vec<Probed<Id>> {
        let known: HashMap<SocketAddr, &Probed<Id>> =
            self.probing.iter_membership_state().map(|member| (member.id().address, member)).collect();
        probed.retain(|member| {
            let address = member.id().address;
            address != self.me.id.address && known.get(&address).is_none_or(|known| *known != member)
        });
        probed
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
                let content = wire::encode(&Datagram { coordinate: self.vivaldi.at, packet: &packet });
                self.outputs.push(Output::Send(to.address, wire::wrap(self.label, self.keyring.as_ref(), &content)));
            }
            while let Some((after, timer)) = self.runtime.to_schedule() {
                self.timers_made += 1;
                self.timers.insert((self.now + after, self.timers_made), timer);
            }
            while let Some(notification) = self.runtime.to_notify() {
                quiet = false;
                self.notice(notification, coordinate);
            }
            let news = std::mem::take(&mut self.inbox.lock().news);
            for news in news {
                quiet = false;
                match news {
                    News::Event(event) => self.outputs.push(Output::Event(event)),
                    News::Record(record) => self.take_record(record, None),
                }
            }
            if quiet {
                break;
            }
        }
        self.reconfigure();
    }

    fn notice(&mut self, notification: OwnedNotification<Id>, coordinate: Option<Coordinate>) {
        match notification {
            OwnedNotification::MemberUp(id) => {
                self.up.insert(id.address, id.bump);
                if !self.entries.has_address(&id.address) {
                    self.undescribed.insert(id.address);
                }
                self.judge_address(id.address);
            }
            OwnedNotification::MemberDown(id) => {
                self.up.remove(&id.address);
                self.undescribed.remove(&id.address);
                self.probes.remove(&id.address);
                self.judge_address(id.address);
            }
            OwnedNotification::Rename(_, new) => {
                if let Some(bump) = self.up.get_mut(&new.address) {
                    *bump = new.bump;
                }
            }
            OwnedNotification::Rejoin(id) => {
                // Others held this one for dead: it may be slow, so it trusts its own clock less.
                self.worsen();
                counter!("consul_gossip_refutations").increment(1);
                let me = Arc::make_mut(&mut self.me);
                me.id = id;
                me.version += 1;
                self.tell_of_me();
            }
            OwnedNotification::DataSent(header) => {
                if let foca::Message::Ping(number) = header.message {
                    self.probes.insert(header.dst.address, (number, self.now));
                }
            }
            OwnedNotification::DataReceived(header) => {
                if let Some(coordinate) = coordinate.filter(Coordinate::is_valid) {
                    self.coordinates.insert(header.src.address, coordinate);
                }
                if let foca::Message::Ack(number) = header.message {
                    self.answered(header.src.address, number);
                }
            }
            OwnedNotification::ProbeFailed(_, id) => {
                counter!("consul_gossip_probes_failed").increment(1);
                self.probes.remove(&id.address);
                self.worsen();
            }
            OwnedNotification::Active | OwnedNotification::Idle | OwnedNotification::Defunct => {}
        }
    }

    fn answered(&mut self, address: SocketAddr, number: u8) {
        let Some((expected, sent)) = self.probes.remove(&address) else { return };
        if expected != number {
            return;
        }
        self.health = self.health.saturating_sub(1);
        if let Some(other) = self.coordinates.get(&address) {
            let rng = &mut self.rng;
            self.vivaldi.observe(other, self.now.saturating_sub(sent), || rng.random());
        }
    }

    fn worsen(&mut self) {
        self.health = (self.health + 1).min(HEALTH_MAX);
    }

    /// Gives the probing what depends on the pool's size and on this member's health.
    fn reconfigure(&mut self) {
        // News of every member come one by one: a tenth more or less changes nothing.
        let (size, health) = (self.size(), self.health);
        let (before, rated) = self.configured;
        if health != rated || size.abs_diff(before) * 10 > before {
            self.configured = (size, health);
            if let Err(error) = self.probing.set_config(self.timing.config(size, health)) {
                tracing::warn!(%error, "the probing keeps its old pace");
            }
        }
    }

    /// A member's newer description.
    fn take_record(&mut self, record: Arc<Record>, hint: Option<Status>) {
        if record.name == self.me.name {
            return self.defend(&record);
        }
        if record.pruned {
            if self.entries.remove(&record.name).is_some() {
                self.outputs.push(Output::Changed);
            }
            return;
        }
        let address = record.id.address;
        // Whoever lived at this address before under another name is gone.
        let former = |entry: &&Entry| entry.record.id.bump < record.id.bump && entry.record.name != record.name;
        let former: Vec<Arc<str>> = self.entries.at(address).filter(former).map(|entry| entry.record.name.clone()).collect();
        for name in former {
            self.set_status(&name, Status::Left);
        }
        let shown = self.entries.get(&record.name).map(|entry| entry.status).or(hint);
        let status = match (self.up.contains_key(&address), record.leaving, shown) {
            (true, true, _) => Status::Leaving,
            (true, false, _) => Status::Alive,
            (false, true, _) => Status::Left,
            // Nobody has told yet that it is up: what others hold of it counts, or nothing.
            (false, false, Some(Status::Alive | Status::Leaving)) if hint.is_some() => Status::Failed,
            (false, false, Some(status)) => status,
            (false, false, None) => {
                if self.unseen.len() < MEMBERS_MAX {
                    self.unseen.insert(address, record);
                }
                return;
            }
        };
        let name = record.name.clone();
        let since = self.entries.get(&name).filter(|entry| entry.status == status).map_or(self.now, |entry| entry.since);
        self.undescribed.remove(&address);
        self.entries.insert(Entry { record, status, since });
        self.know_alive(&name, matches!(status, Status::Alive | Status::Leaving));
        self.outputs.push(Output::Changed);
    }

    /// Somebody says something of this member that it has not said itself.
    fn defend(&mut self, record: &Record) {
        if record.node_id != self.me.node_id {
            counter!("consul_gossip_name_conflicts").increment(1);
            tracing::error!(address = %record.id.address, "another node uses this node's name `{}`; rename one of them", self.me.name);
            return;
        }
        if record.age() <= self.me.age() || self.me.leaving {
            return;
        }
        let me = Arc::make_mut(&mut self.me);
        me.version = record.version.max(me.version) + 1;
        if record.id.bump > me.id.bump {
            // An earlier life had a later clock.
            let id = Id { bump: record.id.bump + 1, ..me.id };
            if self.probing.change_identity(id, &mut self.runtime).is_ok() {
                me.id = id;
            }
        }
        self.tell_of_me();
    }

    /// Shows the members at `address` as they are now.
    fn judge_address(&mut self, address: SocketAddr) {
        let up = self.up.get(&address).copied();
        if up.is_some()
            && let Some(record) = self.unseen.remove(&address)
        {
            self.take_record(record, None);
        }
        let here = self.entries.at(address).filter(|entry| entry.record.name != self.me.name);
        let newest = here.clone().map(|entry| entry.record.id.bump).max();
        let judged: Vec<(Arc<str>, Status)> = here
            .filter(|entry| Some(entry.record.id.bump) == newest)
            .map(|entry| {
                let status = match (up.is_some(), entry.record.leaving) {
                    (true, false) => Status::Alive,
                    (true, true) => Status::Leaving,
                    (false, true) => Status::Left,
                    (false, false) => Status::Failed,
                };
                (entry.record.name.clone(), status)
            })
            .collect();
        for (name, status) in judged {
            self.set_status(&name, status);
        }
    }

    fn set_status(&mut self, name: &str, status: Status) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if entry.status == status {
            return;
        }
        tracing::info!(member = name, address = %entry.record.id.address, before = entry.status.as_str(), now = status.as_str(), "a member's state has changed");
        entry.status = status;
        entry.since = self.now;
        #[cfg(test)]
        if status == Status::Failed {
            self.failed.push(name.to_owned());
        }
        self.know_alive(name, matches!(status, Status::Alive | Status::Leaving));
        self.outputs.push(Output::Changed);
    }

    fn know_alive(&mut self, name: &str, alive: bool) {
        if let Some(known) = self.inbox.lock().known.get_mut(name) {
            known.alive = alive;
        }
    }
}
