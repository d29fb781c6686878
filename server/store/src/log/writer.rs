//! Group commit: the queue in front of the device and the one thread behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};
use tracing::error;

use crate::Error;
use crate::log::memory::MemoryLog;
use crate::log::{LogDevice, LogOptions, LogReader, LogWrite};

/// Called once, when the write is durable or has failed. It runs on the log's thread and should only notify.
pub type Done = Box<dyn FnOnce(Result<(), Arc<Error>>) + Send>;

/// The log as the rest of the server sees it. Clones share it; the last one to go writes out what is queued.
#[derive(Clone)]
pub struct LogHandle {
    backend: Arc<Backend>,
    reader: Arc<dyn LogReader>,
    counters: Arc<Counters>,
}

enum Backend {
    Thread { queue: Arc<Queue>, thread: Mutex<Option<JoinHandle<()>>> },
    Inline(Mutex<Inline>),
}

struct Inline {
    device: Box<dyn LogDevice>,
    failed: Option<Arc<Error>>,
}

impl LogHandle {
    /// Starts the thread `lictor-log` on `device`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the operating system grants no thread.
    pub fn start(device: Box<dyn LogDevice>, options: &LogOptions) -> Result<Self, Error> {
        let reader = device.reader();
        let counters = Arc::new(Counters::default());
        let queue = Arc::new(Queue::new(options));
        let worker = Worker {
            device,
            queue: Arc::clone(&queue),
            counters: Arc::clone(&counters),
            batch_bytes_max: options.batch_bytes_max,
            committed: None,
        };
        let thread = thread::Builder::new()
            .name("lictor-log".into())
            .spawn(move || worker.run())
            .map_err(|e| Error::io("start the thread", "lictor-log".as_ref(), e))?;
        let backend = Arc::new(Backend::Thread { queue, thread: Mutex::new(Some(thread)) });
        Ok(Self { backend, reader, counters })
    }

    /// A log that keeps nothing: see [`on_memory`](Self::on_memory).
    pub fn in_memory() -> Self {
        Self::on_memory(MemoryLog::default())
    }

    /// A log that keeps what `device` is kept for: writes take effect and callbacks run before [`submit`](Self::submit) returns.
    pub fn on_memory(device: MemoryLog) -> Self {
        let device = Box::new(device);
        let reader = device.reader();
        let backend = Arc::new(Backend::Inline(Mutex::new(Inline { device, failed: None })));
        Self { backend, reader, counters: Arc::default() }
    }

    /// Queues `write` and returns; `done` runs when it is durable, in the order of submission.
    ///
    /// Blocks while the queue is full. A [`LogWrite::Committed`] is not waited for: `done` runs at once and the
    /// mark rides with the next write. After the first error every write fails with that error.
    pub fn submit(&self, write: LogWrite, done: Done) {
        let refused = match &*self.backend {
            Backend::Thread { queue, .. } => match write {
                LogWrite::Committed(_) => {
                    let outcome = queue.push(Submitted { write, done: None });
                    done(outcome.map_err(|(error, _)| error));
                    return;
                }
                write => queue.push(Submitted { write, done: Some(done) }),
            },
            Backend::Inline(inline) => {
                // The callback may submit again, so the lock has to be free by then.
                let outcome = inline.lock().write(write, &self.counters);
                done(outcome);
                return;
            }
        };
        if let Err((error, Submitted { done: Some(done), .. })) = refused {
            done(Err(error));
        }
    }

    /// Reads entries whose write is durable.
    pub fn reader(&self) -> Arc<dyn LogReader> {
        Arc::clone(&self.reader)
    }

    /// What has been written since the log was opened.
    pub fn stats(&self) -> LogStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogStats {
            batches: get(&self.counters.batches),
            writes: get(&self.counters.writes),
            bytes: get(&self.counters.bytes),
            busy_us: get(&self.counters.busy_us),
        }
    }
}

impl std::fmt::Debug for LogHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogHandle").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let Self::Thread { queue, thread } = self else { return };
        queue.close();
        // A callback may hold the last handle; the thread cannot wait for itself.
        let other = thread.get_mut().take().filter(|thread| thread.thread().id() != thread::current().id());
        if let Some(thread) = other {
            let _ = thread.join();
        }
    }
}

impl Inline {
    fn write(&mut self, write: LogWrite, counters: &Counters) -> Result<(), Arc<Error>> {
        if let Some(error) = &self.failed {
            return Err(Arc::clone(error));
        }
        let written = self.device.write(std::slice::from_ref(&write)).map_err(Arc::new);
        match &written {
            Ok(()) => counters.count(&[write], Instant::now()),
            Err(error) => self.failed = Some(Arc::clone(error)),
        }
        written
    }
}

/// Totals since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStats {
    /// Batches written; on files each is one flush.
    pub batches: u64,
    /// Writes in them.
    pub writes: u64,
    /// Bytes that the writes held.
    pub bytes: u64,
    /// Time spent in writing and flushing, in microseconds.
    pub busy_us: u64,
}

