//! Registration: an upsert of a node, and on it perhaps a service and checks.
//!
//! A registration that says what already stands there changes nothing and wakes nobody. Everything
//! that could refuse it is looked at before anything is changed.

use crate::apply::Effects;
use crate::catalog::check::{Check, Status};
use crate::catalog::edit::Edit;
use crate::catalog::node::{NodeView, name_key};
use crate::catalog::service::Service;
use crate::command::{NodeInput, Registration, ServiceInput};
use crate::id::{LogIndex, Str};
use crate::outcome::{Outcome, Refusal};
use crate::tables::Tables;

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
        holder_name: holder.node.name.clone(),
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
