//! Nodes, services and checks: what wakes whom, and what a reader sees joined.

use super::*;
use crate::Refusal;

/// The changes by kind, for short expectations.
fn kinds(changes: &[Change]) -> Vec<String> {
    let sign = |before: bool, after: bool| match (before, after) {
        (false, true) => "+",
        (true, false) => "-",
        _ => "~",
    };
    let show = |change: &Change| match change {
        Change::KvPut { .. } => "kv+".to_owned(),
        Change::KvDelete { .. } => "kv-".to_owned(),
        Change::Node { before, after } => format!("node{}", sign(before.is_some(), after.is_some())),
        Change::Instance { before, after } => format!("instance{}", sign(before.is_some(), after.is_some())),
        Change::Check { before, after } => format!("check{}", sign(before.is_some(), after.is_some())),
        Change::Service { before, after } => format!("service{}", sign(before.is_some(), after.is_some())),
        Change::Session { before, after, .. } => format!("session{}", sign(before.is_some(), after.is_some())),
    };
    changes.iter().map(show).collect()
}

#[test]
fn a_registration_appears_everywhere_at_once_and_repeating_it_is_silent() {
    let mut machine = Machine::default();
    let operation = register("n1", web("web1", &["a"]), vec![check("c", "web1", Status::Passing)]);
    let (_, changes) = machine.run(operation.clone());
    assert_eq!(kinds(&changes), ["node+", "check+", "instance+", "service+"]);
    let (_, changes) = machine.run(operation);
    assert_eq!(kinds(&changes), [""; 0]);
    let web = machine.tables.service("WEB");
    assert_eq!(web.index.0, 1);
    let view = web.value.unwrap();
    let instance = view.instances.values().next().unwrap();
    assert_eq!((instance.checks.len(), instance.status), (1, Status::Passing));
}

#[test]
fn a_check_of_the_node_decides_on_every_instance_there() {
    let mut machine = Machine::default();
    machine.done(register("n1", web("web1", &[]), vec![]));
    machine.done(register("n1", web("web2", &[]), vec![]));
    machine.done(register("n2", web("web1", &[]), vec![]));
    let (_, changes) = machine.run(register("n1", None, vec![check("disk", "", Status::Critical)]));
    assert_eq!(kinds(&changes), ["check+", "instance~", "instance~"]);
    let view = machine.tables.service("web").value.unwrap();
    let statuses: Vec<_> = view.instances.values().map(|instance| instance.status).collect();
    assert_eq!(statuses, [Status::Critical, Status::Critical, Status::Passing]);
}

#[test]
fn a_service_is_woken_by_what_concerns_it_and_by_nothing_else() {
    let mut machine = Machine::default();
    machine.done(register("n1", web("web1", &[]), vec![]));
    let db = Some(ServiceInput { id: "db1".into(), name: "db".into(), ..Default::default() });
    machine.done(register("n2", db, vec![check("dbc", "db1", Status::Passing)]));
    let web_index = machine.tables.service("web").index;
    machine.done(register("n2", None, vec![check("dbc", "db1", Status::Critical)]));
    machine.done(put("k", "v"));
    assert_eq!(machine.tables.service("web").index, web_index);
    let changed = Registration { node: NodeInput { address: "10.0.0.9".into(), ..node("n1") }, ..Default::default() };
    let at = machine.done(Operation::Register(Box::new(changed)));
    assert_eq!(machine.tables.service("web").index.0, at, "its node's address is part of the answer");
}

#[test]
fn the_list_of_services_changes_with_names_and_tags_only() {
    let mut machine = Machine::default();
    machine.done(register("n1", web("web1", &["a"]), vec![]));
    let list = machine.tables.services_index();
    machine.done(register("n1", None, vec![check("c", "web1", Status::Critical)]));
    machine.done(register("n2", web("web1", &["a"]), vec![]));
    assert_eq!(machine.tables.services_index(), list);
    let at = machine.done(register("n2", web("web1", &["b"]), vec![]));
    assert_eq!(machine.tables.services_index().0, at);
    let view = machine.tables.service("web").value.unwrap();
    assert_eq!(view.tag_union().iter().map(|tag| tag.to_string()).collect::<Vec<_>>(), ["a", "b"]);
    machine.done(deregister("n2", Some("web1"), None));
    assert_eq!(machine.tables.service("web").value.unwrap().tag_union().len(), 1);
}

