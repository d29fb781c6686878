//! One client stream with many watches on it.
//!
//! [`WatchStream::next`] yields one message at a time. Work that is already decided (a snapshot
//! being sent, history being replayed) waits in a queue of jobs and goes first; then come live
//! changes. Nothing is built before it is asked for, so that a reader who does not read costs the
//! queue's bound and no more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use state::{LogIndex, Tables};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::delta::{Delta, Event};
use super::groups::Seat;
use super::snapshot::Snapshot;
use super::target::Target;
use crate::answer::ReadOptions;
use crate::error::{Error, Reason};
use crate::telemetry::Counted;
use crate::{Caller, Right, Service};

/// Where a watch stands: everything up to `index`, and the first `offset` chunks of the command
/// after it in which it stopped. Opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The incarnation of the cluster's state that the index belongs to.
    pub incarnation: u64,
    /// Everything up to here was seen.
    pub index: LogIndex,
    /// How many chunks of the next delta were seen as well; 0 between two commands.
    pub offset: u32,
}

impl Cursor {
    /// The cursor as bytes for the wire.
    pub fn to_bytes(self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&self.incarnation.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.index.0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.offset.to_be_bytes());
        bytes
    }

    /// The cursor in `bytes`; `None` when they are none.
    pub fn from_bytes(bytes: &[u8]) -> Option<Cursor> {
        let bytes: &[u8; 20] = bytes.try_into().ok()?;
        let word = |range: std::ops::Range<usize>| bytes[range].iter().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        Some(Cursor { incarnation: word(0..8), index: LogIndex(word(8..16)), offset: word(16..20) as u32 })
    }
}

/// How a watch begins.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// With a snapshot, then the changes after it.
    Snapshot,
    /// With the changes after now.
    Now,
    /// With the changes after a cursor.
    Resume(Cursor),
}

/// Why a watch had to start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The history after the cursor is not kept any more.
    Compacted,
    /// The reader was too slow, and the history has moved on.
    SlowConsumer,
    /// The cursor belongs to another cluster, or to a state that was replaced.
    ForeignCursor,
}

/// One message to the client.
#[derive(Debug)]
pub enum WatchEvent {
    /// The watch exists; what it starts from.
    Created {
        /// The client's number for the watch.
        watch_id: u64,
        /// Where it stands; `None` when a snapshot comes first, since before its end there is nothing
        /// to resume from.
        cursor: Option<Cursor>,
    },
    /// A piece of the snapshot.
    Snapshot {
        /// The client's number for the watch.
        watch_id: u64,
        /// The moment that the snapshot shows.
        index: LogIndex,
        /// Rows, as puts.
        events: Vec<Event>,
    },
    /// The snapshot is complete; changes follow.
    SnapshotEnd {
        /// The client's number for the watch.
        watch_id: u64,
        /// Where it stands.
        cursor: Cursor,
    },
    /// Changes of one command; `chunk` says which part of them.
    Changes {
        /// The client's number for the watch.
        watch_id: u64,
        /// Where the watch stands after this.
        cursor: Cursor,
        /// Where it stood before.
        previous: Cursor,
        /// What happened, shared by all watchers of the same target.
        delta: Arc<Delta>,
        /// Which chunk of it.
        chunk: usize,
    },
    /// Every watch on the stream has seen everything up to here.
    Bookmark {
        /// Where they stand.
        cursor: Cursor,
    },
    /// The watch starts again: what it knew may be wrong, a snapshot follows.
    Reset {
        /// The client's number for the watch.
        watch_id: u64,
        /// Why.
        reason: ResetReason,
    },
    /// The watch has ended.
    Cancelled {
        /// The client's number for the watch.
        watch_id: u64,
        /// Why; `None` when the client asked for it.
        error: Option<Error>,
    },
}

/// A number for a watch that the stream never uses again, so that what is still queued for a watch
/// that ended cannot reach another that took over its id.
pub(crate) type WatchKey = u64;

/// The queue between the dispatcher and one stream.
pub(crate) struct Inbox {
    queue: mpsc::Sender<(WatchKey, Arc<Delta>)>,
    lag: AtomicBool,
    nudge: tokio::sync::Notify,
}

