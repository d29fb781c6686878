//! Steps on nodes, instances and checks.
//!
//! A write goes through registration and deregistration like any other, so that one rule decides
//! what it does and whom it wakes; here are only the comparisons around it.

use crate::catalog::deregister::deregister;
use crate::catalog::node::name_key;
use crate::catalog::register::{register, service_id};
use crate::command::{CheckInput, Deregistration, NodeInput, Registration, RowVerb, ServiceInput};
use crate::id::{LogIndex, Str};
use crate::outcome::{Refusal, TxnRow};
use crate::tables::Tables;
use crate::txn::{Failure, Scratch};

/// A row as a step finds it.
struct Found {
    /// What it is called in messages: `node "a"`.
    subject: String,
    /// The row and its modify index.
    row: Option<(TxnRow, LogIndex)>,
    /// What is said when it must exist and does not.
    absent: Refusal,
}

/// What remains to be done after the comparisons.
enum Next {
    Nothing,
    Write,
    Remove,
}

pub(super) fn node(scratch: &mut Scratch<'_>, verb: RowVerb, input: &NodeInput, index: LogIndex) -> Result<(), Failure> {
    let name = named(scratch.tables, input);
    match look(scratch, verb, find_node(scratch.tables, &name), index)? {
        Next::Nothing => Ok(()),
        Next::Write => {
            put(scratch, Registration { node: input.clone(), ..Registration::default() })?;
            shown(scratch, |tables| find_node(tables, &input.name))
        }
        Next::Remove => remove(scratch, Deregistration { node: name, ..Deregistration::default() }),
    }
}

pub(super) fn service(scratch: &mut Scratch<'_>, verb: RowVerb, node: &Str, input: &ServiceInput, index: LogIndex) -> Result<(), Failure> {
    let id = service_id(input);
    match look(scratch, verb, find_service(scratch.tables, node, id), index)? {
        Next::Nothing => Ok(()),
        Next::Write => {
            let node_input = existing(scratch.tables, node)?;
            put(scratch, Registration { service: Some(input.clone()), ..on(node_input) })?;
            shown(scratch, |tables| find_service(tables, node, id))
        }
        Next::Remove => remove(scratch, Deregistration { node: node.clone(), service_id: Some(id.clone()), check_id: None }),
    }
}

pub(super) fn check(scratch: &mut Scratch<'_>, verb: RowVerb, node: &Str, input: &CheckInput, index: LogIndex) -> Result<(), Failure> {
    let id = if input.id.is_empty() { &input.name } else { &input.id };
    match look(scratch, verb, find_check(scratch.tables, node, id), index)? {
        Next::Nothing => Ok(()),
        Next::Write => {
            let node_input = existing(scratch.tables, node)?;
            put(scratch, Registration { checks: vec![input.clone()], ..on(node_input) })?;
            shown(scratch, |tables| find_check(tables, node, id))
        }
        Next::Remove => remove(scratch, Deregistration { node: node.clone(), service_id: None, check_id: Some(id.clone()) }),
    }
}