#[test]
fn the_last_instance_takes_the_service_with_it_and_its_index_stays() {
    let mut machine = Machine::default();
    machine.done(register("n1", web("web1", &[]), vec![check("c", "web1", Status::Passing)]));
    let (outcome, changes) = machine.run(deregister("n1", Some("web1"), None));
    assert_eq!(outcome, Outcome::Done { entry: None, removed: 1 });
    assert_eq!(kinds(&changes), ["check-", "instance-", "service-"]);
    let gone = machine.tables.service("web");
    assert!(gone.value.is_none());
    assert_eq!(gone.changed.0, 2, "who blocks on it is told");
    assert_eq!(machine.tables.service("never").changed.0, 0);
}

#[test]
fn a_node_goes_with_all_that_is_on_it() {
    let mut machine = Machine::default();
    machine.done(register("n1", web("web1", &[]), vec![check("c", "", Status::Passing)]));
    let (outcome, changes) = machine.run(deregister("N1", None, None));
    assert_eq!(outcome, Outcome::Done { entry: None, removed: 3 });
    assert_eq!(kinds(&changes), ["check-", "node-", "instance-", "service-"]);
    assert_eq!((machine.tables.nodes_len(), machine.tables.services_len(), machine.tables.checks().count()), (0, 0, 0));
    assert_eq!(machine.run(deregister("n1", None, None)).0, Outcome::Done { entry: None, removed: 0 });
}

#[test]
fn an_instance_that_changes_its_service_leaves_the_old_one() {
    let mut machine = Machine::default();
    machine.done(register("n1", web("x", &["a"]), vec![check("c", "x", Status::Passing)]));
    let api = Some(ServiceInput { id: "x".into(), name: "api".into(), ..Default::default() });
    let (_, changes) = machine.run(register("n1", api, vec![]));
    assert_eq!(kinds(&changes), ["check~", "instance-", "instance+", "service+", "service-"]);
    assert!(machine.tables.service("web").value.is_none());
    let view = machine.tables.service("api").value.unwrap();
    assert_eq!(&*view.instances.values().next().unwrap().checks[0].service_name, "api");
}

#[test]
fn a_check_of_an_instance_that_is_not_there_is_refused_and_nothing_is_registered() {
    let mut machine = Machine::default();
    let (outcome, changes) = machine.run(register("n1", None, vec![check("c", "nope", Status::Passing)]));
    assert!(matches!(outcome, Outcome::Refused(Refusal::UnknownService { .. })), "{outcome:?}");
    assert!(changes.is_empty());
    assert_eq!(machine.tables.nodes_len(), 0);
}

#[test]
fn skipping_the_node_update_leaves_its_row_alone() {
    let mut machine = Machine::default();
    machine.done(register("n1", None, vec![]));
    let other = NodeInput { address: "10.9.9.9".into(), ..node("n1") };
    let request = Registration { node: other, skip_node_update: true, service: web("web1", &[]), ..Default::default() };
    machine.done(Operation::Register(Box::new(request)));
    assert_eq!(&*machine.tables.node("n1").unwrap().node.address, "10.0.0.1");
    assert!(machine.tables.service("web").value.is_some());
}

const ID: &str = "11111111-2222-3333-4444-555555555555";

#[test]
fn a_known_id_under_a_new_name_renames_unless_the_holder_is_alive() {
    let mut machine = Machine::default();
    let named = |name: &str| NodeInput { id: ID.into(), ..node(name) };
    let request = |name: &str, checks| Operation::Register(Box::new(Registration { node: named(name), checks, ..Default::default() }));
    machine.done(request("old", vec![check("serfHealth", "", Status::Passing)]));
    machine.done(register("old", web("web1", &[]), vec![]));
    let (outcome, _) = machine.run(request("new", vec![]));
    assert!(matches!(outcome, Outcome::Refused(Refusal::NodeConflict { .. })), "{outcome:?}");
    machine.done(request("old", vec![check("serfHealth", "", Status::Critical)]));
    machine.done(request("new", vec![]));
    assert!(machine.tables.node("old").is_none());
    let view = machine.tables.node("new").unwrap();
    assert_eq!((view.services.len(), view.checks.len()), (1, 1));
    let service = machine.tables.service("web").value.unwrap();
    assert_eq!(&*service.instances.values().next().unwrap().node.name, "new");
    assert_eq!(machine.tables.find_node("1111").unwrap().node.name, view.node.name);
    assert!(machine.tables.find_node("1").is_none(), "one character is no prefix");
}
