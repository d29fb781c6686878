//! The log of a server with throw-away storage: nothing is written anywhere, and purging frees the memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::Error;
use crate::log::device::check;
use crate::log::index::Bounds;
use crate::log::{LogDevice, LogEntry, LogReader, LogWrite, Recovered};

/// A log device in memory. It obeys the same rules as the files. Clones share what they hold, which is forgotten with the last of
/// them: one that is kept aside stands for the disk of a machine that crashes and comes back.
#[derive(Clone, Debug, Default)]
pub struct MemoryLog {
    entries: Arc<RwLock<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    bounds: Bounds,
    held: VecDeque<LogEntry>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<(u64, Bytes)>,
}

impl Entries {
    fn apply(&mut self, write: &LogWrite) -> Result<(), Error> {
        match write {
            LogWrite::Append(entries) => {
                for entry in entries {
                    self.bounds.append(entry.index).map_err(Error::Misuse)?;
                    self.held.push_back(entry.clone());
                }
            }
            LogWrite::Truncate { after } => {
                self.bounds.truncate(*after);
                self.held.truncate((self.bounds.next - self.bounds.first) as usize);
            }
            LogWrite::Purge { upto, mark } => {
                self.purged = Some((*upto, mark.clone()));
                let gone = self.held.iter().take_while(|entry| entry.index <= *upto).count();
                self.held.drain(..gone);
                self.bounds.purge(*upto);
                if self.held.capacity() > 4 * self.held.len().max(1024) {
                    self.held.shrink_to(2 * self.held.len());
                }
            }
            LogWrite::Vote(vote) => self.vote = Some(vote.clone()),
            LogWrite::Committed(mark) => self.committed = Some(mark.clone()),
        }
        Ok(())
    }
}

impl MemoryLog {
    /// What a restart finds.
    pub fn recovered(&self) -> Recovered {
        let entries = self.entries.read();
        Recovered {
            vote: entries.vote.clone(),
            committed: entries.committed.clone(),
            purged: entries.purged.clone(),
            last: entries.held.back().map(|entry| (entry.index, entry.term)),
            first: entries.bounds.first,
            tail: None,
        }
    }
}

impl LogDevice for MemoryLog {
    fn write(&mut self, batch: &[LogWrite]) -> Result<(), Error> {
        let mut entries = self.entries.write();
        check(entries.bounds, batch)?;
        batch.iter().try_for_each(|write| entries.apply(write))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(MemoryReader(Arc::clone(&self.entries)))
    }
}

struct MemoryReader(Arc<RwLock<Entries>>);

impl LogReader for MemoryReader {
    fn read_limited(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, Error> {
        let entries = self.0.read();
        let Bounds { first, next, .. } = entries.bounds;
        let (start, end) = (range.start.max(first), range.end.min(next));
        if start >= end {
            return Ok(Vec::new());
        }
        let mut bytes = 0usize;
        let held = entries.held.range((start - first) as usize..(end - first) as usize);
        Ok(held
            .enumerate()
            .take_while(|(nth, entry)| {
                bytes = bytes.saturating_add(entry.payload.len());
                *nth == 0 || bytes <= bytes_max
            })
            .map(|(_, entry)| entry.clone())
            .collect())
    }
}
