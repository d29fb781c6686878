//! The rows of the state machine at rest, in one LMDB environment.
//!
//! Reads are served from memory and never come here. A background writer hands over the rows that changed, the
//! changes for watches that resume, and the caller's own mark (the applied log id and the membership), and all of
//! it becomes durable in **one transaction**: whatever happens, the files hold the state of one exact log index.
//! The log is purged only up to that index, so a restart is a load and a replay.
//!
//! LMDB runs as it does by default: every commit flushes the data and then writes the root with `O_DSYNC`.
//! `MDB_NOSYNC`, `MDB_NOMETASYNC` and `MDB_WRITEMAP` are never set: they corrupt, or lose commits, when the power
//! fails. Its file has no checksums, so a flipped bit in it may go unnoticed; the log's do not.
//!
//! # Keys
//!
//! LMDB bounds a key by 511 bytes. Longer names lie under their first bytes and their SHA-256, and rows carry
//! their names in full, so any length would do; [`MAX_KEY_BYTES`] is what is promised and tested.
//!
//! # Memory
//!
//! LMDB maps the whole file and keeps the pages of its largest transaction for the next one. Neither is of use
//! between two writes, so the environment is closed and opened again after a load and after every few thousand
//! rows: what stays resident is the state in memory, not a second copy of it.

mod env;
mod replace;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use state::{ChangeBatch, Row, RowKey};
use tracing::warn;

use crate::Error;
use crate::encode::{self, Table, row_key};
use crate::state_store::env::{Batch, Environment, Put, WriteError};

/// The longest key that the store promises to keep, in bytes. The layers above refuse longer ones.
pub const MAX_KEY_BYTES: usize = 4096;

/// Rows written after which the environment is opened anew, to give back the memory that it holds.
const REOPEN_ROWS: usize = 4096;

/// How the state is kept.
#[derive(Debug, Clone)]
pub struct StateOptions {
    /// Address space reserved for the file, in bytes; the file itself grows only as used. When it does not
    /// suffice it is doubled. 64 GiB by default.
    pub map_bytes: usize,
}

impl Default for StateOptions {
    fn default() -> Self {
        Self { map_bytes: 64 << 30 }
    }
}

/// What one transaction makes durable.
#[derive(Debug)]
pub struct Persist<'a, R> {
    /// The rows touched, with what stands there now; `None` where the row is gone. In any order.
    pub rows: R,
    /// Changes to add to the history.
    pub history: &'a [Arc<ChangeBatch>],
    /// Changes below this index are forgotten; from it on the history is complete.
    pub history_floor: u64,
    /// The caller's own mark, returned by [`StateStore::load`]: up to where the rows are the state, and so on.
    pub meta: &'a [u8],
}

/// What [`StateStore::load`] found beside the rows.
#[derive(Debug, Default)]
pub struct Loaded {
    /// The changes kept, oldest first.
    pub history: Vec<ChangeBatch>,
    /// From this index on the history is complete.
    pub history_floor: u64,
    /// The mark of the last transaction; `None` when nothing was ever persisted.
    pub meta: Option<Bytes>,
    /// How many rows there were.
    pub rows: u64,
}

/// The state of one server on disk. Every call locks it: there is one writer, and it reads only at start.
#[derive(Debug)]
pub struct StateStore {
    dir: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Absent once a write has failed, and for a moment while it is opened anew.
    environment: Option<Environment>,
    failed: Option<String>,
    map_bytes: usize,
    /// Rows written since the environment was opened.
    written: usize,
}

/// Reads the caller's mark of the state in `dir`, which no process has open. `None` when there is no state, or
/// nothing was ever persisted.
///
/// # Errors
///
/// As [`StateStore::open`]. Nothing was changed.
pub fn read_mark(dir: &Path) -> Result<Option<Bytes>, Error> {
    if !env::exists(dir) {
        return Ok(None);
    }
    let environment = Environment::open(dir, StateOptions::default().map_bytes)?;
    let mark = environment.mark();
    environment.close();
    mark
}

impl StateStore {
    /// Opens the state in `dir`, creating it if it is not there. One directory is opened once at a time.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptState`] and [`Error::TooNew`] when it is not what this release can read, [`Error::Full`]
    /// and [`Error::Io`] from the operating system.
    pub fn open(dir: &Path, options: StateOptions) -> Result<Self, Error> {
        replace::discard(dir)?;
        if !env::exists(dir) {
            replace::install(dir, options.map_bytes, |_| Ok(()))?;
        }
        let environment = Environment::open(dir, options.map_bytes)?;
        let inner = Inner { environment: Some(environment), failed: None, map_bytes: options.map_bytes, written: 0 };
        Ok(Self { dir: dir.to_owned(), inner: Mutex::new(inner) })
    }

