//! The thread that writes the state to disk, beside the writers.
//!
//! Commands are acknowledged by the log alone. What they did to the state is noted here row by row
//! and written later, many commands in one transaction: rows, recent changes and the position
//! reached go together, so that what is on disk is always the exact state at some index. Only what
//! is on disk may be purged from the log; a restart loads it and applies the rest of the log again.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use parking_lot::Mutex;
use state::{ChangeBatch, RowKey, Tables};
use store::state_store::{Persist, StateStore};
use tokio::sync::{mpsc, oneshot};

use crate::error::{RootCause, chain};
use crate::types::{LogId, StoredMembership};

/// Requests that may wait while a flush runs: those of the few tasks that ask for one.
const QUEUE_MAX: usize = 64;

/// Rows noted before the thread is woken to sort them in. To wake it for every group of commands
/// would cost a lone writer as much as the write itself.
const NOTED_ENOUGH: usize = 1024;

/// Rows that may be noted while a flush runs, before applying waits for its end.
const NOTED_MAX: usize = 256 * 1024;

/// How much history is kept for watches that resume.
#[derive(Clone, Copy, Debug)]
pub struct HistoryBounds {
    /// Most changes.
    pub changes_max: usize,
    /// Most bytes, as the changes weigh in memory.
    pub bytes_max: usize,
}

/// What a group of commands did.
pub(crate) struct Group {
    pub(crate) rows: Vec<RowKey>,
    pub(crate) batches: Vec<Arc<ChangeBatch>>,
    /// The last of the commands replaced everything: whatever was before is of no use at rest.
    pub(crate) replaced: bool,
    pub(crate) tables: Arc<Tables>,
    pub(crate) position: Position,
}

/// Where the state stands.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    pub(crate) log_id: Option<LogId>,
    pub(crate) membership: StoredMembership,
}

impl Position {
    fn to_bytes(&self) -> Option<Bytes> {
        self.log_id.as_ref().map(|id| crate::encode::applied_to_bytes(id, &self.membership))
    }
}

/// What is on disk.
#[derive(Clone)]
pub(crate) struct Flushed {
    pub(crate) position: Position,
    pub(crate) tables: Arc<Tables>,
}

/// What was applied since the thread last took notice.
#[derive(Default)]
struct Noted {
    rows: Vec<RowKey>,
    batches: Vec<Arc<ChangeBatch>>,
    latest: Option<Flushed>,
    /// Everything was replaced, by what `latest` holds.
    replaced: bool,
    /// The thread has been woken for it.
    told: bool,
}

impl Noted {
    fn add(&mut self, applied: Group) {
        if applied.replaced {
            *self = Noted {
                replaced: true,
                told: self.told,
                latest: Some(Flushed { position: applied.position, tables: applied.tables }),
                ..Noted::default()
            };
            return;
        }
        self.rows.extend(applied.rows);
        self.batches.extend(applied.batches);
        self.latest = Some(Flushed { position: applied.position, tables: applied.tables });
    }
}

enum Request {
    /// Takes notice of what is noted.
    Collect(Option<oneshot::Sender<()>>),
    Flush(oneshot::Sender<Result<Flushed, Arc<str>>>),
    /// The state was replaced as a whole.
    Replace(Flushed, oneshot::Sender<Result<Flushed, Arc<str>>>),
}

/// A handle to the thread. The thread ends when the last handle is dropped.
#[derive(Clone)]
pub(crate) struct Flusher {
    requests: mpsc::Sender<Request>,
    noted: Arc<Mutex<Noted>>,
}

impl Flusher {
    /// Starts the thread. Without a store nothing is written, and every position counts as flushed.
    pub(crate) fn start(store: Option<StateStore>, loaded: Flushed, history: History, cause: RootCause) -> std::io::Result<Self> {
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let noted = Arc::new(Mutex::new(Noted::default()));
        let worker = Worker {
            noted: noted.clone(),
            store,
            latest: loaded,
            dirty: Vec::new(),
            unsaved: VecDeque::new(),
            replaced: false,
            history,
            cause,
        };
        thread::Builder::new().name("lictor-flush".into()).spawn(move || worker.run(queue))?;
        Ok(Flusher { requests, noted })
    }

    /// Takes note of what a group of commands did. Waits only when a flush takes very long.
    pub(crate) async fn note(&self, applied: Group) -> std::io::Result<()> {
        let (rows, told) = {
            let mut noted = self.noted.lock();
            noted.add(applied);
            let rows = noted.rows.len();
            (rows, rows < NOTED_ENOUGH || std::mem::replace(&mut noted.told, true))
        };
        if rows >= NOTED_MAX {
            let (sender, collected) = oneshot::channel();
            self.requests.send(Request::Collect(Some(sender))).await.map_err(|_| ended())?;
            return collected.await.map_err(|_| ended());
        }
        if !told {
            return self.requests.send(Request::Collect(None)).await.map_err(|_| ended());
        }
        if self.requests.is_closed() { Err(ended()) } else { Ok(()) }
    }

