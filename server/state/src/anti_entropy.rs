//! Anti-entropy: what must be written so that the catalog shows what a node's own agent says.
//!
//! The agent is right about its own node (Demers 1987 calls the repair of a copy *anti-entropy*).
//! [`diff`] compares everything and also finds what the catalog has beyond the agent; [`diff_of`]
//! looks only at what is known to have changed. Both are pure, and once their operations are
//! applied they find nothing more to do. What was written without an answer is in doubt, and is written
//! until there is one. The service `consul` and the check `serfHealth` are kept by the
//! leader: an agent never writes or removes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;

use crate::catalog::check::{Check, CheckDefinition};
use crate::catalog::node::{Node, NodeView};
use crate::catalog::register::SERF_HEALTH;
use crate::catalog::service::Service;
use crate::command::{CheckInput, Deregistration, NodeInput, Operation, Registration, ServiceInput};
use crate::id::Str;

/// The service by which servers are found; kept by the leader.
pub const SERVER_SERVICE: &str = "consul";

/// Most checks in one registration, so that a command stays small.
const CHECKS_PER_COMMAND_MAX: usize = 64;

/// What an agent says about its node.
#[derive(Clone, Copy, Debug)]
pub struct Local<'a> {
    /// The node itself.
    pub node: &'a NodeInput,
    /// Its instances by id.
    pub services: &'a OrdMap<Str, Arc<Service>>,
    /// Its checks by id.
    pub checks: &'a OrdMap<Str, Arc<Check>>,
    /// Checks whose output is not compared: it is written later.
    pub deferred: &'a BTreeSet<Str>,
    /// What was written without an answer. The catalog may come to show it at any time, so it is
    /// written again whatever the catalog shows now.
    pub in_doubt: &'a Scope,
}

/// Ids of instances and checks to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Instances.
    pub services: BTreeSet<Str>,
    /// Checks.
    pub checks: BTreeSet<Str>,
}

impl Scope {
    /// Whether there is nothing to look at.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty() && self.checks.is_empty()
    }

    /// Everything an operation of [`diff`] is about.
    pub fn of(operation: &Operation) -> Scope {
        let mut scope = Scope::default();
        match operation {
            Operation::Register(registration) => {
                scope.services.extend(registration.service.iter().map(|service| service.id.clone()));
                scope.checks.extend(registration.checks.iter().map(|check| check.id.clone()));
            }
            Operation::Deregister(request) => {
                scope.services.extend(request.service_id.clone());
                scope.checks.extend(request.check_id.clone());
            }
            _ => {}
        }
        scope
    }

    /// Looks at what `other` names as well.
    pub fn add(&mut self, other: &Scope) {
        self.services.extend(other.services.iter().cloned());
        self.checks.extend(other.checks.iter().cloned());
    }

    /// Looks no more at what `other` names.
    pub fn remove(&mut self, other: &Scope) {
        self.services.retain(|id| !other.services.contains(id));
        self.checks.retain(|id| !other.checks.contains(id));
    }
}

/// Everything that must be written so that the catalog's `catalog` equals `local`.
pub fn diff(local: &Local<'_>, catalog: Option<&NodeView>) -> Vec<Operation> {
    let mut scope = Scope { services: local.services.keys().cloned().collect(), checks: local.checks.keys().cloned().collect() };
    scope.add(local.in_doubt);
    if let Some(view) = catalog {
        scope.services.extend(view.services.keys().cloned());
        scope.checks.extend(view.checks.keys().cloned());
    }
    diff_of(local, catalog, &scope)
}

/// What must be written so that the catalog is right about what `scope` names, and about the node
/// itself. Registrations come first, each with the checks of its instance, then removals; the
/// operations may be applied in any order.
pub fn diff_of(local: &Local<'_>, catalog: Option<&NodeView>, scope: &Scope) -> Vec<Operation> {
    let mut operations = registrations(local, catalog, scope);
    operations.extend(removals(local, catalog, scope).map(Operation::Deregister));
    operations
}

/// Instances whose tags were changed in the catalog and are to be taken over, with those tags:
/// that is what `enable_tag_override` asks for.
pub fn overridden_tags(services: &OrdMap<Str, Arc<Service>>, catalog: &NodeView) -> Vec<(Str, Vec<Str>)> {
    let open = services.values().filter(|service| service.enable_tag_override);
    let pairs = open.filter_map(|service| Some((service, catalog.services.get(&service.id)?)));
    pairs.filter(|(own, seen)| own.tags != seen.tags).map(|(own, seen)| (own.id.clone(), seen.tags.clone())).collect()
}

/// A registration that says what `service` says.
pub fn service_input(service: &Service) -> ServiceInput {
    ServiceInput {
        id: service.id.clone(),
        name: service.name.clone(),
        tags: service.tags.clone(),
        address: service.address.clone(),
        port: service.port,
        socket_path: service.socket_path.clone(),
        meta: service.meta.clone(),
        tagged_addresses: service.tagged_addresses.clone(),
        weights: service.weights,
        enable_tag_override: service.enable_tag_override,
        kind: service.kind.clone(),
    }
}