/// Reads and compares, and says what is left to do.
fn look(scratch: &mut Scratch<'_>, verb: RowVerb, found: Found, index: LogIndex) -> Result<Next, Failure> {
    let Found { subject, row, absent } = found;
    let at = row.as_ref().map_or(LogIndex::ZERO, |(_, at)| *at);
    let mismatch = |expected| Refusal::CompareFailed { subject: subject.as_str().into(), expected, found: at };
    let missing = |absent: Refusal| absent.told(format!("{subject} doesn't exist"));
    match (verb, row) {
        (RowVerb::Set, _) => Ok(Next::Write),
        (RowVerb::Cas, _) if at == index => Ok(Next::Write),
        (RowVerb::Cas, _) => Err(mismatch(index).told(format!("failed to set {subject}, index is stale"))),
        (RowVerb::Get, Some((row, _))) | (RowVerb::GetOrEmpty, Some((row, _))) => {
            scratch.show(row);
            Ok(Next::Nothing)
        }
        (RowVerb::GetOrEmpty, None) => {
            scratch.show(TxnRow::Nothing);
            Ok(Next::Nothing)
        }
        (RowVerb::Delete, Some(_)) => Ok(Next::Remove),
        (RowVerb::Delete, None) => Ok(Next::Nothing),
        (RowVerb::DeleteCas, Some(_)) if at == index => Ok(Next::Remove),
        (RowVerb::DeleteCas, _) => Err(mismatch(index).told(format!("failed to delete {subject}, index is stale"))),
        (RowVerb::CheckIndex, Some(_)) if at == index => Ok(Next::Nothing),
        (RowVerb::CheckIndex, Some(_)) => {
            Err(mismatch(index).told(format!("failed index check for {subject}, current modify index {at} != {index}")))
        }
        (RowVerb::CheckIndex, None) => Err(mismatch(index).told(format!("failed index check for {subject}, it doesn't exist"))),
        (RowVerb::CheckExists, Some(_)) | (RowVerb::CheckNotExists, None) => Ok(Next::Nothing),
        (RowVerb::CheckNotExists, Some(_)) => Err(mismatch(LogIndex::ZERO).told(format!("{subject} exists"))),
        (RowVerb::Get | RowVerb::CheckExists, None) => Err(missing(absent)),
    }
}

/// The name of the node that is meant: that of the node with the id, if one is given and known.
fn named(tables: &Tables, input: &NodeInput) -> Str {
    if input.id.is_empty() {
        return input.name.clone();
    }
    let key = tables.node_ids.get(&Str::from(input.id.to_lowercase()));
    let view = key.and_then(|key| tables.nodes.get(key));
    view.map_or_else(|| input.name.clone(), |view| view.node.name.clone())
}

fn find_node(tables: &Tables, name: &Str) -> Found {
    let view = tables.nodes.get(&name_key(name));
    Found {
        subject: format!("node \"{name}\""),
        row: view.map(|view| (TxnRow::Node(view.node.clone()), view.node.modify_index)),
        absent: Refusal::UnknownNode { node: name.clone() },
    }
}

fn find_service(tables: &Tables, node: &Str, id: &Str) -> Found {
    let service = tables.nodes.get(&name_key(node)).and_then(|view| view.services.get(id));
    Found {
        subject: format!("service \"{id}\" on node \"{node}\""),
        row: service.map(|row| (TxnRow::Service(row.clone()), row.modify_index)),
        absent: Refusal::UnknownService { node: node.clone(), service_id: id.clone() },
    }
}

fn find_check(tables: &Tables, node: &Str, id: &Str) -> Found {
    let check = tables.nodes.get(&name_key(node)).and_then(|view| view.checks.get(id));
    Found {
        subject: format!("check \"{id}\" on node \"{node}\""),
        row: check.map(|row| (TxnRow::Check(row.clone()), row.modify_index)),
        absent: Refusal::UnknownCheck { node: node.clone(), check_id: id.clone() },
    }
}

/// The node that a row is to be put on, as it stands.
fn existing(tables: &Tables, name: &Str) -> Result<NodeInput, Failure> {
    match tables.nodes.get(&name_key(name)) {
        Some(view) => Ok(NodeInput { name: view.node.name.clone(), ..NodeInput::default() }),
        None => Err(Refusal::UnknownNode { node: name.clone() }.into()),
    }
}

/// A registration that leaves the node's own row alone.
fn on(node: NodeInput) -> Registration {
    Registration { node, skip_node_update: true, ..Registration::default() }
}

fn put(scratch: &mut Scratch<'_>, registration: Registration) -> Result<(), Failure> {
    register(scratch.tables, scratch.index, &registration, scratch.effects)?;
    Ok(())
}

fn remove(scratch: &mut Scratch<'_>, what: Deregistration) -> Result<(), Failure> {
    deregister(scratch.tables, scratch.index, &what, scratch.effects)?;
    Ok(())
}

/// Shows a row as a write left it.
fn shown(scratch: &mut Scratch<'_>, find: impl Fn(&Tables) -> Found) -> Result<(), Failure> {
    if let Some((row, _)) = find(scratch.tables).row {
        scratch.show(row);
    }
    Ok(())
}
