//! Events: small messages that every member gets once, in the order of a Lamport clock (Lamport 1978).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Largest payload, in bytes.
pub const PAYLOAD_MAX: usize = 512;

/// Largest name, and largest of each filter, in bytes.
pub(crate) const NAME_MAX: usize = 128;

/// Events that are kept for those who ask later.
pub(crate) const KEPT: usize = 256;

/// How far behind the clock an event may be and still be new: what is older may have been seen and
/// forgotten.
const WINDOW: u64 = 512;

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

/// The events of a pool as one member sees them.
#[derive(Debug, Default)]
pub(crate) struct Events {
    clock: u64,
    seen: BTreeSet<(u64, [u8; 16])>,
    kept: BTreeMap<(u64, [u8; 16]), Event>,
}

impl Events {
    pub(crate) fn new(clock: u64) -> Self {
        Events { clock, ..Events::default() }
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

    /// Takes an event; true when it is new here.
    pub(crate) fn take(&mut self, event: &Event) -> bool {
        let key = (event.ltime, event.id);
        if event.ltime.saturating_add(WINDOW) < self.clock || !self.seen.insert(key) {
            return false;
        }
        self.witness(event.ltime);
        while self.seen.len() > WINDOW as usize {
            self.seen.pop_first();
        }
        self.kept.insert(key, event.clone());
        while self.kept.len() > KEPT {
            self.kept.pop_first();
        }
        true
    }

    /// What is kept, oldest first.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Event> {
        self.kept.values()
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
mod tests {
    use super::*;

    fn event(ltime: u64, id: u8) -> Event {
        Event {
            id: [id; 16],
            ltime,
            name: "deploy".into(),
            payload: Vec::new(),
            node_filter: String::new(),
            service_filter: String::new(),
            tag_filter: String::new(),
        }
    }

    #[test]
    fn an_event_is_taken_once_and_moves_the_clock() {
        let mut events = Events::default();
        assert!(events.take(&event(7, 1)));
        assert!(!events.take(&event(7, 1)), "the same again");
        assert!(events.take(&event(7, 2)), "another one of the same time");
        assert_eq!(events.tick(), 8);
    }

    #[test]
    fn a_replayed_old_event_is_not_taken_again_and_the_ring_is_bounded() {
        let mut events = Events::default();
        for ltime in 1..=2000 {
            assert!(events.take(&event(ltime, 1)));
        }
        assert!(!events.take(&event(3, 1)), "it was seen and forgotten");
        let kept: Vec<u64> = events.kept().map(|event| event.ltime).collect();
        assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, 2000 - KEPT as u64 + 1, 2000));
        assert!(events.seen.len() <= WINDOW as usize);
    }

    #[test]
    fn what_is_too_large_is_refused_with_the_bound() {
        let large = NewEvent { name: "a".into(), payload: vec![0; PAYLOAD_MAX + 1], ..NewEvent::default() };
        assert!(refuse(&large).unwrap().contains("at most 512"));
        assert!(refuse(&NewEvent::default()).unwrap().contains("needs a name"));
        assert_eq!(refuse(&NewEvent { name: "a".into(), ..NewEvent::default() }), None);
    }
}
