//! A snapshot in the place of everything: whole or not at all, and time and revisions go on.

use std::sync::Arc;

use super::*;
use crate::restore::STAGE_TTL_MS;
use crate::{Autopilot, Behavior, Refusal, RestoreStep, Row, Session, SessionId};

const S: SessionId = SessionId([7; 16]);

fn step(id: u64, step: RestoreStep) -> Operation {
    Operation::Restore { id, step }
}

fn lock(key: &str) -> Operation {
    let (key, value) = (key.as_bytes().into(), b"held".as_slice().into());
    Operation::Kv(KvWrite::Set { key, value, flags: 0, compare: Compare::Any, lock: LockAction::Acquire(S) })
}

/// A cluster that has come to revision 40 or so, at a time of its own.
fn source() -> Machine {
    let mut machine = Machine { now: 9_000_000, ..Default::default() };
    machine.done(Operation::Begin { incarnation: 5 });
    machine.done(register("n1", web("w1", &["a"]), vec![check("alive", "", Status::Passing)]));
    let session = Session {
        id: S,
        name: "".into(),
        node: "n1".into(),
        behavior: Behavior::Release,
        ttl_ms: Some(10_000),
        lock_delay_ms: 15_000,
        node_checks: vec![],
        service_checks: vec![],
        renewed: Millis(0),
        create_index: LogIndex::ZERO,
        modify_index: LogIndex::ZERO,
    };
    machine.done(Operation::SessionCreate(Box::new(session)));
    machine.done(lock("lock"));
    machine.done(put("gone", "1"));
    machine.done(delete("gone"));
    machine.done(Operation::SetAutopilot { wanted: Autopilot { min_quorum: 3, ..Autopilot::default() }, compare: Compare::Any });
    for n in 0..30 {
        machine.done(put(&format!("k{n}"), "v"));
    }
    machine
}

/// The rows of a machine in parts, as a snapshot brings them.
fn parts(machine: &Machine) -> Vec<Arc<[Row]>> {
    let rows: Vec<Row> = machine.tables.rows().collect();
    rows.chunks(7).map(Into::into).collect()
}

fn stage(machine: &mut Machine, id: u64, parts: &[Arc<[Row]>]) -> Operation {
    machine.done(step(id, RestoreStep::Begin));
    for (sequence, rows) in (0..).zip(parts) {
        machine.done(step(id, RestoreStep::Stage { sequence, rows: rows.clone() }));
    }
    let rows = parts.iter().map(|rows| rows.len() as u64).sum();
    step(id, RestoreStep::Commit { parts: parts.len() as u64, rows, incarnation: 99 })
}

/// Everything but the table-wide numbers, sessions without the time of their renewal.
fn content(tables: &Tables) -> Vec<String> {
    let rows = tables.rows().filter_map(|row| match row {
        Row::Meta(_) => None,
        Row::Session(session) => Some(format!("{:?}", Session { renewed: Millis(0), ..(*session).clone() })),
        Row::Tombstone { key, prefix, tombstone } => Some(format!("{key:?} {prefix} {:?}", tombstone.index)),
        row => Some(format!("{row:?}")),
    });
    rows.collect()
}

