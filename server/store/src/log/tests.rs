//! The log against its rules, against a model, and against damage.

mod conformance;
mod damage;
mod files;
mod model;

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;

use super::{LogEntry, LogHandle, LogOptions, LogWrite, Recovered, open};

/// Segments small enough that a few writes fill one.
fn small() -> LogOptions {
    LogOptions { segment_bytes: 8 << 10, first_segment_bytes: 4 << 10, ..LogOptions::default() }
}

fn reopen(dir: &Path) -> (LogHandle, Recovered) {
    open(dir, small()).unwrap()
}

fn entry(index: u64, term: u64, payload: &[u8]) -> LogEntry {
    LogEntry { index, term, payload: Bytes::copy_from_slice(payload) }
}

/// Entries `range` of term 1, each with a payload of its own.
fn entries(range: std::ops::Range<u64>) -> Vec<LogEntry> {
    range.map(|index| entry(index, 1, format!("payload {index}").as_bytes())).collect()
}

/// Submits and waits until the callback has run.
fn write(log: &LogHandle, write: LogWrite) -> Result<(), String> {
    let (sender, receiver) = mpsc::channel();
    log.submit(write, Box::new(move |outcome| sender.send(outcome).unwrap()));
    receiver.recv().unwrap().map_err(|error| error.to_string())
}

fn append(log: &LogHandle, new: Vec<LogEntry>) {
    write(log, LogWrite::Append(new)).unwrap();
}

fn purge(upto: u64) -> LogWrite {
    LogWrite::Purge { upto, mark: Bytes::from(format!("mark {upto}")) }
}

/// The segments in use or prepared, with their lengths, in the order of their numbers.
fn segments(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let paths = super::segment::list(dir).unwrap().into_iter();
    paths
        .filter(|path| path.extension().is_some_and(|e| e == "wal"))
        .map(|path| {
            let len = path.metadata().unwrap().len();
            (path, len)
        })
        .collect()
}
