//! One command's work on one node and all that is on it.
//!
//! Rows are worked out against a copy of the node. What readers and watchers see (the node, the
//! joined instances, the lines in the list of services) is rebuilt once, by [`Edit::finish`].

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::apply::Effects;
use crate::catalog::check::Check;
use crate::catalog::node::{Node, NodeView, name_key};
use crate::catalog::register::service_id;
use crate::catalog::service::{Instance, Service, ServiceSummary, ServiceView};
use crate::change::Change;
use crate::command::{CheckInput, NodeInput, ServiceInput};
use crate::id::{LogIndex, Str};
use crate::row::RowKey;
use crate::tables::Tables;
use crate::tombstone::Tombstone;

/// An instance with its node and the checks that decide on it.
pub(crate) fn join(view: &NodeView, service: &Arc<Service>) -> Arc<Instance> {
    let checks = view.checks_of(&service.id).cloned().collect();
    Arc::new(Instance::new(view.node.clone(), service.clone(), checks))
}

/// Work on one node and all that is on it. Nothing is visible in the tables before `finish`.
pub(crate) struct Edit<'a> {
    tables: &'a mut Tables,
    effects: &'a mut Effects,
    index: LogIndex,
    key: Str,
    pub(crate) view: Option<NodeView>,
    changed: bool,
    /// Instances to rejoin, each with what readers saw before.
    touched: BTreeMap<Str, Option<Arc<Instance>>>,
    /// Services whose instances changed, each as the list of services showed it before.
    summaries: BTreeMap<Str, Option<ServiceSummary>>,
}

impl<'a> Edit<'a> {
    /// Starts work on the node called `name`, which need not exist yet.
    pub(crate) fn new(tables: &'a mut Tables, index: LogIndex, name: &str, effects: &'a mut Effects) -> Self {
        let key = name_key(name);
        let view = tables.nodes.get(&key).map(|view| (**view).clone());
        Edit { tables, effects, index, key, view, changed: false, touched: BTreeMap::new(), summaries: BTreeMap::new() }
    }

    /// Upserts the node's own row.
    pub(crate) fn put_node(&mut self, input: &NodeInput) {
        let before = self.view.as_ref().map(|view| view.node.clone());
        let old = before.as_deref();
        let id = match old {
            Some(old) if input.id.is_empty() => old.id.clone(),
            _ => input.id.clone(),
        };
        let mut node = Node {
            id,
            name: input.name.clone(),
            address: input.address.clone(),
            datacenter: input.datacenter.clone(),
            tagged_addresses: input.tagged_addresses.clone(),
            meta: input.meta.clone(),
            create_index: old.map_or(self.index, |old| old.create_index),
            modify_index: old.map_or(self.index, |old| old.modify_index),
        };
        if old == Some(&node) {
            return;
        }
        node.modify_index = self.index;
        if let Some(old) = old.filter(|old| !old.id.is_empty()) {
            self.tables.node_ids.remove(&Str::from(old.id.to_lowercase()));
        }
        if !node.id.is_empty() {
            self.tables.node_ids.insert(node.id.to_lowercase().into(), self.key.clone());
        }
        let after = Arc::new(node);
        match &mut self.view {
            Some(view) => view.node = after.clone(),
            None => {
                let view = NodeView { node: after.clone(), services: OrdMap::new(), checks: OrdMap::new(), index: self.index };
                self.view = Some(view);
            }
        }
        self.changed = true;
        self.tables.meta.nodes_index = self.index;
        self.effects.changes.push(Change::Node { before, after: Some(after) });
        self.touch_all();
    }

    /// Upserts an instance.
    pub(crate) fn put_service(&mut self, input: &ServiceInput) {
        let id = service_id(input).clone();
        let old = self.view().services.get(&id).cloned();
        let service = Service {
            node: self.view().node.name.clone(),
            id,
            name: input.name.clone(),
            tags: input.tags.clone(),
            address: input.address.clone(),
            port: input.port,
            socket_path: input.socket_path.clone(),
            meta: input.meta.clone(),
            tagged_addresses: input.tagged_addresses.clone(),
            weights: input.weights,
            enable_tag_override: input.enable_tag_override,
            kind: input.kind.clone(),
            create_index: old.as_ref().map_or(self.index, |old| old.create_index),
            modify_index: old.as_ref().map_or(self.index, |old| old.modify_index),
        };
        if old.as_deref() != Some(&service) {
            self.insert_service(Service { modify_index: self.index, ..service });
        }
    }