    /// Writes everything noted so far and says what is on disk then.
    pub(crate) async fn flush(&self) -> std::io::Result<Flushed> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(Request::Flush(sender)).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?.map_err(|error| std::io::Error::other(error.to_string()))
    }

    /// Replaces everything on disk.
    pub(crate) async fn replace(&self, tables: Arc<Tables>, position: Position) -> std::io::Result<Flushed> {
        let (sender, receiver) = oneshot::channel();
        self.requests.send(Request::Replace(Flushed { position, tables }, sender)).await.map_err(|_| ended())?;
        receiver.await.map_err(|_| ended())?.map_err(|error| std::io::Error::other(error.to_string()))
    }
}

fn ended() -> std::io::Error {
    std::io::Error::other("the thread that writes the state has ended; its last error is in the log")
}

struct Worker {
    noted: Arc<Mutex<Noted>>,
    store: Option<StateStore>,
    latest: Flushed,
    dirty: Vec<RowKey>,
    unsaved: VecDeque<Arc<ChangeBatch>>,
    /// What is on disk is of another state altogether: it is written anew the next time.
    replaced: bool,
    history: History,
    cause: RootCause,
}

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            self.collect();
            let (result, reply) = match request {
                Request::Collect(reply) => {
                    // Who waited for it may have been cancelled.
                    let _ = reply.map(|reply| reply.send(()));
                    continue;
                }
                Request::Flush(reply) => (self.flush(), reply),
                Request::Replace(latest, reply) => {
                    self.forget(latest.tables.applied().0);
                    self.latest = latest;
                    (self.flush(), reply)
                }
            };
            let failed = result.as_ref().err().cloned();
            // Who asked may have been cancelled.
            let _ = reply.send(result.map(|()| self.latest.clone()));
            if let Some(error) = failed {
                // After a failed flush nothing is known about the file: nothing more is written.
                tracing::error!(%error, "writing the state failed");
                return;
            }
        }
    }

    fn collect(&mut self) {
        let noted = std::mem::take(&mut *self.noted.lock());
        let Some(latest) = noted.latest else { return };
        if noted.replaced {
            self.forget(latest.tables.restored().0);
        }
        self.latest = latest;
        if self.store.is_none() {
            return;
        }
        self.dirty.extend(noted.rows);
        for batch in noted.batches {
            self.history.note(&batch);
            self.unsaved.push_back(batch);
        }
        while self.unsaved.front().is_some_and(|oldest| oldest.index.0 < self.history.floor) {
            self.unsaved.pop_front();
        }
    }

    fn flush(&mut self) -> Result<(), Arc<str>> {
        let (Some(store), Some(meta)) = (&self.store, self.latest.position.to_bytes()) else { return Ok(()) };
        let started = std::time::Instant::now();
        if self.replaced {
            self.dirty.clear();
            self.unsaved.clear();
            self.history.clear(self.latest.tables.applied().0);
            let rows = self.latest.tables.rows().map(Ok);
            store.replace(rows, self.history.floor, &meta).map_err(|error| self.failed(&error))?;
            self.replaced = false;
            tracing::debug!(took = ?started.elapsed(), "state written anew");
            return Ok(());
        }
        let keys: BTreeSet<RowKey> = std::mem::take(&mut self.dirty).into_iter().chain([RowKey::Meta]).collect();
        let count = keys.len();
        let tables = self.latest.tables.clone();
        let unsaved: Vec<_> = self.unsaved.drain(..).collect();
        let rows = keys.into_iter().map(|key| {
            let row = tables.row(&key);
            (key, row)
        });
        let persist = Persist { rows, history: &unsaved, history_floor: self.history.floor, meta: &meta };
        store.persist(persist).map_err(|error| self.failed(&error))?;
        tracing::debug!(rows = count, changes = unsaved.len(), took = ?started.elapsed(), "state written");
        Ok(())
    }

    fn failed(&self, error: &store::Error) -> Arc<str> {
        self.cause.note(error);
        chain(error).into()
    }

    /// Takes note that everything up to `applied` is of no use any more.
    fn forget(&mut self, applied: u64) {
        self.replaced = true;
        self.dirty.clear();
        self.unsaved.clear();
        self.history.clear(applied);
    }
}

/// How far back the history on disk reaches.
pub(crate) struct History {
    bounds: HistoryBounds,
    kept: VecDeque<(u64, usize, usize)>,
    changes: usize,
    bytes: usize,
    /// The oldest index that is kept.
    floor: u64,
}

impl History {
    /// Complete from `floor` on, and empty so far.
    pub(crate) fn new(bounds: HistoryBounds, floor: u64) -> Self {
        History { bounds, kept: VecDeque::new(), changes: 0, bytes: 0, floor }
    }

    fn clear(&mut self, applied: u64) {
        *self = History::new(self.bounds, applied + 1);
    }

    pub(crate) fn note(&mut self, batch: &ChangeBatch) {
        let bytes = batch.changes.iter().map(|change| change.weight()).sum();
        self.kept.push_back((batch.index.0, batch.changes.len(), bytes));
        self.changes += batch.changes.len();
        self.bytes += bytes;
        while (self.changes > self.bounds.changes_max || self.bytes > self.bounds.bytes_max) && self.kept.len() > 1 {
            let Some((index, changes, bytes)) = self.kept.pop_front() else { break };
            self.changes -= changes;
            self.bytes -= bytes;
            self.floor = index + 1;
        }
    }
}
