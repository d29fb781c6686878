//! Queues, grants and slots, by example.

use super::*;
use crate::lock::{LockPlace, SLOTS_MAX, WAITERS_MAX};
use crate::{Behavior, LockAcquire, Refusal, Session, SessionEnd, SessionId};

const NODE: &str = "n1";

pub(super) fn id(number: u16) -> SessionId {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    SessionId(bytes)
}

pub(super) fn begin(number: u16, lock_delay_ms: u64, behavior: Behavior) -> Operation {
    Operation::SessionCreate(Box::new(Session {
        id: id(number),
        name: "s".into(),
        node: NODE.into(),
        behavior,
        ttl_ms: Some(10_000),
        lock_delay_ms,
        node_checks: vec![],
        service_checks: vec![],
        renewed: Millis(0),
        create_index: LogIndex::ZERO,
        modify_index: LogIndex::ZERO,
    }))
}

pub(super) fn wish(key: &str, slots: u32, number: u16, wait: bool) -> Operation {
    let (key, value) = (key.as_bytes().into(), format!("by {number}").into_bytes().into());
    Operation::LockAcquire(Box::new(LockAcquire { key, slots, session: id(number), value, wait }))
}

fn queue(key: &str, number: u16) -> Operation {
    wish(key, 0, number, true)
}

pub(super) fn release(key: &str, number: u16) -> Operation {
    Operation::LockRelease { key: key.as_bytes().into(), session: id(number), token: LogIndex::ZERO }
}

pub(super) fn end(number: u16, delays: bool) -> Operation {
    Operation::SessionEnd { id: id(number), cause: SessionEnd::Destroyed, term: 0, delays }
}

pub(super) fn kv_lock(key: &str, lock: LockAction) -> Operation {
    let (key, value) = (key.as_bytes().into(), b"kv"[..].into());
    Operation::Kv(KvWrite::Set { key, value, flags: 0, compare: Compare::Any, lock })
}

/// A machine with sessions 1 to `count`.
pub(super) fn machine(count: u16) -> Machine {
    let mut machine = Machine::default();
    machine.done(register(NODE, None, vec![]));
    for number in 1..=count {
        machine.done(begin(number, 15_000, Behavior::Release));
    }
    machine
}

