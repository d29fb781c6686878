//! Sessions and what they hold: grants, ends, lock delays, fences.

use super::*;
use crate::{Behavior, Fence, KvEntry, Refusal, Session, SessionEnd, SessionId};

const A: SessionId = SessionId([1; 16]);
const B: SessionId = SessionId([2; 16]);

/// A session on node `n1` with a TTL of 10 s and a lock delay of 15 s.
pub(super) fn session(id: SessionId) -> Session {
    Session {
        id,
        name: "test".into(),
        node: "n1".into(),
        behavior: Behavior::Release,
        ttl_ms: Some(10_000),
        lock_delay_ms: 15_000,
        node_checks: vec!["alive".into()],
        service_checks: vec![],
        renewed: Millis(0),
        create_index: LogIndex::ZERO,
        modify_index: LogIndex::ZERO,
    }
}

fn create(session: Session) -> Operation {
    Operation::SessionCreate(Box::new(session))
}

fn end(id: SessionId, cause: SessionEnd) -> Operation {
    Operation::SessionEnd { id, cause, term: 1, delays: true }
}

fn locked(key: &str, value: &str, lock: LockAction) -> Operation {
    let (key, value) = (key.as_bytes().into(), value.as_bytes().into());
    Operation::Kv(KvWrite::Set { key, value, flags: 0, compare: Compare::Any, lock })
}

fn acquire(key: &str, id: SessionId) -> Operation {
    locked(key, "held", LockAction::Acquire(id))
}

/// A machine with node `n1`, its passing check `alive`, and the sessions A and B.
fn machine() -> Machine {
    let mut machine = Machine { now: 1_000_000, ..Default::default() };
    machine.done(register("n1", None, vec![check("alive", "", Status::Passing)]));
    machine.done(create(session(A)));
    machine.done(create(session(B)));
    machine
}

impl Machine {
    fn entry(&self, key: &str) -> KvEntry {
        self.tables.kv_get(key.as_bytes()).value.unwrap()
    }

    fn refusal(&mut self, operation: Operation) -> Refusal {
        match self.run(operation) {
            (Outcome::Refused(refusal), changes) => {
                assert!(changes.is_empty(), "a refused command changes nothing");
                refusal
            }
            (other, _) => panic!("{other:?}"),
        }
    }

    fn lives(&self, id: SessionId) -> bool {
        self.tables.session(id).value.is_some()
    }

    fn ends(&mut self, operation: Operation) -> Vec<(SessionId, SessionEnd)> {
        let (_, changes) = self.run(operation);
        let ended = changes.iter().filter_map(|change| match change {
            Change::Session { before: Some(session), after: None, end: Some(end) } => Some((session.id, *end)),
            _ => None,
        });
        ended.collect()
    }
}

#[test]
fn a_lock_has_one_holder_and_counts_its_grants() {
    let mut machine = machine();
    let granted = machine.done(acquire("lock", A));
    let entry = machine.entry("lock");
    assert_eq!((entry.session(), entry.lock_index(), entry.fence().0), (Some(A), 1, granted));

    machine.done(locked("lock", "more", LockAction::Acquire(A)));
    let entry = machine.entry("lock");
    assert_eq!((entry.lock_index(), entry.fence().0), (1, granted), "the same holder is not granted it anew");
    assert_eq!(machine.refusal(acquire("lock", B)), Refusal::LockHeld { key: "lock".into(), holder: A });
    assert!(matches!(machine.refusal(locked("lock", "", LockAction::Release(B))), Refusal::LockNotHeld { .. }));
    machine.done(put("lock", "a plain write goes through"));
    assert_eq!(machine.entry("lock").session(), Some(A));

    machine.done(locked("lock", "free", LockAction::Release(A)));
    let entry = machine.entry("lock");
    assert_eq!((entry.session(), entry.lock_index(), entry.fence().0), (None, 1, 0));
    let again = machine.done(acquire("lock", B));
    assert_eq!((machine.entry("lock").lock_index(), machine.entry("lock").fence().0), (2, again));
}

