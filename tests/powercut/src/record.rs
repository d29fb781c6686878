//! The bytes of a journal, shared by the shim, which writes them, and the library, which reads them.
//!
//! A record is a header of 32 bytes and a payload. All integers are little-endian.
//!
//! ```text
//! payload bytes u32 · kind u8 · flag u8 · 0 u16 · handle u64 · first u64 · 0 u64
//! ```
#![allow(dead_code, reason = "each side uses its part")]

/// Names the directory that is observed.
pub(crate) const DIR_VARIABLE: &str = "LICTOR_POWERCUT_DIR";
/// Names the journal.
pub(crate) const JOURNAL_VARIABLE: &str = "LICTOR_POWERCUT_JOURNAL";

/// If set, the program is killed as soon as it has done so many writes, those to its marks not counted.
pub(crate) const KILL_VARIABLE: &str = "LICTOR_POWERCUT_KILL_AT";

/// Name of the file of marks.
pub(crate) const MARKS: &str = "powercut.marks";

/// Bytes of a record before its payload.
pub(crate) const HEADER: usize = 32;

/// A file or directory was opened. Handle; the flag says that it was created; payload: its path.
pub(crate) const OPEN: u8 = 1;
/// Bytes were written. Handle, offset; the flag says that they were durable at once; payload: the bytes.
pub(crate) const WRITE: u8 = 2;
/// A file was flushed, or a directory. Handle.
pub(crate) const FLUSH: u8 = 3;
/// The length was set. Handle, length.
pub(crate) const LENGTH: u8 = 4;
/// Room was allocated; the file is at least this long now. Handle, length.
pub(crate) const ALLOCATE: u8 = 5;
/// Renamed. First: the length of the old path; payload: the old path, the new path.
pub(crate) const RENAME: u8 = 6;
/// Removed, a file or an empty directory. Payload: the path.
pub(crate) const REMOVE: u8 = 7;
/// A directory was made. Payload: the path.
pub(crate) const MAKE_DIR: u8 = 8;

/// The fixed part of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Header {
    pub(crate) payload: u32,
    pub(crate) kind: u8,
    pub(crate) flag: bool,
    pub(crate) handle: u64,
    pub(crate) first: u64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..4].copy_from_slice(&self.payload.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5] = u8::from(self.flag);
        bytes[8..16].copy_from_slice(&self.handle.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; HEADER]) -> Self {
        let word = |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| bytes[at + n]));
        let payload = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Self { payload, kind: bytes[4], flag: bytes[5] != 0, handle: word(8), first: word(16) }
    }
}
