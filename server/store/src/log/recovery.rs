//! Reads the segments in order and decides where the log ends, or that it is damaged.
//!
//! The proof of damage is always a later frame: each frame was flushed before the next was written, so a good
//! frame after a bad one, a good segment after a short one, or a frame that still needs a missing segment shows
//! that acknowledged bytes were lost.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use crate::Error;
use crate::log::device::Marks;
use crate::log::frame::{self, ALIGN, ENTRY_HEADER, Found, Record};
use crate::log::index::{Index, Slot};
use crate::log::prepare;
use crate::log::segment::{self, Segment, UNFINISHED};
use crate::log::{Recovered, TornTail};

/// What the segments hold.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) index: Index,
    pub(super) marks: Marks,
    /// The segments in use, oldest first. Empty for a new log.
    pub(super) segments: VecDeque<Arc<Segment>>,
    /// Where the last frame begins, and where it ends: there the log goes on.
    pub(super) last_frame: u64,
    pub(super) end: u64,
    tail: Option<TornTail>,
    /// The oldest segment that the last frame needs.
    oldest: u64,
    /// Segments in no use: prepared and not begun, or purged and not yet removed.
    unused: Vec<(u64, PathBuf)>,
}

/// Reads everything in `dir` and changes nothing.
pub(super) fn scan(dir: &Path) -> Result<Scan, Error> {
    let mut found = Vec::new();
    for path in segment::list(dir)? {
        found.extend(Segment::open(&path)?);
    }
    found.sort_by_key(|segment| segment.sequence);
    let mut scan = Scan::default();
    // Deletions may reach the disk in any order: only the last unbroken stretch can be in use.
    let gap = found.windows(2).rposition(|pair| pair[1].sequence != pair[0].sequence + 1);
    let stretch = found.split_off(gap.map_or(0, |at| at + 1));
    for leftover in found {
        if leftover.sequence == stretch[0].sequence {
            return Err(Error::corrupt(&leftover.path, 0, "two files claim to be this segment"));
        }
        scan.unused.push((leftover.sequence, leftover.path));
    }
    for segment in stretch {
        scan.read(segment)?;
    }
    scan.check_nothing_missing(dir)?;
    Ok(scan)
}

impl Scan {
    /// Reads one more segment, the successor of the last one.
    fn read(&mut self, segment: Segment) -> Result<(), Error> {
        let length = segment.file.metadata().map_err(|e| Error::io("inspect", &segment.path, e))?.len();
        let bytes = segment.read(0, length as usize)?;
        let segment = Arc::new(segment);
        let mut offset = 0;
        loop {
            match frame::find(&bytes[offset..], segment.place(offset as u64)) {
                Found::Frame { records, oldest } => {
                    self.begin(&segment, offset as u64, records)?;
                    self.apply(&segment, offset, records)?;
                    self.oldest = oldest;
                    self.last_frame = offset as u64;
                    offset += frame::align((frame::HEADER + records.len()) as u64) as usize;
                    self.end = offset as u64;
                }
                Found::TooNew { version } => return Err(too_new(&segment, version)),
                Found::Nothing => break,
            }
            if offset >= bytes.len() {
                break;
            }
        }
        self.finish(segment, &bytes, offset)
    }

    /// The segment ends at `offset`, unless a good frame further on proves that there was more.
    fn finish(&mut self, segment: Arc<Segment>, bytes: &[u8], offset: usize) -> Result<(), Error> {
        let mut later = (offset..bytes.len()).step_by(ALIGN as usize).skip(1);
        let proof = later.find(|at| frame::find(&bytes[*at..], segment.place(*at as u64)) != Found::Nothing);
        if let Some(at) = proof {
            let reason = format!("the frame there fails its checksum, but a good one follows at byte {at}");
            return Err(Error::corrupt(&segment.path, offset as u64, reason));
        }
        let begun = bytes.get(offset..).is_some_and(|rest| frame::looks_like(rest, segment.place(offset as u64)));
        if begun {
            self.tail = Some(TornTail { file: segment.path.clone(), offset: offset as u64 });
        }
        if offset == 0 {
            self.unused.push((segment.sequence, segment.path.clone()));
        }
        Ok(())
    }

    /// At the first frame of a segment, checks that it continues where the one before it ended.
    fn begin(&mut self, segment: &Arc<Segment>, offset: u64, records: &[u8]) -> Result<(), Error> {
        if offset > 0 {
            return Ok(());
        }
        let Some((Record::Start { previous_end, next }, _)) = frame::parse(records) else {
            return Err(Error::corrupt(&segment.path, 0, "the segment does not begin with the marks"));
        };
        match self.segments.back() {
            None => self.index = Index::starting_at(next),
            Some(previous) => {
                let expected = self.index.bounds().next;
                if self.end != previous_end || expected != next || previous.sequence + 1 != segment.sequence {
                    let reason = format!(
                        "the log goes on in `{}` as if this segment ended at byte {previous_end} before entry {next}, \
                         but it ends before entry {expected}",
                        segment.path.display()
                    );
                    return Err(Error::corrupt(&previous.path, self.end, reason));
                }
            }
        }
        // What was torn at the end of the last segment has been given up: this one says where that segment ended.
        self.tail = None;
        self.segments.push_back(Arc::clone(segment));
        Ok(())
    }

