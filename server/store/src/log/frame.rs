//! The bytes of a frame and of the records in it. All integers are little-endian.
//!
//! ```text
//! frame   magic u32 · version u16 · 0 u16 · sequence u64 · salt u64 · offset u64 · oldest u64 · len u32 · crc u32
//!         records, `len` bytes · zeros up to the next multiple of 512
//! record  1 entry      index u64 · term u64 · len u32 · crc u32 · payload
//!         2 vote       len u32 · bytes
//!         3 committed  len u32 · bytes
//!         4 truncate   some u8 · after u64
//!         5 purge      upto u64 · len u32 · mark
//!         6 start      previous end u64 · next index u64         first record of a segment
//! ```
//!
//! The frame's crc covers everything before it and the records. An entry has its own besides, over index, term
//! and payload, so that it can be checked when it is read back alone.

use crate::log::LogWrite;

/// First bytes of every frame: "LWAL".
const MAGIC: u32 = u32::from_le_bytes(*b"LWAL");
/// Format version that this binary writes, and the highest that it reads.
pub(super) const VERSION: u16 = 1;
/// Frames start on multiples of this: the smallest unit that a disk writes as a whole.
pub(super) const ALIGN: u64 = 512;
/// Bytes of a frame before its records.
pub(super) const HEADER: usize = 48;
/// Bytes of an entry record before its payload.
pub(super) const ENTRY_HEADER: usize = 25;
/// Records of one frame, in bytes, at most.
pub(super) const FRAME_BYTES_MAX: u64 = 1 << 30;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const START: u8 = 6;

/// What identifies a frame apart from its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) offset: u64,
}

