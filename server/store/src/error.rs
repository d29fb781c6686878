//! Why the store could not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};

use crate::encode::Malformed;

/// A failure of the storage layer.
///
/// Each message says what failed, why, and what an operator can do. The cause sits in `source`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation. Whether the bytes of that operation reached the disk is unknown.
    #[error("cannot {op} `{}`", path.display())]
    Io {
        /// The operation in words, such as `open` or `flush`.
        op: &'static str,
        /// The file or directory it was for.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// The file system or the quota has no room left. Nothing acknowledged is lost.
    #[error("cannot {op} `{}`: the disk or its quota is full; free some space there and start again", path.display())]
    Full {
        /// The operation in words.
        op: &'static str,
        /// The file or directory that could not grow.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// Bytes that were acknowledged as durable read back wrong. Nothing was changed.
    #[error(
        "`{}` is damaged at byte {offset}: {reason}; restore this data directory from a snapshot or a backup, \
         or remove this server from the cluster and let it join again with an empty directory",
        file.display()
    )]
    Corrupt {
        /// The damaged file, or the one that is missing.
        file: PathBuf,
        /// Where in the file, in bytes.
        offset: u64,
        /// What was expected and what was found.
        reason: String,
    },

    /// What was committed to the state reads back wrong. Nothing was changed.
    #[error(
        "`{}` is damaged: {reason}; restore this data directory from a snapshot or a backup, \
         or remove this server from the cluster and let it join again with an empty directory",
        file.display()
    )]
    CorruptState {
        /// The LMDB file.
        file: PathBuf,
        /// What was expected and what was found.
        reason: String,
        /// What was wrong with the row, if it was a row.
        #[source]
        source: Option<Malformed>,
    },

    /// The state has outgrown the address space reserved for it, although that was just doubled. Nothing was written.
    #[error("the state in `{}` does not fit in its map of {map_bytes} bytes; start again with a larger map", file.display())]
    MapFull {
        /// The LMDB file.
        file: PathBuf,
        /// Address space reserved, in bytes.
        map_bytes: usize,
    },

    /// An earlier write to the state failed, and since then it takes none: whether that write reached the disk is
    /// unknown until the next start.
    #[error("the state takes no further write, because an earlier one failed: {cause}")]
    Failed {
        /// The first failure.
        cause: String,
    },

    /// The file was written by a later release. Nothing was changed.
    #[error(
        "`{}` has format version {found}, but this binary knows versions up to {supported}; \
         start the release that wrote it, or a later one",
        file.display()
    )]
    TooNew {
        /// The file that is too new.
        file: PathBuf,
        /// The version it carries.
        found: u32,
        /// The highest version this binary can read.
        supported: u32,
    },

    /// Another process has the data directory open. Nothing was changed.
    #[error(
        "data directory `{}` is in use by {}; stop it, or choose another directory with `-data-dir`",
        dir.display(), pid.map_or_else(|| "another process".to_owned(), |pid| format!("another lictor, process {pid}"))
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
        /// The process that has it, if it has said so.
        pid: Option<u32>,
    },

    /// The data directory is another server's. Nothing was changed.
    #[error(
        "data directory `{}` belongs to {what} `{found}`, but this server's configuration expects `{expected}`; \
         correct the configuration, or choose another directory with `-data-dir`",
        dir.display()
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the directory says.
        found: String,
        /// What was expected.
        expected: String,
    },

    /// The process may not write in the data directory. Nothing was changed.
    #[error(
        "cannot write `{}`: give the user that runs lictor the right to write there, \
         or choose another directory with `-data-dir`",
        path.display()
    )]
    Unwritable {
        /// What could not be made.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// The path of the data directory, or a part of it, is something else. Nothing was changed.
    #[error("`{}` is not a directory; remove it, or choose another directory with `-data-dir`", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// The caller broke a rule of the interface, such as appending with a hole. Nothing was written.
    #[error("refused to write: {0}")]
    Misuse(String),

    /// The log was closed before the write was submitted. Nothing was written.
    #[error("the log is closed")]
    Closed,
}

impl Error {
    /// Wraps what the operating system said about `op` on `path`.
    pub(crate) fn io(op: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { op, path, source },
            _ => Self::Io { op, path, source },
        }
    }

    /// Reports damage found in `file`.
    pub(crate) fn corrupt(file: &Path, offset: u64, reason: impl Into<String>) -> Self {
        Self::Corrupt { file: file.to_owned(), offset, reason: reason.into() }
    }
}
