//! Keys: conditions, no-ops, deletions that are remembered.

use super::*;
use crate::tombstone::TOMBSTONE_TTL_MS;
use crate::{KvVerb, Refusal, SessionId, TxnOp};

#[test]
fn a_write_keeps_the_create_index_and_moves_the_modify_index() {
    let mut machine = Machine::default();
    machine.done(put("a", "1"));
    machine.done(put("b", "1"));
    machine.done(put("a", "2"));
    let entry = machine.tables.kv_get(b"a").value.unwrap();
    assert_eq!((entry.create_index().0, entry.modify_index().0, entry.value()), (1, 3, &b"2"[..]));
}

#[test]
fn a_write_of_what_stands_there_changes_nothing_and_wakes_nobody() {
    let mut machine = Machine::default();
    machine.done(put("a", "1"));
    let (_, changes) = machine.run(put("a", "1"));
    assert!(changes.is_empty());
    assert_eq!(machine.tables.kv_get(b"a").index.0, 1);
}

#[test]
fn conditions_hold_or_nothing_happens() {
    let mut machine = Machine::default();
    machine.done(put_if("a", "1", Compare::Absent));
    for compare in [Compare::Absent, Compare::ModifyIndex(LogIndex(9)), Compare::ModifyIndex(LogIndex::ZERO)] {
        let (outcome, changes) = machine.run(put_if("a", "2", compare));
        assert!(matches!(outcome, Outcome::Refused(Refusal::CompareFailed { .. })), "{outcome:?}");
        assert!(changes.is_empty());
        assert_eq!(machine.value("a").as_deref(), Some("1"));
    }
    machine.done(put_if("a", "2", Compare::ModifyIndex(LogIndex(1))));
    assert_eq!(machine.value("a").as_deref(), Some("2"));
    let (outcome, _) = machine.run(put_if("absent", "1", Compare::ModifyIndex(LogIndex(1))));
    assert!(matches!(outcome, Outcome::Refused(_)));
}

#[test]
fn deleting_what_is_missing_succeeds_and_changes_nothing() {
    let mut machine = Machine::default();
    let (outcome, changes) = machine.run(delete("a"));
    assert_eq!(outcome, Outcome::Done { entry: None, removed: 0 });
    assert!(changes.is_empty());
}

#[test]
fn a_lock_needs_a_session_that_exists() {
    let mut machine = Machine::default();
    let session = SessionId([7; 16]);
    let lock = |lock| Operation::Kv(KvWrite::Set { key: b"a"[..].into(), value: Box::default(), flags: 0, compare: Compare::Any, lock });
    assert_eq!(machine.run(lock(LockAction::Acquire(session))).0, Outcome::Refused(Refusal::UnknownSession { session }));
    assert!(matches!(machine.run(lock(LockAction::Release(session))).0, Outcome::Refused(Refusal::LockNotHeld { .. })));
}

#[test]
fn a_reader_of_an_absent_key_is_told_of_its_deletion_and_of_nothing_else() {
    let mut machine = Machine::default();
    machine.done(put("a", "1"));
    machine.done(put("b", "1"));
    assert_eq!(machine.tables.kv_get(b"c").changed.0, 0, "it never was there");
    let deleted = machine.done(delete("a"));
    assert_eq!(machine.tables.kv_get(b"a").changed.0, deleted);
    let later = machine.done(put("b", "2"));
    let absent = machine.tables.kv_get(b"a");
    assert_eq!(absent.changed.0, deleted, "a write of another key is none of its business");
    assert_eq!(absent.index.0, later, "what is reported never goes back");
}

#[test]
fn a_prefix_sees_changes_and_deletions_beneath_it_only() {
    let mut machine = Machine::default();
    machine.done(put("a/1", "x"));
    machine.done(put("a/2", "x"));
    machine.done(put("b/1", "x"));
    let before = machine.tables.kv_prefix_index(b"a/");
    assert_eq!(before.index.0, 2);
    let deleted = machine.done(delete("a/1"));
    assert_eq!(machine.tables.kv_prefix_index(b"a/").index.0, deleted);
    machine.done(put("b/1", "y"));
    assert_eq!(machine.tables.kv_prefix_index(b"a/").index.0, deleted);
    let all = machine.done(delete_prefix("a/"));
    assert_eq!(machine.tables.kv_prefix_index(b"a/").changed.0, all);
    assert_eq!(machine.tables.kv_prefix_index(b"a/2").changed.0, all, "a deletion above covers what is beneath");
    assert_eq!(machine.tables.kv_get(b"a/2").changed.0, all);
    assert_eq!(machine.tables.kv_prefix_index(b"b/").changed.0, 5);
}

