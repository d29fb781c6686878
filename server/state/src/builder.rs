//! Tables from rows: how state comes back from disk or from a snapshot.

use std::sync::Arc;

use imbl::OrdMap;

use crate::catalog::check::Check;
use crate::catalog::edit::join;
use crate::catalog::node::{Node, NodeView, name_key};
use crate::catalog::service::{Service, ServiceView};
use crate::id::{LogIndex, Millis, Str};
use crate::row::Row;
use crate::tables::Tables;
use crate::tombstone::Tombstone;

/// Collects rows in any order and joins them at the end.
#[derive(Default)]
pub struct TablesBuilder {
    tables: Tables,
    nodes: Vec<(Arc<Node>, LogIndex)>,
    services: Vec<Arc<Service>>,
    checks: Vec<Arc<Check>>,
    service_indexes: Vec<(Str, LogIndex, Option<Millis>)>,
}

/// Rows that do not fit together: what was stored is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} `{id}` belongs to node `{node}`, which is not stored")]
pub struct Orphan {
    kind: &'static str,
    id: Str,
    node: Str,
}

impl TablesBuilder {
    /// Takes one row.
    pub fn push(&mut self, row: Row) {
        match row {
            Row::Kv(entry) => {
                if let Some(session) = entry.session() {
                    self.tables.locks.insert((session, entry.key().into()));
                }
                self.tables.kv.insert(entry);
            }
            Row::Tombstone { key, prefix, tombstone } => self.tables.bury(key, prefix, tombstone),
            Row::Node(node, index) => self.nodes.push((node, index)),
            Row::Service(service) => self.services.push(service),
            Row::Check(check) => self.checks.push(check),
            Row::ServiceIndex { name, index, gone } => self.service_indexes.push((name, index, gone)),
            Row::Session(session) => self.tables.insert_session(session),
            Row::LockDelay(key, until) => self.tables.insert_lock_delay(key, until),
            Row::LockQueue(key, slots) => self.tables.insert_queue(key, slots),
            Row::LockWaiter(key, waiter) => self.tables.insert_waiter(key, waiter),
            Row::Staged(sequence, rows) => drop(self.tables.staged.insert(sequence, rows)),
            Row::Autopilot(autopilot) => self.tables.autopilot = Some(autopilot),
            Row::Meta(meta) => self.tables.meta = meta,
        }
    }

    /// Joins what was taken. An error means that the stored rows contradict each other.
    pub fn finish(mut self) -> Result<Tables, Orphan> {
        let mut views: std::collections::BTreeMap<Str, NodeView> = Default::default();
        for (node, index) in self.nodes {
            if !node.id.is_empty() {
                self.tables.node_ids.insert(node.id.to_lowercase().into(), name_key(&node.name));
            }
            views.insert(name_key(&node.name), NodeView { node, services: OrdMap::new(), checks: OrdMap::new(), index });
        }
        for service in self.services {
            let view = views.get_mut(&name_key(&service.node));
            let view = view.ok_or_else(|| Orphan { kind: "service", id: service.id.clone(), node: service.node.clone() })?;
            view.services.insert(service.id.clone(), service);
        }
        for check in self.checks {
            let view = views.get_mut(&name_key(&check.node));
            let view = view.ok_or_else(|| Orphan { kind: "check", id: check.id.clone(), node: check.node.clone() })?;
            view.checks.insert(check.id.clone(), check);
        }
        let mut services: std::collections::BTreeMap<Str, ServiceView> = Default::default();
        for (key, view) in &views {
            for service in view.services.values() {
                services.entry(name_key(&service.name)).or_default().put(key, join(view, service));
            }
        }
        for (name, index, gone) in self.service_indexes {
            match (services.get_mut(&name), gone) {
                (Some(view), _) => view.index = index,
                (None, Some(at)) => {
                    self.tables.extinct.insert(name, Tombstone { index, at });
                }
                (None, None) => {}
            }
        }
        self.tables.nodes = views.into_iter().map(|(key, view)| (key, Arc::new(view))).collect();
        self.tables.services = services.into_iter().map(|(key, view)| (key, Arc::new(view))).collect();
        Ok(self.tables)
    }
}
