//! The data directory: whose it is, and that nobody else is in it.
//!
//! ```text
//! <data-dir>/lictor.lock    held while a process uses the directory; its process id inside
//! <data-dir>/lictor.json    format version and identity
//! <data-dir>/log/           see the module `log`
//! <data-dir>/state/         see the module `state_store`
//! <data-dir>/arriving/      a state that the leader is sending, see the module `pieces`
//! ```
//!
//! A directory belongs to one server of one cluster for ever. Started under another identity it would vote twice
//! or answer with another cluster's state, so what was once bound is compared at every start and never rewritten.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::log::{create_dir, sync_dir};

/// Version of the directory's layout that this binary writes, and the highest that it reads.
const VERSION: u32 = 1;

/// Who uses a directory. What is `None` is not known yet, or not asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The node's id, a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// This server's number in the quorum. It is never used again after its directory was wiped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raft_id: Option<u64>,
    /// The cluster that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

/// The content of `lictor.json`. Fields of later releases are kept out by the version.
#[derive(Debug, Serialize, Deserialize)]
struct About {
    format_version: u32,
    #[serde(flatten)]
    identity: Identity,
}

/// An open data directory. It is locked until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    identity: Identity,
    _lock: Flock<File>,
}

impl DataDir {
    /// Opens `root` for the server that `expected` describes, creating and binding it if it is new.
    ///
    /// # Errors
    ///
    /// [`Error::InUse`] when another process has it, [`Error::Foreign`] when it is another server's,
    /// [`Error::TooNew`] when a later release wrote it, [`Error::Unwritable`] and the like from the operating
    /// system. Nothing was changed then.
    pub fn open(root: &Path, expected: &Identity) -> Result<Self, Error> {
        if !root.exists() {
            create_dir(root).map_err(explain)?;
            // What is stored is nobody else's business.
            fs::set_permissions(root, fs::Permissions::from_mode(0o750)).map_err(|e| unwritable(root, e))?;
        }
        let lock = lock(root)?;
        let identity = read_about(root)?;
        let mut dir = Self { root: root.to_owned(), identity: identity.clone().unwrap_or_default(), _lock: lock };
        if identity.is_none() {
            dir.refuse_leftovers()?;
        }
        dir.bind_as(expected, identity.is_none())?;
        for part in [dir.log(), dir.state()] {
            create_dir(&part).map_err(explain)?;
        }
        Ok(dir)
    }

    /// Who the directory is bound to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Where the state is.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Where the leader's state is kept while it arrives. It is not there at other times.
    pub fn arriving(&self) -> PathBuf {
        self.root.join("arriving")
    }

    /// Binds the directory to what `identity` sets and was not known yet, durably.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`] when it is bound to something else; nothing was changed then. [`Error::Io`].
    pub fn bind(&mut self, identity: &Identity) -> Result<(), Error> {
        self.bind_as(identity, false)
    }

    /// Notes the cluster that the log in it is of, durably. A directory whose log was thrown away may come to belong to another.
    ///
    /// # Errors
    ///
    /// [`Error::Io`].
    pub fn belongs_to(&mut self, cluster: &str) -> Result<(), Error> {
        let bound = Identity { cluster_id: Some(cluster.to_owned()), ..self.identity.clone() };
        if bound != self.identity {
            write_about(&self.root, &bound)?;
            self.identity = bound;
        }
        Ok(())
    }

    fn bind_as(&mut self, wanted: &Identity, new: bool) -> Result<(), Error> {
        let bound = Identity {
            node_id: self.one("node id", &self.identity.node_id, &wanted.node_id)?,
            raft_id: self.one("raft id", &self.identity.raft_id, &wanted.raft_id)?,
            cluster_id: self.one("cluster id", &self.identity.cluster_id, &wanted.cluster_id)?,
        };
        if new || bound != self.identity {
            write_about(&self.root, &bound)?;
            self.identity = bound;
        }
        Ok(())
    }