#[test]
fn only_sessions_that_live_take_locks() {
    let mut machine = machine();
    let nobody = SessionId([9; 16]);
    assert_eq!(machine.refusal(acquire("lock", nobody)), Refusal::UnknownSession { session: nobody });
    assert_eq!(machine.refusal(Operation::SessionRenew(nobody)), Refusal::UnknownSession { session: nobody });
    let (outcome, changes) = machine.run(end(nobody, SessionEnd::Destroyed));
    assert!(outcome == Outcome::Session(None) && changes.is_empty());
}

#[test]
fn a_session_needs_its_node_and_checks_that_are_not_critical() {
    let mut machine = machine();
    let on = |node: &str, checks: &[&str]| {
        create(Session { node: node.into(), node_checks: checks.iter().map(|id| (*id).into()).collect(), ..session(SessionId([3; 16])) })
    };
    assert_eq!(machine.refusal(on("n9", &[])), Refusal::UnknownNode { node: "n9".into() });
    assert_eq!(machine.refusal(on("n1", &["none"])), Refusal::CheckNotPassing { check: "none".into(), status: None });
    machine.done(register("n1", None, vec![check("bad", "", Status::Critical)]));
    let refused = Refusal::CheckNotPassing { check: "bad".into(), status: Some(Status::Critical) };
    assert_eq!(machine.refusal(on("n1", &["alive", "bad"])), refused);
    machine.done(on("N1", &["alive"]));
    assert_eq!(&*machine.tables.session(SessionId([3; 16])).value.unwrap().node, "n1", "as the node is called");
}

#[test]
fn a_session_ends_after_its_ttl_and_never_before() {
    let mut machine = machine();
    machine.now += 9_999;
    assert_eq!(machine.ends(end(A, SessionEnd::Expired)), []);
    machine.done(Operation::SessionRenew(A));
    assert_eq!(machine.tables.next_session_deadline().unwrap(), (Millis(1_010_000), B));
    machine.now += 1;
    assert_eq!(machine.tables.sessions_due(Millis(machine.now)).collect::<Vec<_>>(), [B]);
    assert_eq!(machine.ends(end(B, SessionEnd::Expired)), [(B, SessionEnd::Expired)]);
    assert_eq!(machine.ends(end(A, SessionEnd::Expired)), [], "a renewal that came before wins");
    machine.now += 9_999;
    assert_eq!(machine.ends(end(A, SessionEnd::Expired)), [(A, SessionEnd::Expired)]);
    assert_eq!(machine.tables.next_session_deadline(), None);
}

#[test]
fn renewals_wake_nobody() {
    let mut machine = machine();
    let before = machine.tables.sessions_index();
    machine.now += 1;
    let (outcome, changes) = machine.run(Operation::SessionRenew(A));
    assert!(matches!(outcome, Outcome::Session(Some(_))) && changes.is_empty());
    assert_eq!(machine.tables.sessions_index(), before);
}

#[test]
fn what_a_session_was_tied_to_takes_it_along() {
    for (operation, cause) in [
        (register("n1", None, vec![check("alive", "", Status::Critical)]), SessionEnd::CheckCritical),
        (deregister("n1", None, Some("alive")), SessionEnd::CheckRemoved),
        (deregister("N1", None, None), SessionEnd::NodeRemoved),
    ] {
        let mut machine = machine();
        machine.done(acquire("lock", A));
        machine.done(register("n2", None, vec![check("alive", "", Status::Passing)]));
        let elsewhere = SessionId([3; 16]);
        machine.done(create(Session { node: "n2".into(), ..session(elsewhere) }));
        assert_eq!(machine.ends(operation), [(A, cause), (B, cause)]);
        assert!(!machine.lives(A) && machine.lives(elsewhere));
        assert_eq!(machine.entry("lock").session(), None, "in the same command");
    }
}

#[test]
fn a_check_that_only_warns_ends_nothing() {
    let mut machine = machine();
    assert_eq!(machine.ends(register("n1", None, vec![check("alive", "", Status::Warning)])), []);
    assert_eq!(machine.ends(register("n1", None, vec![check("other", "", Status::Critical)])), []);
}

