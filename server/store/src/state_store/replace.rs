//! A whole state, written beside the old one and put in its place by one rename.
//!
//! The first state of a new directory is made in the same way, so a file with the state's name is always complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::log::{create_dir, sync_dir};
use crate::state_store::env::{Environment, file_in};

/// A complete state that is not in its place yet.
#[derive(Debug)]
pub(super) struct Staged {
    dir: PathBuf,
}

/// Where a state is written beside the one in `dir`.
fn staging(dir: &Path) -> PathBuf {
    dir.join("incoming")
}

/// Removes what an interrupted replacement left behind.
pub(super) fn discard(dir: &Path) -> Result<(), Error> {
    let staging = staging(dir);
    match fs::remove_dir_all(&staging) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("delete", &staging, e)),
        _ => Ok(()),
    }
}

/// Makes a fresh state beside the one in `dir` and has `fill` write to it.
pub(super) fn stage(dir: &Path, map_bytes: usize, fill: impl FnOnce(&Environment) -> Result<(), Error>) -> Result<Staged, Error> {
    discard(dir)?;
    let staging = staging(dir);
    create_dir(&staging)?;
    let fresh = Environment::open(&staging, map_bytes)?;
    let filled = fill(&fresh);
    fresh.close();
    if let Err(error) = filled {
        discard(dir)?;
        return Err(error);
    }
    Ok(Staged { dir: dir.to_owned() })
}

/// Makes the first state of `dir`.
pub(super) fn install(dir: &Path, map_bytes: usize, fill: impl FnOnce(&Environment) -> Result<(), Error>) -> Result<(), Error> {
    stage(dir, map_bytes, fill)?.put_in_place()
}

impl Staged {
    /// Replaces the old state, which must be closed.
    pub(super) fn put_in_place(self) -> Result<(), Error> {
        // Each of its commits was flushed; the length and the name are what is left.
        let from = file_in(&staging(&self.dir));
        fs::File::open(&from).and_then(|file| file.sync_all()).map_err(|e| Error::io("flush", &from, e))?;
        fs::rename(&from, file_in(&self.dir)).map_err(|e| Error::io("rename", &from, e))?;
        sync_dir(&self.dir)?;
        discard(&self.dir)
    }
}
