//! The tables: every row the cluster agrees on, in persistent maps.
//!
//! Reads answer with [`Indexed`] values: beside the value stands the index that a reader reports,
//! and the index of the last change to exactly what was asked. The two differ for what is absent:
//! the reported index must never be 0 and must never go back, while a change to another row must
//! not look like a change to this one.

use std::ops::Bound;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use crate::autopilot::Autopilot;
use crate::catalog::check::Check;
use crate::catalog::node::{NodeView, name_key};
use crate::catalog::service::ServiceView;
use crate::id::{LogIndex, Millis, SessionId, Str};
use crate::kv::KvEntry;
use crate::lock::Queue;
use crate::row::{MetaRow, Row, RowKey};
use crate::session::Session;
use crate::tombstone::Tombstone;

/// All state. Cloning is O(1) and gives a snapshot that later commands do not touch.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    pub(crate) kv: OrdSet<KvEntry>,
    pub(crate) deleted_keys: OrdMap<Arc<[u8]>, Tombstone>,
    pub(crate) deleted_prefixes: OrdMap<Arc<[u8]>, Tombstone>,
    /// Tombstones of keys (`false`) and prefixes (`true`) in the order in which they expire.
    pub(crate) expiry: OrdSet<(LogIndex, Arc<[u8]>, bool)>,
    pub(crate) nodes: OrdMap<Str, Arc<NodeView>>,
    pub(crate) node_ids: OrdMap<Str, Str>,
    pub(crate) services: OrdMap<Str, Arc<ServiceView>>,
    pub(crate) extinct: OrdMap<Str, Tombstone>,
    pub(crate) sessions: OrdMap<SessionId, Arc<Session>>,
    /// Sessions by the compared form of their node's name.
    pub(crate) session_nodes: OrdSet<(Str, SessionId)>,
    /// When sessions may end, the earliest first.
    pub(crate) session_deadlines: OrdSet<(Millis, SessionId)>,
    /// Locked keys by holder.
    pub(crate) locks: OrdSet<(SessionId, Arc<[u8]>)>,
    /// Keys that nobody may lock yet, and until when.
    pub(crate) lock_delays: OrdMap<Arc<[u8]>, Millis>,
    /// The same in the order in which they are over.
    pub(crate) lock_delay_order: OrdSet<(Millis, Arc<[u8]>)>,
    /// Locks that somebody waits for, or that have slots in use.
    pub(crate) queues: OrdMap<Arc<[u8]>, Arc<Queue>>,
    /// Tickets by who waits and for which lock.
    pub(crate) waits: OrdMap<(SessionId, Arc<[u8]>), LogIndex>,
    /// How servers are looked after, once somebody has said so.
    pub(crate) autopilot: Option<Autopilot>,
    /// Parts of a restore that is under way: no state yet.
    pub(crate) staged: OrdMap<u64, Arc<[Row]>>,
    pub(crate) meta: MetaRow,
}

/// A value read from the tables, with its place in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Indexed<T> {
    /// What was asked for.
    pub value: T,
    /// What the answer reports: at least 1, and no smaller than it was when last asked as long as
    /// tombstones are remembered.
    pub index: LogIndex,
    /// The last command that changed exactly this; [`LogIndex::ZERO`] when none is remembered.
    /// A reader that has seen index `n` needs a new answer if and only if this is above `n`.
    pub changed: LogIndex,
}

impl<T> Indexed<T> {
    /// A value whose reported index is the index of its last change.
    pub fn exact(value: T, index: LogIndex) -> Self {
        Indexed { value, index: index.max(LogIndex(1)), changed: index }
    }

    /// The same place in time with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Indexed<U> {
        Indexed { value: f(self.value), index: self.index, changed: self.changed }
    }
}

impl Tables {
    /// The last command applied: the revision.
    pub fn applied(&self) -> LogIndex {
        self.meta.applied
    }

    /// The place in the log of the last command applied. It is behind the revision once a snapshot was
    /// restored that was ahead of the log.
    pub fn log_applied(&self) -> u64 {
        self.meta.applied.0 - self.meta.offset
    }

    /// The revision at which a snapshot was restored last; 0 if none was. Whatever anybody saw before is
    /// no more.
    pub fn restored(&self) -> LogIndex {
        self.meta.restored
    }

    /// The revision that the entry of the log at `index`, the next to be applied, makes.
    pub fn revision_of(&self, index: u64) -> LogIndex {
        LogIndex(index + self.meta.offset)
    }

    /// The latest time that a command carried.
    pub fn clock(&self) -> Millis {
        self.meta.clock
    }

    /// The table-wide numbers.
    pub fn meta(&self) -> &MetaRow {
        &self.meta
    }

    /// How many keys there are.
    pub fn kv_len(&self) -> usize {
        self.kv.len()
    }

