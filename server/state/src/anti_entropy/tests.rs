use proptest::prelude::*;

use super::*;
use crate::{Command, Effects, LogIndex, Millis, Outcome, Status, Tables, apply};

const NODE: &str = "web-1";

/// An agent's truth, built by hand.
#[derive(Clone, Debug, Default)]
struct Agent {
    node: NodeInput,
    services: OrdMap<Str, Arc<Service>>,
    checks: OrdMap<Str, Arc<Check>>,
    deferred: BTreeSet<Str>,
    in_doubt: Scope,
}

impl Agent {
    fn new() -> Self {
        let node = NodeInput { name: NODE.into(), address: "10.0.0.1".into(), datacenter: "dc1".into(), ..Default::default() };
        Agent { node, ..Default::default() }
    }

    fn service(mut self, id: &str, tags: &[&str]) -> Self {
        let tags = tags.iter().map(|tag| (*tag).into()).collect();
        let row = Service { node: NODE.into(), id: id.into(), name: "web".into(), tags, ..Default::default() };
        self.services.insert(id.into(), Arc::new(row));
        self
    }

    fn check(mut self, id: &str, service_id: &str, status: Status, output: &str) -> Self {
        let row = Check {
            node: NODE.into(),
            id: id.into(),
            name: id.into(),
            service_id: service_id.into(),
            status,
            output: output.into(),
            definition: CheckDefinition { ttl_ms: Some(1000), ..Default::default() },
            ..Default::default()
        };
        self.checks.insert(id.into(), Arc::new(row));
        self
    }

    fn local(&self) -> Local<'_> {
        let Agent { node, services, checks, deferred, in_doubt } = self;
        Local { node, services, checks, deferred, in_doubt }
    }

    fn diff(&self, tables: &Tables) -> Vec<Operation> {
        diff(&self.local(), tables.node(NODE).map(|view| &**view))
    }

    fn diff_of(&self, tables: &Tables, services: &[&str], checks: &[&str]) -> Vec<Operation> {
        let ids = |ids: &[&str]| ids.iter().map(|id| Str::from(*id)).collect();
        diff_of(&self.local(), tables.node(NODE).map(|view| &**view), &Scope { services: ids(services), checks: ids(checks) })
    }
}

fn run(tables: &mut Tables, operations: impl IntoIterator<Item = Operation>) {
    for operation in operations {
        let index = LogIndex(tables.applied().0 + 1);
        let outcome = apply(tables, index, &Command { at: Millis(index.0), operation }, &mut Effects::default());
        assert!(matches!(outcome, Outcome::Done { .. }), "{outcome:?}");
    }
}

/// The catalog once it follows `agent`.
fn catalog_of(agent: &Agent) -> Tables {
    let mut tables = Tables::default();
    let operations = agent.diff(&tables);
    run(&mut tables, operations);
    assert_eq!(agent.diff(&tables), []);
    tables
}

fn registration(operation: &Operation) -> &Registration {
    match operation {
        Operation::Register(registration) => registration,
        other => panic!("{other:?} instead of a registration"),
    }
}

#[test]
fn an_instance_goes_with_its_checks_in_one_command() {
    let agent = Agent::new().service("a", &[]).check("a:1", "a", Status::Passing, "").check("a:2", "a", Status::Critical, "");
    let operations = agent.diff(&Tables::default());
    assert_eq!(operations.len(), 1);
    let only = registration(&operations[0]);
    assert_eq!(only.service.as_ref().map(|service| &*service.id), Some("a"));
    assert_eq!(only.checks.len(), 2);
    assert!(!only.skip_node_update, "the node is new");
}

#[test]
fn how_a_check_is_run_stays_with_its_agent() {
    let tables = catalog_of(&Agent::new().check("disk", "", Status::Passing, ""));
    let view = tables.node(NODE).unwrap();
    assert_eq!(view.checks["disk"].definition, CheckDefinition::default());
}

#[test]
fn a_changed_status_is_all_that_is_written() {
    let before = Agent::new().service("a", &["x"]).check("a:1", "a", Status::Critical, "").check("disk", "", Status::Passing, "");
    let tables = catalog_of(&before);
    let after = before.check("a:1", "a", Status::Passing, "ok");
    let operations = after.diff(&tables);
    assert_eq!(operations.len(), 1);
    let only = registration(&operations[0]);
    assert_eq!((only.service.is_none(), only.skip_node_update, only.checks.len()), (true, true, 1));
    assert_eq!(after.diff_of(&tables, &[], &["a:1"]), operations);
    assert_eq!(after.diff_of(&tables, &[], &["disk"]), []);
}

#[test]
fn an_output_that_is_to_wait_is_not_written_alone() {
    let before = Agent::new().check("disk", "", Status::Passing, "old");
    let tables = catalog_of(&before);
    let mut after = before.check("disk", "", Status::Passing, "new");
    assert_eq!(after.diff(&tables).len(), 1);
    after.deferred.insert("disk".into());
    assert_eq!(after.diff(&tables), []);
    let worse = after.check("disk", "", Status::Warning, "new");
    assert_eq!(&*registration(&worse.diff(&tables)[0]).checks[0].output, "new");
}

