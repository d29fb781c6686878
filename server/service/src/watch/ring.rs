//! The history of changes: bounded by count and by bytes, oldest out first.

use std::collections::VecDeque;
use std::sync::Arc;

use state::{ChangeBatch, LogIndex};

/// The recent changes of all kinds, in the order of the log.
pub(crate) struct Ring {
    batches: VecDeque<Arc<ChangeBatch>>,
    changes: usize,
    bytes: usize,
    changes_max: usize,
    bytes_max: usize,
    /// Everything after this index is here.
    floor: LogIndex,
}

/// The history that was asked for is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Compacted;

impl Ring {
    pub(crate) fn new(changes_max: usize, bytes_max: usize) -> Self {
        Ring { batches: VecDeque::new(), changes: 0, bytes: 0, changes_max, bytes_max, floor: LogIndex::ZERO }
    }

    /// Forgets everything and goes on after `floor`.
    pub(crate) fn clear(&mut self, floor: LogIndex) {
        self.batches.clear();
        (self.changes, self.bytes, self.floor) = (0, 0, floor);
    }

    /// Appends; the newest batch is kept whatever its size.
    pub(crate) fn push(&mut self, batch: Arc<ChangeBatch>) {
        self.changes += batch.changes.len();
        self.bytes += weight(&batch);
        self.batches.push_back(batch);
        while (self.changes > self.changes_max || self.bytes > self.bytes_max) && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.changes -= oldest.changes.len();
            self.bytes -= weight(&oldest);
            self.floor = oldest.index;
        }
    }

    /// All batches that are kept, newest first.
    pub(crate) fn back(&self) -> impl Iterator<Item = &Arc<ChangeBatch>> {
        self.batches.iter().rev()
    }

    /// The batches after `index`, oldest first.
    pub(crate) fn since(&self, index: LogIndex) -> Result<impl Iterator<Item = &Arc<ChangeBatch>>, Compacted> {
        if index < self.floor {
            return Err(Compacted);
        }
        let start = self.batches.partition_point(|batch| batch.index <= index);
        Ok(self.batches.range(start..))
    }
}

fn weight(batch: &ChangeBatch) -> usize {
    batch.changes.iter().map(|change| change.weight()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::{Change, KvEntry};

    fn batch(index: u64, changes: usize) -> Arc<ChangeBatch> {
        let change = Change::KvPut { entry: KvEntry::new(b"k", b"v", Default::default()) };
        Arc::new(ChangeBatch { index: LogIndex(index), changes: vec![change; changes] })
    }

    fn indexes(ring: &Ring, after: u64) -> Result<Vec<u64>, Compacted> {
        ring.since(LogIndex(after)).map(|batches| batches.map(|batch| batch.index.0).collect())
    }

    #[test]
    fn what_is_kept_can_be_resumed_and_what_is_not_says_so() {
        let mut ring = Ring::new(4, usize::MAX);
        for index in [2, 3, 5, 8, 9] {
            ring.push(batch(index, 1));
        }
        assert_eq!(indexes(&ring, 2), Ok(vec![3, 5, 8, 9]));
        assert_eq!(indexes(&ring, 4), Ok(vec![5, 8, 9]));
        assert_eq!(indexes(&ring, 9), Ok(vec![]));
        assert_eq!(indexes(&ring, 1), Err(Compacted));
    }

    #[test]
    fn a_batch_larger_than_the_bound_is_still_delivered() {
        let mut ring = Ring::new(4, usize::MAX);
        ring.push(batch(1, 1));
        ring.push(batch(2, 100));
        assert_eq!(indexes(&ring, 1), Ok(vec![2]));
        assert_eq!(indexes(&ring, 0), Err(Compacted));
    }
}
