//! The log of a server with throw-away storage: nothing is written anywhere, and purging frees the memory.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::Error;
use crate::log::device::check;
use crate::log::index::Bounds;
use crate::log::{LogDevice, LogEntry, LogReader, LogWrite};

/// A log device in memory. It obeys the same rules as the files, and forgets everything when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryLog {
    entries: Arc<RwLock<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    bounds: Bounds,
    held: VecDeque<LogEntry>,
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
            LogWrite::Purge { upto, .. } => {
                let gone = self.held.iter().take_while(|entry| entry.index <= *upto).count();
                self.held.drain(..gone);
                self.bounds.purge(*upto);
                if self.held.capacity() > 4 * self.held.len().max(1024) {
                    self.held.shrink_to(2 * self.held.len());
                }
            }
            // Nobody can ask for these again: they matter after a restart only.
            LogWrite::Vote(_) | LogWrite::Committed(_) => {}
        }
        Ok(())
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
