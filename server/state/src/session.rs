//! Sessions: whether somebody is still there.
//!
//! A session is tied to a node, to checks of that node and, if it has a TTL, to being renewed. Locks
//! are held by sessions and end with them. Everything is decided by commands: a check that turns
//! critical or a node that goes ends its sessions in the very command that says so, and a session
//! that was not renewed is ended by a command of the leader's, which does nothing if a renewal came
//! before it in the log. The time of the last renewal is part of the row, so that a new leader
//! neither forgets it nor starts over.

use std::sync::Arc;

use crate::apply::Effects;
use crate::catalog::check::Status;
use crate::catalog::node::name_key;
use crate::change::Change;
use crate::id::{LogIndex, Millis, SessionId, Str};
use crate::kv_write;
use crate::lock;
use crate::outcome::{Outcome, Refusal};
use crate::row::RowKey;
use crate::tables::{Indexed, Tables};

/// The longest time for which keys stay free after their holder ended without releasing them.
pub const LOCK_DELAY_MS_MAX: u64 = 60_000;

/// What happens to the keys that a session holds when it ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Behavior {
    /// They are kept, and their locks released.
    #[default]
    Release,
    /// They are deleted.
    Delete,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    /// On request.
    Destroyed,
    /// It was not renewed in time.
    Expired,
    /// Its node was removed.
    NodeRemoved,
    /// One of its checks became critical.
    CheckCritical,
    /// One of its checks was removed.
    CheckRemoved,
}

/// The liveness of one holder.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Drawn by the proposer.
    pub id: SessionId,
    /// A name for people.
    pub name: Str,
    /// The node that it is tied to.
    pub node: Str,
    /// What happens to its keys when it ends.
    pub behavior: Behavior,
    /// It may end when it was not renewed for this long; `None` never expires.
    pub ttl_ms: Option<u64>,
    /// How long its keys stay free after it ended without a release.
    pub lock_delay_ms: u64,
    /// Checks of the node that it is tied to.
    pub node_checks: Vec<Str>,
    /// Checks of instances on the node that it is tied to.
    pub service_checks: Vec<Str>,
    /// When it was renewed last.
    pub renewed: Millis,
    /// The index of the command that began it.
    pub create_index: LogIndex,
    /// The index of the last command that changed it; renewals are none.
    pub modify_index: LogIndex,
}

impl Session {
    /// When it may end unless it is renewed.
    pub fn deadline(&self) -> Option<Millis> {
        Some(Millis(self.renewed.0.saturating_add(self.ttl_ms?)))
    }

    fn is_tied_to(&self, check: &str) -> bool {
        self.node_checks.iter().chain(&self.service_checks).any(|id| **id == *check)
    }
}

impl Tables {
    /// One session.
    pub fn session(&self, id: SessionId) -> Indexed<Option<Arc<Session>>> {
        match self.sessions.get(&id) {
            Some(session) => Indexed::exact(Some(session.clone()), session.modify_index),
            None => Indexed::exact(None, self.meta.sessions_index),
        }
    }

    /// All sessions by id.
    pub fn sessions(&self) -> impl Iterator<Item = &Arc<Session>> {
        self.sessions.values()
    }

    /// The place in time of the list of sessions.
    pub fn sessions_index(&self) -> LogIndex {
        self.meta.sessions_index
    }

    /// The earliest time at which a session may end for want of a renewal, and which one.
    pub fn next_session_deadline(&self) -> Option<(Millis, SessionId)> {
        self.session_deadlines.get_min().copied()
    }

    /// The sessions that may end at `now` for want of a renewal, the most overdue first.
    pub fn sessions_due(&self, now: Millis) -> impl Iterator<Item = SessionId> {
        self.session_deadlines.iter().take_while(move |(deadline, _)| *deadline <= now).map(|(_, id)| *id)
    }

