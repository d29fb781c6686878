//! The key/value store and the catalog against models that are too simple to be wrong, and the
//! changes against the tables: replaying them must lead to the same state.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Behavior, LockAcquire, Session, SessionEnd, SessionId};

/// Random commands over few names, so that they meet.
pub(super) fn commands(count: usize) -> impl Strategy<Value = Vec<Operation>> {
    prop::collection::vec(command(), 1..count)
}

fn command() -> impl Strategy<Value = Operation> {
    let key = || prop::sample::select(vec!["a", "a/b", "a/b/c", "a/c", "b", ""]).prop_map(str::to_owned);
    let name = || prop::sample::select(vec!["n1", "N1", "n2"]);
    let id = || prop::sample::select(vec!["s1", "s2"]);
    let status = prop::sample::select(vec![Status::Passing, Status::Warning, Status::Critical]);
    let service = (id(), prop::sample::select(vec!["web", "Web", "api"]), prop::sample::subsequence(vec!["x", "y"], 0..=2));
    prop_oneof![
        4 => (key(), "[01]").prop_map(|(key, value)| put(&key, &value)),
        2 => (key(), 0..8u64).prop_map(|(key, index)| put_if(&key, "cas", Compare::ModifyIndex(LogIndex(index)))),
        2 => key().prop_map(|key| delete(&key)),
        1 => key().prop_map(|key| delete_prefix(&key)),
        3 => (name(), service).prop_map(|(node, (id, name, tags))| {
            let tags = tags.into_iter().map(Into::into).collect();
            register(node, Some(ServiceInput { id: id.into(), name: name.into(), tags, ..Default::default() }), vec![])
        }),
        3 => (name(), prop::option::of(id()), status).prop_map(|(node, owner, status)| {
            register(node, None, vec![check("c", owner.unwrap_or(""), status)])
        }),
        1 => (name(), prop::option::of(id())).prop_map(|(node, id)| deregister(node, id, None)),
        1 => name().prop_map(|node| deregister(node, None, Some("c"))),
        2 => (name(), any::<bool>(), 0..2u8).prop_map(|(node, delete, id)| session(node, delete, id)),
        2 => (key(), 0..2u8).prop_map(|(key, id)| lock(&key, LockAction::Acquire(SessionId([id; 16])))),
        1 => (key(), 0..2u8).prop_map(|(key, id)| lock(&key, LockAction::Release(SessionId([id; 16])))),
        2 => (key(), 0..2u8, 0..2u32, any::<bool>()).prop_map(|(key, id, slots, wait)| {
            let (key, value) = (key.as_bytes().into(), b"held"[..].into());
            Operation::LockAcquire(Box::new(LockAcquire { key, slots, session: SessionId([id; 16]), value, wait }))
        }),
        1 => (key(), 0..2u8).prop_map(|(key, id)| {
            Operation::LockRelease { key: key.as_bytes().into(), session: SessionId([id; 16]), token: LogIndex::ZERO }
        }),
        1 => (0..2u8).prop_map(|id| Operation::SessionRenew(SessionId([id; 16]))),
        1 => (0..2u8, any::<bool>()).prop_map(|(id, delays)| {
            Operation::SessionEnd { id: SessionId([id; 16]), cause: SessionEnd::Expired, term: 1, delays }
        }),
    ]
}

/// A session that is tied to the check that other commands move, and that is never begun twice.
fn session(node: &str, delete: bool, id: u8) -> Operation {
    Operation::SessionCreate(Box::new(Session {
        id: SessionId([id; 16]),
        name: "s".into(),
        node: node.into(),
        behavior: if delete { Behavior::Delete } else { Behavior::Release },
        ttl_ms: Some(10_000),
        lock_delay_ms: 100_000,
        node_checks: vec!["c".into()],
        service_checks: vec![],
        renewed: Millis(0),
        create_index: LogIndex::ZERO,
        modify_index: LogIndex::ZERO,
    }))
}

