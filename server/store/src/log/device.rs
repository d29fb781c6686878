//! The log in segment files: one batch, one frame, one `pwrite`, one `fdatasync`.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use crate::Error;
use crate::log::frame::{self, ENTRY_HEADER, EntryRecord, FRAME_BYTES_MAX, FrameBuilder, HEADER, Record};
use crate::log::index::{Bounds, Index, Located, Slot};
use crate::log::prepare::{self, Preparer};
use crate::log::recovery::{self, Scan};
use crate::log::segment::{Segment, create_dir};
use crate::log::{LogDevice, LogEntry, LogOptions, LogReader, LogWrite, Recovered};

/// Neighbouring entries are read together up to this many bytes.
const READ_BYTES_MAX: u64 = 1 << 20;

/// What is kept beside the entries, restated at the start of each segment.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Marks {
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
}

impl Marks {
    /// Remembers a purge, unless a higher one is known.
    pub(super) fn purge(&mut self, upto: u64, mark: Bytes) {
        if self.purged.as_ref().is_none_or(|(purged, _)| *purged <= upto) {
            self.purged = Some((upto, mark));
        }
    }
}

/// The log in the files of one directory.
pub(super) struct FileLog {
    index: Arc<RwLock<Index>>,
    marks: Marks,
    /// Oldest first; the last one is being written.
    segments: VecDeque<Arc<Segment>>,
    /// Where the next frame goes in the last segment.
    offset: u64,
    preparer: Preparer,
    builder: FrameBuilder,
    /// Entries of the frame being built: index and slot.
    slots: Vec<(u64, Slot)>,
}

impl FileLog {
    /// Opens or creates the log in `dir`.
    pub(super) fn open(dir: &Path, options: &LogOptions) -> Result<(Self, Recovered), Error> {
        let whole = |bytes: u64| bytes.clamp(4 << 10, 1 << 30).next_multiple_of(4 << 10);
        let segment_bytes = whole(options.segment_bytes);
        create_dir(dir)?;
        let mut scan = recovery::scan(dir)?;
        let recovered = scan.recovered()?;
        scan.settle()?;
        scan.tidy(dir)?;
        if scan.segments.is_empty() {
            let first = prepare::create(dir, 1, whole(options.first_segment_bytes).min(segment_bytes))?;
            scan.segments.push_back(Arc::new(first));
        }
        let Scan { index, marks, segments, end, .. } = scan;
        let current = segments.back().expect("a segment was just made sure of");
        let preparer = Preparer::start(dir, segment_bytes, options.spare_segments_max, current.sequence + 1)?;
        let log = Self {
            index: Arc::new(RwLock::new(index)),
            marks,
            segments,
            offset: end,
            preparer,
            builder: FrameBuilder::default(),
            slots: Vec::new(),
        };
        Ok((log, recovered))
    }

    fn current(&self) -> &Arc<Segment> {
        self.segments.back().expect("the log always has a segment to write")
    }

    /// Moves on to the next segment; returns where this one ended.
    fn roll(&mut self) -> Result<u64, Error> {
        let next = self.preparer.take(self.current().sequence + 1)?;
        self.segments.push_back(Arc::new(next));
        Ok(std::mem::take(&mut self.offset))
    }

    /// Puts the marks, which every segment begins with, into the frame.
    fn restate(&mut self, previous_end: u64, next: u64) {
        self.builder.push(&Record::Start { previous_end, next });
        if let Some(vote) = &self.marks.vote {
            self.builder.push(&Record::Vote(vote));
        }
        if let Some(committed) = &self.marks.committed {
            self.builder.push(&Record::Committed(committed));
        }
        if let Some((upto, mark)) = &self.marks.purged {
            self.builder.push(&Record::Purge { upto: *upto, mark });
        }
    }

    fn encode(&mut self, batch: &[LogWrite]) {
        for write in batch {
            match write {
                LogWrite::Append(entries) => entries.iter().for_each(|entry| self.encode_entry(entry)),
                LogWrite::Vote(vote) => self.builder.push(&Record::Vote(vote)),
                LogWrite::Committed(committed) => self.builder.push(&Record::Committed(committed)),
                LogWrite::Truncate { after } => self.builder.push(&Record::Truncate { after: *after }),
                LogWrite::Purge { upto, mark } => self.builder.push(&Record::Purge { upto: *upto, mark }),
            }
        }
    }

    fn encode_entry(&mut self, entry: &LogEntry) {
        let slot = Slot {
            offset: u32::try_from(self.offset + self.builder.len() as u64).expect("a segment and a frame are each at most 1 GiB"),
            len: u32::try_from(entry.payload.len()).expect("a frame is at most 1 GiB"),
        };
        self.slots.push((entry.index, slot));
        self.builder.push(&Record::Entry(EntryRecord { index: entry.index, term: entry.term, payload: &entry.payload }));
    }

    /// Brings the index and the marks up to what was just flushed.
    fn apply(&mut self, batch: &[LogWrite]) -> Result<(), Error> {
        let current = Arc::clone(self.current());
        let mut slots = self.slots.drain(..);
        let mut index = self.index.write();
        for write in batch {
            match write {
                LogWrite::Append(entries) => {
                    for (at, slot) in slots.by_ref().take(entries.len()) {
                        index.append(at, &current, slot).map_err(Error::Misuse)?;
                    }
                }
                LogWrite::Vote(vote) => self.marks.vote = Some(vote.clone()),
                LogWrite::Committed(committed) => self.marks.committed = Some(committed.clone()),
                LogWrite::Truncate { after } => index.truncate(*after),
                LogWrite::Purge { upto, mark } => {
                    index.purge(*upto);
                    self.marks.purge(*upto, mark.clone());
                }
            }
        }
        Ok(())
    }

