//! Looking on: who holds a lock now, then each change, in order.

use std::collections::BTreeMap;

use state::{KvEntry, LogIndex, SessionId, Str, Tables};

use crate::answer::ReadOptions;
use crate::error::{Error, Reason};
use crate::watch::{Event, Start, Target, WatchEvent, WatchStream};
use crate::{Caller, Service};

/// The number of the only watch of the stream.
const WATCH: u64 = 1;

/// Who holds a lock from a revision on.
#[derive(Clone, Debug)]
pub struct LockSeen {
    /// The revision.
    pub index: LogIndex,
    /// Everybody who holds it, in the order of their keys.
    pub holders: Vec<SeenHolder>,
}

/// Who holds a lock or a slot.
#[derive(Clone, Debug)]
pub struct SeenHolder {
    /// What it holds: the key with its value and fence.
    pub entry: KvEntry,
    /// Its session.
    pub session: SessionId,
    /// The node that the session is tied to; empty when it has ended in the meantime.
    pub node: Str,
    /// How many wait.
    pub waiting: u64,
}

/// Looks on at one lock.
pub struct LockWatch {
    service: Service,
    watches: WatchStream,
    key: Vec<u8>,
    semaphore: bool,
    held: BTreeMap<Vec<u8>, KvEntry>,
    /// The snapshot is complete.
    whole: bool,
    told: Option<Vec<Told>>,
}

/// What of a holder is news when it changes.
type Told = (Vec<u8>, LogIndex, Vec<u8>);

impl Service {
    /// Looks on at a lock, or at the slots of a semaphore. Refusals: those of a watch.
    pub async fn lock_watch(&self, caller: &Caller, options: &ReadOptions, key: Vec<u8>, semaphore: bool) -> Result<LockWatch, Error> {
        self.check_key(&key)?;
        let target = if semaphore { Target::KvPrefix([&key[..], b"/"].concat().into()) } else { Target::KvKey(key.clone().into()) };
        let mut watches = self.watch_stream(caller);
        watches.create(WATCH, target, options, Start::Snapshot).await?;
        Ok(LockWatch { service: self.clone(), watches, key, semaphore, held: BTreeMap::new(), whole: false, told: None })
    }
}

impl LockWatch {
    /// Who holds the lock at first, and then after each change.
    pub async fn next(&mut self) -> Result<LockSeen, Error> {
        loop {
            let index = match self.watches.next().await {
                WatchEvent::Snapshot { events, .. } => {
                    events.iter().for_each(|event| self.take(event));
                    continue;
                }
                WatchEvent::SnapshotEnd { cursor, .. } => {
                    self.whole = true;
                    cursor.index
                }
                WatchEvent::Changes { delta, chunk, .. } => {
                    delta.chunks[chunk].events.iter().for_each(|event| self.take(event));
                    delta.index
                }
                WatchEvent::Reset { .. } => {
                    (self.whole, self.held) = (false, BTreeMap::new());
                    continue;
                }
                WatchEvent::Cancelled { error, .. } => {
                    return Err(error.unwrap_or_else(|| Error::new(Reason::Internal, "a watch ended that nobody cancelled")));
                }
                WatchEvent::Created { .. } | WatchEvent::Bookmark { .. } => continue,
            };
            if let Some(seen) = self.news(index) {
                return Ok(seen);
            }
        }
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::KvPut(entry) if entry.session().is_some() && self.concerns(entry.key()) => {
                self.held.insert(entry.key().to_vec(), entry.clone());
            }
            Event::KvPut(entry) | Event::KvDelete(entry) => drop(self.held.remove(entry.key())),
            _ => {}
        }
    }

    /// Whether a key is the lock or one of its slots.
    fn concerns(&self, key: &[u8]) -> bool {
        if !self.semaphore {
            return true;
        }
        let number = std::str::from_utf8(&key[self.key.len() + 1..]).ok().and_then(|number| number.parse::<u32>().ok());
        number.is_some_and(|number| *state::lock::slot_key(&self.key, number) == *key)
    }

    fn news(&mut self, index: LogIndex) -> Option<LockSeen> {
        let now: Vec<Told> = self.held.values().map(|entry| (entry.key().to_vec(), entry.fence(), entry.value().to_vec())).collect();
        if !self.whole || self.told.as_ref() == Some(&now) {
            return None;
        }
        self.told = Some(now);
        let tables = self.service.consensus().tables();
        let holders = self.held.values().filter_map(|entry| self.holder(&tables, entry)).collect();
        Some(LockSeen { index, holders })
    }

    fn holder(&self, tables: &Tables, entry: &KvEntry) -> Option<SeenHolder> {
        let session = entry.session()?;
        let node = tables.session(session).value.map_or_else(|| "".into(), |session| session.node.clone());
        let waiting = tables.lock_queue(&self.key).map_or(0, |queue| queue.waiters.len()) as u64;
        Some(SeenHolder { entry: entry.clone(), session, node, waiting })
    }
}
