//! Events: small messages that every member gets once, in the order of a Lamport clock (Lamport 1978).
//!
//! Two orders meet here. By Lamport time all members agree on, and it is what they compare with each other. In the
//! order of arrival each member counts for itself: whoever follows events goes on behind the last number it
//! has read, and misses none, because a late one has a later number whatever its time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest payload, in bytes.
pub const PAYLOAD_MAX: usize = 512;

/// Largest name, and largest of each filter, in bytes.
pub(crate) const NAME_MAX: usize = 128;

/// Events that are told when two members compare what they know: the latest by Lamport time.
const KEPT: usize = 256;

/// The same of those that came a short while ago: in a storm gossip leaves out somebody now and then, and comparing
/// makes up for it.
const KEPT_FRESH: usize = 1024;

/// Events that are kept for those who follow them here: a storm may come faster than it is read.
const RECENT: usize = 1024;

/// Events that are known to have come: more than a fleet fires in the seconds for which one is on its way.
const SEEN_MAX: usize = 8192;

/// Events that wait to be passed on. Each of them is sent some dozens of times, so more would take minutes.
pub(crate) const QUEUED_MAX: usize = 1024;

/// An event to be fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewEvent {
    /// What it is called.
    pub name: String,
    /// Anything, up to [`PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
    /// A regular expression: only nodes whose name matches act on it. Empty for all.
    pub node_filter: String,
    /// A regular expression: only nodes with such a service act on it. Empty for all.
    pub service_filter: String,
    /// A regular expression: only nodes whose matching service has such a tag act on it. Empty for all.
    pub tag_filter: String,
}

/// An event as every member gets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Drawn at random when it was fired: a UUID's bytes.
    pub id: [u8; 16],
    /// The Lamport time: an event that was fired after another one was seen has a greater one.
    pub ltime: u64,
    /// What it is called.
    pub name: String,
    /// What it carries.
    pub payload: Vec<u8>,
    /// See [`NewEvent::node_filter`].
    pub node_filter: String,
    /// See [`NewEvent::service_filter`].
    pub service_filter: String,
    /// See [`NewEvent::tag_filter`].
    pub tag_filter: String,
}

/// An event as it has come to this member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// Counts this member's events in the order in which they came, from 1.
    pub number: u64,
    /// Whether it is to be acted on. What happened before this member met its pool is not: it is only shown.
    pub news: bool,
    /// What has come.
    pub event: Arc<Event>,
}

/// Where an event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It was fired here.
    Own,
    /// Another member tells it.
    Other,
    /// Another member tells it, of a time in which this one was not there.
    History,
}

/// What tells events apart, in the order that all members agree on.
type Key = (u64, [u8; 16]);

fn key(event: &Event) -> Key {
    (event.ltime, event.id)
}

/// The events of a pool as one member sees them.
#[derive(Debug, Default)]
pub(crate) struct Events {
    clock: u64,
    /// Up to here events are history; before it has met anybody, all that others tell is.
    history: u64,
    met: bool,
    seen: BTreeSet<Key>,
    /// The latest that had to be forgotten to have come. What is not later may have come before.
    forgotten: Option<Key>,
    /// Taken, and not numbered so far.
    taken: Vec<(bool, Arc<Event>)>,
    /// With the time at which it has come.
    kept: BTreeMap<Key, (Duration, Arc<Event>)>,
    recent: VecDeque<Arrived>,
    arrived: u64,
    late: u64,
}

impl Events {
    /// The clock goes on where an earlier life of this member has left it; what that life may have acted on is
    /// history.
    pub(crate) fn new(clock: u64) -> Self {
        Events { clock, history: clock, ..Events::default() }
    }

    /// The next time of one's own.
    pub(crate) fn tick(&mut self) -> u64 {
        self.clock = self.clock.saturating_add(1);
        self.clock
    }

    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// Another member's clock was at `clock`.
    pub(crate) fn witness(&mut self, clock: u64) {
        self.clock = self.clock.max(clock);
    }