fn lock(key: &str, lock: LockAction) -> Operation {
    let (key, value) = (key.as_bytes().into(), b"lock"[..].into());
    Operation::Kv(KvWrite::Set { key, value, flags: 0, compare: Compare::Any, lock })
}

proptest! {
    #[test]
    fn keys_behave_as_a_sorted_map(operations in commands(80)) {
        let mut machine = Machine::default();
        let mut model: BTreeMap<Vec<u8>, (Vec<u8>, u64)> = BTreeMap::new();
        // Sessions that end change keys by themselves, which the model knows nothing of.
        for operation in operations.into_iter().filter(|operation| !is_of_sessions(operation)) {
            let index = machine.tables.applied().0 + 1;
            if let Operation::Kv(write) = &operation {
                model_write(&mut model, write, index);
            }
            machine.run(operation);
            let found: BTreeMap<Vec<u8>, (Vec<u8>, u64)> = machine
                .tables
                .kv_range(b"")
                .map(|entry| (entry.key().to_vec(), (entry.value().to_vec(), entry.modify_index().0)))
                .collect();
            prop_assert_eq!(&found, &model);
        }
    }

    /// A watcher of everything that applies each change to its own copy has the same copy.
    #[test]
    fn changes_replayed_give_the_same_state(operations in commands(80)) {
        let mut machine = Machine::default();
        let mut copy: BTreeMap<String, String> = BTreeMap::new();
        for operation in operations {
            let (_, changes) = machine.run(operation);
            changes.iter().for_each(|change| replay(&mut copy, change));
            prop_assert_eq!(&copy, &seen(&machine.tables));
        }
    }

    /// Whoever saw an answer at some index is told of every later change to it: the answer's
    /// `changed` index moves whenever its content does.
    #[test]
    fn no_change_goes_without_its_index(operations in commands(80)) {
        let mut machine = Machine::default();
        for operation in operations {
            let before = answers(&machine.tables);
            let seen = machine.tables.applied();
            // One tombstone stands for all that was deleted with a prefix, and for what never was there.
            let coarse = matches!(operation, Operation::Kv(KvWrite::DeletePrefix { .. }));
            machine.run(operation);
            for ((name, old, _), (_, new, changed)) in before.iter().zip(answers(&machine.tables)) {
                prop_assert!(*old == new || changed > seen, "{} changed from {} to {} at {}", name, old, new, changed);
                prop_assert!(*old != new || changed <= seen || coarse, "{} was woken for nothing", name);
            }
        }
    }
}

fn is_of_sessions(operation: &Operation) -> bool {
    match operation {
        Operation::Kv(KvWrite::Set { lock, .. }) => *lock != LockAction::Keep,
        Operation::SessionCreate(_) | Operation::SessionRenew(_) | Operation::SessionEnd { .. } => true,
        Operation::LockAcquire(_) | Operation::LockRelease { .. } => true,
        _ => false,
    }
}

fn model_write(model: &mut BTreeMap<Vec<u8>, (Vec<u8>, u64)>, write: &KvWrite, index: u64) {
    match write {
        KvWrite::Set { key, value, compare, .. } => {
            let current = model.get(&key[..]);
            let found = current.map_or(0, |(_, index)| *index);
            let holds = match compare {
                Compare::Any => true,
                Compare::Absent => found == 0,
                Compare::ModifyIndex(expected) => found == expected.0,
                Compare::Present | Compare::HeldBy(_) => unreachable!("the sample asks for neither"),
            };
            if holds && current.is_none_or(|(old, _)| old[..] != value[..]) {
                model.insert(key.to_vec(), (value.to_vec(), index));
            }
        }
        KvWrite::Delete { key, .. } => drop(model.remove(&key[..])),
        KvWrite::DeletePrefix { prefix } => model.retain(|key, _| !key.starts_with(prefix)),
    }
}

