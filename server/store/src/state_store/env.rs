//! One open LMDB environment: its databases, one write transaction, one read of everything.

use std::fs::{self, OpenOptions};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use bytes::Bytes;
use heed::byteorder::BigEndian;
use heed::types::{self, U64};
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, MdbError, RoTxn, RwTxn, WithoutTls};
use state::Row;

use crate::Error;
use crate::encode::{self, Malformed, Table, key_of};
use crate::state_store::Loaded;

/// Version of the rows that this binary writes, and the highest that it reads.
const VERSION: u32 = 1;

const META_VERSION: &[u8] = b"version";
const META_MARK: &[u8] = b"mark";
const META_HISTORY_FLOOR: &[u8] = b"history_floor";

/// Rows of one transaction while everything is being replaced: the more, the fewer flushes; LMDB holds their
/// pages in memory.
const FILL_ROWS: usize = 16_384;

/// Rows that are handed over together while everything is read, and how many such chunks may wait.
const CHUNK_ROWS: usize = 1024;
const CHUNKS_MAX: usize = 8;

type Rows = Database<'static, types::Bytes, types::Bytes>;
type History = Database<'static, U64<BigEndian>, types::Bytes>;

/// An open environment.
#[derive(Debug)]
pub(super) struct Environment {
    env: Env<WithoutTls>,
    file: PathBuf,
    rows: [Rows; Table::ALL.len()],
    history: History,
    meta: Rows,
}

/// One row to write, or to delete.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) table: Table,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// The content of one transaction, encoded and in order.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    pub(super) puts: Vec<Put>,
    pub(super) history: Vec<(u64, Vec<u8>)>,
    pub(super) history_floor: u64,
    pub(super) meta: &'a [u8],
}

/// Why a transaction failed.
#[derive(Debug)]
pub(super) enum WriteError {
    /// The map is too small. Nothing was written.
    MapFull,
    /// Anything else. What was written is unknown.
    Other(heed::Error),
}

impl From<heed::Error> for WriteError {
    fn from(error: heed::Error) -> Self {
        match error {
            heed::Error::Mdb(MdbError::MapFull) => Self::MapFull,
            error => Self::Other(error),
        }
    }
}

impl WriteError {
    pub(super) fn into_error(self, dir: &Path, map_bytes: usize) -> Error {
        match self {
            Self::MapFull => Error::MapFull { file: file_in(dir), map_bytes },
            Self::Other(error) => heed_error("write", &file_in(dir), error),
        }
    }
}

/// The file in which LMDB keeps everything.
pub(super) fn file_in(dir: &Path) -> PathBuf {
    dir.join("data.mdb")
}

/// Whether there is a state in `dir`.
pub(super) fn exists(dir: &Path) -> bool {
    file_in(dir).exists()
}

/// Bytes that the state in `dir` occupies.
pub(super) fn disk_bytes(dir: &Path) -> Result<u64, Error> {
    let file = file_in(dir);
    fs::metadata(&file).map(|m| m.len()).map_err(|e| Error::io("inspect", &file, e))
}

impl Environment {
    /// Opens the environment in `dir` and makes sure that it has all databases.
    pub(super) fn open(dir: &Path, map_bytes: usize) -> Result<Self, Error> {
        let file = file_in(dir);
        let env = open_env(dir, map_bytes).map_err(|e| heed_error("open", &file, e))?;
        cover(&env, &file)?;
        let opened = open_databases(&env).map_err(|e| heed_error("open", &file, e))?;
        let (rows, history, meta) = match opened {
            Some(opened) => opened,
            None => create_databases(&env).map_err(|e| heed_error("create", &file, e))?,
        };
        let environment = Self { env, file, rows, history, meta };
        environment.check_version()?;
        Ok(environment)
    }

    /// Closes the environment and waits until it is closed: a path is open at most once.
    pub(super) fn close(self) {
        self.env.prepare_for_closing().wait();
    }

    /// Makes `batch` durable.
    pub(super) fn write(&self, batch: &Batch<'_>) -> Result<(), WriteError> {
        let mut txn = self.env.write_txn()?;
        self.put(&mut txn, &batch.puts)?;
        for (index, changes) in &batch.history {
            self.history.put(&mut txn, index, changes)?;
        }
        self.history.delete_range(&mut txn, &(Bound::Unbounded, Bound::Excluded(batch.history_floor)))?;
        self.put_meta(&mut txn, batch.history_floor, batch.meta)?;
        Ok(txn.commit()?)
    }