    /// One key.
    pub fn kv_get(&self, key: &[u8]) -> Indexed<Option<KvEntry>> {
        match self.kv.get(key) {
            Some(entry) => Indexed::exact(Some(entry.clone()), entry.modify_index()),
            None => self.absent(self.deleted_at(key)).map(|()| None),
        }
    }

    /// The entries whose keys start with `prefix`, in key order.
    pub fn kv_range<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a KvEntry> + 'a {
        self.kv_range_after(prefix, None)
    }

    /// The entries under `prefix` whose keys are greater than `after`, in key order: one page
    /// follows another without holding anything in between.
    pub fn kv_range_after<'a>(&'a self, prefix: &'a [u8], after: Option<&'a [u8]>) -> impl Iterator<Item = &'a KvEntry> + 'a {
        let start: Bound<&[u8]> = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.kv.range::<_, [u8]>((start, Bound::Unbounded)).take_while(move |entry| entry.key().starts_with(prefix))
    }

    /// The place in time of everything under `prefix`: the latest change or deletion there.
    pub fn kv_prefix_index(&self, prefix: &[u8]) -> Indexed<()> {
        if prefix.is_empty() {
            return Indexed::exact((), self.meta.kv_index);
        }
        let deleted = self.deleted_under(prefix).max(self.meta.reaped);
        match self.kv_range(prefix).map(KvEntry::modify_index).max() {
            Some(latest) => Indexed::exact((), latest.max(deleted)),
            None => self.absent(deleted),
        }
    }

    /// A node with everything on it, by name without regard to case.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(&name_key(name))
    }

    /// A node by its whole id, without regard to case.
    pub fn node_of_id(&self, id: &str) -> Option<&Arc<NodeView>> {
        self.nodes.get(self.node_ids.get(&Str::from(id.to_lowercase()))?)
    }

    /// A node by name, by id, or by a unique prefix of at least two characters of its id.
    pub fn find_node(&self, name_or_id: &str) -> Option<&Arc<NodeView>> {
        if let Some(view) = self.node(name_or_id) {
            return Some(view);
        }
        if name_or_id.len() < 2 {
            return None;
        }
        let wanted: Str = name_or_id.to_lowercase().into();
        let mut matches = self.node_ids.range::<_, Str>(wanted.clone()..).take_while(|(id, _)| id.starts_with(&*wanted));
        let (_, key) = matches.next()?;
        if matches.next().is_some() {
            return None;
        }
        self.nodes.get(key)
    }

    /// All nodes in the order of their names.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.nodes.values()
    }

    /// How many nodes there are.
    pub fn nodes_len(&self) -> usize {
        self.nodes.len()
    }

    /// The place in time of the list of nodes.
    pub fn nodes_index(&self) -> LogIndex {
        self.meta.nodes_index
    }

    /// A service with all its instances, by name without regard to case.
    pub fn service(&self, name: &str) -> Indexed<Option<Arc<ServiceView>>> {
        if name.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
            return self.service_by_key(&name.to_lowercase());
        }
        self.service_by_key(name)
    }

    fn service_by_key(&self, key: &str) -> Indexed<Option<Arc<ServiceView>>> {
        match self.services.get(key) {
            Some(view) => Indexed::exact(Some(view.clone()), view.index),
            None => {
                let gone = self.extinct.get(key).map_or(LogIndex::ZERO, |tombstone| tombstone.index);
                let changed = gone.max(self.meta.extinct_reaped);
                let index = self.meta.services_index.max(changed).max(LogIndex(1));
                Indexed { value: None, index, changed }
            }
        }
    }

    /// All services in the order of their names.
    pub fn services(&self) -> impl Iterator<Item = (&Str, &Arc<ServiceView>)> {
        self.services.iter()
    }

    /// How many services there are.
    pub fn services_len(&self) -> usize {
        self.services.len()
    }

    /// The place in time of the list of services and their tags.
    pub fn services_index(&self) -> LogIndex {
        self.meta.services_index
    }

    /// All checks, by node and id.
    pub fn checks(&self) -> impl Iterator<Item = &Arc<Check>> {
        self.nodes.values().flat_map(|view| view.checks.values())
    }

    /// The place in time of all checks.
    pub fn checks_index(&self) -> LogIndex {
        self.meta.checks_index
    }

    /// What stands at `key` now; `None` when the row is gone.
    pub fn row(&self, key: &RowKey) -> Option<Row> {
        match key {
            RowKey::Kv(entry) => self.kv.get(entry.key()).cloned().map(Row::Kv),
            RowKey::Tombstone { key, prefix } => {
                let table = if *prefix { &self.deleted_prefixes } else { &self.deleted_keys };
                table.get(key).map(|tombstone| Row::Tombstone { key: key.clone(), prefix: *prefix, tombstone: *tombstone })
            }
            RowKey::Node(name) => self.nodes.get(name).map(|view| Row::Node(view.node.clone(), view.index)),
            RowKey::Service(node, id) => self.nodes.get(node)?.services.get(id).cloned().map(Row::Service),
            RowKey::Check(node, id) => self.nodes.get(node)?.checks.get(id).cloned().map(Row::Check),
            RowKey::ServiceIndex(name) => self.service_index_row(name),
            RowKey::Session(id) => self.sessions.get(id).cloned().map(Row::Session),
            RowKey::LockDelay(key) => self.lock_delays.get(key).map(|until| Row::LockDelay(key.clone(), *until)),
            RowKey::LockQueue(key) => self.queues.get(key).map(|queue| Row::LockQueue(key.clone(), queue.slots)),
            RowKey::LockWaiter(key, ticket) => {
                self.queues.get(key)?.waiters.get(ticket).map(|waiter| Row::LockWaiter(key.clone(), waiter.clone()))
            }
            RowKey::Staged(sequence) => self.staged.get(sequence).map(|rows| Row::Staged(*sequence, rows.clone())),
            RowKey::Autopilot => self.autopilot.map(Row::Autopilot),
            RowKey::Meta => Some(Row::Meta(self.meta)),
        }
    }

    /// Every row, for a snapshot: the order is the one that [`TablesBuilder`] likes best.
    pub fn rows(&self) -> impl Iterator<Item = Row> + '_ {
        let tombstones = |table: &OrdMap<Arc<[u8]>, Tombstone>, prefix: bool| {
            let rows = table.iter().map(move |(key, tombstone)| Row::Tombstone { key: key.clone(), prefix, tombstone: *tombstone });
            rows.collect::<Vec<_>>()
        };
        std::iter::once(Row::Meta(self.meta))
            .chain(self.kv.iter().cloned().map(Row::Kv))
            .chain(tombstones(&self.deleted_keys, false))
            .chain(tombstones(&self.deleted_prefixes, true))
            .chain(self.nodes.values().map(|view| Row::Node(view.node.clone(), view.index)))
            .chain(self.nodes.values().flat_map(|view| view.services.values().cloned().map(Row::Service)))
            .chain(self.nodes.values().flat_map(|view| view.checks.values().cloned().map(Row::Check)))
            .chain(self.services.keys().chain(self.extinct.keys()).filter_map(|name| self.service_index_row(name)))
            .chain(self.sessions.values().cloned().map(Row::Session))
            .chain(self.lock_delays.iter().map(|(key, until)| Row::LockDelay(key.clone(), *until)))
            .chain(self.queues.iter().map(|(key, queue)| Row::LockQueue(key.clone(), queue.slots)))
            .chain(
                self.queues
                    .iter()
                    .flat_map(|(key, queue)| queue.waiters.values().map(|waiter| Row::LockWaiter(key.clone(), waiter.clone()))),
            )
            .chain(self.autopilot.map(Row::Autopilot))
            .chain(self.staged.iter().map(|(sequence, rows)| Row::Staged(*sequence, rows.clone())))
    }

    fn service_index_row(&self, name: &Str) -> Option<Row> {
        if let Some(view) = self.services.get(name) {
            return Some(Row::ServiceIndex { name: name.clone(), index: view.index, gone: None });
        }
        let tombstone = self.extinct.get(name)?;
        Some(Row::ServiceIndex { name: name.clone(), index: tombstone.index, gone: Some(tombstone.at) })
    }

    /// The place in time of something that is not there: it reports the table's index, and counts
    /// as changed when its deletion is remembered.
    fn absent(&self, deleted: LogIndex) -> Indexed<()> {
        Indexed { value: (), index: self.meta.kv_index.max(LogIndex(1)), changed: deleted.max(self.meta.reaped) }
    }

    /// The latest remembered deletion of `key`, alone or with a prefix of it.
    fn deleted_at(&self, key: &[u8]) -> LogIndex {
        let own = self.deleted_keys.get(key).map_or(LogIndex::ZERO, |tombstone| tombstone.index);
        own.max(self.deleted_above(key))
    }

    /// The latest remembered deletion of anything under `prefix`.
    fn deleted_under(&self, prefix: &[u8]) -> LogIndex {
        let under = |table: &OrdMap<Arc<[u8]>, Tombstone>| {
            let start: Bound<&[u8]> = Bound::Included(prefix);
            let range = table.range::<_, [u8]>((start, Bound::Unbounded)).take_while(|(key, _)| key.starts_with(prefix));
            range.map(|(_, tombstone)| tombstone.index).max().unwrap_or_default()
        };
        under(&self.deleted_keys).max(under(&self.deleted_prefixes)).max(self.deleted_above(prefix))
    }

    /// The latest remembered deletion of a prefix that covers `key`.
    fn deleted_above(&self, key: &[u8]) -> LogIndex {
        if self.deleted_prefixes.is_empty() {
            return LogIndex::ZERO;
        }
        let covering = (0..=key.len()).filter_map(|len| self.deleted_prefixes.get(&key[..len]));
        covering.map(|tombstone| tombstone.index).max().unwrap_or_default()
    }
}