#[test]
fn the_end_of_a_session_releases_or_deletes_what_it_held() {
    let mut machine = machine();
    machine.done(acquire("kept", A));
    let deleting = SessionId([3; 16]);
    machine.done(create(Session { behavior: Behavior::Delete, lock_delay_ms: 0, ..session(deleting) }));
    machine.done(acquire("gone/1", deleting));
    machine.done(acquire("gone/2", deleting));
    machine.done(locked("gone/2", "", LockAction::Release(deleting)));
    let index = machine.done(end(A, SessionEnd::Destroyed));
    let entry = machine.entry("kept");
    assert_eq!((entry.value(), entry.session(), entry.modify_index().0, entry.lock_index()), (&b"held"[..], None, index, 1));
    let index = machine.done(end(deleting, SessionEnd::Destroyed));
    assert_eq!(machine.value("gone/1"), None);
    assert_eq!(machine.tables.kv_get(b"gone/1").changed.0, index, "it is remembered that it was there");
    assert!(machine.value("gone/2").is_some(), "it held that no more");
}

#[test]
fn keys_of_a_session_that_ended_stay_free_for_its_lock_delay() {
    let mut machine = machine();
    machine.done(acquire("lock", A));
    machine.done(end(A, SessionEnd::Destroyed));
    machine.now += 14_999;
    assert_eq!(machine.refusal(acquire("lock", B)), Refusal::LockDelay { key: "lock".into(), remaining_ms: 1 });
    machine.done(acquire("other", B));
    machine.now += 1;
    machine.done(acquire("lock", B));
    assert_eq!(machine.tables.rows().filter(|row| matches!(row, crate::Row::LockDelay(..))).count(), 0, "it is forgotten");
}

#[test]
fn a_release_leaves_no_lock_delay() {
    let mut machine = machine();
    machine.done(acquire("lock", A));
    machine.done(locked("lock", "", LockAction::Release(A)));
    machine.done(end(A, SessionEnd::Destroyed));
    machine.done(acquire("lock", B));
}

#[test]
fn a_write_under_an_old_grant_is_refused_however_late_it_comes() {
    let mut machine = machine();
    let fenced = |token, value: &str| {
        let fence = Fence { key: b"lock"[..].into(), token: LogIndex(token) };
        Operation::Fenced { fence, operation: Box::new(put("data", value)) }
    };
    let first = machine.done(acquire("lock", A));
    machine.done(fenced(first, "first"));
    machine.done(locked("lock", "", LockAction::Release(A)));
    let stale = |current| Refusal::StaleFence { key: "lock".into(), token: LogIndex(first), current: LogIndex(current) };
    assert_eq!(machine.refusal(fenced(first, "late")), stale(0));
    let second = machine.done(acquire("lock", B));
    assert_eq!(machine.refusal(fenced(first, "late")), stale(second));
    machine.done(fenced(second, "second"));
    assert!(matches!(machine.refusal(fenced(0, "none")), Refusal::StaleFence { .. }));
    assert_eq!(machine.value("data").as_deref(), Some("second"));
}

#[test]
fn a_fence_guards_the_catalog_as_well() {
    let mut machine = machine();
    let token = LogIndex(machine.done(acquire("lock", A)));
    let fenced = |token, operation| {
        let fence = Fence { key: b"lock"[..].into(), token };
        Operation::Fenced { fence, operation: Box::new(operation) }
    };
    assert!(matches!(machine.refusal(fenced(LogIndex(1), deregister("n1", None, None))), Refusal::StaleFence { .. }));
    assert_eq!(machine.ends(fenced(token, deregister("n1", None, None))).len(), 2, "what follows from it follows");
}

#[test]
fn a_comparison_may_ask_for_a_key_or_for_its_holder() {
    let mut machine = machine();
    assert_eq!(machine.refusal(put_if("lock", "x", Compare::Present)), Refusal::Absent { subject: "lock".into() });
    machine.done(acquire("lock", A));
    machine.done(put_if("lock", "y", Compare::Present));
    machine.done(put_if("lock", "z", Compare::HeldBy(A)));
    assert!(matches!(machine.refusal(put_if("lock", "w", Compare::HeldBy(B))), Refusal::LockNotHeld { .. }));
}
