//! The Raft log on disk: entries, vote, commit mark and purge mark in append-only segments.
//!
//! One thread owns the files. It drains everything that was submitted while the previous flush ran, writes it
//! as **one frame with one `pwrite` and one `fdatasync`**, and only then runs the callbacks, in order. So many
//! concurrent writers share a flush, and a lone writer pays for exactly one.
//!
//! # On disk
//!
//! A segment is a file `<sequence>-<salt>.wal`, allocated and zeroed by a helper thread before it is needed, so
//! that a flush never has file-system metadata to write. It holds frames, each on a 512-byte boundary and each
//! checked as a whole by a CRC that also covers the segment's sequence number, its salt and the frame's own
//! offset. A purged segment is used again under a new name; its stale frames cannot be mistaken, because the
//! salt is fresh and random, and unknown to whoever could put bytes that look like a frame into a payload.
//!
//! The first frame of a segment restates the marks, so any prefix of old segments may be deleted. Every frame
//! names the oldest segment that was still needed when it was written, so a missing one is noticed.
//!
//! # Why a power cut loses nothing acknowledged
//!
//! A frame is written only after the one before it was flushed. So after a cut at most the last frame can be
//! torn, and it was not acknowledged: recovery drops it. A bad frame **before** a good one cannot come from a
//! cut; it is damage, and recovery refuses to open. A torn frame and a damaged last frame look alike: the one
//! thing that this format cannot tell apart.
//!
//! A failed write or flush poisons the log: after a failed `fsync` the kernel may have dropped the dirty pages,
//! so trying again could succeed without the data being on disk. Every later submit gets the same error.

mod device;
mod frame;
mod index;
mod memory;
mod prepare;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

pub use memory::MemoryLog;
pub use writer::{Done, LogHandle, LogStats};

pub(crate) use segment::{create_dir, sync_dir};

use crate::Error;

/// One entry of the Raft log. The payload is opaque here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Position in the log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// What was proposed, encoded by the caller.
    pub payload: Bytes,
}

/// One write to the log. Writes take effect in the order in which they are submitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogWrite {
    /// Adds entries at the end. Each index must be the one after the last; an empty log takes any first index.
    Append(Vec<LogEntry>),
    /// Replaces the vote.
    Vote(Bytes),
    /// Replaces the commit mark. It is a hint that shortens recovery: it is not flushed for its own sake but
    /// rides with the next write, and its callback runs at once.
    Committed(Bytes),
    /// Removes the entries after `after`, or all of them.
    Truncate {
        /// The last index to keep; `None` keeps nothing.
        after: Option<u64>,
    },
    /// Removes the entries up to and including `upto`, which may lie beyond the last one.
    Purge {
        /// The last index to remove.
        upto: u64,
        /// What the caller wants to know about that entry later; returned by [`Recovered::purged`].
        mark: Bytes,
    },
}

impl LogWrite {
    /// Bytes this write holds, to bound how much a batch gathers.
    fn weight(&self) -> usize {
        let bytes = match self {
            Self::Append(entries) => entries.iter().map(|e| e.payload.len() + size_of::<LogEntry>()).sum(),
            Self::Vote(bytes) | Self::Committed(bytes) | Self::Purge { mark: bytes, .. } => bytes.len(),
            Self::Truncate { .. } => 0,
        };
        bytes + size_of::<Self>()
    }
}

/// What [`open`] found in the directory. Entries are read through [`LogHandle::reader`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The last vote written.
    pub vote: Option<Bytes>,
    /// The last commit mark that rode with another write; it may lag behind the true one.
    pub committed: Option<Bytes>,
    /// The highest purged index and its mark.
    pub purged: Option<(u64, Bytes)>,
    /// Index and term of the last entry held, or `None` when the log holds no entry.
    pub last: Option<(u64, u64)>,
    /// Index of the first entry held; in an empty log, where the next one is expected.
    pub first: u64,
    /// The unfinished frame at the end that was dropped, if there was one: the trace of a crash in mid-write.
    pub tail: Option<TornTail>,
}

/// Where an unfinished, never acknowledged frame was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the frame began, in bytes.
    pub offset: u64,
}

/// Where the log is kept. Files today; the trait is what another medium would have to offer.
pub trait LogDevice: Send {
    /// Makes `batch` durable before it returns, with one flush for all of it.
    ///
    /// # Errors
    ///
    /// After any error nothing is known about the batch, and the device must not be written again.
    fn write(&mut self, batch: &[LogWrite]) -> Result<(), Error>;

    /// A reader of what has been written, valid for the life of the device and after it.
    fn reader(&self) -> Arc<dyn LogReader>;
}

/// Reads entries, from any thread, beside the writer.
pub trait LogReader: Send + Sync {
    /// Returns the entries of `range` that the log holds, in order: those that were purged and those not yet
    /// written are left out. At least one is returned if there is any; after that the answer ends before the
    /// payloads exceed `bytes_max`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] and [`Error::Corrupt`] when the file cannot be read or reads back wrong.
    fn read_limited(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, Error>;

    /// [`read_limited`](Self::read_limited) without a limit: the caller bounds the range.
    ///
    /// # Errors
    ///
    /// As [`read_limited`](Self::read_limited).
    fn read(&self, range: Range<u64>) -> Result<Vec<LogEntry>, Error> {
        self.read_limited(range, usize::MAX)
    }
}

/// Sizes of the log. The defaults suit a server; tests use small ones.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a segment, from 4 KiB to 1 GiB; rounded up to whole 4 KiB.
    pub segment_bytes: u64,
    /// Size of the very first segment of a new log, which start-up has to wait for; at most `segment_bytes`.
    pub first_segment_bytes: u64,
    /// Purged segments that are kept to be used again; the others are deleted.
    pub spare_segments_max: usize,
    /// Submitted writes that may wait before [`LogHandle::submit`] blocks: four times what openraft has in flight.
    pub queue_writes_max: usize,
    /// Bytes that may wait before [`LogHandle::submit`] blocks.
    pub queue_bytes_max: usize,
    /// Bytes after which a batch takes no further write, so that one flush stays short.
    pub batch_bytes_max: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            segment_bytes: 16 << 20,
            first_segment_bytes: 1 << 20,
            spare_segments_max: 2,
            queue_writes_max: 16_384,
            queue_bytes_max: 64 << 20,
            batch_bytes_max: 4 << 20,
        }
    }
}

/// Reads the log in `dir`, which nobody writes to, and changes nothing.
///
/// # Errors
///
/// [`Error::Corrupt`], [`Error::TooNew`] or [`Error::Io`].
pub fn read_only(dir: &Path) -> Result<(Recovered, Arc<dyn LogReader>), Error> {
    let scan = recovery::scan(dir)?;
    let recovered = scan.recovered()?;
    Ok((recovered, device::reader(scan.index)))
}

/// Opens the log in `dir`, creating it if it is not there, and starts its thread.
///
/// What is returned is durable: the end of the log is flushed first, since after a killed process it may be in
/// the page cache only.
///
/// # Errors
///
/// [`Error::Corrupt`], [`Error::TooNew`], [`Error::Full`] or [`Error::Io`]; nothing was changed then.
pub fn open(dir: &Path, options: LogOptions) -> Result<(LogHandle, Recovered), Error> {
    let (device, recovered) = device::FileLog::open(dir, &options)?;
    let handle = LogHandle::start(Box::new(device), &options)?;
    Ok((handle, recovered))
}