/// A record, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record<'a> {
    Entry(EntryRecord<'a>),
    Vote(&'a [u8]),
    Committed(&'a [u8]),
    Truncate { after: Option<u64> },
    Purge { upto: u64, mark: &'a [u8] },
    Start { previous_end: u64, next: u64 },
}

/// An entry, borrowed from its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryRecord<'a> {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) payload: &'a [u8],
}

/// What stands at a place where a frame may begin.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found<'a> {
    /// A whole frame of this segment.
    Frame { records: &'a [u8], oldest: u64 },
    /// A frame of this segment in a format that this binary does not know.
    TooNew { version: u16 },
    /// Anything else: zeros, a torn frame, what another use of the file left behind.
    Nothing,
}

/// Builds one frame in a buffer that is used again.
#[derive(Debug, Default)]
pub(super) struct FrameBuilder {
    bytes: Vec<u8>,
}

impl FrameBuilder {
    /// Forgets the previous frame, and its memory if that was unusually large.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(8 << 20);
        self.bytes.resize(HEADER, 0);
    }

    /// Bytes so far; the next record begins here, counted from the start of the frame.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn push(&mut self, record: &Record<'_>) {
        match *record {
            Record::Entry(entry) => self.push_entry(&entry),
            Record::Vote(bytes) => self.push_bytes(VOTE, None, bytes),
            Record::Committed(bytes) => self.push_bytes(COMMITTED, None, bytes),
            Record::Purge { upto, mark } => self.push_bytes(PURGE, Some(upto), mark),
            Record::Truncate { after } => {
                self.bytes.push(TRUNCATE);
                self.bytes.push(u8::from(after.is_some()));
                self.bytes.extend_from_slice(&after.unwrap_or(0).to_le_bytes());
            }
            Record::Start { previous_end, next } => {
                self.bytes.push(START);
                self.bytes.extend_from_slice(&previous_end.to_le_bytes());
                self.bytes.extend_from_slice(&next.to_le_bytes());
            }
        }
    }

    fn push_entry(&mut self, entry: &EntryRecord<'_>) {
        self.bytes.push(ENTRY);
        self.bytes.extend_from_slice(&entry.index.to_le_bytes());
        self.bytes.extend_from_slice(&entry.term.to_le_bytes());
        self.bytes.extend_from_slice(&length(entry.payload).to_le_bytes());
        self.bytes.extend_from_slice(&entry_crc(entry).to_le_bytes());
        self.bytes.extend_from_slice(entry.payload);
    }

    fn push_bytes(&mut self, kind: u8, number: Option<u64>, bytes: &[u8]) {
        self.bytes.push(kind);
        if let Some(number) = number {
            self.bytes.extend_from_slice(&number.to_le_bytes());
        }
        self.bytes.extend_from_slice(&length(bytes).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Completes the frame for `place` and returns its bytes, padded to whole sectors.
    pub(super) fn finish(&mut self, place: Place, oldest: u64) -> &[u8] {
        let records = length(&self.bytes[HEADER..]);
        let header = &mut self.bytes[..HEADER];
        header[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        header[4..6].copy_from_slice(&VERSION.to_le_bytes());
        header[8..16].copy_from_slice(&place.sequence.to_le_bytes());
        header[16..24].copy_from_slice(&place.salt.to_le_bytes());
        header[24..32].copy_from_slice(&place.offset.to_le_bytes());
        header[32..40].copy_from_slice(&oldest.to_le_bytes());
        header[40..44].copy_from_slice(&records.to_le_bytes());
        let crc = frame_crc(&self.bytes[..HEADER - 4], &self.bytes[HEADER..]);
        self.bytes[HEADER - 4..HEADER].copy_from_slice(&crc.to_le_bytes());
        self.bytes.resize(align(self.bytes.len() as u64) as usize, 0);
        &self.bytes
    }
}

/// Rounds up to where the next frame may begin.
pub(super) fn align(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGN)
}

/// Bytes that the records of `write` take in a frame.
pub(super) fn encoded_len(write: &LogWrite) -> u64 {
    let bytes = match write {
        LogWrite::Append(entries) => entries.iter().map(|e| ENTRY_HEADER + e.payload.len()).sum(),
        LogWrite::Vote(bytes) | LogWrite::Committed(bytes) => 5 + bytes.len(),
        LogWrite::Truncate { .. } => 10,
        LogWrite::Purge { mark, .. } => 13 + mark.len(),
    };
    bytes as u64
}

/// Whether a frame of `place` was begun at the start of `bytes`, whole or not.
pub(super) fn looks_like(bytes: &[u8], place: Place) -> bool {
    bytes.len() >= HEADER
        && u32_at(bytes, 0) == MAGIC
        && u64_at(bytes, 8) == place.sequence
        && u64_at(bytes, 16) == place.salt
        && u64_at(bytes, 24) == place.offset
}

/// Looks for a frame of `place` at the start of `bytes`, which reach to the end of the file.
pub(super) fn find(bytes: &[u8], place: Place) -> Found<'_> {
    if !looks_like(bytes, place) {
        return Found::Nothing;
    }
    let (header, rest) = bytes.split_at(HEADER);
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version > VERSION {
        return Found::TooNew { version };
    }
    let Some(records) = rest.get(..u32_at(header, 40) as usize) else { return Found::Nothing };
    if frame_crc(&header[..HEADER - 4], records) != u32_at(header, HEADER - 4) {
        return Found::Nothing;
    }
    Found::Frame { records, oldest: u64_at(header, 32) }
}

/// Reads the record at the start of `bytes`; returns it with its length, or `None` if there is no whole one.
pub(super) fn parse(bytes: &[u8]) -> Option<(Record<'_>, usize)> {
    let mut rest = Cursor(bytes);
    let record = match rest.u8()? {
        ENTRY => Record::Entry(rest.entry()?),
        VOTE => Record::Vote(rest.sized()?),
        COMMITTED => Record::Committed(rest.sized()?),
        TRUNCATE => {
            let some = rest.u8()? != 0;
            let after = rest.u64()?;
            Record::Truncate { after: some.then_some(after) }
        }
        PURGE => Record::Purge { upto: rest.u64()?, mark: rest.sized()? },
        START => Record::Start { previous_end: rest.u64()?, next: rest.u64()? },
        _ => return None,
    };
    Some((record, bytes.len() - rest.0.len()))
}

/// The rest of the bytes while a record is being read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4).map(|b| u32_at(b, 0))
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8).map(|b| u64_at(b, 0))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    fn entry(&mut self) -> Option<EntryRecord<'a>> {
        let (index, term, len, crc) = (self.u64()?, self.u64()?, self.u32()?, self.u32()?);
        let entry = EntryRecord { index, term, payload: self.take(len as usize)? };
        (entry_crc(&entry) == crc).then_some(entry)
    }
}

fn entry_crc(entry: &EntryRecord<'_>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&entry.index.to_le_bytes());
    crc.update(&entry.term.to_le_bytes());
    crc.update(entry.payload);
    crc.finalize()
}

fn frame_crc(header: &[u8], records: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(header);
    crc.update(records);
    crc.finalize()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a frame is refused when it exceeds FRAME_BYTES_MAX, before it is built")
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
