//! Locks against a model that is too simple to be wrong.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::lock::{begin, end, id, kv_lock, machine, release, wish};
use super::*;
use crate::lock::slot_key;
use crate::{Behavior, SessionId};

/// What may happen to two locks and a semaphore.
#[derive(Clone, Debug)]
enum Step {
    Acquire { lock: usize, number: u16, wait: bool },
    Release { lock: usize, number: u16 },
    KvAcquire { lock: usize, number: u16 },
    KvRelease { lock: usize, number: u16 },
    Delete { lock: usize },
    End { number: u16, delays: bool },
    Begin { number: u16, delay: bool, delete: bool },
    Wait { ms: u64 },
}

/// The locks of the model, and their slots.
const LOCKS: [(&str, u32); 3] = [("a", 0), ("b", 0), ("sem", 2)];

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (lock, number) = (|| 0..LOCKS.len(), || 1..6u16);
    let step = prop_oneof![
        8 => (lock(), number(), prop::bool::weighted(0.8)).prop_map(|(lock, number, wait)| Step::Acquire { lock, number, wait }),
        5 => (lock(), number()).prop_map(|(lock, number)| Step::Release { lock, number }),
        1 => (lock(), number()).prop_map(|(lock, number)| Step::KvAcquire { lock, number }),
        1 => (lock(), number()).prop_map(|(lock, number)| Step::KvRelease { lock, number }),
        1 => lock().prop_map(|lock| Step::Delete { lock }),
        2 => (number(), any::<bool>()).prop_map(|(number, delays)| Step::End { number, delays }),
        4 => (number(), any::<bool>(), any::<bool>()).prop_map(|(number, delay, delete)| Step::Begin { number, delay, delete }),
        2 => (1..12_000u64).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 1..120)
}

/// Locks as one would explain them: who lives, who holds which slot, until when it is kept free, who
/// waits in which order.
#[derive(Default)]
struct Model {
    now: u64,
    alive: BTreeMap<u16, bool>,
    held: BTreeMap<(usize, usize), u16>,
    kept: BTreeMap<(usize, usize), u64>,
    lines: [Vec<u16>; LOCKS.len()],
}

impl Model {
    fn slots(lock: usize) -> usize {
        (LOCKS[lock].1 as usize).max(1)
    }

    fn free(&self, lock: usize) -> Option<usize> {
        let kept = |slot| self.kept.get(&(lock, slot)).is_some_and(|until| *until > self.now);
        (0..Self::slots(lock)).find(|slot| !self.held.contains_key(&(lock, *slot)) && !kept(*slot))
    }

    fn slot_of(&self, lock: usize, number: u16) -> Option<usize> {
        (0..Self::slots(lock)).find(|slot| self.held.get(&(lock, *slot)) == Some(&number))
    }

    fn settle(&mut self) {
        for lock in 0..LOCKS.len() {
            while let (Some(slot), false) = (self.free(lock), self.lines[lock].is_empty()) {
                let first = self.lines[lock].remove(0);
                self.held.insert((lock, slot), first);
            }
        }
    }