    /// The keys whose locks a session holds, in key order.
    pub fn locks_of(&self, id: SessionId) -> impl Iterator<Item = &Arc<[u8]>> {
        let first: (SessionId, Arc<[u8]>) = (id, Arc::default());
        self.locks.range(first..).take_while(move |(holder, _)| *holder == id).map(|(_, key)| key)
    }

    /// Until when nobody may lock `key`, if that is not over.
    pub fn lock_delay(&self, key: &[u8]) -> Option<Millis> {
        self.lock_delays.get(key).copied().filter(|until| *until > self.meta.clock)
    }

    pub(crate) fn insert_session(&mut self, session: Arc<Session>) {
        if let Some(old) = self.sessions.insert(session.id, session.clone()) {
            self.forget_deadline(&old);
        }
        self.session_nodes.insert((name_key(&session.node), session.id));
        if let Some(deadline) = session.deadline() {
            self.session_deadlines.insert((deadline, session.id));
        }
    }

    fn remove_session(&mut self, id: SessionId) -> Option<Arc<Session>> {
        let session = self.sessions.remove(&id)?;
        self.session_nodes.remove(&(name_key(&session.node), id));
        self.forget_deadline(&session);
        Some(session)
    }

    fn forget_deadline(&mut self, session: &Session) {
        if let Some(deadline) = session.deadline() {
            self.session_deadlines.remove(&(deadline, session.id));
        }
    }

    pub(crate) fn insert_lock_delay(&mut self, key: Arc<[u8]>, until: Millis) {
        if let Some(old) = self.lock_delays.insert(key.clone(), until) {
            self.lock_delay_order.remove(&(old, key.clone()));
        }
        self.lock_delay_order.insert((until, key));
    }

    /// Forgets a few lock delays that are over; who waits for such a lock is granted it.
    pub(crate) fn reap_lock_delays(&mut self, at_most: usize, effects: &mut Effects) {
        for _ in 0..at_most {
            let Some((until, key)) = self.lock_delay_order.get_min().cloned() else { break };
            if until > self.meta.clock {
                break;
            }
            self.lock_delay_order.remove_min();
            self.lock_delays.remove(&key);
            effects.rows.push(RowKey::LockDelay(key.clone()));
            lock::over(self, &key, effects);
        }
    }
}

/// Begins a session, which carries everything but its times and indexes.
pub(crate) fn create(tables: &mut Tables, index: LogIndex, input: &Session, effects: &mut Effects) -> Result<Outcome, Refusal> {
    // The id was drawn at random: only the same proposal, made again, can have it.
    if let Some(session) = tables.sessions.get(&input.id) {
        return Ok(Outcome::Session(Some(session.clone())));
    }
    let unknown = || Refusal::UnknownNode { node: input.node.clone() };
    let view = tables.node(&input.node).ok_or_else(unknown)?;
    for id in input.node_checks.iter().chain(&input.service_checks) {
        match view.checks.get(id).map(|check| check.status) {
            Some(Status::Passing | Status::Warning) => {}
            status => return Err(Refusal::CheckNotPassing { check: id.clone(), status }),
        }
    }
    let (node, renewed) = (view.node.name.clone(), tables.meta.clock);
    let session = Arc::new(Session { node, renewed, create_index: index, modify_index: index, ..input.clone() });
    tables.insert_session(session.clone());
    tables.meta.sessions_index = index;
    effects.rows.push(RowKey::Session(session.id));
    effects.changes.push(Change::Session { before: None, after: Some(session.clone()), end: None });
    Ok(Outcome::Session(Some(session)))
}

/// Renews a session. Nobody is woken: renewals are no change that anybody watches.
pub(crate) fn renew(tables: &mut Tables, id: SessionId, effects: &mut Effects) -> Result<Outcome, Refusal> {
    let old = tables.sessions.get(&id).cloned().ok_or(Refusal::UnknownSession { session: id })?;
    let session = Arc::new(Session { renewed: tables.meta.clock, ..(*old).clone() });
    if session != old {
        tables.insert_session(session.clone());
        effects.rows.push(RowKey::Session(id));
    }
    Ok(Outcome::Session(Some(session)))
}

