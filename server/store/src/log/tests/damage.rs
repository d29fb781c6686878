//! Torn tails are dropped, damage is refused, and what other uses of a file left behind is not seen.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;
use crate::Error;
use crate::log::frame::{FrameBuilder, Place, Record};

/// A log of one segment with three frames; returns the segment and where each frame begins and the last ends.
fn three_frames(dir: &Path) -> (PathBuf, [usize; 4]) {
    let (log, _) = reopen(dir);
    for index in 1..4 {
        append(&log, vec![entry(index, 1, &[index as u8; 700])]);
    }
    drop(log);
    (segments(dir)[0].0.clone(), [0, 1024, 2048, 3072])
}

fn open_error(dir: &Path) -> Error {
    open(dir, small()).map(|(_, recovered)| recovered).expect_err("it must not open")
}

#[test]
fn a_tail_torn_at_any_byte_is_dropped_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = three_frames(dir.path());
    let whole = fs::read(&path).unwrap();
    let used = at[2] + 48 + 25 + 700;
    for cut in at[2]..used {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join(path.file_name().unwrap()), &torn).unwrap();
        let (log, recovered) = reopen(copy.path());
        assert_eq!(recovered.last, Some((2, 1)), "cut at {cut}");
        append(&log, vec![entry(3, 2, b"again")]);
        drop(log);
        let (log, recovered) = reopen(copy.path());
        assert_eq!((recovered.last, recovered.tail), (Some((3, 2)), None), "cut at {cut}");
        assert_eq!(log.reader().read(3..9).unwrap(), [entry(3, 2, b"again")]);
    }
}

#[test]
fn a_torn_tail_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = three_frames(dir.path());
    flip(&path, at[2] + 600);
    let tail = reopen(dir.path()).1.tail.expect("a frame was dropped");
    assert_eq!((tail.file, tail.offset), (path, at[2] as u64));
}

#[test]
fn one_flipped_bit_before_the_last_frame_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = three_frames(dir.path());
    let whole = fs::read(&path).unwrap();
    // Every byte of the first two frames that is not padding.
    let covered = |from: usize, len: usize| from..from + len;
    let bytes = covered(at[0], 48 + 17 + 25 + 700).chain(covered(at[1], 48 + 25 + 700));
    for byte in bytes.step_by(7) {
        flip(&path, byte);
        let error = open_error(dir.path());
        let Error::Corrupt { file, offset, .. } = &error else { panic!("flip at {byte}: {error}") };
        assert_eq!((file, *offset as usize), (&path, if byte < at[1] { at[0] } else { at[1] }), "flip at {byte}");
        assert!(error.to_string().contains("restore this data directory"), "{error}");
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(reopen(dir.path()).1.last, Some((3, 1)));
}

#[test]
fn a_refused_log_is_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = three_frames(dir.path());
    flip(&path, at[1] + 100);
    let before = fs::read(&path).unwrap();
    let names = super::super::segment::list(dir.path()).unwrap();
    open_error(dir.path());
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(super::super::segment::list(dir.path()).unwrap(), names);
}

#[test]
fn damage_to_the_last_frame_of_an_earlier_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    for index in 1..30 {
        append(&log, vec![entry(index, 1, &[1; 700])]);
    }
    drop(log);
    let (first, _) = &segments(dir.path())[0];
    flip(first, 3072 + 100);
    let error = open_error(dir.path());
    assert!(error.to_string().contains("as if this segment ended at byte 4096"), "{error}");
}

#[test]
fn a_missing_segment_is_refused_wherever_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    for index in 1..40 {
        append(&log, vec![entry(index, 1, &[1; 700])]);
    }
    drop(log);
    let all = segments(dir.path());
    assert!(all.len() > 4, "{all:?}");
    for (path, _) in &all[..all.len() - 2] {
        let bytes = fs::read(path).unwrap();
        fs::remove_file(path).unwrap();
        let error = open_error(dir.path());
        assert!(error.to_string().contains("missing"), "{error}");
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(reopen(dir.path()).1.last, Some((39, 1)));
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = three_frames(dir.path());
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[9, 0], at[1] as u64 + 4).unwrap();
    let error = open_error(dir.path());
    assert!(matches!(error, Error::TooNew { found: 9, supported: 1, .. }), "{error}");
    assert!(error.to_string().contains("start the release that wrote it"), "{error}");
}

#[test]
fn frames_of_an_earlier_use_of_the_file_are_not_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (path, at) = three_frames(dir.path());
    // The same bytes under the name that a recycled segment gets: same number, another salt.
    let renamed = path.with_file_name("0000000000000001-00000000deadbeef.wal");
    fs::rename(&path, renamed).unwrap();
    let (log, recovered) = reopen(dir.path());
    assert_eq!(recovered, Recovered::default());
    append(&log, entries(1..2));
    drop(log);
    assert_eq!(reopen(dir.path()).1.last, Some((1, 1)));
    assert!(at[3] > 0);
}

#[test]
fn a_payload_that_looks_like_a_frame_is_not_taken_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = reopen(dir.path());
    // A frame for the very place where it will come to lie, complete but for the salt.
    let mut forged = FrameBuilder::default();
    forged.clear();
    forged.push(&Record::Truncate { after: None });
    let frame = forged.finish(Place { sequence: 1, salt: 0, offset: 1024 }, 1).to_vec();
    let mut payload = vec![0; 1024 - 48 - 17 - 25];
    payload.extend_from_slice(&frame);
    append(&log, vec![entry(1, 1, &payload)]);
    drop(log);
    let (path, _) = segments(dir.path())[0].clone();
    assert_eq!(fs::read(&path).unwrap()[1024..1028], frame[..4], "the forged frame lies on a frame boundary");
    // With the first frame torn, the forged one would be the proof of damage.
    flip(&path, 100);
    assert_eq!(reopen(dir.path()).1.last, None);
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 0x10;
    fs::write(path, bytes).unwrap();
}
