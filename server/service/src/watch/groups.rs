//! Who watches what: the interest index.
//!
//! A change finds the groups that it concerns by look-ups of exact names, never by asking every
//! watcher. Key prefixes are looked up by each length that is in use.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use slab::Slab;
use state::{Change, ChangeBatch, LogIndex, SessionId, Str};
use tokio::sync::Notify;

use super::delta::Delta;
use super::stream::{Inbox, WatchKey};
use super::target::{CheckScope, Target};

/// A place in a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    group: usize,
    member: usize,
}

/// One who is told.
pub(crate) enum Member {
    /// A blocked query: it only needs to know that something happened.
    Query(Arc<Notify>),
    /// A watch on a stream.
    Watch {
        inbox: Arc<Inbox>,
        key: WatchKey,
        /// Something was not delivered; the stream catches up from the ring.
        lagging: bool,
    },
}

struct Group {
    target: Target,
    members: Slab<Member>,
}

/// All groups.
#[derive(Default)]
pub(crate) struct Groups {
    groups: Slab<Group>,
    by_target: HashMap<Target, usize>,
    keys: HashMap<Box<[u8]>, usize>,
    prefixes: HashMap<Box<[u8]>, usize>,
    /// How many prefixes of each length are watched.
    prefix_lens: BTreeMap<usize, usize>,
    services: HashMap<Str, Vec<usize>>,
    nodes: HashMap<Str, usize>,
    checks: HashMap<CheckScope, usize>,
    holders: HashMap<SessionId, usize>,
    /// Groups of the lists: services, nodes, everything, sessions.
    lists: [Option<usize>; 4],
    /// Every batch up to here was handed out.
    pub(crate) position: LogIndex,
}

const SERVICES: usize = 0;
const NODES: usize = 1;
const CATALOG: usize = 2;
const SESSIONS: usize = 3;

impl Groups {
    /// Takes a seat in the group of `target`, which must be in its normalized form.
    pub(crate) fn join(&mut self, target: Target, member: Member) -> Seat {
        let group = match self.by_target.get(&target) {
            Some(group) => *group,
            None => self.open(target),
        };
        Seat { group, member: self.groups[group].members.insert(member) }
    }

    /// Gives a seat back.
    pub(crate) fn leave(&mut self, seat: Seat) {
        let group = &mut self.groups[seat.group];
        group.members.remove(seat.member);
        if group.members.is_empty() {
            self.close(seat.group);
        }
    }

    /// Lets a watch that has caught up take part again.
    pub(crate) fn caught_up(&mut self, seat: Seat) {
        if let Member::Watch { lagging, .. } = &mut self.groups[seat.group].members[seat.member] {
            *lagging = false;
        }
    }

    /// Whether something was not delivered to a watch.
    pub(crate) fn is_lagging(&self, seat: Seat) -> bool {
        matches!(self.groups[seat.group].members[seat.member], Member::Watch { lagging: true, .. })
    }