#[test]
fn a_prefix_is_deleted_as_a_whole_and_every_key_is_told() {
    let mut machine = Machine::default();
    for key in ["fo", "foo", "foobar", "fop"] {
        machine.done(put(key, "x"));
    }
    let (outcome, changes) = machine.run(delete_prefix("foo"));
    assert_eq!(outcome, Outcome::Done { entry: None, removed: 2 });
    let deleted: Vec<_> = changes.iter().map(|change| change.subject().to_string()).collect();
    assert_eq!(deleted, ["foo", "foobar"]);
    assert_eq!(machine.tables.kv_len(), 2);
}

#[test]
fn deletions_are_forgotten_in_time_and_readers_from_before_are_still_told() {
    let mut machine = Machine::default();
    machine.done(put("a/1", "x"));
    machine.done(put("a/2", "x"));
    let seen = machine.tables.kv_prefix_index(b"a/").index;
    let deleted = machine.done(delete("a/1"));
    machine.now += TOMBSTONE_TTL_MS + 1;
    machine.done(put("other", "x"));
    assert_eq!(machine.tables.deleted_keys.len(), 0, "the tombstone is reaped");
    let now = machine.tables.kv_prefix_index(b"a/");
    assert!(now.changed > seen, "who last looked before the deletion needs a new answer");
    assert!(now.index.0 >= deleted, "and what is reported does not go back");
    assert!(machine.tables.kv_get(b"a/1").changed > seen);
}

#[test]
fn tombstones_do_not_pile_up() {
    let mut machine = Machine::default();
    for n in 0..1000 {
        machine.done(put(&format!("k{n}"), "x"));
        machine.done(delete(&format!("k{n}")));
        machine.now += TOMBSTONE_TTL_MS / 100;
    }
    assert!(machine.tables.deleted_keys.len() <= 101, "{}", machine.tables.deleted_keys.len());
    assert_eq!(machine.tables.deleted_keys.len(), machine.tables.expiry.len());
}

#[test]
fn tombstones_of_transactions_do_not_pile_up_either() {
    let mut machine = Machine::default();
    let step = |verb, n: usize| TxnOp::Kv {
        verb,
        key: format!("k{n}").into_bytes().into(),
        value: Box::default(),
        flags: 0,
        index: LogIndex::ZERO,
        session: None,
    };
    for round in 0..40 {
        let keys = round * 64..(round + 1) * 64;
        let ops = keys.flat_map(|n| [step(KvVerb::Set, n), step(KvVerb::Delete, n)]).collect();
        machine.done(Operation::Txn(ops));
        machine.now += TOMBSTONE_TTL_MS / 4;
    }
    assert!(machine.tables.deleted_keys.len() <= 64 * 5, "{}", machine.tables.deleted_keys.len());
}

#[test]
fn the_clock_never_goes_back() {
    let mut machine = Machine { now: 100, ..Default::default() };
    machine.done(put("a", "1"));
    machine.now = 50;
    machine.done(put("a", "2"));
    assert_eq!(machine.tables.clock(), Millis(100));
}

#[test]
fn pages_follow_one_another_without_gap_or_repetition() {
    let mut machine = Machine::default();
    for n in 0..50 {
        machine.done(put(&format!("p/{n:02}"), "x"));
    }
    machine.done(put("q", "x"));
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let after = seen.last().cloned();
        let page: Vec<_> = machine.tables.kv_range_after(b"p/", after.as_deref()).take(7).map(|entry| entry.key().to_vec()).collect();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    let expected: Vec<Vec<u8>> = (0..50).map(|n| format!("p/{n:02}").into_bytes()).collect();
    assert_eq!(seen, expected);
}