    /// Puts an instance's row, and copies its name and tags to its checks.
    pub(crate) fn insert_service(&mut self, service: Service) {
        let service = Arc::new(service);
        self.touch(&service.id);
        self.changed = true;
        self.effects.rows.push(RowKey::Service(self.key.clone(), service.id.clone()));
        let view = self.view.as_mut().expect("a node is put before anything on it");
        view.services.insert(service.id.clone(), service.clone());
        let copies: Vec<Check> = view
            .checks
            .values()
            .filter(|check| check.service_id == service.id)
            .filter(|check| check.service_name != service.name || check.service_tags != service.tags)
            .map(|check| Check {
                service_name: service.name.clone(),
                service_tags: service.tags.clone(),
                modify_index: self.index,
                ..(**check).clone()
            })
            .collect();
        for check in copies {
            self.insert_check(check);
        }
    }

    /// Upserts a check.
    pub(crate) fn put_check(&mut self, input: &CheckInput) {
        let id = if input.id.is_empty() { &input.name } else { &input.id };
        let view = self.view();
        let old = view.checks.get(id).cloned();
        let owner = view.services.get(&input.service_id);
        let check = Check {
            node: view.node.name.clone(),
            id: id.clone(),
            name: input.name.clone(),
            status: input.status,
            notes: input.notes.clone(),
            output: input.output.clone(),
            service_id: input.service_id.clone(),
            service_name: owner.map_or_else(|| "".into(), |service| service.name.clone()),
            service_tags: owner.map_or_else(Vec::new, |service| service.tags.clone()),
            kind: input.kind.clone(),
            interval_ms: input.interval_ms,
            timeout_ms: input.timeout_ms,
            definition: input.definition.clone(),
            create_index: old.as_ref().map_or(self.index, |old| old.create_index),
            modify_index: old.as_ref().map_or(self.index, |old| old.modify_index),
        };
        if old.as_deref() != Some(&check) {
            self.insert_check(Check { modify_index: self.index, ..check });
        }
    }

    pub(crate) fn insert_check(&mut self, check: Check) {
        let after = Arc::new(check);
        let view = self.view.as_mut().expect("a node is put before anything on it");
        let before = view.checks.insert(after.id.clone(), after.clone());
        let owners = [before.as_ref().map(|check| check.service_id.clone()), Some(after.service_id.clone())];
        self.check_changed(&after.id.clone(), before, Some(after), owners);
    }

    /// Removes a check and says whether it was there.
    pub(crate) fn remove_check(&mut self, id: &str) -> bool {
        let Some(view) = &mut self.view else { return false };
        let Some(before) = view.checks.remove(&Str::from(id)) else { return false };
        let owners = [Some(before.service_id.clone()), None];
        self.check_changed(&before.id.clone(), Some(before), None, owners);
        true
    }

    fn check_changed(&mut self, id: &Str, before: Option<Arc<Check>>, after: Option<Arc<Check>>, owners: [Option<Str>; 2]) {
        for owner in owners.into_iter().flatten() {
            if owner.is_empty() { self.touch_all() } else { self.touch(&owner) }
        }
        self.changed = true;
        self.tables.meta.checks_index = self.index;
        self.effects.rows.push(RowKey::Check(self.key.clone(), id.clone()));
        self.effects.changes.push(Change::Check { before, after });
    }

    /// Removes an instance with its checks and says whether it was there.
    pub(crate) fn remove_service(&mut self, id: &str) -> bool {
        let Some(view) = &self.view else { return false };
        let Some(service) = view.services.get(&Str::from(id)).cloned() else { return false };
        let checks: Vec<Str> = view.checks.values().filter(|check| check.service_id == service.id).map(|check| check.id.clone()).collect();
        self.touch(&service.id);
        for check in checks {
            self.remove_check(&check);
        }
        self.view.as_mut().expect("looked up above").services.remove(&service.id);
        self.changed = true;
        self.effects.rows.push(RowKey::Service(self.key.clone(), service.id.clone()));
        true
    }

    /// Removes the node with all that is on it and says how many rows that was.
    pub(crate) fn remove_node(mut self) -> u64 {
        let Some(view) = self.view.clone() else { return 0 };
        for id in view.services.keys() {
            self.remove_service(id);
        }
        for id in view.checks.keys() {
            self.remove_check(id);
        }
        if !view.node.id.is_empty() {
            self.tables.node_ids.remove(&Str::from(view.node.id.to_lowercase()));
        }
        self.tables.meta.nodes_index = self.index;
        self.effects.changes.push(Change::Node { before: Some(view.node), after: None });
        self.view = None;
        self.changed = true;
        self.finish();
        1 + view.services.len() as u64 + view.checks.len() as u64
    }

