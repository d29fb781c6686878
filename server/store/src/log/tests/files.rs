//! Flushes, segments and spares: what the log costs on disk, and how it fails.

use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::Error;
use crate::log::{LogDevice, LogReader};

#[test]
fn a_new_log_is_empty() {
    let dir = tempfile::tempdir().unwrap();
    let (log, recovered) = reopen(&dir.path().join("made/on/demand"));
    assert_eq!(recovered, Recovered::default());
    assert_eq!(log.reader().read(0..10).unwrap(), []);
}

#[test]
fn everything_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    write(&log, LogWrite::Vote("vote 1".into())).unwrap();
    append(&log, entries(1..200));
    write(&log, LogWrite::Committed("committed 150".into())).unwrap();
    write(&log, purge(20)).unwrap();
    write(&log, LogWrite::Vote("vote 2".into())).unwrap();
    drop(log);
    let (log, recovered) = reopen(dir.path());
    assert_eq!(recovered.vote, Some("vote 2".into()));
    assert_eq!(recovered.committed, Some("committed 150".into()));
    assert_eq!(recovered.purged, Some((20, "mark 20".into())));
    assert_eq!((recovered.first, recovered.last, recovered.tail), (21, Some((199, 1)), None));
    assert_eq!(log.reader().read(0..300).unwrap(), entries(21..200));
}

#[test]
fn a_commit_mark_survives_a_clean_stop_without_a_write_to_ride_with() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    append(&log, entries(1..2));
    for mark in ["1", "2", "3"] {
        write(&log, LogWrite::Committed(mark.into())).unwrap();
    }
    assert_eq!(log.stats().batches, 1);
    drop(log);
    assert_eq!(reopen(dir.path()).1.committed, Some("3".into()));
}

#[test]
fn the_marks_outlive_the_segments_that_they_were_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    write(&log, LogWrite::Vote("vote".into())).unwrap();
    for index in 1..200 {
        append(&log, vec![entry(index, 1, &[0; 500])]);
        write(&log, purge(index)).unwrap();
    }
    drop(log);
    let (_, recovered) = reopen(dir.path());
    assert!(!segments(dir.path())[0].0.to_string_lossy().contains("0000000000000001-"));
    assert_eq!((recovered.vote, recovered.last, recovered.first), (Some("vote".into()), None, 200));
    assert_eq!(recovered.purged, Some((199, "mark 199".into())));
}

#[test]
fn the_number_of_files_stays_bounded_over_many_purges() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let (log, _) = reopen(dir.path());
        for index in round * 400..round * 400 + 400 {
            append(&log, vec![entry(index, 1, &[0; 900])]);
            if index % 50 == 0 {
                write(&log, purge(index)).unwrap();
            }
        }
        drop(log);
        let files = fs::read_dir(dir.path()).unwrap().count();
        // 50 entries take seven segments; then there are the prepared one, two spares and one being retired.
        assert!(files <= 13, "{files} files after round {round}");
    }
}

#[test]
fn a_reader_keeps_what_it_is_reading_while_the_segment_is_purged_and_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    let stop = AtomicUsize::new(0);
    let reader = log.reader();
    std::thread::scope(|scope| {
        let readers = scope.spawn(|| {
            let mut seen = 0;
            while stop.load(Ordering::Relaxed) == 0 {
                for read in reader.read(0..u64::MAX).unwrap() {
                    assert_eq!(read.payload, vec![read.index as u8; 900]);
                    seen += 1;
                }
            }
            seen
        });
        for index in 0..600 {
            append(&log, vec![entry(index, 1, &[index as u8; 900])]);
            if index > 10 {
                write(&log, purge(index - 10)).unwrap();
            }
        }
        stop.store(1, Ordering::Relaxed);
        assert!(readers.join().unwrap() > 0);
    });
}

#[test]
fn a_batch_larger_than_a_segment_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    append(&log, entries(1..5));
    let large = vec![entry(5, 1, &[5; 50_000]), entry(6, 1, &[6; 1_500_000])];
    append(&log, large.clone());
    append(&log, entries(7..9));
    drop(log);
    let (log, recovered) = reopen(dir.path());
    assert_eq!(recovered.last, Some((8, 1)));
    assert_eq!(log.reader().read(5..7).unwrap(), large);
    assert_eq!(log.reader().read(7..9).unwrap(), entries(7..9));
}

#[test]
fn many_writers_share_few_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    let (sender, receiver) = mpsc::channel();
    for index in 0..2_000 {
        let sender = sender.clone();
        log.submit(LogWrite::Append(entries(index..index + 1)), Box::new(move |o| sender.send(o.is_ok()).unwrap()));
    }
    assert_eq!(receiver.iter().take(2_000).filter(|ok| *ok).count(), 2_000);
    let stats = log.stats();
    assert_eq!(stats.writes, 2_000);
    assert!(stats.batches < 1_000, "{} batches", stats.batches);
}

/// Fails the third write, and counts those it is given.
struct Failing(Arc<AtomicUsize>);

impl LogDevice for Failing {
    fn write(&mut self, _: &[LogWrite]) -> Result<(), Error> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            2 => Err(Error::io("flush", "log".as_ref(), std::io::ErrorKind::StorageFull.into())),
            _ => Ok(()),
        }
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        struct Nothing;
        impl LogReader for Nothing {
            fn read_limited(&self, _: Range<u64>, _: usize) -> Result<Vec<LogEntry>, Error> {
                Ok(Vec::new())
            }
        }
        Arc::new(Nothing)
    }
}

#[test]
fn after_a_failed_flush_nothing_is_tried_again() {
    let writes = Arc::new(AtomicUsize::new(0));
    let log = LogHandle::start(Box::new(Failing(Arc::clone(&writes))), &small()).unwrap();
    write(&log, purge(1)).unwrap();
    write(&log, purge(2)).unwrap();
    let error = write(&log, purge(3)).unwrap_err();
    assert!(error.contains("the disk or its quota is full; free some space"), "{error}");
    assert_eq!(write(&log, purge(4)).unwrap_err(), error);
    assert_eq!(write(&log, LogWrite::Committed("4".into())).unwrap_err(), error);
    drop(log);
    assert_eq!(writes.load(Ordering::SeqCst), 3);
}

#[test]
fn an_unwritable_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = open(&file.join("log"), small()).map(|(_, recovered)| recovered).unwrap_err();
    assert!(error.to_string().starts_with("cannot create directory `"), "{error}");
}

#[test]
fn a_truncation_below_the_oldest_segment_left_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    // The first segments hold what is truncated, so they are needless once that is written.
    append(&log, entries(1..3));
    for index in 3..20 {
        append(&log, vec![entry(index, 1, &[1; 900])]);
    }
    write(&log, LogWrite::Truncate { after: None }).unwrap();
    let current = segments(dir.path()).iter().rev().nth(1).expect("the one before the prepared one").0.clone();
    let bytes = fs::read(&current).unwrap();
    // Too large for what is left of the segment: the next one begins with an empty log.
    append(&log, vec![entry(0, 2, &[2; 20_000])]);
    append(&log, vec![entry(1, 2, b"")]);
    drop(log);
    assert!(!current.exists(), "nothing needs it any more");
    // Its removal, unlike that of the segments before it, does not reach the disk.
    fs::write(current, bytes).unwrap();
    let (_, recovered) = reopen(dir.path());
    assert_eq!((recovered.first, recovered.last), (0, Some((1, 2))));
}
