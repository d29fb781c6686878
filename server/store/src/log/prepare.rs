//! The helper thread that has the next segment ready, and takes the purged ones back.
//!
//! A new segment is allocated and zeroed under a temporary name, flushed, and only then named, so a file with a
//! segment's name is always complete. Zeroing is flushed piece by piece: one large flush would stand in the way
//! of the log's own.

use std::fs::{self, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};

use tracing::warn;

use crate::Error;
use crate::log::segment::{self, SPARE, Segment, UNFINISHED};

/// Zeros are written and flushed in pieces of this size.
const PIECE: usize = 1 << 20;

enum Job {
    Prepare { sequence: u64 },
    Retire(Vec<Arc<Segment>>),
}

/// The log's side of the helper: one segment is always prepared or in the making.
pub(super) struct Preparer {
    jobs: Option<SyncSender<Job>>,
    ready: Receiver<Result<Segment, Error>>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// Starts the helper, which at once prepares segment `sequence`.
    pub(super) fn start(dir: &Path, bytes: u64, spares_max: usize, sequence: u64) -> Result<Self, Error> {
        // One `Prepare` is outstanding at a time; a few `Retire`s may gather while a segment is being zeroed.
        let (jobs, inbox) = mpsc::sync_channel(16);
        let (outbox, ready) = mpsc::sync_channel(1);
        let mut pool = Pool { dir: dir.to_owned(), bytes, spares_max, spares: find_spares(dir, bytes, spares_max)? };
        let thread = thread::Builder::new()
            .name("lictor-log-prep".into())
            .spawn(move || {
                while let Ok(job) = inbox.recv() {
                    match job {
                        Job::Prepare { sequence } => {
                            if outbox.send(pool.prepare(sequence)).is_err() {
                                return;
                            }
                        }
                        Job::Retire(segments) => pool.retire(segments),
                    }
                }
            })
            .map_err(|e| Error::io("start a thread for", dir, e))?;
        let preparer = Self { jobs: Some(jobs), ready, thread: Some(thread) };
        preparer.send(Job::Prepare { sequence });
        Ok(preparer)
    }

    /// Takes the prepared segment `sequence`, waiting for it if need be, and has the one after it prepared.
    ///
    /// A failure is met with one more attempt: the disk may have been full for a while only.
    pub(super) fn take(&mut self, sequence: u64) -> Result<Segment, Error> {
        let mut prepared = self.receive();
        if let Err(error) = &prepared {
            warn!(%error, sequence, "could not prepare a log segment, trying once more");
            self.send(Job::Prepare { sequence });
            prepared = self.receive();
        }
        let segment = prepared?;
        self.send(Job::Prepare { sequence: sequence + 1 });
        Ok(segment)
    }

    /// Hands back segments that hold nothing that is still needed.
    pub(super) fn retire(&self, segments: Vec<Arc<Segment>>) {
        self.send(Job::Retire(segments));
    }

    fn receive(&self) -> Result<Segment, Error> {
        self.ready.recv().unwrap_or(Err(Error::Closed))
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The helper ends only when the log does; then nothing needs preparing.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Preparer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The helper's own side.
struct Pool {
    dir: PathBuf,
    bytes: u64,
    spares_max: usize,
    spares: Vec<PathBuf>,
}

impl Pool {
    fn prepare(&mut self, sequence: u64) -> Result<Segment, Error> {
        match self.spares.pop() {
            Some(spare) => Segment::name(&self.dir, &spare, sequence),
            None => create(&self.dir, sequence, self.bytes),
        }
    }

    fn retire(&mut self, segments: Vec<Arc<Segment>>) {
        for segment in segments {
            if let Err(error) = self.retire_one(segment) {
                warn!(%error, "could not remove a purged log segment; it will be tried again at the next start");
            }
        }
        if let Err(error) = segment::sync_dir(&self.dir) {
            warn!(%error, "could not make the removal of purged log segments durable");
        }
    }

    fn retire_one(&mut self, segment: Arc<Segment>) -> Result<(), Error> {
        let path = segment.path.clone();
        // A reader that still holds the file must not see it change under its feet.
        let unread = Arc::into_inner(segment).is_some();
        let whole = fs::metadata(&path).is_ok_and(|m| m.len() == self.bytes);
        if unread && whole && self.spares.len() < self.spares_max {
            self.spares.push(set_aside(&path)?);
            Ok(())
        } else {
            fs::remove_file(&path).map_err(|e| Error::io("delete", &path, e))
        }
    }
}

/// Renames a segment so that recovery does not take it for one.
pub(super) fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let spare = path.with_extension(SPARE);
    fs::rename(path, &spare).map_err(|e| Error::io("rename", path, e))?;
    Ok(spare)
}

/// Allocates, zeroes, flushes and names a new segment.
pub(super) fn create(dir: &Path, sequence: u64, bytes: u64) -> Result<Segment, Error> {
    let path = dir.join(format!("{sequence:016x}.{UNFINISHED}"));
    let made = zeroed(&path, bytes).and_then(|()| Segment::name(dir, &path, sequence));
    if made.is_err() {
        // What is left of it would only take room on a disk that may be full.
        let _ = fs::remove_file(&path);
    }
    made
}

fn zeroed(path: &Path, bytes: u64) -> Result<(), Error> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).map_err(|e| Error::io("create", path, e))?;
    let len = nix::libc::off_t::try_from(bytes).expect("the options bound a segment by 1 GiB");
    match nix::fcntl::posix_fallocate(file.as_fd(), 0, len) {
        // Some file systems cannot allocate ahead; writing the zeros below does it as well.
        Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP | nix::errno::Errno::EINVAL) => {}
        Err(e) => return Err(Error::io("allocate", path, e.into())),
    }
    let zeros = vec![0; PIECE.min(bytes as usize)];
    let mut offset = 0;
    while offset < bytes {
        let piece = &zeros[..zeros.len().min((bytes - offset) as usize)];
        file.write_all_at(piece, offset).map_err(|e| Error::io("write", path, e))?;
        file.sync_data().map_err(|e| Error::io("flush", path, e))?;
        offset += piece.len() as u64;
    }
    Ok(())
}

/// The segments set aside earlier; those that are too many, or of another size than wanted now, are deleted.
fn find_spares(dir: &Path, bytes: u64, spares_max: usize) -> Result<Vec<PathBuf>, Error> {
    let mut spares = Vec::new();
    for path in segment::list(dir)? {
        let length = fs::metadata(&path).map_err(|e| Error::io("inspect", &path, e))?.len();
        if path.extension().is_none_or(|extension| extension != SPARE) {
            continue;
        } else if length == bytes && spares.len() < spares_max {
            spares.push(path);
        } else {
            fs::remove_file(&path).map_err(|e| Error::io("delete", &path, e))?;
        }
    }
    Ok(spares)
}