    fn apply(&mut self, segment: &Arc<Segment>, start: usize, records: &[u8]) -> Result<(), Error> {
        let mut at = 0;
        while at < records.len() {
            let offset = start + frame::HEADER + at;
            let Some((record, len)) = frame::parse(&records[at..]) else {
                return Err(Error::corrupt(&segment.path, offset as u64, "the record there is not one that exists"));
            };
            self.apply_record(segment, offset, &record).map_err(|reason| Error::corrupt(&segment.path, offset as u64, reason))?;
            at += len;
        }
        Ok(())
    }

    fn apply_record(&mut self, segment: &Arc<Segment>, offset: usize, record: &Record<'_>) -> Result<(), String> {
        match record {
            Record::Entry(entry) => {
                let slot = Slot {
                    offset: u32::try_from(offset).map_err(|_| "the segment is larger than any can be")?,
                    len: u32::try_from(entry.payload.len()).expect("its length was read from 32 bits"),
                };
                self.index.append(entry.index, segment, slot)?;
            }
            Record::Vote(vote) => self.marks.vote = Some(Bytes::copy_from_slice(vote)),
            Record::Committed(mark) => self.marks.committed = Some(Bytes::copy_from_slice(mark)),
            Record::Truncate { after } => self.index.truncate(*after),
            Record::Purge { upto, mark } => {
                self.index.purge(*upto);
                self.marks.purge(*upto, Bytes::copy_from_slice(mark));
            }
            // Checked when the segment began.
            Record::Start { .. } => {}
        }
        Ok(())
    }

    fn check_nothing_missing(&self, dir: &Path) -> Result<(), Error> {
        let first = self.segments.front().map(|segment| segment.sequence);
        if let Some(first) = first.filter(|first| self.oldest < *first) {
            let reason = format!("segment {} is missing: the oldest one here is {first}", self.oldest);
            return Err(Error::corrupt(dir, 0, reason));
        }
        // Before anything is written there are the first segment and the one prepared after it, and no others.
        let lost = self.segments.is_empty() && self.unused.iter().any(|(sequence, _)| *sequence > 2);
        if lost {
            return Err(Error::corrupt(dir, 0, "segments are prepared, but those before them are missing"));
        }
        Ok(())
    }

    /// What the caller of `open` is told.
    pub(super) fn recovered(&self) -> Result<Recovered, Error> {
        let bounds = self.index.bounds();
        let last = match bounds.is_empty() {
            true => None,
            false => Some((bounds.next - 1, self.last_term(bounds.next - 1)?)),
        };
        Ok(Recovered {
            vote: self.marks.vote.clone(),
            committed: self.marks.committed.clone(),
            purged: self.marks.purged.clone(),
            last,
            first: bounds.first,
            tail: self.tail.clone(),
        })
    }

    fn last_term(&self, index: u64) -> Result<u64, Error> {
        let located = self.index.locate(index..index + 1);
        let (segment, slot) = located.first().map(|l| (&l.segment, l.slots[0])).expect("the last entry is held");
        let bytes = segment.read(u64::from(slot.offset), ENTRY_HEADER + slot.len as usize)?;
        match frame::parse(&bytes) {
            Some((Record::Entry(entry), _)) => Ok(entry.term),
            _ => Err(Error::corrupt(&segment.path, u64::from(slot.offset), "the last entry reads back wrong")),
        }
    }

    /// Makes sure that the last frame is on the medium, and not only in memory after a killed process.
    ///
    /// It is written once more, because after a failed flush the kernel may hold it as clean although the
    /// medium does not have it. All frames before it were flushed before it was written.
    pub(super) fn settle(&self) -> Result<(), Error> {
        let Some(segment) = self.segments.back() else { return Ok(()) };
        let frame = segment.read(self.last_frame, (self.end - self.last_frame) as usize)?;
        segment.write(&frame, self.last_frame)?;
        segment.flush()
    }

    /// Puts away what is in no use, so that the next segment finds its name free.
    pub(super) fn tidy(&mut self, dir: &Path) -> Result<(), Error> {
        if let Some(TornTail { file, offset }) = &self.tail {
            info!(file = %file.display(), offset, "dropped an unfinished, never acknowledged log frame");
        }
        for path in segment::list(dir)?.iter().filter(|path| path.extension().is_some_and(|e| e == UNFINISHED)) {
            fs::remove_file(path).map_err(|e| Error::io("delete", path, e))?;
        }
        // The highest first and one at a time: a crash in between must not leave a gap, which would look like a
        // segment that was lost.
        for (_, path) in self.unused.drain(..).rev() {
            prepare::set_aside(&path)?;
            segment::sync_dir(dir)?;
        }
        self.retire_purged();
        segment::sync_dir(dir)
    }

    /// Drops the segments that were declared needless, but whose removal did not reach the disk.
    fn retire_purged(&mut self) {
        while self.segments.front().is_some_and(|segment| segment.sequence < self.oldest) {
            let segment = self.segments.pop_front().expect("it was just looked at");
            if let Err(error) = prepare::set_aside(&segment.path) {
                warn!(%error, "could not set a purged log segment aside; it will be tried again at the next start");
            }
        }
    }
}

fn too_new(segment: &Segment, version: u16) -> Error {
    Error::TooNew { file: segment.path.clone(), found: version.into(), supported: frame::VERSION.into() }
}