    /// Gives back the segments that the frame just flushed declared needless.
    fn retire(&mut self, oldest: u64) {
        let needless = self.segments.iter().take_while(|segment| segment.sequence < oldest).count();
        if needless > 0 {
            self.preparer.retire(self.segments.drain(..needless).collect());
        }
    }
}

impl LogDevice for FileLog {
    fn write(&mut self, batch: &[LogWrite]) -> Result<(), Error> {
        let bounds = self.index.read().bounds();
        check(bounds, batch)?;
        let len = batch.iter().map(frame::encoded_len).sum::<u64>();
        if len > FRAME_BYTES_MAX {
            return Err(Error::Misuse(format!("{len} bytes in one batch, the limit is {FRAME_BYTES_MAX}")));
        }
        let full = self.offset + frame::align(HEADER as u64 + len) > self.current().capacity;
        let previous_end = if self.offset > 0 && full { self.roll()? } else { 0 };

        self.builder.clear();
        if self.offset == 0 {
            self.restate(previous_end, bounds.next);
        }
        self.encode(batch);
        let oldest = self.index.read().oldest_segment().unwrap_or(self.current().sequence);
        let segment = self.segments.back().expect("the log always has a segment to write");
        let bytes = self.builder.finish(segment.place(self.offset), oldest);
        segment.write(bytes, self.offset)?;
        segment.flush()?;
        let written = bytes.len() as u64;

        self.apply(batch)?;
        self.offset += written;
        self.retire(oldest);
        Ok(())
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(FileReader { index: Arc::clone(&self.index) })
    }
}

/// Plays the batch on the bounds alone, so that a refused one leaves no trace in the files.
pub(super) fn check(mut bounds: Bounds, batch: &[LogWrite]) -> Result<(), Error> {
    for write in batch {
        match write {
            LogWrite::Append(entries) => {
                entries.iter().try_for_each(|entry| bounds.append(entry.index)).map_err(Error::Misuse)?;
            }
            LogWrite::Truncate { after } => bounds.truncate(*after),
            LogWrite::Purge { upto, .. } => bounds.purge(*upto),
            LogWrite::Vote(_) | LogWrite::Committed(_) => {}
        }
    }
    Ok(())
}

struct FileReader {
    index: Arc<RwLock<Index>>,
}

/// Reads what `index` knows of.
pub(super) fn reader(index: Index) -> Arc<dyn LogReader> {
    Arc::new(FileReader { index: Arc::new(RwLock::new(index)) })
}

impl LogReader for FileReader {
    fn read_limited(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, Error> {
        // The files are read without the lock; a segment that is purged meanwhile stays as it is while it is held.
        let located = self.index.read().locate(range);
        let mut entries = Vec::with_capacity(located.iter().map(|l| l.slots.len()).sum());
        let mut bytes_left = bytes_max;
        for part in located {
            let affordable = affordable(&part.slots, &mut bytes_left, entries.is_empty());
            read_part(&part, affordable, &mut entries)?;
            if affordable < part.slots.len() {
                break;
            }
        }
        Ok(entries)
    }
}

/// How many of `slots` fit in what is left of the budget; the first of all always does.
fn affordable(slots: &[Slot], bytes_left: &mut usize, first_of_all: bool) -> usize {
    let mut count = 0;
    for slot in slots {
        let len = slot.len as usize;
        if len > *bytes_left && !(first_of_all && count == 0) {
            break;
        }
        *bytes_left = bytes_left.saturating_sub(len);
        count += 1;
    }
    count
}

/// Reads the first `count` entries of `part`, neighbours together.
fn read_part(part: &Located, count: usize, entries: &mut Vec<LogEntry>) -> Result<(), Error> {
    let slots = &part.slots[..count];
    let end = |slot: &Slot| u64::from(slot.offset) + ENTRY_HEADER as u64 + u64::from(slot.len);
    let mut at = 0;
    while at < slots.len() {
        let start = u64::from(slots[at].offset);
        let together = slots[at..].iter().take_while(|slot| end(slot) - start <= READ_BYTES_MAX).count().max(1);
        let group = &slots[at..at + together];
        let len = end(&group[together - 1]) - start;
        let bytes = Bytes::from(part.segment.read(start, len as usize)?);
        for (nth, slot) in group.iter().enumerate() {
            let index = part.first + (at + nth) as u64;
            entries.push(read_entry(part, index, *slot, &bytes, start)?);
        }
        at += together;
    }
    Ok(())
}

fn read_entry(part: &Located, index: u64, slot: Slot, bytes: &Bytes, start: u64) -> Result<LogEntry, Error> {
    let offset = u64::from(slot.offset);
    match frame::parse(&bytes[(offset - start) as usize..]) {
        Some((Record::Entry(entry), _)) if entry.index == index => {
            Ok(LogEntry { index, term: entry.term, payload: bytes.slice_ref(entry.payload) })
        }
        _ => Err(Error::corrupt(&part.segment.path, offset, format!("entry {index} reads back wrong"))),
    }
}
