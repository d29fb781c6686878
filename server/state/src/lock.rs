//! Locks that somebody waits for: the queue, the grants and the slots.
//!
//! A lock is a key that a session holds, whoever took it and by whichever call. Beside it may stand a
//! [`Queue`]: sessions in the order in which they came. Whatever frees a lock, be it a release, the
//! end of a session or the deletion of the key, grants it to the first of them *in the same
//! command*; where a lock delay runs, the first command after it does so. So there is no moment in
//! which a free lock could be taken by somebody who did not wait.
//!
//! A semaphore is a lock with slots, each of which is a key of its own: that of the lock, `/`, and the
//! number of the slot. So every grant has its own fence, and a session that ends frees its slots as
//! it frees its locks.

use std::sync::Arc;

use imbl::OrdMap;

use crate::apply::Effects;
use crate::change::Change;
use crate::command::LockAcquire;
use crate::id::{LogIndex, Millis, SessionId};
use crate::kv::KvEntry;
use crate::kv_write::{self, text};
use crate::outcome::{Outcome, Refusal};
use crate::row::RowKey;
use crate::tables::Tables;

/// Most slots of a semaphore: bounds the work of a command, which may look at each of them.
pub const SLOTS_MAX: u32 = 1024;

/// Most sessions that wait for one lock.
pub const WAITERS_MAX: usize = 10_000;

/// Most sessions that wait for all locks together.
pub const WAITERS_TOTAL_MAX: usize = 100_000;

/// A lock that somebody waits for, or that has slots in use.
#[derive(Clone, Debug, Default)]
pub struct Queue {
    /// How many may hold the lock at once; 0 is a lock without slots.
    pub slots: u32,
    /// Who waits, the first one first.
    pub waiters: OrdMap<LogIndex, Arc<Waiter>>,
}

/// Who waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiter {
    /// The index of the command that began the wait.
    pub ticket: LogIndex,
    /// The session.
    pub session: SessionId,
    /// What is written to the key with the grant.
    pub value: Box<[u8]>,
}

/// Where a session stands with a lock.
#[derive(Clone, Debug, PartialEq)]
pub enum LockPlace {
    /// It holds the lock; the entry is that of the key or of the slot, and carries the fence.
    Granted(KvEntry),
    /// It waits for it.
    Queued {
        /// Its place in time: the lower, the sooner.
        ticket: LogIndex,
    },
}

impl Tables {
    /// The queue of a lock, if it has one.
    pub fn lock_queue(&self, key: &[u8]) -> Option<&Arc<Queue>> {
        self.queues.get(key)
    }

    /// How many sessions wait for locks.
    pub fn lock_waiters(&self) -> usize {
        self.waits.len()
    }

    /// Where a session stands with a lock of so many slots; `None` when it neither holds it nor waits.
    pub fn lock_place(&self, key: &[u8], slots: u32, session: SessionId) -> Option<LockPlace> {
        if let Some(entry) = self.held(key, slots, session) {
            return Some(LockPlace::Granted(entry.clone()));
        }
        self.ticket(key, session).map(|ticket| LockPlace::Queued { ticket })
    }

    /// How many wait for the lock before the one with this ticket.
    pub fn lock_waiters_before(&self, key: &[u8], ticket: LogIndex) -> usize {
        self.queues.get(key).map_or(0, |queue| queue.waiters.range(..ticket).count())
    }

    /// The entries of a lock that are held: of the key itself, or of its slots in their order.
    pub fn lock_holders(&self, key: &[u8], slots: u32) -> impl Iterator<Item = &KvEntry> {
        slot_keys(key, slots).filter_map(|slot| self.kv.get(&*slot)).filter(|entry| entry.session().is_some())
    }

    /// The earliest time at which time alone may free a lock that somebody waits for.
    pub fn next_lock_grant(&self) -> Option<Millis> {
        if self.waits.is_empty() {
            return None;
        }
        self.lock_delay_order.get_min().map(|(until, _)| *until)
    }

    /// The next time after `now` at which a lock delay is over, whether or not somebody waits for it.
    pub fn next_lock_delay(&self, now: Millis) -> Option<Millis> {
        let first: (Millis, Arc<[u8]>) = (Millis(now.0.saturating_add(1)), Arc::default());
        self.lock_delay_order.range(first..).next().map(|(until, _)| *until)
    }

    pub(crate) fn insert_queue(&mut self, key: Arc<[u8]>, slots: u32) {
        Arc::make_mut(self.queues.entry(key).or_default()).slots = slots;
    }

    pub(crate) fn insert_waiter(&mut self, key: Arc<[u8]>, waiter: Arc<Waiter>) {
        self.waits.insert((waiter.session, key.clone()), waiter.ticket);
        Arc::make_mut(self.queues.entry(key).or_default()).waiters.insert(waiter.ticket, waiter);
    }

    fn held(&self, key: &[u8], slots: u32, session: SessionId) -> Option<&KvEntry> {
        self.lock_holders(key, slots).find(|entry| entry.session() == Some(session))
    }

