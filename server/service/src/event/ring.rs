//! The latest events that concern an agent, in the order in which they came.

use std::collections::VecDeque;

use gossip::Arrived;

/// Events that are kept for those who ask later.
pub const KEPT: usize = 256;

/// What is in the ring behind a number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Since {
    pub(crate) events: Vec<Arrived>,
    /// Up to where this was read.
    pub(crate) read: u64,
    /// Whether some that came after the number are not in the ring any more.
    pub(crate) missed: bool,
}

/// The ring.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    kept: VecDeque<Arrived>,
    /// Up to where the pool's events were read; nothing before the ring is open.
    read: Option<u64>,
    /// The last number that is missing here.
    forgotten: u64,
}

impl Ring {
    /// Lets events in.
    pub(crate) fn open(&mut self) {
        self.read.get_or_insert(0);
    }

    /// Up to where events were read; `None` while it is not open.
    pub(crate) fn read(&self) -> Option<u64> {
        self.read
    }

    /// Takes what has come up to the number `read`; true when it is not empty. `missed` says that some before it
    /// never came here.
    pub(crate) fn take(&mut self, events: VecDeque<Arrived>, read: u64, missed: bool) -> bool {
        if missed {
            self.forgotten = events.front().map_or(read, |first| first.number - 1);
        }
        self.read = Some(read);
        let any = !events.is_empty();
        self.kept.extend(events);
        let surplus = self.kept.len().saturating_sub(KEPT);
        if let Some(last) = self.kept.drain(..surplus).next_back() {
            self.forgotten = self.forgotten.max(last.number);
        }
        any
    }

    /// What has come after the event `number`.
    pub(crate) fn since(&self, number: u64) -> Since {
        let from = self.kept.partition_point(|arrived| arrived.number <= number);
        Since {
            events: self.kept.range(from..).cloned().collect(),
            read: self.read.unwrap_or(0).max(number),
            missed: self.forgotten > number,
        }
    }

    /// The event with this id, if it is there.
    pub(crate) fn find(&self, id: [u8; 16]) -> Option<&Arrived> {
        self.kept.iter().find(|arrived| arrived.event.id == id)
    }
}