#[derive(Debug, Default)]
struct Counters {
    batches: AtomicU64,
    writes: AtomicU64,
    bytes: AtomicU64,
    busy_us: AtomicU64,
}

impl Counters {
    fn count(&self, batch: &[LogWrite], begun: Instant) {
        let bytes: usize = batch.iter().map(LogWrite::weight).sum();
        let busy_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.busy_us.fetch_add(busy_us, Ordering::Relaxed);
    }
}

struct Submitted {
    write: LogWrite,
    /// Absent where it has been called already.
    done: Option<Done>,
}

/// A bounded queue that is emptied as a whole.
struct Queue {
    state: Mutex<QueueState>,
    filled: Condvar,
    drained: Condvar,
    writes_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct QueueState {
    waiting: Vec<Submitted>,
    bytes: usize,
    closed: bool,
    failed: Option<Arc<Error>>,
}

impl Queue {
    fn new(options: &LogOptions) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            writes_max: options.queue_writes_max.max(1),
            bytes_max: options.queue_bytes_max.max(1),
        }
    }

    /// Adds a write, or hands it back with the reason.
    fn push(&self, submitted: Submitted) -> Result<(), (Arc<Error>, Submitted)> {
        let mut state = self.state.lock();
        while state.failed.is_none() && (state.waiting.len() >= self.writes_max || state.bytes >= self.bytes_max) {
            self.drained.wait(&mut state);
        }
        if let Some(error) = &state.failed {
            return Err((Arc::clone(error), submitted));
        }
        if state.closed {
            return Err((Arc::new(Error::Closed), submitted));
        }
        if matches!(submitted.write, LogWrite::Committed(_)) {
            // Not worth waking the thread for: it waits for the next write, and only the latest one counts.
            match state.waiting.last_mut().filter(|last| matches!(last.write, LogWrite::Committed(_))) {
                Some(last) => *last = submitted,
                None => state.waiting.push(submitted),
            }
            return Ok(());
        }
        state.bytes += submitted.write.weight();
        state.waiting.push(submitted);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Waits for writes and moves all of them to `taken`; `false` when the queue is closed and empty.
    fn take(&self, taken: &mut Vec<Submitted>) -> bool {
        let mut state = self.state.lock();
        while state.waiting.is_empty() && !state.closed {
            self.filled.wait(&mut state);
        }
        std::mem::swap(&mut state.waiting, taken);
        state.bytes = 0;
        drop(state);
        self.drained.notify_all();
        !taken.is_empty()
    }

    fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Refuses everything from now on and returns what is waiting.
    fn fail(&self, error: &Arc<Error>) -> Vec<Submitted> {
        let mut state = self.state.lock();
        state.failed = Some(Arc::clone(error));
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        self.drained.notify_all();
        waiting
    }
}

/// The thread's own side.
struct Worker {
    device: Box<dyn LogDevice>,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    batch_bytes_max: usize,
    /// A commit mark that waits for a write to ride with.
    committed: Option<LogWrite>,
}

impl Worker {
    fn run(mut self) {
        let mut taken = Vec::new();
        while self.queue.take(&mut taken) {
            let mut rest = taken.drain(..).peekable();
            while rest.peek().is_some() {
                let (batch, dones) = self.gather(&mut rest);
                if let Err(error) = self.write(&batch) {
                    let failed = dones.into_iter().chain(rest.filter_map(|submitted| submitted.done)).collect();
                    return self.give_up(error, failed);
                }
                dones.into_iter().for_each(|done| done(Ok(())));
            }
        }
        // A clean stop keeps the last mark; without it the next start would only have more to find out.
        if let Some(mark) = self.committed.take()
            && let Err(error) = self.device.write(&[mark])
        {
            error!(%error, "could not write the commit mark while closing the log");
        }
    }

    /// Takes writes up to the size of a batch. Of several commit marks the last one rides, at the end.
    fn gather(&mut self, rest: &mut impl Iterator<Item = Submitted>) -> (Vec<LogWrite>, Vec<Done>) {
        let (mut batch, mut dones, mut bytes) = (Vec::new(), Vec::new(), 0);
        while bytes < self.batch_bytes_max
            && let Some(Submitted { write, done }) = rest.next()
        {
            dones.extend(done);
            if matches!(write, LogWrite::Committed(_)) {
                self.committed = Some(write);
            } else {
                bytes += write.weight();
                batch.push(write);
            }
        }
        if !batch.is_empty() {
            batch.extend(self.committed.take());
        }
        (batch, dones)
    }

    fn write(&mut self, batch: &[LogWrite]) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let begun = Instant::now();
        self.device.write(batch)?;
        self.counters.count(batch, begun);
        Ok(())
    }

    fn give_up(self, error: Error, failed: Vec<Done>) {
        let error = Arc::new(error);
        error!(%error, cause = ?std::error::Error::source(&*error), "the log has failed and takes no further write");
        let waiting = self.queue.fail(&error);
        failed.into_iter().chain(waiting.into_iter().filter_map(|s| s.done)).for_each(|done| done(Err(Arc::clone(&error))));
    }
}