    /// The value of a field of which two may be known.
    fn one<T: Clone + PartialEq + ToString>(&self, what: &'static str, found: &Option<T>, wanted: &Option<T>) -> Result<Option<T>, Error> {
        match (found, wanted) {
            (Some(found), Some(wanted)) if found != wanted => {
                Err(Error::Foreign { dir: self.root.clone(), what, found: found.to_string(), expected: wanted.to_string() })
            }
            (found, wanted) => Ok(found.clone().or_else(|| wanted.clone())),
        }
    }

    /// A log or a state without the file that says whose it is must not be taken over.
    fn refuse_leftovers(&self) -> Result<(), Error> {
        for part in [self.log(), self.state()] {
            if fs::read_dir(&part).is_ok_and(|mut entries| entries.next().is_some()) {
                let reason = "it is missing, although there is data beside it that it describes";
                return Err(Error::corrupt(&about_path(&self.root), 0, reason));
            }
        }
        Ok(())
    }
}

fn about_path(root: &Path) -> PathBuf {
    root.join("lictor.json")
}

/// Takes the lock, or says which process has it.
fn lock(root: &Path) -> Result<Flock<File>, Error> {
    let path = root.join("lictor.lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let file = options.open(&path).map_err(|e| unwritable(&path, e))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(mut lock) => {
            let write = |file: &mut File| {
                file.set_len(0)?;
                file.rewind()?;
                writeln!(file, "{}", std::process::id())
            };
            write(&mut lock).map_err(|e| Error::io("write", &path, e))?;
            Ok(lock)
        }
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut pid = String::new();
            // Only for the message: the process may be about to write it.
            let _ = file.read_to_string(&mut pid);
            Err(Error::InUse { dir: root.to_owned(), pid: pid.trim().parse().ok() })
        }
        Err((_, errno)) => Err(Error::io("lock", &path, errno.into())),
    }
}

fn read_about(root: &Path) -> Result<Option<Identity>, Error> {
    let path = about_path(root);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("read", &path, e)),
    };
    // The version is read first: of a later one, the rest may mean anything.
    #[derive(Deserialize)]
    struct Versioned {
        format_version: u32,
    }
    let damaged = |e: serde_json::Error| Error::corrupt(&path, e.column() as u64, format!("it does not read as JSON ({e})"));
    let Versioned { format_version: found } = serde_json::from_slice(&text).map_err(damaged)?;
    if found > VERSION {
        return Err(Error::TooNew { file: path, found, supported: VERSION });
    }
    let about: About = serde_json::from_slice(&text).map_err(damaged)?;
    Ok(Some(about.identity))
}

/// Writes the file beside its place and renames it, so that it is there whole or not at all.
fn write_about(root: &Path, identity: &Identity) -> Result<(), Error> {
    let (path, temporary) = (about_path(root), root.join("lictor.json.tmp"));
    let about = About { format_version: VERSION, identity: identity.clone() };
    let mut text = serde_json::to_vec_pretty(&about).expect("numbers and strings are always JSON");
    text.push(b'\n');
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&temporary)?;
        file.write_all(&text)?;
        file.sync_all()
    };
    write().map_err(|e| unwritable(&temporary, e))?;
    fs::rename(&temporary, &path).map_err(|e| Error::io("rename", &temporary, e))?;
    sync_dir(root)
}

/// [`unwritable`] for an error that is wrapped already.
fn explain(error: Error) -> Error {
    match error {
        Error::Io { path, source, .. } => unwritable(&path, source),
        error => error,
    }
}

/// Tells a lack of rights, which the operator can mend, from other errors.
fn unwritable(path: &Path, source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::Unwritable { path: path.to_owned(), source },
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => Error::NotADirectory { path: path.to_owned(), source },
        _ => Error::io("create", path, source),
    }
}

#[cfg(test)]
mod tests;
