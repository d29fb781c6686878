//! What is believed of what others say.
//!
//! Everything that comes may be forged, or come from a program that is broken, and what one member takes over
//! it tells all the others. So a description is taken only if the member it describes could have been
//! configured so, and numbers that decide which of two is newer only if something newer can still follow.
//!
//! The bound of such a number moves: it lies a day ahead of this node's clock and of the latest life that
//! was ever believed. Whatever is forged within it, the member it was forged of can say something newer, and
//! is believed as well.

use std::time::Duration;

use foca::Member as Probed;

use crate::event::{self, Event};
use crate::member::{Id, RECORD_MAX, Record};
use crate::wire::{self, State};

/// How far ahead of the latest known a life may have begun, in milliseconds: clocks may be wrong by a time zone.
const AHEAD: u64 = 24 * 3600 * 1000;

/// The last life there can be: numbers beyond it are kept free, so that none begins again at 0.
pub(crate) const BUMP_MAX: u64 = 1 << 62;

/// The last version of a life: what comes after it is another life.
pub(crate) const VERSION_MAX: u64 = 1 << 32;

/// How far ahead of one's own a Lamport clock may be, in events: that of a pool of which nothing is known yet
/// may have run for years.
const EVENTS_AHEAD: u64 = 1 << 40;

/// Largest name, in bytes: a node's in the pool between datacenters has the datacenter's behind it.
const NAME_MAX: usize = 512;

/// Largest node id, in bytes.
const NODE_ID_MAX: usize = 128;

/// Up to when a life may have begun.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Horizon {
    begun: u64,
    latest: u64,
}

impl Horizon {
    /// For a member that began at `begun`.
    pub(crate) fn new(begun: u64) -> Self {
        Horizon { begun, latest: begun }
    }

    /// So much time has passed since this member began.
    pub(crate) fn pass(&mut self, time: Duration) {
        let now = self.begun.saturating_add(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        self.latest = self.latest.max(now.min(BUMP_MAX));
    }

    /// Whether a life that began at `bump` is believed; where it is, one that began a little later is as well.
    pub(crate) fn reaches(&mut self, bump: u64) -> bool {
        let believed = bump <= self.latest.saturating_add(AHEAD).min(BUMP_MAX);
        if believed {
            self.latest = self.latest.max(bump);
        }
        believed
    }

    /// Takes the time from somebody else: whoever knows nobody believes whom it was told to ask.
    pub(crate) fn adopt(&mut self, state: &State) {
        let lives = state.members.iter().map(|(record, ..)| record.id.bump).chain([state.from.id.bump]);
        let latest = lives.filter(|bump| *bump < BUMP_MAX).max().unwrap_or_default();
        self.latest = self.latest.max(latest);
    }
}

/// What is wrong with what is said to be at an address; `None` when nothing is.
pub(crate) fn refuse_id(id: &Id, horizon: &mut Horizon) -> Option<&'static str> {
    let ip = id.address.ip();
    if id.address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Some("an address that nobody can have");
    }
    (!horizon.reaches(id.bump)).then_some("a start more than a day ahead of this node's clock; set the clocks of both nodes")
}

/// What is wrong with a description; `None` when nothing is.
pub(crate) fn refuse(record: &Record, horizon: &mut Horizon) -> Option<&'static str> {
    let bad = |text: &str| text.chars().any(char::is_control);
    if record.name.is_empty()
        || record.name.len() > NAME_MAX
        || record.name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/')
    {
        return Some("a name that no node can have");
    }
    if record.node_id.len() > NODE_ID_MAX || bad(&record.node_id) {
        return Some("a node id that no node can have");
    }
    if wire::encode(record).len() > RECORD_MAX {
        return Some("a description that is larger than any node's");
    }
    if record.tags.iter().any(|(key, value)| bad(key) || bad(value)) {
        return Some("a tag with control characters");
    }
    if record.version > VERSION_MAX {
        return Some("a version beyond the last one");
    }
    refuse_id(&record.id, horizon)
}

/// What is wrong with an event of another member, or with a clock; `None` when nothing is.
pub(crate) fn refuse_event(event: &Event, clock: u64) -> Option<&'static str> {
    if event::is_out_of_bounds(event) {
        return Some("an event that no node can fire");
    }
    refuse_clock(event.ltime, clock)
}

/// See [`refuse_event`].
pub(crate) fn refuse_clock(theirs: u64, ours: u64) -> Option<&'static str> {
    (theirs > ours.saturating_add(EVENTS_AHEAD)).then_some("a Lamport clock that is absurdly far ahead")
}

/// Keeps of `updates` what is believed, and says what was wrong with one of the others.
pub(crate) fn believed(updates: &mut Vec<Probed<Id>>, horizon: &mut Horizon) -> Option<&'static str> {
    let mut wrong = None;
    updates.retain(|update| match refuse_id(update.id(), horizon) {
        None => true,
        refusal => {
            wrong = refusal;
            false
        }
    });
    wrong
}
