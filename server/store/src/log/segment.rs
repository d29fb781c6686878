//! One segment file: its name, its handle, and what a directory needs to remember it.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::log::frame::Place;

/// Suffix of a segment in use or prepared.
const SEGMENT: &str = "wal";
/// Suffix of a purged segment that waits to be used again.
pub(super) const SPARE: &str = "spare";
/// Suffix of a file that is still being zeroed.
pub(super) const UNFINISHED: &str = "tmp";

/// An open segment. Readers share it; a segment that somebody still reads is never used again.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) salt: u64,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Bytes allocated when it was opened. One oversized frame may make the file longer.
    pub(super) capacity: u64,
}

impl Segment {
    /// Opens the segment at `path` if its name is one, or returns `None`.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let Some((sequence, salt)) = parse_name(path) else { return Ok(None) };
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|e| Error::io("open", path, e))?;
        let capacity = file.metadata().map_err(|e| Error::io("inspect", path, e))?.len();
        Ok(Some(Self { sequence, salt, path: path.to_owned(), file, capacity }))
    }

    /// Gives the finished file at `from` its place as segment `sequence`, with a fresh salt.
    ///
    /// The name is durable when this returns.
    pub(super) fn name(dir: &Path, from: &Path, sequence: u64) -> Result<Self, Error> {
        let path = dir.join(format!("{sequence:016x}-{:016x}.{SEGMENT}", random_salt()));
        fs::rename(from, &path).map_err(|e| Error::io("rename", from, e))?;
        sync_dir(dir)?;
        Ok(Self::open(&path)?.expect("the name was made to be parsed"))
    }

    pub(super) fn place(&self, offset: u64) -> Place {
        Place { sequence: self.sequence, salt: self.salt, offset }
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        self.file.write_all_at(bytes, offset).map_err(|e| Error::io("write", &self.path, e))
    }

    /// Waits until everything written is on the medium.
    pub(super) fn flush(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(|e| Error::io("flush", &self.path, e))
    }

    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; len];
        match self.file.read_exact_at(&mut bytes, offset) {
            Ok(()) => Ok(bytes),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Err(Error::corrupt(&self.path, offset, format!("the file ends before the {len} bytes stored there")))
            }
            Err(e) => Err(Error::io("read", &self.path, e)),
        }
    }
}

/// Sequence and salt of a segment's file name.
fn parse_name(path: &Path) -> Option<(u64, u64)> {
    let (sequence, salt) = path.file_stem()?.to_str()?.split_once('-')?;
    path.extension().filter(|extension| *extension == SEGMENT)?;
    let whole = sequence.len() == 16 && salt.len() == 16;
    whole.then_some((u64::from_str_radix(sequence, 16).ok()?, u64::from_str_radix(salt, 16).ok()?))
}

/// Creates `dir` and what is missing above it, durably.
pub(crate) fn create_dir(dir: &Path) -> Result<(), Error> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists || !dir.is_dir() => Err(Error::io("create directory", dir, e)),
        _ => sync_dir(parent),
    }
}

/// Makes creations, renames and deletions in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| Error::io("flush directory", dir, e))
}

/// The files in `dir`, in the order of their names.
pub(super) fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(dir).and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<io::Result<Vec<_>>>());
    let mut paths = entries.map_err(|e| Error::io("list", dir, e))?;
    paths.sort();
    Ok(paths)
}

/// Drawn from the operating system's seed; nobody outside this process can know it.
fn random_salt() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
