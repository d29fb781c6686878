//! The log in a file that does not grow for ever: when it is large or old enough it is renamed with
//! the time in its name, and a new one is begun.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the log file is called when only its directory is given.
const NAME: &str = "consul.log";

/// When a new file is begun, and what is kept of the old ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Bytes after which a file is full; 0 is no limit.
    pub bytes: u64,
    /// How long a file is written to; zero is no limit.
    pub duration: Duration,
    /// How many old files are kept: 0 keeps all, less than 0 none.
    pub files_max: i64,
}

impl Default for Rotation {
    fn default() -> Self {
        Rotation { bytes: 0, duration: Duration::from_secs(24 * 3600), files_max: 0 }
    }
}

/// A log file that is written to. A failure to begin a new one loses nothing: the old one goes on.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    written: u64,
    begun: Instant,
}

impl LogFile {
    /// Appends to the file at `path`; a directory gets a file of the usual name, and a name without an
    /// extension gets `.log`.
    pub(crate) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let path = full_path(path);
        let file = append(&path)?;
        let metadata = file.metadata()?;
        let age = metadata.created().ok().and_then(|created| created.elapsed().ok()).unwrap_or_default();
        let begun = Instant::now().checked_sub(age).filter(|_| metadata.len() > 0).unwrap_or_else(Instant::now);
        Ok(LogFile { path, rotation, file, written: metadata.len(), begun })
    }

    fn is_full(&self, more: usize) -> bool {
        let large = self.rotation.bytes > 0 && self.written + more as u64 > self.rotation.bytes;
        let old = !self.rotation.duration.is_zero() && self.begun.elapsed() >= self.rotation.duration;
        self.written > 0 && (large || old)
    }

    fn begin_anew(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.archive(nanos()))?;
        self.file = append(&self.path)?;
        (self.written, self.begun) = (0, Instant::now());
        self.drop_old()
    }

    /// Where the file goes that is full.
    fn archive(&self, stamp: u128) -> PathBuf {
        let mut name = self.stem();
        name.push(format!("{stamp}."));
        name.push(self.path.extension().unwrap_or_default());
        self.path.with_file_name(name)
    }

    /// How the names of old files begin.
    fn stem(&self) -> OsString {
        let mut stem = self.path.file_stem().unwrap_or_default().to_owned();
        stem.push("-");
        stem
    }

    /// Removes the oldest files beyond those that are kept.
    fn drop_old(&self) -> io::Result<()> {
        if self.rotation.files_max == 0 {
            return Ok(());
        }
        let kept = usize::try_from(self.rotation.files_max).unwrap_or(0);
        let stem = self.stem();
        let stamp = |path: &Path| -> Option<u128> {
            let same_kind = path.extension() == self.path.extension();
            let rest = path.file_stem()?.to_str()?.strip_prefix(stem.to_str()?)?;
            rest.parse().ok().filter(|_| same_kind)
        };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let entries = fs::read_dir(folder)?;
        let mut old: Vec<(u128, PathBuf)> =
            entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter_map(|path| Some((stamp(&path)?, path))).collect();
        old.sort();
        old.iter().take(old.len().saturating_sub(kept)).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_full(bytes.len())
            && let Err(error) = self.begin_anew()
        {
            // Said once in each period, and not by way of the log, which is in the middle of a line.
            self.begun = Instant::now();
            eprintln!("no new log file could be begun, `{}` goes on: {error}", self.path.display());
        }
        let written = self.file.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn full_path(path: &Path) -> PathBuf {
    if path.is_dir() || path.as_os_str().to_string_lossy().ends_with('/') {
        return path.join(NAME);
    }
    if path.extension().is_none() { path.with_extension("log") } else { path.to_owned() }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn nanos() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_full_file_makes_room_and_the_oldest_go() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("agent.log");
        let rotation = Rotation { bytes: 10, duration: Duration::ZERO, files_max: 2 };
        let mut log = LogFile::open(&path, rotation).unwrap();
        fs::write(home.path().join("agent-notes.log"), "not ours").unwrap();
        for line in ["line 1\n", "line 2\n", "line 3\n", "line 4\n", "line 5\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "line 5\n");
        let names = files(home.path());
        assert_eq!(names.len(), 4, "two old ones, the present one, and what is not ours: {names:?}");
        let oldest = names.iter().find(|name| name.starts_with("agent-1")).unwrap();
        assert_eq!(fs::read_to_string(home.path().join(oldest)).unwrap(), "line 3\n");
        assert!(names.contains(&"agent-notes.log".to_owned()));
    }

    #[test]
    fn an_old_file_makes_room() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("agent.log");
        let rotation = Rotation { bytes: 0, duration: Duration::from_nanos(1), files_max: -1 };
        let mut log = LogFile::open(&path, rotation).unwrap();
        log.write_all(b"one\n").unwrap();
        log.write_all(b"two\n").unwrap();
        assert_eq!(files(home.path()), ["agent.log"], "none is kept");
        assert_eq!(fs::read_to_string(&path).unwrap(), "two\n");
    }

    #[test]
    fn without_limits_the_file_goes_on_over_restarts() {
        let home = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let rotation = Rotation { bytes: 0, duration: Duration::ZERO, files_max: 0 };
            LogFile::open(&home.path().join("agent"), rotation).unwrap().write_all(b"line\n").unwrap();
        }
        assert_eq!(fs::read_to_string(home.path().join("agent.log")).unwrap(), "line\nline\n");
        assert_eq!(full_path(home.path()), home.path().join("consul.log"));
    }
}
