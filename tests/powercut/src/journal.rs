//! A journal, read back.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::MARKS;
use crate::record::{self, Header};

/// One operation. Paths are relative to the observed directory; a handle stands for one opening of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A file or directory was opened, and perhaps created.
    Open {
        /// By which later operations name it.
        handle: u64,
        /// Where it was then.
        path: PathBuf,
        /// Whether it was not there before.
        created: bool,
    },
    /// Bytes were written.
    Write {
        /// The file.
        handle: u64,
        /// Where in the file.
        offset: u64,
        /// Whether they were durable when the write returned.
        durable: bool,
        /// The bytes.
        data: Vec<u8>,
    },
    /// A file was flushed, or the names in a directory.
    Flush {
        /// Which.
        handle: u64,
    },
    /// A file got this length.
    Length {
        /// The file.
        handle: u64,
        /// In bytes.
        len: u64,
    },
    /// A file got at least this length.
    Allocate {
        /// The file.
        handle: u64,
        /// In bytes.
        len: u64,
    },
    /// A file or directory got another path.
    Rename {
        /// The old one.
        from: PathBuf,
        /// The new one.
        to: PathBuf,
    },
    /// A file or an empty directory was removed.
    Remove {
        /// Where it was.
        path: PathBuf,
    },
    /// A directory was made.
    MakeDir {
        /// Where.
        path: PathBuf,
    },
}

/// What a program did, in order.
#[derive(Debug, Default)]
pub struct Journal {
    operations: Vec<Operation>,
    /// Where each operation ends in the file.
    ends: Vec<u64>,
}

impl Journal {
    /// Reads the journal at `path`. A record that a killed program did not complete is left out.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds something else than a journal.
    pub fn read(path: &Path) -> io::Result<Self> {
        let bytes = fs::read(path)?;
        let mut journal = Self::default();
        let mut at = 0;
        while let Some((header, rest)) = bytes[at..].split_first_chunk::<{ record::HEADER }>() {
            let header = Header::decode(header);
            let Some(payload) = rest.get(..header.payload as usize) else { break };
            at += record::HEADER + payload.len();
            journal.operations.push(operation(&header, payload)?);
            journal.ends.push(at as u64);
        }
        Ok(journal)
    }

    /// What was done.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// How many operations were complete when the journal was `bytes` long: what another process was promised at
    /// that moment must survive every later cut.
    pub fn complete_at(&self, bytes: u64) -> usize {
        self.ends.partition_point(|end| *end <= bytes)
    }

    /// The same run on a disk that ignores flushes, to see that a checker notices.
    pub fn without_flushes(&self) -> Self {
        let kept = self.operations.iter().zip(&self.ends).filter(|(operation, _)| !matches!(operation, Operation::Flush { .. }));
        let (operations, ends) = kept.map(|(operation, end)| (operation.clone(), *end)).unzip();
        Self { operations, ends }
    }

    /// What the program had written to the file [`MARKS`] before operation `cut`.
    pub fn marks(&self, cut: usize) -> String {
        let mut handles = Vec::new();
        let mut marks = Vec::new();
        for operation in &self.operations[..cut] {
            match operation {
                Operation::Open { handle, path, .. } if path == Path::new(MARKS) => handles.push(*handle),
                Operation::Write { handle, data, .. } if handles.contains(handle) => marks.extend_from_slice(data),
                _ => {}
            }
        }
        String::from_utf8_lossy(&marks).into_owned()
    }
}

fn operation(header: &Header, payload: &[u8]) -> io::Result<Operation> {
    let handle = header.handle;
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    Ok(match header.kind {
        record::OPEN => Operation::Open { handle, path: path(payload), created: header.flag },
        record::WRITE => Operation::Write { handle, offset: header.first, durable: header.flag, data: payload.to_vec() },
        record::FLUSH => Operation::Flush { handle },
        record::LENGTH => Operation::Length { handle, len: header.first },
        record::ALLOCATE => Operation::Allocate { handle, len: header.first },
        record::RENAME => {
            let (from, to) = payload.split_at_checked(header.first as usize).ok_or(io::ErrorKind::InvalidData)?;
            Operation::Rename { from: path(from), to: path(to) }
        }
        record::REMOVE => Operation::Remove { path: path(payload) },
        record::MAKE_DIR => Operation::MakeDir { path: path(payload) },
        kind => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("there is no operation {kind}"))),
    })
}