#[test]
fn a_snapshot_takes_the_place_of_everything_and_revisions_go_on() {
    let source = source();
    let mut machine = Machine { now: 50_000, ..Default::default() };
    machine.done(Operation::Begin { incarnation: 6 });
    machine.done(put("old", "1"));
    let commit = stage(&mut machine, 3, &parts(&source));
    assert_eq!(machine.value("old").as_deref(), Some("1"), "what is staged is no state yet");
    let before = machine.tables.applied();
    let revision = LogIndex(machine.done(commit));
    assert_eq!(content(&machine.tables), content(&source.tables));
    assert!(revision > before && revision > source.tables.applied(), "{revision} follows both histories");
    assert_eq!((machine.tables.restored(), machine.tables.meta().incarnation), (revision, 99));
    assert_eq!(machine.tables.meta().cluster, 6, "the servers are the same");
    assert_eq!(machine.tables.log_applied(), before.0 + 1, "the log knows nothing of it");
    assert_eq!(machine.tables.revision_of(before.0 + 2).0, revision.0 + 1);

    let deadline = machine.tables.session(S).value.unwrap().deadline();
    assert_eq!(deadline, Some(Millis(60_000)), "a session begins its time anew, by this cluster's clock");
    assert!(machine.tables.kv_get(b"gone").changed >= source.tables.kv_get(b"gone").changed);
    assert_eq!(machine.tables.autopilot().value.min_quorum, 3);
    let next = machine.done(put("k1", "new"));
    assert_eq!(next, revision.0 + 1);
}

#[test]
fn nothing_is_changed_by_a_restore_that_is_not_whole() {
    let parts = parts(&source());
    let mut machine = Machine { now: 50_000, ..Default::default() };
    machine.done(put("old", "1"));
    let commit = stage(&mut machine, 3, &parts[..2]);
    let Operation::Restore { step: RestoreStep::Commit { parts: sent, rows, incarnation }, .. } = commit else { unreachable!() };
    for (sent, rows) in [(sent + 1, rows), (sent, rows + 1)] {
        let (outcome, _) = machine.run(step(3, RestoreStep::Commit { parts: sent, rows, incarnation }));
        assert!(matches!(outcome, Outcome::Refused(Refusal::Restore { .. })), "{outcome:?}");
    }
    let (outcome, _) = machine.run(step(4, RestoreStep::Commit { parts: sent, rows, incarnation }));
    assert!(matches!(outcome, Outcome::Refused(Refusal::Restore { .. })), "of another restore: {outcome:?}");
    assert_eq!(machine.value("old").as_deref(), Some("1"));
}

#[test]
fn what_was_staged_and_left_goes_away() {
    let parts = parts(&source());
    let staged = |machine: &Machine| machine.tables.rows().filter(|row| matches!(row, Row::Staged(..))).count();
    let mut machine = Machine { now: 50_000, ..Default::default() };
    stage(&mut machine, 3, &parts);
    assert_eq!(staged(&machine), parts.len());
    machine.done(step(4, RestoreStep::Begin));
    assert_eq!(staged(&machine), 0, "another one begins");
    machine.done(step(4, RestoreStep::Stage { sequence: 0, rows: parts[0].clone() }));
    machine.done(step(4, RestoreStep::Stage { sequence: 0, rows: parts[0].clone() }));
    assert_eq!(staged(&machine), 1, "the same part again");
    machine.now += STAGE_TTL_MS;
    machine.done(put("other", "1"));
    assert_eq!((staged(&machine), machine.tables.restoring()), (0, 0), "nobody went on with it");
    stage(&mut machine, 5, &parts);
    machine.done(step(5, RestoreStep::Abandon));
    assert_eq!(staged(&machine), 0);
}

#[test]
fn a_configuration_is_changed_only_by_who_knows_it() {
    let set = |min_quorum, compare| Operation::SetAutopilot { wanted: Autopilot { min_quorum, ..Autopilot::default() }, compare };
    let mut machine = Machine::default();
    assert_eq!(machine.tables.autopilot().value, Autopilot::default());
    let first = machine.done(set(3, Compare::ModifyIndex(LogIndex::ZERO)));
    assert!(matches!(machine.run(set(5, Compare::ModifyIndex(LogIndex(99)))).0, Outcome::Refused(Refusal::CompareFailed { .. })));
    let second = machine.done(set(5, Compare::ModifyIndex(LogIndex(first))));
    let now = machine.tables.autopilot().value;
    assert_eq!((now.min_quorum, now.create_index, now.modify_index), (5, LogIndex(first), LogIndex(second)));
}
