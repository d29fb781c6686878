//! Pieces that have come, until all are there.
//!
//! On disk each is a file of its own that has the piece's name, written without a flush: what a crash has left is
//! believed only if it still has the digest that it is named by.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use state::Row;

use crate::Error;
use crate::encode::{Malformed, row};
use crate::log::create_dir;
use crate::pieces::Name;

/// Where pieces are kept. Clones share it.
#[derive(Clone)]
pub struct Arrived {
    place: Place,
}

#[derive(Clone)]
enum Place {
    Memory(Arc<Mutex<HashMap<Name, Bytes>>>),
    Disk(Arc<PathBuf>),
}

impl Arrived {
    /// In memory, gone with the process.
    pub fn in_memory() -> Self {
        Arrived { place: Place::Memory(Arc::default()) }
    }

    /// In `dir`, which is made when the first piece comes. Nothing else may be kept there.
    pub fn on_disk(dir: PathBuf) -> Self {
        Arrived { place: Place::Disk(Arc::new(dir)) }
    }

    /// Throws away what `wanted` does not name, and what is not as it was written. Says what is left.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when something can't be read or thrown away.
    pub fn keep(&self, wanted: &HashSet<Name>) -> Result<HashSet<Name>, Error> {
        let dir = match &self.place {
            Place::Memory(pieces) => {
                let mut pieces = pieces.lock();
                pieces.retain(|name, _| wanted.contains(name));
                return Ok(pieces.keys().copied().collect());
            }
            Place::Disk(dir) => dir,
        };
        let by_file: HashMap<String, Name> = wanted.iter().map(|name| (name.to_string(), *name)).collect();
        let mut kept = HashSet::new();
        let entries = match fs::read_dir(&**dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(kept),
            Err(e) => return Err(Error::io("read", dir, e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| Error::io("read", dir, e))?;
            let name = entry.file_name().to_str().and_then(|file| by_file.get(file)).copied();
            match name {
                Some(name) if self.get(name)?.is_some() => drop(kept.insert(name)),
                _ => fs::remove_file(entry.path()).map_err(|e| Error::io("delete", &entry.path(), e))?,
            }
        }
        Ok(kept)
    }

    /// Keeps the piece that is called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::Full`], [`Error::Io`]. What was written of it is not believed.
    pub fn put(&self, name: Name, bytes: Vec<u8>) -> Result<(), Error> {
        match &self.place {
            Place::Memory(pieces) => drop(pieces.lock().insert(name, bytes.into())),
            Place::Disk(dir) => {
                if !dir.is_dir() {
                    create_dir(dir)?;
                }
                let path = dir.join(name.to_string());
                fs::write(&path, &bytes).map_err(|e| Error::io("write", &path, e))?;
            }
        }
        Ok(())
    }

    /// The piece that is called `name`, if it is here as it was written.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] when it is there and can't be read.
    pub fn get(&self, name: Name) -> Result<Option<Bytes>, Error> {
        let bytes = match &self.place {
            Place::Memory(pieces) => pieces.lock().get(&name).cloned(),
            Place::Disk(dir) => {
                let path = dir.join(name.to_string());
                match fs::read(&path) {
                    Ok(bytes) => Some(Bytes::from(bytes)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                    Err(e) => return Err(Error::io("read", &path, e)),
                }
            }
        };
        Ok(bytes.filter(|bytes| Name::of(bytes) == name))
    }

    /// Throws everything away.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn clear(&self) -> Result<(), Error> {
        match &self.place {
            Place::Memory(pieces) => pieces.lock().clear(),
            Place::Disk(dir) => match fs::remove_dir_all(&**dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("delete", dir, e)),
                _ => {}
            },
        }
        Ok(())
    }
}

/// The rows of a piece.
///
/// # Errors
///
/// [`Malformed`] when it is not made of rows that this release knows.
pub fn rows(mut piece: Bytes) -> Result<Vec<Row>, Malformed> {
    let mut rows = Vec::new();
    while !piece.is_empty() {
        let cut = || Malformed::Unknown("length");
        let len = if piece.len() < 8 { return Err(cut()) } else { piece.get_u64_le() };
        let len = usize::try_from(len).ok().filter(|len| *len <= piece.len()).ok_or_else(cut)?;
        rows.push(row::decode(&piece.split_to(len))?);
    }
    Ok(rows)
}