    fn ticket(&self, key: &[u8], session: SessionId) -> Option<LogIndex> {
        self.waits.get(&(session, key.into())).copied()
    }

    /// The key or slot of a lock that may be taken now, whoever waits.
    fn free_slot(&self, key: &[u8], slots: u32) -> Option<Box<[u8]>> {
        let free = |slot: &[u8]| self.kv.get(slot).is_none_or(|entry| entry.session().is_none()) && self.lock_delay(slot).is_none();
        slot_keys(key, slots).find(|slot| free(slot))
    }

    /// The key of the queue that decides on the lock on `key`.
    fn queue_of(&self, key: &[u8]) -> Option<Arc<[u8]>> {
        if let Some((own, queue)) = self.queues.get_key_value(key)
            && queue.slots == 0
        {
            return Some(own.clone());
        }
        let at = key.iter().rposition(|byte| *byte == b'/')?;
        let number: u32 = std::str::from_utf8(&key[at + 1..]).ok()?.parse().ok()?;
        let (lock, queue) = self.queues.get_key_value(&key[..at])?;
        (number < queue.slots && *slot_key(lock, number) == *key).then(|| lock.clone())
    }
}

/// Takes a lock, or a place in its queue. Asking again changes nothing.
pub(crate) fn acquire(tables: &mut Tables, index: LogIndex, wish: &LockAcquire, effects: &mut Effects) -> Result<Outcome, Refusal> {
    let LockAcquire { key, slots, session, value, wait } = wish;
    if !tables.sessions.contains_key(session) {
        return Err(Refusal::UnknownSession { session: *session });
    }
    let queue = tables.queues.get(&**key);
    if let Some(queue) = queue.filter(|queue| queue.slots != *slots) {
        return Err(Refusal::LockSlotsDiffer { key: text(key), slots: queue.slots, asked: *slots });
    }
    let waiting = queue.map_or(0, |queue| queue.waiters.len());
    match tables.lock_place(key, *slots, *session) {
        Some(LockPlace::Queued { .. }) if !wait => return Err(in_the_way(tables, key, *slots)),
        Some(place) => return Ok(Outcome::Lock(place)),
        None => {}
    }
    if waiting == 0
        && let Some(slot) = tables.free_slot(key, *slots)
    {
        if *slots > 0 {
            open(tables, key, *slots, effects);
        }
        return Ok(Outcome::Lock(LockPlace::Granted(kv_write::grant(tables, index, &slot, *session, value, effects))));
    }
    if !wait {
        return Err(in_the_way(tables, key, *slots));
    }
    for (waiting, limit) in [(waiting, WAITERS_MAX), (tables.waits.len(), WAITERS_TOTAL_MAX)] {
        if waiting >= limit {
            return Err(Refusal::LockQueueFull { key: text(key), limit });
        }
    }
    let key = open(tables, key, *slots, effects);
    effects.rows.push(RowKey::LockWaiter(key.clone(), index));
    tables.insert_waiter(key.clone(), Arc::new(Waiter { ticket: index, session: *session, value: value.clone() }));
    // Time may have freed the lock without a command that granted it to who came before.
    grant_free(tables, index, &key, effects);
    let place = tables.lock_place(&key, *slots, *session);
    Ok(Outcome::Lock(place.unwrap_or(LockPlace::Queued { ticket: index })))
}

/// Gives back what a session holds of a lock, or its place in the queue.
pub(crate) fn release(
    tables: &mut Tables,
    index: LogIndex,
    key: &[u8],
    session: SessionId,
    token: LogIndex,
    effects: &mut Effects,
) -> Result<Outcome, Refusal> {
    if !tables.sessions.contains_key(&session) {
        return Err(Refusal::UnknownSession { session });
    }
    let slots = tables.queues.get(key).map_or(0, |queue| queue.slots);
    if let Some(entry) = tables.held(key, slots, session).cloned() {
        if token != LogIndex::ZERO && token != entry.fence() {
            return Err(Refusal::StaleFence { key: text(entry.key()), token, current: entry.fence() });
        }
        kv_write::unlock(tables, index, entry.key(), effects);
        return Ok(Outcome::Done { entry: tables.kv.get(entry.key()).cloned(), removed: 0 });
    }
    match tables.ticket(key, session) {
        Some(ticket) if token == LogIndex::ZERO => {
            leave(tables, key, ticket, effects);
            Ok(Outcome::DONE)
        }
        _ => Err(Refusal::LockNotHeld { key: text(key), session }),
    }
}

/// Takes a session that has ended out of every queue.
pub(crate) fn forget(tables: &mut Tables, session: SessionId, effects: &mut Effects) {
    let first: (SessionId, Arc<[u8]>) = (session, Arc::default());
    let waits = tables.waits.range(first..).take_while(|((other, _), _)| *other == session);
    let waits: Vec<(Arc<[u8]>, LogIndex)> = waits.map(|((_, key), ticket)| (key.clone(), *ticket)).collect();
    for (key, ticket) in waits {
        leave(tables, &key, ticket, effects);
    }
}