impl Inbox {
    /// Queues a delta, or says that there is no room.
    pub(crate) fn offer(&self, key: WatchKey, delta: &Arc<Delta>) -> bool {
        self.queue.try_send((key, delta.clone())).is_ok()
    }

    /// Takes note that something was not queued.
    pub(crate) fn note_lag(&self) {
        self.lag.store(true, Ordering::Release);
        self.nudge.notify_one();
    }
}

struct Watch {
    watch_id: u64,
    target: Target,
    seat: Seat,
    /// Everything up to here is delivered or queued as a job.
    taken: LogIndex,
    /// Where the client stands.
    cursor: Cursor,
    /// Chunks of the next delta that the client has seen already, before it resumed.
    skip: u32,
}

enum Job {
    Say(WatchEvent),
    Snapshot { key: WatchKey, snapshot: Box<Snapshot> },
    Delta { key: WatchKey, delta: Arc<Delta>, next: usize },
}

/// Many watches, one after another in one stream of messages.
pub struct WatchStream {
    service: Service,
    caller: Caller,
    inbox: Arc<Inbox>,
    queue: mpsc::Receiver<(WatchKey, Arc<Delta>)>,
    watches: HashMap<WatchKey, Watch>,
    keys: HashMap<u64, WatchKey>,
    next_key: WatchKey,
    /// Every watch has seen everything up to here: at that moment nothing was queued or lagging.
    settled: LogIndex,
    jobs: VecDeque<Job>,
    bookmark: Interval,
    resets: u64,
    _open: Counted,
}

impl Service {
    /// Opens a stream for watches.
    pub fn watch_stream(&self, caller: &Caller) -> WatchStream {
        let (sender, queue) = mpsc::channel(self.limits().watch_backlog_max);
        let mut bookmark = interval(self.limits().bookmark_interval);
        bookmark.set_missed_tick_behavior(MissedTickBehavior::Delay);
        bookmark.reset();
        WatchStream {
            service: self.clone(),
            caller: caller.clone(),
            inbox: Arc::new(Inbox { queue: sender, lag: AtomicBool::new(false), nudge: tokio::sync::Notify::new() }),
            queue,
            watches: HashMap::new(),
            keys: HashMap::new(),
            next_key: 0,
            settled: LogIndex::ZERO,
            jobs: VecDeque::new(),
            bookmark,
            resets: self.hub().resets(),
            _open: Counted::new(&self.telemetry().watch_streams),
        }
    }
}

impl WatchStream {
    /// Starts a watch under a number of the client's choice. What it yields comes from
    /// [`WatchStream::next`]. Refusals: `TOO_MANY_WATCHES`, `INVALID_ARGUMENT` for a number in use,
    /// and those of a read.
    pub async fn create(&mut self, watch_id: u64, target: Target, options: &ReadOptions, start: Start) -> Result<(), Error> {
        let limit = self.service.limits().watches_per_stream_max;
        if self.watches.len() >= limit {
            let message = format!("the stream holds {limit} watches already, the limit; open another stream");
            return Err(Error::new(Reason::TooManyWatches, message).with("limit", limit));
        }
        if watch_id == 0 || self.keys.contains_key(&watch_id) {
            return Err(Error::invalid(format!("watch id {watch_id} is zero or in use on this stream; choose another")));
        }
        let target = target.normalized();
        self.authorize(&target)?;
        let mut options = options.clone();
        if let Start::Resume(cursor) = start
            && self.incarnation() == cursor.incarnation
        {
            options.min_index = options.min_index.max(cursor.index);
        }
        let tables = self.service.snapshot(&options).await?;
        let now = self.cursor(tables.applied());
        match start {
            Start::Now => self.follow(watch_id, target, now).unwrap_or_else(|target| self.restart(watch_id, target, None)),
            Start::Snapshot => self.begin(watch_id, target, tables),
            Start::Resume(cursor) if cursor.incarnation != now.incarnation || cursor.index > now.index => {
                self.restart(watch_id, target, Some(ResetReason::ForeignCursor));
            }
            Start::Resume(cursor) => {
                let followed = self.follow(watch_id, target, cursor);
                followed.unwrap_or_else(|target| self.restart(watch_id, target, Some(ResetReason::Compacted)));
            }
        }
        Ok(())
    }