/// Ends a session on request, or because it was not renewed: then only if that is still so.
pub(crate) fn finish(
    tables: &mut Tables,
    index: LogIndex,
    id: SessionId,
    cause: SessionEnd,
    delays: bool,
    effects: &mut Effects,
) -> Outcome {
    let due = match (cause, tables.sessions.get(&id)) {
        (_, None) => false,
        (SessionEnd::Expired, Some(session)) => session.deadline().is_some_and(|deadline| deadline <= tables.meta.clock),
        (_, Some(_)) => true,
    };
    Outcome::Session(if due { end(tables, index, id, cause, delays, effects) } else { None })
}

/// Ends a session: its locks are released or its keys deleted, and kept free for the lock delay.
fn end(
    tables: &mut Tables,
    index: LogIndex,
    id: SessionId,
    cause: SessionEnd,
    delays: bool,
    effects: &mut Effects,
) -> Option<Arc<Session>> {
    let session = tables.remove_session(id)?;
    lock::forget(tables, id, effects);
    let keys: Vec<Arc<[u8]>> = tables.locks_of(id).cloned().collect();
    let delay = if delays { session.lock_delay_ms.min(LOCK_DELAY_MS_MAX) } else { 0 };
    for key in keys {
        match session.behavior {
            Behavior::Release => kv_write::unlock(tables, index, &key, effects),
            Behavior::Delete => kv_write::remove(tables, index, &key, effects),
        }
        if delay > 0 {
            let until = Millis(tables.meta.clock.0.saturating_add(delay));
            tables.insert_lock_delay(key.clone(), until);
            effects.rows.push(RowKey::LockDelay(key));
        }
    }
    tables.meta.sessions_index = index;
    effects.rows.push(RowKey::Session(id));
    effects.changes.push(Change::Session { before: Some(session.clone()), after: None, end: Some(cause) });
    Some(session)
}

/// Ends the sessions that depended on what this command, whose changes begin at `from`, took away:
/// a node, or a check that is gone or critical now.
pub(crate) fn invalidate(tables: &mut Tables, index: LogIndex, from: usize, effects: &mut Effects) {
    if tables.sessions.is_empty() {
        return;
    }
    let mut lost: Vec<(SessionId, SessionEnd)> = Vec::new();
    for change in &effects.changes[from..] {
        match change {
            Change::Node { before: Some(node), after: None } => {
                lost.extend(on_node(tables, &node.name).map(|session| (session.id, SessionEnd::NodeRemoved)));
            }
            Change::Check { before: Some(check), after: None } => {
                let tied = on_node(tables, &check.node).filter(|session| session.is_tied_to(&check.id));
                lost.extend(tied.map(|session| (session.id, SessionEnd::CheckRemoved)));
            }
            Change::Check { after: Some(check), .. } if check.status == Status::Critical => {
                let tied = on_node(tables, &check.node).filter(|session| session.is_tied_to(&check.id));
                lost.extend(tied.map(|session| (session.id, SessionEnd::CheckCritical)));
            }
            _ => {}
        }
    }
    // A node that goes takes its checks along; that the node went is the better reason.
    let of_node = |id: SessionId| lost.iter().any(|(other, cause)| *other == id && *cause == SessionEnd::NodeRemoved);
    let causes: Vec<_> = lost.iter().map(|(id, cause)| (*id, if of_node(*id) { SessionEnd::NodeRemoved } else { *cause })).collect();
    for (id, cause) in causes {
        end(tables, index, id, cause, true, effects);
    }
}

fn on_node<'a>(tables: &'a Tables, node: &str) -> impl Iterator<Item = &'a Arc<Session>> {
    let key = name_key(node);
    let first = (key.clone(), SessionId([0; 16]));
    let ids = tables.session_nodes.range(first..).take_while(move |(name, _)| *name == key);
    ids.filter_map(|(_, id)| tables.sessions.get(id))
}