/// A registration that says what `check` says. How it is run is nobody's business but the agent's.
pub fn check_input(check: &Check) -> CheckInput {
    CheckInput {
        id: check.id.clone(),
        name: check.name.clone(),
        status: check.status,
        notes: check.notes.clone(),
        output: check.output.clone(),
        service_id: check.service_id.clone(),
        kind: check.kind.clone(),
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        definition: CheckDefinition::default(),
    }
}

/// What is to be written of one instance, or of the node.
#[derive(Default)]
struct Part {
    service: Option<ServiceInput>,
    checks: Vec<CheckInput>,
}

fn registrations(local: &Local<'_>, catalog: Option<&NodeView>, scope: &Scope) -> Vec<Operation> {
    let mut parts: BTreeMap<Str, Part> = BTreeMap::new();
    let in_catalog = |id: &Str| catalog.and_then(|view| view.services.get(id)).filter(|_| !local.in_doubt.services.contains(id));
    for service in scope.services.iter().filter_map(|id| local.services.get(id)) {
        let known = in_catalog(&service.id).is_some_and(|seen| same_service(service, seen));
        if !known && &*service.id != SERVER_SERVICE {
            parts.entry(service.id.clone()).or_default().service = Some(service_input(service));
        }
    }
    for check in scope.checks.iter().filter_map(|id| local.checks.get(id)) {
        let seen = catalog.and_then(|view| view.checks.get(&check.id)).filter(|_| !local.in_doubt.checks.contains(&check.id));
        let known = seen.is_some_and(|seen| same_check(check, seen, local.deferred.contains(&check.id)));
        if known || &*check.id == SERF_HEALTH || &*check.service_id == SERVER_SERVICE {
            continue;
        }
        let part = parts.entry(check.service_id.clone()).or_default();
        part.checks.push(check_input(check));
        if part.service.is_none() && in_catalog(&check.service_id).is_none() {
            part.service = local.services.get(&check.service_id).map(|service| service_input(service));
        }
    }
    let node_known = catalog.is_some_and(|view| same_node(local.node, &view.node));
    if !node_known && parts.is_empty() {
        parts.insert("".into(), Part::default());
    }
    parts.into_values().flat_map(|part| commands(local.node, node_known, part)).collect()
}

/// One command for a part, or several where it has many checks; each brings the instance, so that
/// none depends on another.
fn commands(node: &NodeInput, node_known: bool, mut part: Part) -> Vec<Operation> {
    let mut commands = Vec::new();
    loop {
        let rest = part.checks.split_off(part.checks.len().min(CHECKS_PER_COMMAND_MAX));
        let registration =
            Registration { node: node.clone(), skip_node_update: node_known, service: part.service.clone(), checks: part.checks };
        commands.push(Operation::Register(Box::new(registration)));
        if rest.is_empty() {
            return commands;
        }
        part.checks = rest;
    }
}

fn removals<'a>(local: &'a Local<'_>, catalog: Option<&'a NodeView>, scope: &'a Scope) -> impl Iterator<Item = Deregistration> + 'a {
    let in_catalog = move |id: &Str| catalog.is_some_and(|view| view.services.contains_key(id)) || local.in_doubt.services.contains(id);
    let stray_service = move |id: &&Str| &***id != SERVER_SERVICE && in_catalog(id) && !local.services.contains_key(*id);
    let goes_with_its_service = move |check: &Check| {
        let id = &check.service_id;
        &**id == SERVER_SERVICE || (scope.services.contains(id) && stray_service(&id))
    };
    let stray_check = move |id: &&Str| {
        let seen = catalog.and_then(|view| view.checks.get(*id));
        let to_remove = seen.map_or(local.in_doubt.checks.contains(*id), |check| !goes_with_its_service(check));
        &***id != SERF_HEALTH && !local.checks.contains_key(*id) && to_remove
    };
    let node = &local.node.name;
    let services = scope.services.iter().filter(stray_service);
    let checks = scope.checks.iter().filter(stray_check);
    let services = services.map(|id| Deregistration { node: node.clone(), service_id: Some(id.clone()), check_id: None });
    services.chain(checks.map(|id| Deregistration { node: node.clone(), service_id: None, check_id: Some(id.clone()) }))
}

fn same_node(own: &NodeInput, seen: &Node) -> bool {
    (own.id.is_empty() || own.id.eq_ignore_ascii_case(&seen.id))
        && own.name == seen.name
        && own.address == seen.address
        && own.datacenter == seen.datacenter
        && own.tagged_addresses == seen.tagged_addresses
        && own.meta == seen.meta
}

/// Whether both say the same, but for what only the catalog knows.
fn same_service(own: &Service, seen: &Service) -> bool {
    let seen_by = Service { node: seen.node.clone(), create_index: seen.create_index, modify_index: seen.modify_index, ..own.clone() };
    seen_by == *seen
}

/// Whether both say the same, but for what only the catalog or only the agent knows.
fn same_check(own: &Check, seen: &Check, output_deferred: bool) -> bool {
    let seen_by = Check {
        node: seen.node.clone(),
        service_name: seen.service_name.clone(),
        service_tags: seen.service_tags.clone(),
        definition: CheckDefinition::default(),
        output: if output_deferred { seen.output.clone() } else { own.output.clone() },
        create_index: seen.create_index,
        modify_index: seen.modify_index,
        ..own.clone()
    };
    seen_by == *seen
}

#[cfg(test)]
mod tests;
