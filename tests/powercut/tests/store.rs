//! The store, with the power cut at hundreds of moments of a busy run and of the recovery after it.
#![allow(clippy::unwrap_used, reason = "a test, helpers included")]

use std::fs;
use std::path::Path;
use std::process::Command;

use powercut::load::{Survivor, check};
use powercut::{Image, Journal, Operation, kill_after, observe};

/// How thorough to be: `LICTOR_POWERCUT_ROUNDS` times as many runs, each with another seed.
fn rounds() -> u64 {
    std::env::var("LICTOR_POWERCUT_ROUNDS").map_or(1, |rounds| rounds.parse().expect("`LICTOR_POWERCUT_ROUNDS` is a number"))
}

/// Runs the load in `dir` and returns what it did.
fn run(dir: &Path, seed: u64, steps: u64) -> Journal {
    let scratch = tempfile::tempdir().unwrap();
    run_on(dir, &scratch.path().join("journal"), seed, steps, None)
}

/// Runs the load in `dir`, adding to `journal`; it is killed after so many writes, if that is said.
fn run_on(dir: &Path, journal: &Path, seed: u64, steps: u64, killed_after: Option<usize>) -> Journal {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powercut-load"));
    observe(command.arg(dir).arg(seed.to_string()).arg(steps.to_string()), dir, journal).unwrap();
    if let Some(writes) = killed_after {
        kill_after(&mut command, writes);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // How many writes are made depends on how they are merged, so the end may come before the kill.
    let killed = killed_after.is_some() && output.status.code() == Some(137);
    assert!(output.status.success() || killed, "{}: {said}", output.status);
    Journal::read(journal).unwrap()
}

/// Cuts the power during operation `cut`, recovers, and checks what came of it.
fn cut_and_check(base: Option<&Path>, before: &Survivor, journal: &Journal, cut: usize, seed: u64) -> Survivor {
    let dir = tempfile::tempdir().unwrap();
    Image::after_cut(base, journal, cut, seed).unwrap().write_to(dir.path()).unwrap();
    check(dir.path(), before, &journal.marks(cut)).unwrap_or_else(|error| {
        let kept = dir.keep();
        panic!("cut {cut} with seed {seed}, image in `{}`: {error:#}\n{:?}", kept.display(), journal.operations().get(cut))
    })
}

/// Cuts spread evenly over the operations, not two at the same distance from their neighbours' work.
fn spread(operations: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |nth| (nth * operations / count + nth * 7 % 13).min(operations))
}

#[test]
fn nothing_acknowledged_is_lost_and_the_state_is_that_of_one_index() {
    for seed in 1..1 + 4 * rounds() {
        let dir = tempfile::tempdir().unwrap();
        let journal = run(dir.path(), seed, 300);
        let operations = journal.operations().len();
        for (nth, cut) in spread(operations, 75).enumerate() {
            cut_and_check(None, &Survivor::default(), &journal, cut, seed << 32 | nth as u64);
        }
        // All of it, as after a clean stop.
        cut_and_check(None, &Survivor::default(), &journal, operations, seed);
    }
}

#[test]
fn a_second_cut_during_the_recovery_from_the_first_loses_nothing_either() {
    for round in 0..rounds() {
        let dir = tempfile::tempdir().unwrap();
        let first = run(dir.path(), 11 + round, 200);
        for (nth, cut) in spread(first.operations().len(), 20).enumerate() {
            let image = Image::after_cut(None, &first, cut, nth as u64).unwrap();
            let (base, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            image.write_to(base.path()).unwrap();
            image.write_to(work.path()).unwrap();
            let before = cut_and_check(None, &Survivor::default(), &first, cut, nth as u64);

            let second = run(work.path(), 100 + nth as u64, 30);
            let end = second.operations().len();
            for again in (0..60).step_by(7).chain([end / 2, end]) {
                cut_and_check(Some(base.path()), &before, &second, again.min(end), again as u64);
            }
        }
    }
}

/// After `kill -9` what was written is there and may not be flushed. What the next process reports of it, it must
/// have flushed before.
#[test]
fn what_a_process_finds_after_a_kill_survives_a_cut_after_that() {
    let runs = (0..rounds()).flat_map(|round| (3..200).step_by(9).map(move |killed_after| (round << 32, killed_after)));
    for (seed, killed_after) in runs {
        let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let journal = scratch.path().join("journal");
        let first = run_on(dir.path(), &journal, seed | killed_after as u64, 500, Some(killed_after));
        let both = run_on(dir.path(), &journal, killed_after as u64, 5, None);
        let (begin, end) = (first.operations().len(), both.operations().len());
        let reported = (begin..end).find(|cut| both.marks(*cut).lines().last().is_some_and(|line| line.starts_with("found")));
        let reported = reported.expect("the second process says what it found");
        for cut in (begin..reported).step_by(5).chain(reported..(reported + 6).min(end)).chain([end]) {
            cut_and_check(None, &Survivor::default(), &both, cut, cut as u64);
        }
    }
}

#[test]
fn the_run_did_what_the_cuts_are_meant_to_hit() {
    let dir = tempfile::tempdir().unwrap();
    let journal = run(dir.path(), 1, 300);
    let count = |wanted: fn(&Operation) -> bool| journal.operations().iter().filter(|operation| wanted(operation)).count();
    assert!(count(|operation| matches!(operation, Operation::Flush { .. })) > 100);
    assert!(count(|operation| matches!(operation, Operation::Write { durable: true, .. })) > 5, "LMDB's roots");
    let renamed = |from: &str, to: &str| {
        journal.operations().iter().any(|operation| {
            let Operation::Rename { from: old, to: new } = operation else { return false };
            old.to_string_lossy().ends_with(from) && new.to_string_lossy().ends_with(to)
        })
    };
    assert!(renamed(".wal", ".spare"), "segments were set aside");
    assert!(renamed(".spare", ".wal"), "segments were used again");
    assert!(renamed("incoming/data.mdb", "state/data.mdb"), "the state was replaced");
    let marks = journal.marks(journal.operations().len());
    for verb in ["append", "truncate", "purge", "vote"] {
        assert!(marks.contains(&format!("submit {verb}")), "no {verb}");
    }
}

/// A log that is not flushed is caught: the checker can fail.
#[test]
fn a_flush_that_is_left_out_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let journal = run(dir.path(), 3, 200);
    let forgetful = journal.without_flushes();
    let mut noticed = 0;
    for (nth, cut) in spread(forgetful.operations().len(), 20).enumerate() {
        let image = scratch.path().join(nth.to_string());
        Image::after_cut(None, &forgetful, cut, nth as u64).unwrap().write_to(&image).unwrap();
        noticed += usize::from(check(&image, &Survivor::default(), &forgetful.marks(cut)).is_err());
    }
    assert!(noticed > 5, "only {noticed} of 20 cuts were noticed");
    assert!(fs::read_dir(scratch.path()).unwrap().count() == 20);
}