    /// Makes the work visible: the node's view, and the joined instances of every service touched.
    pub(crate) fn finish(mut self) {
        if !self.changed {
            return;
        }
        self.effects.rows.push(RowKey::Node(self.key.clone()));
        match &mut self.view {
            Some(view) => {
                view.index = self.index;
                self.tables.nodes.insert(self.key.clone(), Arc::new(view.clone()));
            }
            None => {
                self.tables.nodes.remove(&self.key);
            }
        }
        for (id, before) in std::mem::take(&mut self.touched) {
            let after = self.view.as_ref().and_then(|view| Some(join(view, view.services.get(&id)?)));
            self.replace_instance(before, after);
        }
        self.list_services();
    }

    /// Compares the lines in the list of services with what they were before this edit.
    fn list_services(&mut self) {
        for (name, before) in std::mem::take(&mut self.summaries) {
            let after = self.tables.services.get(&name).and_then(|view| summary(view));
            if before != after {
                self.tables.meta.services_index = self.index;
                self.effects.changes.push(Change::Service { before: before.map(Arc::new), after: after.map(Arc::new) });
            }
        }
    }

    /// Swaps one joined instance in the service, or the two services, that it belongs to.
    fn replace_instance(&mut self, before: Option<Arc<Instance>>, after: Option<Arc<Instance>>) {
        if before == after {
            return;
        }
        let names = [&before, &after].map(|side| side.as_ref().map(|instance| instance.service.name.clone()));
        let moved = names[0].as_ref().map(|name| name_key(name)) != names[1].as_ref().map(|name| name_key(name));
        if let (Some(gone), true) = (&before, moved) {
            self.edit_service(gone, None);
        }
        if let Some(now) = &after {
            self.edit_service(now, Some(now.clone()));
        }
        if let (true, Some(before), Some(after)) = (moved, &before, &after) {
            self.effects.changes.push(Change::Instance { before: Some(before.clone()), after: None });
            self.effects.changes.push(Change::Instance { before: None, after: Some(after.clone()) });
        } else {
            self.effects.changes.push(Change::Instance { before, after });
        }
    }

    fn edit_service(&mut self, of: &Instance, after: Option<Arc<Instance>>) {
        let name = name_key(&of.service.name);
        let mut view = self.tables.services.get(&name).map_or_else(ServiceView::default, |view| (**view).clone());
        self.summaries.entry(name.clone()).or_insert_with(|| summary(&view));
        match after {
            Some(instance) => view.put(&self.key, instance),
            None => view.remove(&self.key, &of.service.id),
        }
        view.index = self.index;
        if view.instances.is_empty() {
            self.tables.services.remove(&name);
            self.tables.extinct.insert(name.clone(), Tombstone { index: self.index, at: self.tables.meta.clock });
        } else {
            self.tables.extinct.remove(&name);
            self.tables.services.insert(name.clone(), Arc::new(view));
        }
        self.effects.rows.push(RowKey::ServiceIndex(name));
    }

    fn view(&self) -> &NodeView {
        self.view.as_ref().expect("a node is put before anything on it")
    }

    fn touch(&mut self, service_id: &Str) {
        if self.touched.contains_key(service_id) {
            return;
        }
        self.touched.insert(service_id.clone(), self.visible(service_id));
    }

    fn touch_all(&mut self) {
        let ids: Vec<Str> = self.view.iter().flat_map(|view| view.services.keys().cloned()).collect();
        ids.iter().for_each(|id| self.touch(id));
    }

    /// The joined instance as readers see it now.
    fn visible(&self, service_id: &Str) -> Option<Arc<Instance>> {
        let stored = self.tables.nodes.get(&self.key)?.services.get(service_id)?;
        let view = self.tables.services.get(&name_key(&stored.name))?;
        view.instances.get(&(self.key.clone(), service_id.clone())).cloned()
    }
}

fn summary(view: &ServiceView) -> Option<ServiceSummary> {
    let (_, first) = view.instances.get_min()?;
    Some(ServiceSummary { name: first.service.name.clone(), tags: view.tag_union() })
}