impl Machine {
    fn place(&mut self, operation: Operation) -> LockPlace {
        match self.run(operation).0 {
            Outcome::Lock(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn refused(&mut self, operation: Operation) -> Refusal {
        match self.run(operation).0 {
            Outcome::Refused(refusal) => refusal,
            other => panic!("{other:?}"),
        }
    }

    /// Who holds `key`, and the fence.
    pub(super) fn holder(&self, key: &str) -> Option<(SessionId, u64)> {
        let entry = self.tables.kv_get(key.as_bytes()).value?;
        Some((entry.session()?, entry.fence().0))
    }

    pub(super) fn waiting(&self, key: &str) -> Vec<SessionId> {
        let queue = self.tables.lock_queue(key.as_bytes());
        queue.map(|queue| queue.waiters.values().map(|waiter| waiter.session).collect()).unwrap_or_default()
    }
}

#[test]
fn a_release_grants_the_first_who_waits_in_the_same_command() {
    let mut machine = machine(3);
    assert!(matches!(machine.place(queue("lock", 1)), LockPlace::Granted(_)));
    assert!(matches!(machine.place(queue("lock", 2)), LockPlace::Queued { .. }));
    assert!(matches!(machine.place(queue("lock", 3)), LockPlace::Queued { .. }));
    let (_, first) = machine.holder("lock").unwrap();
    let granted = machine.done(release("lock", 1));
    assert_eq!(machine.holder("lock"), Some((id(2), granted)));
    assert!(granted > first);
    assert_eq!(machine.value("lock").as_deref(), Some("by 2"), "it is written what the waiter wanted");
    assert_eq!(machine.waiting("lock"), [id(3)]);
    machine.done(release("lock", 2));
    machine.done(release("lock", 3));
    assert!(machine.tables.lock_queue(b"lock").is_none() && machine.holder("lock").is_none());
}

#[test]
fn asking_again_changes_nothing() {
    let mut machine = machine(2);
    let LockPlace::Granted(first) = machine.place(queue("lock", 1)) else { panic!() };
    let LockPlace::Granted(again) = machine.place(queue("lock", 1)) else { panic!() };
    assert_eq!(first.fence(), again.fence());
    let ticket = machine.place(queue("lock", 2));
    let (outcome, changes) = machine.run(queue("lock", 2));
    assert!(outcome == Outcome::Lock(ticket) && changes.is_empty());
    assert_eq!(machine.waiting("lock").len(), 1);
}

#[test]
fn who_does_not_wait_is_told_who_stands_in_the_way() {
    let mut machine = machine(3);
    machine.done(queue("lock", 1));
    assert_eq!(machine.refused(wish("lock", 0, 2, false)), Refusal::LockHeld { key: "lock".into(), holder: id(1) });
    machine.done(end(1, true));
    assert_eq!(machine.refused(wish("lock", 0, 2, false)), Refusal::LockDelay { key: "lock".into(), remaining_ms: 15_000 });
    machine.done(queue("lock", 3));
    assert_eq!(machine.refused(wish("lock", 0, 2, false)), Refusal::LockHeld { key: "lock".into(), holder: id(3) });
    let unknown = machine.refused(queue("lock", 9));
    assert_eq!(unknown, Refusal::UnknownSession { session: id(9) });
}

#[test]
fn a_lock_delay_is_waited_for_and_then_the_first_is_granted() {
    let mut machine = machine(3);
    machine.done(queue("lock", 1));
    machine.done(queue("lock", 2));
    machine.done(queue("lock", 3));
    machine.done(end(1, true));
    assert_eq!(machine.holder("lock"), None);
    assert_eq!(machine.tables.next_lock_grant(), Some(Millis(15_000)));
    machine.now = 14_999;
    machine.done(Operation::Noop);
    assert_eq!(machine.holder("lock"), None);
    machine.now = 15_000;
    assert!(matches!(machine.refused(kv_lock("lock", LockAction::Acquire(id(3)))), Refusal::LockHeld { .. }));
    assert_eq!(machine.holder("lock").map(|(holder, _)| holder), Some(id(2)), "whichever command came first after the delay");
    assert_eq!(machine.tables.next_lock_grant(), None);
}

#[test]
fn nobody_overtakes_those_who_wait() {
    let mut machine = machine(4);
    machine.done(kv_lock("lock", LockAction::Acquire(id(1))));
    machine.done(queue("lock", 2));
    machine.done(queue("lock", 3));
    let handed_on = Operation::Txn(vec![step(crate::KvVerb::Unlock, 1), step(crate::KvVerb::Lock, 4)]);
    assert!(matches!(machine.refused(handed_on), Refusal::Txn { .. }), "not even within one command");
    machine.done(Operation::Txn(vec![step(crate::KvVerb::Unlock, 1), step(crate::KvVerb::Lock, 2)]));
    assert_eq!(machine.holder("lock").map(|(holder, _)| holder), Some(id(2)));
    assert_eq!(machine.waiting("lock"), [id(3)], "who has taken it waits no more");
}

fn step(verb: crate::KvVerb, number: u16) -> crate::TxnOp {
    let (key, value) = (b"lock"[..].into(), b""[..].into());
    crate::TxnOp::Kv { verb, key, value, flags: 0, index: LogIndex::ZERO, session: Some(id(number)) }
}

#[test]
fn whatever_frees_a_lock_grants_it() {
    let frees = [
        kv_lock("a/lock", LockAction::Release(id(1))),
        delete("a/lock"),
        delete_prefix("a/"),
        end(1, false),
        release("a/lock", 1),
        Operation::Fenced { fence: crate::Fence { key: b"a/lock"[..].into(), token: LogIndex(4) }, operation: Box::new(delete("a/lock")) },
    ];
    for free in frees {
        let mut machine = machine(2);
        assert_eq!(machine.done(queue("a/lock", 1)), 4);
        machine.done(queue("a/lock", 2));
        let shown = format!("{free:?}");
        let index = machine.done(free);
        assert_eq!(machine.holder("a/lock"), Some((id(2), index)), "{shown}");
    }
}

#[test]
fn a_waiter_goes_with_its_session_or_when_it_gives_up() {
    let mut machine = machine(4);
    machine.done(queue("lock", 1));
    for number in 2..=4 {
        machine.done(queue("lock", number));
    }
    machine.done(end(2, true));
    machine.done(release("lock", 3));
    assert_eq!(machine.waiting("lock"), [id(4)]);
    assert!(matches!(machine.refused(release("lock", 3)), Refusal::LockNotHeld { .. }));
    assert!(matches!(machine.refused(release("lock", 2)), Refusal::UnknownSession { .. }));
    let stale = Operation::LockRelease { key: b"lock"[..].into(), session: id(1), token: LogIndex(1) };
    assert!(matches!(machine.refused(stale), Refusal::StaleFence { .. }));
}

#[test]
fn a_semaphore_has_so_many_holders_each_with_a_fence() {
    let mut machine = machine(4);
    let keys: Vec<_> = [1, 2]
        .into_iter()
        .map(|number| match machine.place(wish("sem", 2, number, true)) {
            LockPlace::Granted(entry) => entry.key().to_vec(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(keys, [b"sem/0".to_vec(), b"sem/1".to_vec()]);
    machine.done(wish("sem", 2, 3, true));
    assert_eq!(machine.refused(wish("sem", 3, 4, true)), Refusal::LockSlotsDiffer { key: "sem".into(), slots: 2, asked: 3 });
    let index = machine.done(release("sem", 1));
    assert_eq!(machine.holder("sem/0"), Some((id(3), index)));
    machine.done(release("sem/1", 2));
    machine.done(end(3, false));
    assert!(machine.tables.lock_queue(b"sem").is_none(), "nobody uses it any more");
    assert!(matches!(machine.place(wish("sem", 3, 4, true)), LockPlace::Granted(_)), "so that another number will do");
}

#[test]
fn a_slot_of_a_dead_holder_is_kept_free_while_others_are_used() {
    let mut machine = machine(4);
    machine.done(wish("sem", 2, 1, true));
    machine.done(wish("sem", 2, 2, true));
    machine.done(wish("sem", 2, 3, true));
    machine.done(wish("sem", 2, 4, true));
    machine.done(end(1, true));
    assert_eq!((machine.holder("sem/0"), machine.waiting("sem").len()), (None, 2));
    machine.done(release("sem", 2));
    assert_eq!(machine.holder("sem/1").map(|(holder, _)| holder), Some(id(3)));
    machine.now = 15_000;
    machine.done(Operation::Noop);
    assert_eq!(machine.holder("sem/0").map(|(holder, _)| holder), Some(id(4)));
}

#[test]
fn a_queue_has_a_limit() {
    let mut machine = Machine::default();
    machine.done(register(NODE, None, vec![]));
    for number in 0..WAITERS_MAX as u16 + 2 {
        machine.done(begin(number, 0, Behavior::Release));
    }
    for number in 0..WAITERS_MAX as u16 + 1 {
        machine.done(queue("lock", number));
    }
    let full = machine.refused(queue("lock", WAITERS_MAX as u16 + 1));
    assert_eq!(full, Refusal::LockQueueFull { key: "lock".into(), limit: WAITERS_MAX });
    machine.done(wish("sem", SLOTS_MAX, 1, true));
    assert!(machine.value("sem/0").is_some());
}