    /// Writes `rows` into this fresh environment, in several transactions, the mark in the last of them.
    pub(super) fn fill<R>(&self, rows: R, history_floor: u64, meta: &[u8]) -> Result<(), Error>
    where
        R: IntoIterator<Item = Result<Row, Error>>,
    {
        let failed = |error| heed_error("write", &self.file, error);
        let mut puts = Vec::new();
        for row in rows {
            let row = row?;
            puts.push(Put::new(&key_of(&row), Some(&row)));
            if puts.len() == FILL_ROWS {
                self.put_alone(&mut puts).map_err(failed)?;
            }
        }
        self.put_alone(&mut puts).map_err(failed)?;
        let last = || {
            let mut txn = self.env.write_txn()?;
            self.put_meta(&mut txn, history_floor, meta)?;
            txn.commit()
        };
        last().map_err(failed)
    }

    fn put_alone(&self, puts: &mut Vec<Put>) -> heed::Result<()> {
        puts.sort_by(|a, b| a.place().cmp(&b.place()));
        let mut txn = self.env.write_txn()?;
        self.put(&mut txn, puts)?;
        puts.clear();
        txn.commit()
    }

    fn put(&self, txn: &mut RwTxn<'_>, puts: &[Put]) -> heed::Result<()> {
        for put in puts {
            let database = &self.rows[put.table as usize];
            match &put.value {
                Some(value) => database.put(txn, &put.key, value)?,
                None => {
                    database.delete(txn, &put.key)?;
                }
            }
        }
        Ok(())
    }

    fn put_meta(&self, txn: &mut RwTxn<'_>, history_floor: u64, mark: &[u8]) -> heed::Result<()> {
        self.meta.put(txn, META_HISTORY_FLOOR, &history_floor.to_be_bytes())?;
        self.meta.put(txn, META_MARK, mark)
    }