    /// A member has told what it keeps. True at the first time: all of `told` is history. Whoever `joins` brings
    /// what happened where it was before to nobody: it is no business of the others.
    pub(crate) fn meet(&mut self, told: &[Event], joins: bool) -> bool {
        if std::mem::replace(&mut self.met, true) {
            return false;
        }
        let latest = told.iter().map(|event| event.ltime).max().unwrap_or_default();
        self.history = self.history.max(latest);
        if joins {
            self.kept.clear();
        }
        true
    }

    /// Takes an event; true when it is new here. It is there once [`Events::arrive`] was called.
    pub(crate) fn take(&mut self, event: &Event, origin: Origin) -> bool {
        let key = key(event);
        // An own one is new whatever its time: its id was drawn a moment ago.
        if origin != Origin::Own && self.forgotten.is_some_and(|forgotten| key <= forgotten) {
            self.late += 1;
            return false;
        }
        if !self.seen.insert(key) {
            return false;
        }
        self.witness(event.ltime);
        while self.seen.len() > SEEN_MAX {
            self.forgotten = self.seen.pop_first().max(self.forgotten);
        }
        let news = match origin {
            Origin::Own => true,
            Origin::Other => self.met && event.ltime > self.history,
            Origin::History => false,
        };
        self.taken.push((news, Arc::new(event.clone())));
        true
    }

    /// Numbers what was taken since the last call. What has come at once is put into the order of its time.
    pub(crate) fn arrive(&mut self, now: Duration) -> Vec<Arrived> {
        let mut taken = std::mem::take(&mut self.taken);
        taken.sort_by_key(|(_, event)| key(event));
        let arrived: Vec<Arrived> =
            taken.into_iter().zip(self.arrived + 1..).map(|((news, event), number)| Arrived { number, news, event }).collect();
        for arrived in &arrived {
            self.arrived = arrived.number;
            self.kept.insert(key(&arrived.event), (now, arrived.event.clone()));
            if self.kept.len() > KEPT_FRESH {
                self.kept.pop_first();
            }
            self.recent.push_back(arrived.clone());
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        arrived
    }

    /// What is told to others, the earliest first; of those that came before `since` less.
    pub(crate) fn kept(&mut self, since: Duration) -> impl Iterator<Item = &Event> {
        while self.kept.len() > KEPT && self.kept.first_key_value().is_some_and(|(_, (came, _))| *came < since) {
            self.kept.pop_first();
        }
        self.kept.values().map(|(_, event)| &**event)
    }

    /// What has come after the event `number`, in the order in which it came, as far as it is there.
    pub(crate) fn since(&self, number: u64) -> Vec<Arrived> {
        let from = self.recent.partition_point(|arrived| arrived.number <= number);
        self.recent.range(from..).cloned().collect()
    }

    /// The number of the last event that has come.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived
    }

    /// How many events were dropped since the last call because they may have come before.
    pub(crate) fn late(&mut self) -> u64 {
        std::mem::take(&mut self.late)
    }
}

/// Whether an event of another member is none that [`refuse`] would have let it fire.
pub(crate) fn is_out_of_bounds(event: &Event) -> bool {
    let texts = [&event.name, &event.node_filter, &event.service_filter, &event.tag_filter];
    event.name.is_empty() || event.payload.len() > PAYLOAD_MAX || texts.iter().any(|text| text.len() > NAME_MAX)
}

/// What is wrong with an event; `None` when nothing is.
pub(crate) fn refuse(event: &NewEvent) -> Option<String> {
    if event.name.is_empty() {
        return Some("an event needs a name".into());
    }
    if event.payload.len() > PAYLOAD_MAX {
        let bytes = event.payload.len();
        return Some(format!(
            "the payload has {bytes} bytes, and an event carries at most {PAYLOAD_MAX}; put the data into a key and send its name"
        ));
    }
    let texts = [
        ("name", &event.name),
        ("node filter", &event.node_filter),
        ("service filter", &event.service_filter),
        ("tag filter", &event.tag_filter),
    ];
    let long = texts.into_iter().find(|(_, text)| text.len() > NAME_MAX);
    long.map(|(what, text)| format!("the {what} has {} bytes; at most {NAME_MAX} are allowed", text.len()))
}

#[cfg(test)]
mod tests;