    /// Reads everything: `row` is given each row, keys and their values in ascending order of the key.
    ///
    /// # Errors
    ///
    /// [`Error::CorruptState`] when something does not read as it was written, [`Error::Io`].
    pub fn load(&self, row: impl FnMut(Row)) -> Result<Loaded, Error> {
        let mut inner = self.inner.lock();
        let loaded = inner.environment()?.load(row)?;
        inner.reopen(&self.dir)?;
        Ok(loaded)
    }

    /// Makes `batch` durable in one transaction, before it returns. Blocks for as long as the disk takes.
    ///
    /// # Errors
    ///
    /// After any error the store refuses every further write with [`Error::Failed`]: after a failed flush it is
    /// not known what the disk holds, until the next start.
    pub fn persist<R>(&self, batch: Persist<'_, R>) -> Result<(), Error>
    where
        R: IntoIterator<Item = (RowKey, Option<Row>)>,
    {
        let mut puts: Vec<Put> = batch.rows.into_iter().map(|(key, row)| Put::new(&key, row.as_ref())).collect();
        puts.sort_by(|a, b| a.place().cmp(&b.place()));
        puts.dedup_by(|a, b| a.place() == b.place());
        let history = batch.history.iter().map(|batch| (batch.index.0, encode::encode_changes(batch))).collect();
        let batch = Batch { puts, history, history_floor: batch.history_floor, meta: batch.meta };

        let mut inner = self.inner.lock();
        let outcome = inner.write(&self.dir, &batch);
        inner.note(outcome)
    }

    /// Replaces everything by `rows`, an empty history from `history_floor` on, and the mark `meta`: what the
    /// installation of a snapshot does. It happens whole or not at all, also when the power fails.
    ///
    /// The new state is written beside the old one and put in its place at the end, so the file is as small as it
    /// can be; until then both need room.
    ///
    /// # Errors
    ///
    /// When `rows` yields an error, that error, and the old state stands. Otherwise as [`persist`](Self::persist).
    pub fn replace<R>(&self, rows: R, history_floor: u64, meta: &[u8]) -> Result<(), Error>
    where
        R: IntoIterator<Item = Result<Row, Error>>,
    {
        let mut inner = self.inner.lock();
        inner.environment()?;
        let map_bytes = inner.map_bytes;
        let staged = replace::stage(&self.dir, map_bytes, |fresh| fresh.fill(rows, history_floor, meta))?;
        inner.environment.take().into_iter().for_each(Environment::close);
        let outcome = staged.put_in_place().and_then(|()| inner.reopen(&self.dir));
        inner.note(outcome)
    }

    /// Bytes that the state occupies on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when the file cannot be inspected.
    pub fn disk_bytes(&self) -> Result<u64, Error> {
        env::disk_bytes(&self.dir)
    }
}

impl Inner {
    fn environment(&self) -> Result<&Environment, Error> {
        match (&self.environment, &self.failed) {
            (Some(environment), None) => Ok(environment),
            (_, cause) => Err(Error::Failed { cause: cause.clone().unwrap_or_else(|| "it is closed".to_owned()) }),
        }
    }

    fn write(&mut self, dir: &Path, batch: &Batch<'_>) -> Result<(), Error> {
        match self.environment()?.write(batch) {
            Ok(()) => {}
            Err(WriteError::MapFull) => {
                self.map_bytes = self.map_bytes.saturating_mul(2);
                warn!(map_bytes = self.map_bytes, "the state has outgrown its map, which is doubled");
                self.reopen(dir)?;
                self.environment()?.write(batch).map_err(|e| e.into_error(dir, self.map_bytes))?;
            }
            Err(error) => return Err(error.into_error(dir, self.map_bytes)),
        }
        self.written += batch.puts.len() + batch.history.len();
        if self.written >= REOPEN_ROWS {
            self.reopen(dir)?;
        }
        Ok(())
    }

    /// Closes the environment and opens it again, which gives back its memory.
    fn reopen(&mut self, dir: &Path) -> Result<(), Error> {
        self.environment.take().into_iter().for_each(Environment::close);
        self.environment = Some(Environment::open(dir, self.map_bytes)?);
        self.written = 0;
        Ok(())
    }

    /// Remembers the first failure; after it nothing is written any more.
    fn note(&mut self, outcome: Result<(), Error>) -> Result<(), Error> {
        if let Err(error) = &outcome
            && self.failed.is_none()
        {
            self.failed = Some(error.to_string());
        }
        outcome
    }
}

impl Put {
    fn new(key: &RowKey, row: Option<&Row>) -> Self {
        let (table, key) = row_key(key);
        Self { table, key, value: row.map(encode::row::encode_value) }
    }

    fn place(&self) -> (Table, &[u8]) {
        (self.table, &self.key)
    }
}