    /// Reads everything. A thread of its own decodes, while this one has `row` take what is decoded.
    pub(super) fn load(&self, row: impl FnMut(Row)) -> Result<Loaded, Error> {
        let (sender, chunks) = mpsc::sync_channel(CHUNKS_MAX);
        thread::scope(|scope| {
            let reader = scope.spawn(move || self.read(&sender));
            chunks.into_iter().flatten().for_each(row);
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn read(&self, chunks: &SyncSender<Vec<Row>>) -> Result<Loaded, Error> {
        let failed = |error| heed_error("read", &self.file, error);
        let txn = self.env.read_txn().map_err(failed)?;
        let mut loaded = Loaded::default();
        let mut chunk = Vec::with_capacity(CHUNK_ROWS);
        // The other side is gone only if it has panicked; then there is nobody to tell.
        let send = |chunk: &mut Vec<Row>| drop(chunks.send(std::mem::replace(chunk, Vec::with_capacity(CHUNK_ROWS))));
        for table in Table::ALL {
            for item in self.rows[table as usize].iter(&txn).map_err(failed)? {
                let (_, value) = item.map_err(failed)?;
                chunk.push(encode::row::decode_value(table, value).map_err(|e| self.malformed(table.name(), e))?);
                loaded.rows += 1;
                if chunk.len() == CHUNK_ROWS {
                    send(&mut chunk);
                }
            }
        }
        send(&mut chunk);
        for item in self.history.iter(&txn).map_err(failed)? {
            let (_, value) = item.map_err(failed)?;
            loaded.history.push(encode::decode_changes(value).map_err(|e| self.malformed("history", e))?);
        }
        loaded.meta = self.get_meta(&txn, META_MARK)?.map(Bytes::copy_from_slice);
        if let Some(floor) = self.get_meta(&txn, META_HISTORY_FLOOR)? {
            let floor = floor.try_into().map_err(|_| self.malformed("meta", Malformed::Unknown("history_floor")))?;
            loaded.history_floor = u64::from_be_bytes(floor);
        }
        Ok(loaded)
    }

    /// The caller's mark of the last transaction.
    pub(super) fn mark(&self) -> Result<Option<Bytes>, Error> {
        let txn = self.env.read_txn().map_err(|e| heed_error("read", &self.file, e))?;
        Ok(self.get_meta(&txn, META_MARK)?.map(Bytes::copy_from_slice))
    }

    fn get_meta<'t>(&self, txn: &'t RoTxn<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, Error> {
        self.meta.get(txn, key).map_err(|e| heed_error("read", &self.file, e))
    }

    fn check_version(&self) -> Result<(), Error> {
        let txn = self.env.read_txn().map_err(|e| heed_error("read", &self.file, e))?;
        let version = self.get_meta(&txn, META_VERSION)?.and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        match version {
            Some(found) if found > VERSION => Err(Error::TooNew { file: self.file.clone(), found, supported: VERSION }),
            Some(_) => Ok(()),
            None => Err(self.malformed("meta", Malformed::Missing("version"))),
        }
    }

    #[cfg(test)]
    pub(super) fn set_version(&self, version: u32) {
        let mut txn = self.env.write_txn().unwrap();
        self.meta.put(&mut txn, META_VERSION, &version.to_be_bytes()).unwrap();
        txn.commit().unwrap();
    }

    fn malformed(&self, database: &str, source: Malformed) -> Error {
        let reason = format!("a row of `{database}` does not read as it was written");
        Error::CorruptState { file: self.file.clone(), reason, source: Some(source) }
    }
}

#[allow(unsafe_code, reason = "LMDB maps its file, which nobody else may change while it is open")]
fn open_env(dir: &Path, map_bytes: usize) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    // One writer, one reader at start, and room for a tool that looks at it.
    options.map_size(map_bytes.next_multiple_of(1 << 20)).max_dbs(32).max_readers(8);
    // SAFETY: the data directory is locked against other processes, and nothing in this one opens the file by
    // another way than this while it is mapped, except to make it longer.
    unsafe { options.open(dir) }
}

/// Makes the file reach as far as its root says.
///
/// It may be shorter, because LMDB does not write pages that a transaction took and gave back at the end. But a file
/// that was cut short must not kill the process when the missing part is touched: zeros are found to be damage.
fn cover(env: &Env<WithoutTls>, file: &Path) -> Result<(), Error> {
    let needed = (env.info().last_page_number as u64 + 1) * u64::from(env.unnamed_database_stat().page_size);
    let lengthen = || -> io::Result<()> {
        if fs::metadata(file)?.len() < needed {
            OpenOptions::new().write(true).open(file)?.set_len(needed)?;
        }
        Ok(())
    };
    lengthen().map_err(|e| Error::io("lengthen", file, e))
}

type Databases = ([Rows; Table::ALL.len()], History, Rows);

/// Opens the databases, or returns `None` when one of them is not there yet.
fn open_databases(env: &Env<WithoutTls>) -> heed::Result<Option<Databases>> {
    let txn = env.read_txn()?;
    let opened = env.open_databases_and_commit(txn, |opener, txn| -> heed::Result<_> {
        let mut rows = Vec::new();
        for table in Table::ALL {
            rows.extend(opener.open_database::<types::Bytes, types::Bytes>(txn, Some(table.name()))?);
        }
        let history = opener.open_database::<U64<BigEndian>, types::Bytes>(txn, Some("history"))?;
        let meta = opener.open_database::<types::Bytes, types::Bytes>(txn, Some("meta"))?;
        Ok(match (rows.try_into(), history, meta) {
            (Ok(rows), Some(history), Some(meta)) => {
                let rows: [_; Table::ALL.len()] = rows;
                CommitOrAbort::Commit((rows, history, meta))
            }
            _ => CommitOrAbort::Abort(()),
        })
    })?;
    Ok(opened.commit())
}

/// Creates what is missing of the databases, durably.
fn create_databases(env: &Env<WithoutTls>) -> heed::Result<Databases> {
    let txn = env.write_txn()?;
    let created = env.create_databases_and_commit(txn, |opener, txn| -> heed::Result<_> {
        let mut rows = Vec::new();
        for table in Table::ALL {
            rows.push(opener.create_database::<types::Bytes, types::Bytes>(txn, Some(table.name()))?);
        }
        let rows: [_; Table::ALL.len()] = rows.try_into().unwrap_or_else(|_| unreachable!("one was made for each"));
        let history = opener.create_database::<U64<BigEndian>, types::Bytes>(txn, Some("history"))?;
        let meta = opener.create_database::<types::Bytes, types::Bytes>(txn, Some("meta"))?;
        if meta.get(txn, META_VERSION)?.is_none() {
            meta.put(txn, META_VERSION, &VERSION.to_be_bytes())?;
        }
        Ok(CommitOrAbort::<_, ()>::Commit((rows, history, meta)))
    })?;
    Ok(created.unwrap_commit())
}

fn heed_error(op: &'static str, file: &Path, error: heed::Error) -> Error {
    match error {
        heed::Error::Io(source) => Error::io(op, file, source),
        heed::Error::Mdb(
            kind @ (MdbError::Invalid
            | MdbError::Corrupted
            | MdbError::PageNotFound
            | MdbError::VersionMismatch
            | MdbError::Incompatible
            | MdbError::CursorFull),
        ) => Error::CorruptState { file: file.to_owned(), reason: format!("LMDB cannot read it ({kind})"), source: None },
        heed::Error::Mdb(MdbError::MapFull) => Error::MapFull { file: file.to_owned(), map_bytes: 0 },
        other => Error::io(op, file, io::Error::other(other.to_string())),
    }
}
