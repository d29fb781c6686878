//! A snapshot as a file: everything there is at one revision, to be kept elsewhere and to be put back.
//!
//! ```text
//! file    "LICTSNAP" · version u32 · part … part
//! part    kind u8 · len u32 · crc u32 · `len` bytes · sha256 (32 bytes)
//! kind    1 header · 2 rows · 3 end          one header first, rows in any number, one end last
//! ```
//!
//! All integers are little-endian; what a part carries is a message of `storage/v1/snapshot.proto`. The crc covers
//! kind and length, so that a length can be believed before so many bytes are taken. The digest of a part is that of
//! **all bytes of the file before it**: the last one is the digest of the whole, and the first one that is wrong says
//! between which two bytes the damage lies. Nothing may follow the end, and a file without an end is cut.
//!
//! [`Writer`] and [`Reader`] do no IO: pieces of any size come out of the one and go into the other, so a snapshot of
//! any size passes through with the memory of one part. A part is about [`PART_BYTES`] long, unless one row is longer.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;

use proto::storage::v1 as pb;
use state::{LogIndex, Millis, Row};

use crate::encode::{Malformed, Table};

pub use read::Reader;
pub use write::{Writer, pieces};

/// Bytes of rows after which a part ends.
pub const PART_BYTES: usize = 256 << 10;

/// The longest part that a reader takes. No row comes near it.
const PART_BYTES_MAX: usize = 64 << 20;

/// First bytes of every file.
const MAGIC: &[u8; 8] = b"LICTSNAP";

/// Format version that this binary writes, and the highest that it reads.
const VERSION: u32 = 1;

/// Bytes of a part before and after what it carries.
const HEAD: usize = 9;
const DIGEST: usize = 32;

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const END: u8 = 3;

/// What a snapshot is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The incarnation of the cluster's state.
    pub incarnation: u64,
    /// The datacenter it was taken in.
    pub datacenter: String,
    /// The revision of the state.
    pub revision: LogIndex,
    /// The term in which it was taken.
    pub term: u64,
    /// When, by the server's clock.
    pub taken: Millis,
    /// The version of the server that wrote it.
    pub version: String,
}

/// Rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// How many there are.
    pub rows: u64,
    /// Bytes that they take in the file.
    pub bytes: u64,
}

/// A snapshot that was read to its end and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What it is of.
    pub header: Header,
    /// The format's version.
    pub format: u32,
    /// Its rows by kind.
    pub counts: BTreeMap<&'static str, Count>,
    /// How many rows there are in all.
    pub rows: u64,
    /// How many bytes the file has.
    pub bytes: u64,
    /// The digest of the whole file, which are its last bytes.
    pub digest: [u8; DIGEST],
}

/// Why a file is no snapshot that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It is something else.
    #[error("it is not a snapshot of lictor: it does not begin with `LICTSNAP`")]
    Foreign,
    /// A later release wrote it, or the version itself is damaged.
    #[error("it has format version {found}, but this binary knows version {VERSION} only; use the release that wrote it, or a later one")]
    Version {
        /// The version it carries.
        found: u32,
    },
    /// Bytes are not what was written.
    #[error("it is damaged between byte {from} and byte {to}: {what}; use another copy or another snapshot")]
    Changed {
        /// The first byte that may be wrong.
        from: u64,
        /// The first byte after those.
        to: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// It ends too early.
    #[error("it is cut: it ends at byte {at}, in the middle of what begins at byte {from}; use another copy or another snapshot")]
    Cut {
        /// How long it is.
        at: u64,
        /// Where the part begins that is not whole.
        from: u64,
    },
    /// Something follows its end.
    #[error("it ends at byte {at}, but more follows; use another copy or another snapshot")]
    Longer {
        /// Where it ends.
        at: u64,
    },
    /// It is as it was written, but says what this release does not know.
    #[error("what begins at byte {from} cannot be read, although it is as it was written; use the release that wrote it, or a later one")]
    Unknown {
        /// Where the part begins.
        from: u64,
        /// What is not known.
        #[source]
        source: Malformed,
    },
    /// It is as it was written, but its end speaks of other rows than there are.
    #[error("it says of itself that it has {said} rows, and has {found}; use another copy or another snapshot")]
    Miscounted {
        /// What it says.
        said: u64,
        /// What there is.
        found: u64,
    },
}

impl From<&Header> for pb::SnapshotHeader {
    fn from(header: &Header) -> Self {
        pb::SnapshotHeader {
            incarnation: header.incarnation,
            datacenter: header.datacenter.clone(),
            revision: header.revision.0,
            term: header.term,
            taken_ms: header.taken.0,
            version: header.version.clone(),
        }
    }
}

impl From<pb::SnapshotHeader> for Header {
    fn from(header: pb::SnapshotHeader) -> Self {
        Header {
            incarnation: header.incarnation,
            datacenter: header.datacenter,
            revision: LogIndex(header.revision),
            term: header.term,
            taken: Millis(header.taken_ms),
            version: header.version,
        }
    }
}

fn kind(row: &Row) -> &'static str {
    Table::of(row).name()
}
