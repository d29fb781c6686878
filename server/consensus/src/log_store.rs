//! The log as the Raft library wants it, over the log as the store keeps it.
//!
//! Recent entries stay in memory in the form in which they are applied and replicated; older ones
//! are read back from the files. An entry leaves memory only once it is durable.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures::{Stream, TryStreamExt};
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use parking_lot::Mutex;
use store::log::{LogEntry, LogHandle, LogReader, LogWrite, Recovered};
use tokio::sync::oneshot;

use crate::encode;
use crate::error::RootCause;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// Bytes of entries that are kept in memory once they are durable.
const CACHE_BYTES_MAX: usize = 8 << 20;

/// Most bytes that one piece of a long read holds.
const READ_BYTES_MAX: usize = 4 << 20;

/// Most bytes that go to a follower in one request, unless a single entry has more: little enough that answers come often
/// over a slow link, because what is not answered in time is sent again.
const SENT_BYTES_MAX: usize = 256 << 10;

/// Most entries that one piece of a long read holds.
const READ_ENTRIES_MAX: u64 = 1024;

/// A handle to the log; clones share it.
#[derive(Clone)]
pub(crate) struct LogStore {
    shared: Arc<Shared>,
}

struct Shared {
    handle: LogHandle,
    reader: Arc<dyn LogReader>,
    /// Every entry up to here is on disk.
    durable: Arc<AtomicU64>,
    cause: RootCause,
    /// The newest membership in the log has this server as its only voter; false when in doubt.
    alone: AtomicBool,
    id: u64,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    last: Option<LogId>,
    recent: VecDeque<Entry>,
    recent_bytes: usize,
}

impl LogStore {
    /// Takes over a log that was opened.
    pub(crate) fn new(id: u64, handle: LogHandle, recovered: Recovered, cause: RootCause) -> io::Result<Self> {
        let inner = Inner {
            vote: recovered.vote.as_deref().map(encode::vote_from_bytes).transpose()?,
            committed: recovered.committed.as_deref().map(encode::log_id_from_bytes).transpose()?,
            purged: recovered.purged.as_ref().map(|(_, mark)| encode::log_id_from_bytes(mark)).transpose()?,
            last: recovered.last.map(|(index, term)| encode::log_id(term, index)),
            ..Default::default()
        };
        let durable = recovered.last.map_or(0, |(index, _)| index);
        let reader = handle.reader();
        Ok(LogStore {
            shared: Arc::new(Shared {
                handle,
                reader,
                durable: Arc::new(durable.into()),
                cause,
                alone: AtomicBool::new(false),
                id,
                inner: Mutex::new(inner),
            }),
        })
    }

    /// Whether this server is its quorum's only voter. It turns false when a membership with other
    /// voters enters this log, which is before any other server can know of it.
    pub(crate) fn is_alone(&self) -> bool {
        self.shared.alone.load(Ordering::Acquire)
    }

    /// Takes note of the voters of the newest membership; nobody means that there is none yet.
    pub(crate) fn note_voters(&self, voters: impl Iterator<Item = u64>) {
        let mut voters = voters.peekable();
        if voters.peek().is_some() {
            self.shared.alone.store(voters.all(|voter| voter == self.shared.id), Ordering::Release);
        }
    }

    /// Whether this server has ever taken part in an election.
    pub(crate) fn has_term(&self) -> bool {
        self.shared.inner.lock().vote.is_some()
    }

    /// The last entry, purged or not.
    pub(crate) fn last(&self) -> Option<LogId> {
        let inner = self.shared.inner.lock();
        inner.last.or(inner.purged)
    }

    async fn write(&self, write: LogWrite) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done = Box::new(move |result: Result<(), Arc<store::Error>>| {
            // A caller that was cancelled does not wait for its answer any more.
            let _ = sender.send(result);
        });
        self.shared.handle.submit(write, done);
        match receiver.await {
            Ok(result) => result.map_err(|error| {
                self.shared.cause.note(&error);
                io::Error::other(error)
            }),
            Err(_) => Err(io::Error::other("the log's thread has ended")),
        }
    }
}

impl LogStore {
    /// The entries from `start` to before `end`, as many as fit into `bytes_max` but at least one.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let (mut recent, memory_from) = {
            let inner = self.shared.inner.lock();
            let first = inner.recent.front().map_or(u64::MAX, |entry| entry.log_id.index);
            (inner.slice(start.max(first), end, bytes_max), first)
        };
        let disk_end = end.min(memory_from);
        if start >= disk_end {
            return Ok(recent);
        }
        let older = self.shared.reader.read_limited(start..disk_end, bytes_max).map_err(io::Error::other)?;
        let mut older = older.into_iter().map(encode::entry_from_log).collect::<io::Result<Vec<_>>>()?;
        // A limited read that was cut short is answered as it is; the rest is asked for again.
        if older.last().is_none_or(|entry| entry.log_id.index + 1 == disk_end) {
            older.append(&mut recent);
        }
        Ok(older)
    }
}