#[test]
fn what_is_beyond_the_agent_goes_but_never_what_the_leader_keeps() {
    let kept = Agent::new().service("a", &[]);
    let mut tables = catalog_of(&kept.clone().service("stray", &[]).check("stray:1", "stray", Status::Passing, "").check(
        "lost",
        "",
        Status::Passing,
        "",
    ));
    let server = ServiceInput { id: SERVER_SERVICE.into(), name: SERVER_SERVICE.into(), ..Default::default() };
    let serf = CheckInput { id: SERF_HEALTH.into(), name: SERF_HEALTH.into(), ..Default::default() };
    let alive = CheckInput { id: "raft".into(), name: "raft".into(), service_id: SERVER_SERVICE.into(), ..Default::default() };
    let node = kept.node.clone();
    run(
        &mut tables,
        [Operation::Register(Box::new(Registration { node, service: Some(server), checks: vec![serf, alive], ..Default::default() }))],
    );
    let removal = |service_id: Option<&str>, check_id: Option<&str>| {
        let [service_id, check_id] = [service_id, check_id].map(|id| id.map(Str::from));
        Operation::Deregister(Deregistration { node: NODE.into(), service_id, check_id })
    };
    let operations = kept.diff(&tables);
    assert_eq!(operations, [removal(Some("stray"), None), removal(None, Some("lost"))]);
    run(&mut tables, operations);
    let view = tables.node(NODE).unwrap();
    assert_eq!(view.services.keys().map(|id| &**id).collect::<Vec<_>>(), ["a", SERVER_SERVICE]);
    assert_eq!(view.checks.keys().map(|id| &**id).collect::<Vec<_>>(), ["raft", SERF_HEALTH]);
}

#[test]
fn what_was_written_without_an_answer_is_written_again_whatever_the_catalog_shows() {
    let mut gone = Agent::new();
    let tables = catalog_of(&gone);
    assert_eq!(gone.diff_of(&tables, &["a"], &["disk"]), [], "it was never written");
    gone.in_doubt = Scope { services: ["a".into()].into(), checks: ["disk".into()].into() };
    assert_eq!(gone.diff_of(&tables, &["a"], &["disk"]).len(), 2, "both may arrive yet");
    assert_eq!(gone.diff(&tables), gone.diff_of(&tables, &["a"], &["disk"]));
    let mut there = Agent::new().service("a", &[]).check("disk", "", Status::Passing, "");
    let tables = catalog_of(&there);
    there.in_doubt = gone.in_doubt;
    assert_eq!(there.diff(&tables).len(), 2, "what was in between may arrive yet");
}

#[test]
fn a_check_whose_instance_was_removed_from_the_catalog_brings_it_back() {
    let agent = Agent::new().service("a", &[]).check("a:1", "a", Status::Passing, "");
    let mut tables = catalog_of(&agent);
    let gone = Deregistration { node: NODE.into(), service_id: Some("a".into()), check_id: None };
    run(&mut tables, [Operation::Deregister(gone)]);
    let operations = agent.diff_of(&tables, &[], &["a:1"]);
    run(&mut tables, operations);
    assert_eq!(agent.diff(&tables), []);
}

#[test]
fn the_node_itself_is_kept_in_line() {
    let mut agent = Agent::new();
    let mut tables = catalog_of(&agent);
    agent.node.address = "10.0.0.2".into();
    let operations = agent.diff(&tables);
    run(&mut tables, operations);
    assert_eq!(&*tables.node(NODE).unwrap().node.address, "10.0.0.2");
}

#[test]
fn many_checks_go_in_bounded_commands() {
    let many = (0..150).fold(Agent::new().service("a", &[]), |agent, n| agent.check(&format!("c{n}"), "a", Status::Passing, ""));
    let operations = many.diff(&Tables::default());
    let sizes: Vec<usize> = operations.iter().map(|operation| registration(operation).checks.len()).collect();
    assert_eq!(sizes, [64, 64, 22]);
    catalog_of(&many);
}

#[test]
fn tags_of_the_catalog_are_found_where_they_may_override() {
    let open = |agent: Agent| {
        let row = Service { enable_tag_override: true, ..(*agent.services["a"]).clone() };
        Agent { services: agent.services.update("a".into(), Arc::new(row)), ..agent }
    };
    let tables = catalog_of(&open(Agent::new().service("a", &["theirs"]).service("b", &["theirs"])));
    let agent = open(Agent::new().service("a", &["own"]).service("b", &["own"]));
    let view = tables.node(NODE).unwrap();
    assert_eq!(overridden_tags(&agent.services, view), [("a".into(), vec!["theirs".into()])]);
}

fn agents() -> impl Strategy<Value = Agent> {
    let services = prop::collection::vec((0..4u8, 0..3u8), 0..4);
    let checks = prop::collection::vec((0..5u8, 0..5u8, 0..3u8, 0..2u8), 0..6);
    (services, checks).prop_map(|(services, checks)| {
        let with_services =
            services.into_iter().fold(Agent::new(), |agent, (id, tag)| agent.service(&format!("s{id}"), &[&format!("t{tag}")]));
        checks.into_iter().fold(with_services, |agent, (id, owner, status, output)| {
            let owner = Some(format!("s{owner}")).filter(|owner| agent.services.contains_key(&**owner)).unwrap_or_default();
            let status = [Status::Passing, Status::Warning, Status::Critical][usize::from(status)];
            agent.check(&format!("c{id}"), &owner, status, &format!("o{output}"))
        })
    })
}

proptest! {
    /// From wherever the catalog stands, and in whatever order the commands are applied, it ends up
    /// saying what the agent says.
    #[test]
    fn the_catalog_follows_in_any_order((before, after) in (agents(), agents()), seed in any::<u64>()) {
        let mut tables = catalog_of(&before);
        let mut operations = after.diff(&tables);
        let mut seed = seed;
        for at in (1..operations.len()).rev() {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            operations.swap(at, (seed >> 33) as usize % (at + 1));
        }
        run(&mut tables, operations);
        prop_assert_eq!(after.diff(&tables), vec![]);
        let view = tables.node(NODE).unwrap();
        prop_assert!(view.services.keys().eq(after.services.keys()));
        prop_assert!(view.checks.keys().eq(after.checks.keys()));
    }
}
