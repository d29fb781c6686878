//! Where each entry lies: eight bytes an entry, and one run a segment.
//!
//! Entries are held in the order of their index, and an entry written later lies in the same or a later
//! segment. So the entries of one segment are one run of consecutive indexes, and the segment need not be
//! stored with each of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::log::segment::Segment;

/// Where an entry's record begins in its segment, and the length of its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) offset: u32,
    pub(super) len: u32,
}

/// The entries from `first` on, up to the next run, lie in `segment`.
#[derive(Debug, Clone)]
struct Run {
    first: u64,
    segment: Arc<Segment>,
}

/// The index of the whole log.
#[derive(Debug, Default)]
pub(super) struct Index {
    bounds: Bounds,
    slots: VecDeque<Slot>,
    runs: VecDeque<Run>,
}

impl Index {
    /// An empty log that continues before `next`.
    pub(super) fn starting_at(next: u64) -> Self {
        Self { bounds: Bounds { first: next, next, purged: None }, ..Self::default() }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The oldest segment that holds an entry, if there is an entry.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.runs.front().map(|run| run.segment.sequence)
    }

    pub(super) fn append(&mut self, index: u64, segment: &Arc<Segment>, slot: Slot) -> Result<(), String> {
        self.bounds.append(index)?;
        if self.runs.back().is_none_or(|run| run.segment.sequence != segment.sequence) {
            self.runs.push_back(Run { first: index, segment: Arc::clone(segment) });
        }
        self.slots.push_back(slot);
        Ok(())
    }

    pub(super) fn truncate(&mut self, after: Option<u64>) {
        self.bounds.truncate(after);
        self.slots.truncate((self.bounds.next - self.bounds.first) as usize);
        while self.runs.back().is_some_and(|run| run.first >= self.bounds.next) {
            self.runs.pop_back();
        }
    }

    pub(super) fn purge(&mut self, upto: u64) {
        let before = self.bounds.first;
        self.bounds.purge(upto);
        let gone = (self.bounds.first - before).min(self.slots.len() as u64);
        self.slots.drain(..gone as usize);
        if self.slots.capacity() > 4 * self.slots.len().max(1024) {
            self.slots.shrink_to(2 * self.slots.len());
        }
        while self.runs.len() > 1 && self.runs[1].first <= self.bounds.first {
            self.runs.pop_front();
        }
        match self.runs.front_mut() {
            _ if self.slots.is_empty() => self.runs.clear(),
            Some(run) => run.first = run.first.max(self.bounds.first),
            None => {}
        }
    }

    /// The slots of the part of `range` that is held, by segment.
    pub(super) fn locate(&self, range: Range<u64>) -> Vec<Located> {
        let (start, end) = (range.start.max(self.bounds.first), range.end.min(self.bounds.next));
        let mut located = Vec::new();
        for (at, run) in self.runs.iter().enumerate() {
            let run_end = self.runs.get(at + 1).map_or(self.bounds.next, |next| next.first);
            let (first, last) = (start.max(run.first), end.min(run_end));
            if first < last {
                let held = (first - self.bounds.first) as usize..(last - self.bounds.first) as usize;
                let slots = self.slots.range(held).copied().collect();
                located.push(Located { first, segment: Arc::clone(&run.segment), slots });
            }
        }
        located
    }
}

/// Entries of one segment, the first of which has index `first`.
#[derive(Debug)]
pub(super) struct Located {
    pub(super) first: u64,
    pub(super) segment: Arc<Segment>,
    pub(super) slots: Vec<Slot>,
}

/// Which indexes the log holds, and the rules for what may come next.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// Index of the first entry; `next` if there is none.
    pub(super) first: u64,
    /// One after the last entry; in an empty log, where the next one is expected.
    pub(super) next: u64,
    /// The highest purged index.
    pub(super) purged: Option<u64>,
}

impl Bounds {
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Admits `index` as the next entry, or says why not.
    pub(super) fn append(&mut self, index: u64) -> Result<(), String> {
        if self.purged.is_some_and(|purged| index <= purged) {
            return Err(format!("entry {index} was appended after it was purged"));
        }
        if self.is_empty() {
            self.first = index;
        } else if index != self.next {
            return Err(format!("entry {index} was appended where entry {} is next", self.next));
        }
        self.next = index + 1;
        Ok(())
    }

    /// The lower bound is what was purged, not `first`: recovery may not have seen the oldest entries, which were
    /// in segments that are gone, and has to come to the same bounds.
    pub(super) fn truncate(&mut self, after: Option<u64>) {
        let next = after.map_or(0, |after| after.saturating_add(1));
        let lowest = self.purged.map_or(0, |purged| purged.saturating_add(1));
        self.next = self.next.min(next.max(lowest));
        self.first = self.first.min(self.next);
    }

    pub(super) fn purge(&mut self, upto: u64) {
        self.purged = self.purged.max(Some(upto));
        self.first = self.first.max(upto.saturating_add(1));
        self.next = self.next.max(self.first);
    }
}