impl Inner {
    fn slice(&self, from: u64, end: u64, bytes_max: usize) -> Vec<Entry> {
        let Some(first) = self.recent.front().map(|entry| entry.log_id.index) else { return Vec::new() };
        let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX).min(self.recent.len());
        let mut bytes = 0;
        let fits = |entry: &&Entry| {
            bytes += weight(entry);
            entry.log_id.index < end && (bytes <= bytes_max || entry.log_id.index == from)
        };
        self.recent.range(skip..).take_while(fits).cloned().collect()
    }

    fn push(&mut self, entry: Entry, bytes: usize) {
        self.last = Some(entry.log_id);
        self.recent.push_back(entry);
        self.recent_bytes += bytes;
    }

    /// Drops what is durable and beyond the bound, oldest first.
    fn trim(&mut self, durable: u64) {
        while self.recent_bytes > CACHE_BYTES_MAX && self.recent.front().is_some_and(|entry| entry.log_id.index <= durable) {
            if let Some(entry) = self.recent.pop_front() {
                self.recent_bytes -= weight(&entry);
            }
        }
    }

    fn drop_through(&mut self, index: u64) {
        while self.recent.front().is_some_and(|entry| entry.log_id.index <= index) {
            if let Some(entry) = self.recent.pop_front() {
                self.recent_bytes -= weight(&entry);
            }
        }
    }
}

fn weight(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => 256 + 2 * proposal.bytes.len(),
        _ => 512,
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(&mut self, range: RB) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, SENT_BYTES_MAX)
    }

    /// What is to be applied may be long after a restart: it is read a piece at a time.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let log = self.clone();
        let pieces = futures::stream::try_unfold(start, move |next| {
            let piece = if next < end { log.read(next, end.min(next + READ_ENTRIES_MAX), READ_BYTES_MAX) } else { Ok(Vec::new()) };
            let step = piece.map(|piece| piece.last().map(|last| last.log_id.index + 1).map(|following| (piece, following)));
            std::future::ready(step)
        });
        pieces.map_ok(|piece| futures::stream::iter(piece.into_iter().map(Ok))).try_flatten()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.shared.inner.lock().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let inner = self.shared.inner.lock();
        Ok(LogState { last_purged_log_id: inner.purged, last_log_id: inner.last.or(inner.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.shared.inner.lock().vote = Some(*vote);
        self.write(LogWrite::Vote(encode::vote_to_bytes(vote))).await
    }

    /// Only a hint for the next start: it rides with the next write.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let Some(committed) = committed else { return Ok(()) };
        self.shared.inner.lock().committed = Some(committed);
        self.shared.handle.submit(LogWrite::Committed(encode::log_id_to_bytes(&committed)), Box::new(|_| {}));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let inner = self.shared.inner.lock();
        // After a restart only what is in the log can be applied, whatever the hint says.
        let last = inner.last.or(inner.purged);
        Ok(inner.committed.map(|committed| last.map_or(committed, |last| committed.min(last))))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        let mut last = 0;
        {
            let durable = self.shared.durable.load(Ordering::Acquire);
            let mut inner = self.shared.inner.lock();
            for entry in entries {
                let payload = encode::payload_to_bytes(&entry.payload);
                last = entry.log_id.index;
                records.push(LogEntry { index: last, term: entry.log_id.leader_id.term, payload });
                if let EntryPayload::Membership(membership) = &entry.payload {
                    self.note_voters(membership.voter_ids());
                }
                let bytes = weight(&entry);
                inner.push(entry, bytes);
            }
            inner.trim(durable);
        }
        let (durable, cause) = (self.shared.durable.clone(), self.shared.cause.clone());
        let done = Box::new(move |result: Result<(), Arc<store::Error>>| {
            match &result {
                Ok(()) => durable.store(last, Ordering::Release),
                Err(error) => cause.note(error),
            }
            callback.io_completed(result.map_err(io::Error::other));
        });
        self.shared.handle.submit(LogWrite::Append(records), done);
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let after = last_log_id.map(|id| id.index);
        self.shared.alone.store(false, Ordering::Release);
        {
            let mut inner = self.shared.inner.lock();
            while inner.recent.back().is_some_and(|entry| after.is_none_or(|after| entry.log_id.index > after)) {
                if let Some(entry) = inner.recent.pop_back() {
                    inner.recent_bytes -= weight(&entry);
                }
            }
            inner.last = inner.last.min(last_log_id);
        }
        self.write(LogWrite::Truncate { after }).await?;
        self.shared.durable.fetch_min(after.unwrap_or(0), Ordering::AcqRel);
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        {
            let mut inner = self.shared.inner.lock();
            inner.purged = inner.purged.max(Some(log_id));
            inner.drop_through(log_id.index);
            if inner.last.is_some_and(|last| last <= log_id) {
                inner.last = None;
            }
        }
        self.write(LogWrite::Purge { upto: log_id.index, mark: encode::log_id_to_bytes(&log_id) }).await
    }
}

/// A range of indexes as first and one past last.
fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start + 1,
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}