fn replay(copy: &mut BTreeMap<String, String>, change: &Change) {
    fn side<T>(copy: &mut BTreeMap<String, String>, before: &Option<T>, after: &Option<T>, show: impl Fn(&T) -> (String, String)) {
        if let Some(before) = before {
            let (name, content) = show(before);
            assert_eq!(copy.remove(&name), Some(content), "the row was known as it is said to have been");
        }
        if let Some(after) = after {
            let (name, content) = show(after);
            assert_eq!(copy.insert(name, content), None);
        }
    }
    match change {
        Change::KvPut { entry } => drop(copy.insert(format!("kv {:?}", entry.key()), format!("{:?}", entry.value()))),
        Change::KvDelete { entry } => drop(copy.remove(&format!("kv {:?}", entry.key()))),
        Change::Node { before, after } => {
            side(copy, before, after, |row| (format!("node {}", row.name.to_lowercase()), format!("{row:?}")))
        }
        Change::Check { before, after } => {
            side(copy, before, after, |row| (format!("check {} {}", row.node.to_lowercase(), row.id), format!("{row:?}")))
        }
        Change::Instance { before, after } => {
            side(copy, before, after, |row| (format!("instance {} {}", row.node.name.to_lowercase(), row.service.id), format!("{row:?}")))
        }
        // When it was renewed is no change that anybody is told of.
        Change::Session { before, after, .. } => side(copy, before, after, |row| (format!("session {}", row.id), row.name.to_string())),
        Change::Service { before, after } => {
            side(copy, before, after, |row| (format!("service {}", row.name.to_lowercase()), format!("{row:?}")))
        }
    }
}

/// The tables as [`replay`] would have them.
fn seen(tables: &Tables) -> BTreeMap<String, String> {
    let mut copy = BTreeMap::new();
    for entry in tables.kv_range(b"") {
        copy.insert(format!("kv {:?}", entry.key()), format!("{:?}", entry.value()));
    }
    for view in tables.nodes() {
        copy.insert(format!("node {}", view.node.name.to_lowercase()), format!("{:?}", view.node));
        for check in view.checks.values() {
            copy.insert(format!("check {} {}", check.node.to_lowercase(), check.id), format!("{check:?}"));
        }
    }
    for session in tables.sessions() {
        copy.insert(format!("session {}", session.id), session.name.to_string());
    }
    for (name, view) in tables.services() {
        let first = view.instances.get_min().map(|(_, first)| first.service.name.clone()).unwrap();
        let summary = crate::ServiceSummary { name: first, tags: view.tag_union() };
        copy.insert(format!("service {name}"), format!("{summary:?}"));
        for instance in view.instances.values() {
            copy.insert(format!("instance {} {}", instance.node.name.to_lowercase(), instance.service.id), format!("{instance:?}"));
        }
    }
    copy
}

/// What blocking readers may ask, with the index that decides whether they need a new answer.
fn answers(tables: &Tables) -> Vec<(String, String, LogIndex)> {
    let mut all = Vec::new();
    for key in ["a", "a/b", "b", "nothing"] {
        let read = tables.kv_get(key.as_bytes());
        all.push((format!("key {key}"), format!("{:?} {:?}", read.value, read.value.as_ref().map(|entry| entry.value())), read.changed));
    }
    for prefix in ["", "a", "a/", "nothing/"] {
        let rows: Vec<_> = tables.kv_range(prefix.as_bytes()).map(|entry| (entry, entry.value())).collect();
        all.push((format!("prefix {prefix}"), format!("{rows:?}"), tables.kv_prefix_index(prefix.as_bytes()).changed));
    }
    for name in ["web", "api"] {
        let read = tables.service(name);
        all.push((format!("service {name}"), format!("{:?}", read.value.map(|view| view.instances.clone())), read.changed));
    }
    let services: Vec<_> =
        tables.services().map(|(_, view)| (view.instances.get_min().map(|(_, i)| i.service.name.clone()), view.tag_union())).collect();
    all.push(("services".into(), format!("{services:?}"), tables.services_index()));
    let nodes: Vec<_> = tables.nodes().map(|view| &view.node).collect();
    all.push(("nodes".into(), format!("{nodes:?}"), tables.nodes_index()));
    all.push(("checks".into(), format!("{:?}", tables.checks().collect::<Vec<_>>()), tables.checks_index()));
    all
}
