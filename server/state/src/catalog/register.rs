//! Registration: an upsert of a node, and on it perhaps a service and checks.
//!
//! A registration that says what already stands there changes nothing and wakes nobody. All rows
//! are first worked out against the present state; the joined instances that readers and watchers
//! see are rebuilt once, at the end, by [`Edit::finish`].

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::apply::Effects;
use crate::catalog::check::{Check, Status};
use crate::catalog::node::{Node, NodeView, name_key};
use crate::catalog::service::{Instance, Service, ServiceSummary, ServiceView};
use crate::change::Change;
use crate::command::{CheckInput, NodeInput, Registration, ServiceInput};
use crate::id::{LogIndex, Str};
use crate::outcome::{Outcome, Refusal};
use crate::row::RowKey;
use crate::tables::Tables;
use crate::tombstone::Tombstone;

/// The check by which the leader says whether a node is reachable.
pub const SERF_HEALTH: &str = "serfHealth";

/// Applies a registration, or says why not; a refusal leaves the tables as they were.
pub(crate) fn register(tables: &mut Tables, index: LogIndex, request: &Registration, effects: &mut Effects) -> Result<Outcome, Refusal> {
    let renamed_from = renamed_from(tables, &request.node)?;
    validate_checks(tables, renamed_from.as_ref(), request)?;
    if let Some(old) = renamed_from {
        rename(tables, index, &old, &request.node, effects);
    }
    let mut edit = Edit::new(tables, index, &request.node.name, effects);
    if edit.view.is_none() || !request.skip_node_update {
        edit.put_node(&request.node);
    }
    if let Some(service) = &request.service {
        edit.put_service(service);
    }
    for check in &request.checks {
        edit.put_check(check);
    }
    edit.finish();
    Ok(Outcome::DONE)
}

/// The compared form of the name that the node with this id has so far, if it differs from the
/// one it asks for. A living node's name or id is not given away.
fn renamed_from(tables: &Tables, node: &NodeInput) -> Result<Option<Str>, Refusal> {
    if node.id.is_empty() {
        return Ok(None);
    }
    let conflict = |holder: &NodeView| Refusal::NodeConflict {
        name: node.name.clone(),
        id: node.id.clone(),
        holder_id: holder.node.id.clone(),
        holder_address: holder.node.address.clone(),
    };
    let key = name_key(&node.name);
    if let Some(holder) = tables.nodes.get(&key)
        && !holder.node.id.is_empty()
        && !holder.node.id.eq_ignore_ascii_case(&node.id)
        && is_alive(holder)
    {
        return Err(conflict(holder));
    }
    let id: Str = node.id.to_lowercase().into();
    let Some(old_key) = tables.node_ids.get(&id).filter(|old| **old != key) else { return Ok(None) };
    match tables.nodes.get(old_key) {
        Some(old) if is_alive(old) => Err(conflict(old)),
        Some(_) => Ok(Some(old_key.clone())),
        None => Ok(None),
    }
}

fn is_alive(view: &NodeView) -> bool {
    view.checks.get(SERF_HEALTH).is_some_and(|check| check.status == Status::Passing)
}

/// Every check must name an instance that exists, or that this very registration brings.
fn validate_checks(tables: &Tables, renamed_from: Option<&Str>, request: &Registration) -> Result<(), Refusal> {
    let key = name_key(&request.node.name);
    let known = |id: &Str| {
        let own = request.service.as_ref().is_some_and(|service| service_id(service) == id);
        let view = tables.nodes.get(&key).or_else(|| tables.nodes.get(renamed_from?));
        own || view.is_some_and(|view| view.services.contains_key(id))
    };
    match request.checks.iter().find(|check| !check.service_id.is_empty() && !known(&check.service_id)) {
        None => Ok(()),
        Some(check) => Err(Refusal::UnknownService { node: request.node.name.clone(), service_id: check.service_id.clone() }),
    }
}

/// Moves everything from one node name to another.
fn rename(tables: &mut Tables, index: LogIndex, old: &Str, to: &NodeInput, effects: &mut Effects) {
    let Some(view) = tables.nodes.get(old).cloned() else { return };
    Edit::new(tables, index, old, effects).remove_node();
    let mut edit = Edit::new(tables, index, &to.name, effects);
    edit.put_node(to);
    for service in view.services.values() {
        edit.insert_service(Service { node: to.name.clone(), modify_index: index, ..(**service).clone() });
    }
    for check in view.checks.values() {
        edit.insert_check(Check { node: to.name.clone(), modify_index: index, ..(**check).clone() });
    }
    edit.finish();
}

pub(crate) fn service_id(service: &ServiceInput) -> &Str {
    if service.id.is_empty() { &service.name } else { &service.id }
}

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
}

impl<'a> Edit<'a> {
    /// Starts work on the node called `name`, which need not exist yet.
    pub(crate) fn new(tables: &'a mut Tables, index: LogIndex, name: &str, effects: &'a mut Effects) -> Self {
        let key = name_key(name);
        let view = tables.nodes.get(&key).map(|view| (**view).clone());
        Edit { tables, effects, index, key, view, changed: false, touched: BTreeMap::new() }
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
    fn insert_service(&mut self, service: Service) {
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

    fn insert_check(&mut self, check: Check) {
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
        let summary_before = summary(&view);
        match after {
            Some(instance) => view.put(&self.key, instance),
            None => view.remove(&self.key, &of.service.id),
        }
        view.index = self.index;
        let summary_after = summary(&view);
        if summary_before != summary_after {
            self.tables.meta.services_index = self.index;
            self.effects.changes.push(Change::Service { before: summary_before.map(Arc::new), after: summary_after.map(Arc::new) });
        }
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

impl ServiceView {
    /// Adds or replaces an instance, keeping the count of tags.
    pub(crate) fn put(&mut self, node_key: &Str, instance: Arc<Instance>) {
        let old = self.instances.insert((node_key.clone(), instance.service.id.clone()), instance.clone());
        if old.as_ref().is_some_and(|old| old.service.tags == instance.service.tags) {
            return;
        }
        for tag in &instance.service.tags {
            *self.tags.entry(tag.clone()).or_insert(0) += 1;
        }
        old.iter().for_each(|old| self.forget_tags(old));
    }

    /// Removes an instance, keeping the count of tags.
    pub(crate) fn remove(&mut self, node_key: &Str, service_id: &Str) {
        if let Some(old) = self.instances.remove(&(node_key.clone(), service_id.clone())) {
            self.forget_tags(&old);
        }
    }

    fn forget_tags(&mut self, instance: &Instance) {
        for tag in &instance.service.tags {
            match self.tags.get_mut(tag) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.tags.remove(tag);
                }
            }
        }
    }
}

fn summary(view: &ServiceView) -> Option<ServiceSummary> {
    let (_, first) = view.instances.get_min()?;
    Some(ServiceSummary { name: first.service.name.clone(), tags: view.tag_union() })
}