    fn take(&mut self, step: &Step) {
        // Time passes before anything else happens, and what it frees goes to those who wait.
        match *step {
            Step::Acquire { lock, number, wait } => {
                let known = self.slot_of(lock, number).is_some() || self.lines[lock].contains(&number);
                if !self.alive.contains_key(&number) || known {
                } else if wait {
                    self.lines[lock].push(number);
                } else if let (Some(slot), true) = (self.free(lock), self.lines[lock].is_empty()) {
                    self.held.insert((lock, slot), number);
                }
            }
            Step::Release { lock, number } => match self.slot_of(lock, number) {
                Some(slot) => drop(self.held.remove(&(lock, slot))),
                None => self.lines[lock].retain(|other| *other != number),
            },
            Step::KvAcquire { lock, number } => {
                // Of a semaphore, the first slot.
                let free = self.free(lock) == Some(0) && self.lines[lock].first().is_none_or(|first| *first == number);
                if self.alive.contains_key(&number) && free {
                    self.lines[lock].retain(|other| *other != number);
                    self.held.insert((lock, 0), number);
                }
            }
            Step::KvRelease { lock, number } => {
                if self.held.get(&(lock, 0)) == Some(&number) {
                    self.held.remove(&(lock, 0));
                }
            }
            Step::Delete { lock } => drop(self.held.remove(&(lock, 0))),
            Step::End { number, delays } => {
                let Some(delay) = self.alive.remove(&number) else { return };
                let lost: Vec<_> = self.held.iter().filter(|(_, holder)| **holder == number).map(|(slot, _)| *slot).collect();
                for slot in lost {
                    self.held.remove(&slot);
                    if delays && delay {
                        self.kept.insert(slot, self.now + 5000);
                    }
                }
                self.lines.iter_mut().for_each(|line| line.retain(|other| *other != number));
            }
            Step::Begin { number, delay, .. } => drop(self.alive.entry(number).or_insert(delay)),
            Step::Wait { ms } => self.now += ms,
        }
        self.settle();
    }
}

fn operation(step: &Step) -> Operation {
    let first = |lock: usize| match LOCKS[lock] {
        (key, 0) => key.to_owned(),
        (key, _) => String::from_utf8(slot_key(key.as_bytes(), 0).into()).unwrap(),
    };
    match *step {
        Step::Acquire { lock, number, wait } => wish(LOCKS[lock].0, LOCKS[lock].1, number, wait),
        Step::Release { lock, number } => release(LOCKS[lock].0, number),
        Step::KvAcquire { lock, number } => kv_lock(&first(lock), LockAction::Acquire(id(number))),
        Step::KvRelease { lock, number } => kv_lock(&first(lock), LockAction::Release(id(number))),
        Step::Delete { lock } => delete(&first(lock)),
        Step::End { number, delays } => end(number, delays),
        Step::Begin { number, delay, delete } => {
            begin(number, if delay { 5000 } else { 0 }, if delete { Behavior::Delete } else { Behavior::Release })
        }
        Step::Wait { .. } => Operation::Noop,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Never more holders than slots, first come first served, and tokens that grow.
    #[test]
    fn locks_behave_as_the_model_says(steps in steps()) {
        let mut machine = machine(0);
        let mut model = Model::default();
        let mut tokens: BTreeMap<String, u64> = BTreeMap::new();
        let mut grants: BTreeSet<(String, SessionId, u64)> = BTreeSet::new();
        for step in steps {
            // A semaphore that only key/value calls hold has no row that could tell its slots.
            let slots_known = |lock: usize| LOCKS[lock].1 == 0 || machine.tables.lock_queue(LOCKS[lock].0.as_bytes()).is_some();
            if let Step::Release { lock, .. } | Step::KvAcquire { lock, .. } = step
                && !slots_known(lock)
            {
                continue;
            }
            model.take(&step);
            machine.now = model.now;
            machine.run(operation(&step));
            for (lock, (key, slots)) in LOCKS.into_iter().enumerate() {
                for slot in 0..Model::slots(lock) {
                    let name = if slots == 0 { key.to_owned() } else { format!("{key}/{slot}") };
                    let holder = machine.holder(&name);
                    prop_assert_eq!(holder.map(|(holder, _)| holder), model.held.get(&(lock, slot)).map(|number| id(*number)), "{}", name);
                    if let Some((holder, token)) = holder && grants.insert((name.clone(), holder, token)) {
                        let last = tokens.insert(name, token);
                        prop_assert!(last.is_none_or(|last| last < token));
                    }
                }
                let line: Vec<_> = model.lines[lock].iter().map(|number| id(*number)).collect();
                prop_assert_eq!(machine.waiting(key), line, "{}", key);
            }
            prop_assert_eq!(machine.tables.lock_waiters(), model.lines.iter().map(Vec::len).sum::<usize>());
        }
    }
}