    /// Ends a watch; unknown numbers are ignored, because the watch may just have ended by itself.
    pub fn cancel(&mut self, watch_id: u64) {
        if let Some(watch) = self.keys.remove(&watch_id).and_then(|key| self.watches.remove(&key)) {
            self.service.hub().leave(watch.seat);
            self.jobs.push_back(Job::Say(WatchEvent::Cancelled { watch_id, error: None }));
        }
    }

    /// The next message. May be dropped and called again at any time; nothing is lost.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.run_job() {
                return event;
            }
            if self.inbox.lag.swap(false, Ordering::AcqRel) {
                self.catch_up();
                continue;
            }
            let position = self.service.hub().position();
            match self.queue.try_recv() {
                Ok((key, delta)) => {
                    self.take(key, delta);
                    continue;
                }
                Err(_) => self.settle(position),
            }
            tokio::select! {
                biased;
                received = self.queue.recv() => if let Some((key, delta)) = received { self.take(key, delta) },
                _ = self.inbox.nudge.notified() => {}
                _ = self.bookmark.tick(), if !self.watches.is_empty() => {
                    let position = self.service.hub().position();
                    if self.queue.is_empty() && !self.inbox.lag.load(Ordering::Acquire) {
                        return self.bookmark(position);
                    }
                }
            }
        }
    }

    /// Whether a watch has this number.
    pub fn contains(&self, watch_id: u64) -> bool {
        self.keys.contains_key(&watch_id)
    }

    /// The number of watches on the stream.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether there is no watch on the stream.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    fn authorize(&self, target: &Target) -> Result<(), Error> {
        let right = match target {
            Target::KvKey(key) | Target::KvPrefix(key) => Right::KeyRead(key),
            Target::Service { name, .. } => Right::ServiceRead(name),
            Target::Node(name) => Right::NodeRead(name),
            Target::Services => Right::ServiceRead(""),
            Target::Sessions | Target::Holder(_) => Right::SessionRead(""),
            Target::Nodes | Target::Checks(_) | Target::Catalog => Right::NodeRead(""),
        };
        self.service.authorize(&self.caller, right)
    }

    fn incarnation(&self) -> u64 {
        self.service.consensus().tables().meta().incarnation
    }

    fn cursor(&self, index: LogIndex) -> Cursor {
        Cursor { incarnation: self.incarnation(), index, offset: 0 }
    }

    /// Follows `target` from a cursor, or gives the target back when the history is gone.
    fn follow(&mut self, watch_id: u64, target: Target, cursor: Cursor) -> Result<(), Target> {
        let key = self.new_key();
        let Ok((seat, missed)) = self.service.hub().join(&target, &self.inbox, key, cursor.index) else { return Err(target) };
        self.seat(key, Watch { watch_id, target, seat, taken: cursor.index, cursor, skip: cursor.offset }, missed, None);
        Ok(())
    }

    /// Starts again from a snapshot of now.
    fn restart(&mut self, watch_id: u64, target: Target, reason: Option<ResetReason>) {
        let tables = self.service.consensus().tables();
        if let Some(reason) = reason {
            self.service.telemetry().watch_resets.increment(1);
            self.jobs.push_back(Job::Say(WatchEvent::Reset { watch_id, reason }));
        }
        self.begin(watch_id, target, tables);
    }

    /// Follows `target` from a snapshot. The snapshot is at most a moment old, so that the history
    /// after it is there; if it is not all the same, a newer one is taken.
    fn begin(&mut self, watch_id: u64, target: Target, mut tables: Arc<Tables>) {
        let key = self.new_key();
        let (seat, missed) = loop {
            match self.service.hub().join(&target, &self.inbox, key, tables.applied()) {
                Ok(joined) => break joined,
                Err(_) => tables = self.service.consensus().tables(),
            }
        };
        let cursor = self.cursor(tables.applied());
        let snapshot = Box::new(Snapshot::new(&target, tables));
        self.seat(key, Watch { watch_id, target, seat, taken: cursor.index, cursor, skip: 0 }, missed, Some(snapshot));
    }

    fn seat(&mut self, key: WatchKey, watch: Watch, missed: Vec<Arc<Delta>>, snapshot: Option<Box<Snapshot>>) {
        let cursor = if snapshot.is_some() { None } else { Some(watch.cursor) };
        self.jobs.push_back(Job::Say(WatchEvent::Created { watch_id: watch.watch_id, cursor }));
        self.keys.insert(watch.watch_id, key);
        self.watches.insert(key, watch);
        self.jobs.extend(snapshot.map(|snapshot| Job::Snapshot { key, snapshot }));
        missed.into_iter().for_each(|delta| self.take(key, delta));
    }

    fn new_key(&mut self) -> WatchKey {
        self.next_key += 1;
        self.next_key
    }

    /// Takes a delta from the queue or the history, once.
    fn take(&mut self, key: WatchKey, delta: Arc<Delta>) {
        let Some(watch) = self.watches.get_mut(&key) else { return };
        if delta.index <= watch.taken {
            return;
        }
        watch.taken = delta.index;
        let next = std::mem::take(&mut watch.skip) as usize;
        self.jobs.push_back(Job::Delta { key, delta, next });
    }

    /// Every watch has seen everything up to `position`, unless something is queued or lags.
    fn settle(&mut self, position: LogIndex) {
        if self.jobs.is_empty() && !self.inbox.lag.load(Ordering::Acquire) {
            self.settled = self.settled.max(position);
        }
    }

    /// Tells the client how far all its watches have seen. The chain of `previous` cursors runs
    /// from change to change; bookmarks stand beside it.
    fn bookmark(&mut self, position: LogIndex) -> WatchEvent {
        self.settle(position);
        WatchEvent::Bookmark { cursor: self.cursor(position) }
    }

    /// Brings every watch that lags up to date from the history, or starts it again.
    fn catch_up(&mut self) {
        let hub = self.service.hub().clone();
        let replaced = hub.resets() != std::mem::replace(&mut self.resets, hub.resets());
        let keys: Vec<WatchKey> = self.watches.keys().copied().collect();
        for key in keys {
            let watch = &self.watches[&key];
            let seen = watch.taken.max(self.settled);
            let missed = match replaced {
                true => Err(ResetReason::ForeignCursor),
                false => hub.catch_up(&watch.target, watch.seat, seen).map_err(|_| ResetReason::SlowConsumer),
            };
            match missed {
                Ok(missed) => missed.into_iter().flatten().for_each(|delta| self.take(key, delta)),
                Err(reason) => {
                    let Some(watch) = self.watches.remove(&key) else { continue };
                    hub.leave(watch.seat);
                    self.restart(watch.watch_id, watch.target, Some(reason));
                }
            }
        }
    }

    /// Does a piece of the work that is already decided.
    fn run_job(&mut self) -> Option<WatchEvent> {
        while let Some(job) = self.jobs.pop_front() {
            match job {
                Job::Say(event) => return Some(event),
                Job::Snapshot { key, mut snapshot } => {
                    let Some(watch) = self.watches.get(&key) else { continue };
                    let watch_id = watch.watch_id;
                    let Some(events) = snapshot.next_piece() else {
                        return Some(WatchEvent::SnapshotEnd { watch_id, cursor: watch.cursor });
                    };
                    let index = snapshot.index();
                    self.jobs.push_front(Job::Snapshot { key, snapshot });
                    return Some(WatchEvent::Snapshot { watch_id, index, events });
                }
                Job::Delta { key, delta, next } => {
                    if let Some(event) = self.send_chunk(key, delta, next) {
                        return Some(event);
                    }
                }
            }
        }
        None
    }

    fn send_chunk(&mut self, key: WatchKey, delta: Arc<Delta>, chunk: usize) -> Option<WatchEvent> {
        let watch = self.watches.get_mut(&key)?;
        if chunk >= delta.chunks.len() {
            return None;
        }
        let previous = watch.cursor;
        let last = chunk + 1 == delta.chunks.len();
        watch.cursor = match last {
            true => Cursor { index: delta.index, offset: 0, ..previous },
            false => Cursor { offset: chunk as u32 + 1, ..previous },
        };
        let (cursor, watch_id) = (watch.cursor, watch.watch_id);
        if !last {
            self.jobs.push_front(Job::Delta { key, delta: delta.clone(), next: chunk + 1 });
        }
        Some(WatchEvent::Changes { watch_id, cursor, previous, delta, chunk })
    }
}

impl Drop for WatchStream {
    fn drop(&mut self) {
        for watch in self.watches.values() {
            self.service.hub().leave(watch.seat);
        }
    }
}