    /// How many queries and watches there are.
    pub(crate) fn len(&self) -> usize {
        self.groups.iter().map(|(_, group)| group.members.len()).sum()
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Hands a batch to everyone it concerns.
    pub(crate) fn dispatch(&mut self, batch: &ChangeBatch) {
        let mut concerned: Vec<usize> = Vec::new();
        for change in &batch.changes {
            self.route(change, &mut concerned);
        }
        concerned.sort_unstable();
        concerned.dedup();
        for id in concerned {
            let group = &mut self.groups[id];
            if let Some(delta) = Delta::project(&group.target, batch) {
                group.deliver(Arc::new(delta));
            }
        }
        self.position = batch.index;
    }

    /// Wakes everybody: what they know may be wrong.
    pub(crate) fn wake_all(&mut self) {
        for (_, group) in &mut self.groups {
            for (_, member) in &mut group.members {
                match member {
                    Member::Query(notify) => notify.notify_one(),
                    Member::Watch { inbox, lagging, .. } => {
                        *lagging = true;
                        inbox.note_lag();
                    }
                }
            }
        }
    }

    fn route(&self, change: &Change, concerned: &mut Vec<usize>) {
        match change {
            Change::KvPut { entry } | Change::KvDelete { entry } => {
                self.route_key(entry.key(), concerned);
                concerned.extend(entry.session().and_then(|holder| self.holders.get(&holder)));
            }
            Change::Instance { before, after } => {
                for instance in before.iter().chain(after) {
                    if let Some(groups) = lookup(&self.services, &instance.service.name) {
                        concerned.extend_from_slice(groups);
                    }
                    concerned.extend(lookup(&self.nodes, &instance.node.name));
                }
                concerned.extend(self.lists[CATALOG]);
            }
            Change::Node { before, after } => {
                for node in before.iter().chain(after) {
                    concerned.extend(lookup(&self.nodes, &node.name));
                }
                concerned.extend(self.lists[NODES].into_iter().chain(self.lists[CATALOG]));
            }
            Change::Check { before, after } => {
                for check in before.iter().chain(after) {
                    concerned.extend(lookup(&self.nodes, &check.node));
                    let scopes = [
                        CheckScope::Any,
                        CheckScope::Status(check.status),
                        CheckScope::Node(check.node.to_lowercase().into()),
                        CheckScope::Service(check.service_name.to_lowercase().into()),
                    ];
                    concerned.extend(scopes.iter().filter_map(|scope| self.checks.get(scope)));
                }
            }
            Change::Session { before, after, .. } => {
                concerned.extend(self.lists[SESSIONS]);
                let sessions = before.iter().chain(after);
                concerned.extend(sessions.filter_map(|session| self.holders.get(&session.id)));
            }
            Change::Service { .. } => concerned.extend(self.lists[SERVICES].into_iter().chain(self.lists[CATALOG])),
        }
    }

    fn route_key(&self, key: &[u8], concerned: &mut Vec<usize>) {
        concerned.extend(self.keys.get(key));
        for len in self.prefix_lens.keys().take_while(|len| **len <= key.len()) {
            concerned.extend(self.prefixes.get(&key[..*len]));
        }
    }

    fn open(&mut self, target: Target) -> usize {
        let id = self.groups.insert(Group { target: target.clone(), members: Slab::new() });
        match &target {
            Target::KvKey(key) => drop(self.keys.insert(key.clone(), id)),
            Target::KvPrefix(prefix) => {
                self.prefixes.insert(prefix.clone(), id);
                *self.prefix_lens.entry(prefix.len()).or_insert(0) += 1;
            }
            Target::Service { name, .. } => self.services.entry(name.clone()).or_default().push(id),
            Target::Node(name) => drop(self.nodes.insert(name.clone(), id)),
            Target::Checks(scope) => drop(self.checks.insert(scope.clone(), id)),
            Target::Services => self.lists[SERVICES] = Some(id),
            Target::Nodes => self.lists[NODES] = Some(id),
            Target::Catalog => self.lists[CATALOG] = Some(id),
            Target::Sessions => self.lists[SESSIONS] = Some(id),
            Target::Holder(session) => drop(self.holders.insert(*session, id)),
        }
        self.by_target.insert(target, id);
        id
    }

    fn close(&mut self, id: usize) {
        let target = self.groups.remove(id).target;
        self.by_target.remove(&target);
        match &target {
            Target::KvKey(key) => drop(self.keys.remove(key)),
            Target::KvPrefix(prefix) => {
                self.prefixes.remove(prefix);
                if let Some(count) = self.prefix_lens.get_mut(&prefix.len()) {
                    *count -= 1;
                    if *count == 0 {
                        self.prefix_lens.remove(&prefix.len());
                    }
                }
            }
            Target::Service { name, .. } => {
                if let Some(groups) = self.services.get_mut(name) {
                    groups.retain(|group| *group != id);
                    if groups.is_empty() {
                        self.services.remove(name);
                    }
                }
            }
            Target::Node(name) => drop(self.nodes.remove(name)),
            Target::Checks(scope) => drop(self.checks.remove(scope)),
            Target::Services => self.lists[SERVICES] = None,
            Target::Nodes => self.lists[NODES] = None,
            Target::Catalog => self.lists[CATALOG] = None,
            Target::Sessions => self.lists[SESSIONS] = None,
            Target::Holder(session) => drop(self.holders.remove(session)),
        }
    }
}

impl Group {
    fn deliver(&mut self, delta: Arc<Delta>) {
        for (_, member) in &mut self.members {
            match member {
                Member::Query(notify) => notify.notify_one(),
                Member::Watch { lagging: true, .. } => {}
                Member::Watch { inbox, key, lagging } => {
                    if !inbox.offer(*key, &delta) {
                        *lagging = true;
                        inbox.note_lag();
                    }
                }
            }
        }
    }
}

/// Looks a name up in a table of lower-case names.
fn lookup<'a, T>(table: &'a HashMap<Str, T>, name: &str) -> Option<&'a T> {
    if table.is_empty() {
        return None;
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) { table.get(&*name.to_lowercase()) } else { table.get(name) }
}