/// Grants the locks that this command, whose changes begin at `from`, has freed.
pub(crate) fn settle(tables: &mut Tables, index: LogIndex, from: usize, effects: &mut Effects) {
    if tables.queues.is_empty() {
        return;
    }
    let freed = effects.changes[from..].iter().filter_map(|change| match change {
        Change::KvPut { entry } if entry.session().is_none() => tables.queue_of(entry.key()),
        Change::KvDelete { entry } => tables.queue_of(entry.key()),
        _ => None,
    });
    let mut freed: Vec<Arc<[u8]>> = freed.collect();
    freed.sort();
    freed.dedup();
    for key in freed {
        grant_free(tables, index, &key, effects);
    }
}

/// The lock delay of a key is over.
pub(crate) fn over(tables: &mut Tables, key: &[u8], effects: &mut Effects) {
    if let Some(key) = tables.queue_of(key) {
        grant_free(tables, tables.meta.applied, &key, effects);
    }
}

/// A session has taken the lock on a key without regard to the queue, in which it need not wait now.
pub(crate) fn taken(tables: &mut Tables, key: &[u8], session: SessionId, effects: &mut Effects) {
    if let Some(lock) = tables.queue_of(key)
        && let Some(ticket) = tables.ticket(&lock, session)
    {
        leave(tables, &lock, ticket, effects);
    }
}

/// Who is to have the lock on `key` before everybody else.
pub(crate) fn first_in_line(tables: &Tables, key: &[u8]) -> Option<SessionId> {
    if tables.waits.is_empty() {
        return None;
    }
    let queue = tables.queues.get(&tables.queue_of(key)?)?;
    queue.waiters.get_min().map(|(_, first)| first.session)
}

/// Grants a lock, and each slot of it that is free, to those who wait.
fn grant_free(tables: &mut Tables, index: LogIndex, key: &Arc<[u8]>, effects: &mut Effects) {
    while let Some(queue) = tables.queues.get(key)
        && let Some((_, first)) = queue.waiters.get_min().cloned()
        && let Some(slot) = tables.free_slot(key, queue.slots)
    {
        kv_write::grant(tables, index, &slot, first.session, &first.value, effects);
        leave(tables, key, first.ticket, effects);
    }
    tidy(tables, key, effects);
}

/// The queue of a lock, with its row.
fn open(tables: &mut Tables, key: &[u8], slots: u32, effects: &mut Effects) -> Arc<[u8]> {
    if let Some((key, _)) = tables.queues.get_key_value(key) {
        return key.clone();
    }
    let key: Arc<[u8]> = key.into();
    tables.insert_queue(key.clone(), slots);
    effects.rows.push(RowKey::LockQueue(key.clone()));
    key
}

/// Takes one out of a queue.
fn leave(tables: &mut Tables, key: &[u8], ticket: LogIndex, effects: &mut Effects) {
    let Some((key, _)) = tables.queues.get_key_value(key) else { return };
    let key = key.clone();
    let Some(waiter) = tables.queues.get_mut(&key).and_then(|queue| Arc::make_mut(queue).waiters.remove(&ticket)) else { return };
    tables.waits.remove(&(waiter.session, key.clone()));
    effects.rows.push(RowKey::LockWaiter(key.clone(), ticket));
    tidy(tables, &key, effects);
}

/// Forgets a queue in which nobody waits, unless it has slots in use.
fn tidy(tables: &mut Tables, key: &Arc<[u8]>, effects: &mut Effects) {
    let Some(queue) = tables.queues.get(key) else { return };
    let used = queue.slots > 0 && tables.lock_holders(key, queue.slots).next().is_some();
    if queue.waiters.is_empty() && !used {
        tables.queues.remove(key);
        effects.rows.push(RowKey::LockQueue(key.clone()));
    }
}

/// Why a lock is not free: its holder, who comes first, or its lock delay.
fn in_the_way(tables: &Tables, key: &[u8], slots: u32) -> Refusal {
    let holder = tables.lock_holders(key, slots).find_map(KvEntry::session);
    let first = || tables.queues.get(key)?.waiters.get_min().map(|(_, first)| first.session);
    if let Some(holder) = holder.or_else(first) {
        return Refusal::LockHeld { key: text(key), holder };
    }
    let until = slot_keys(key, slots).filter_map(|slot| tables.lock_delay(&slot)).min();
    Refusal::LockDelay { key: text(key), remaining_ms: until.map_or(0, |until| until.0.saturating_sub(tables.meta.clock.0)) }
}

/// The keys that are locked for a lock of so many slots.
fn slot_keys(key: &[u8], slots: u32) -> impl Iterator<Item = Box<[u8]>> {
    let whole = (slots == 0).then(|| key.into());
    whole.into_iter().chain((0..slots).map(|number| slot_key(key, number)))
}

/// The key of one slot.
pub fn slot_key(key: &[u8], number: u32) -> Box<[u8]> {
    [key, b"/", number.to_string().as_bytes()].concat().into()
}
