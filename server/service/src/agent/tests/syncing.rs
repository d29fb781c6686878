//! The catalog and the agent, when they differ.

use state::anti_entropy::SERVER_SERVICE;
use state::catalog::register::SERF_HEALTH;
use state::{CheckInput, Registration};

use super::*;

async fn write(rig: &Rig, service: Option<ServiceInput>, checks: Vec<CheckInput>) {
    let node = NodeInput { name: NODE.into(), address: "10.1.1.1".into(), datacenter: "dc1".into(), ..Default::default() };
    let registration = Registration { node, service, checks, ..Default::default() };
    rig.service.catalog_register(&caller(), None, registration).await.unwrap();
}

fn named(name: &str) -> ServiceInput {
    ServiceInput { id: name.into(), name: name.into(), ..Default::default() }
}

#[tokio::test]
async fn what_others_wrote_on_this_node_is_removed_but_not_what_the_leader_keeps() {
    let mut rig = Rig::asleep(None, |_| {}).await;
    write(&rig, Some(named("stray")), vec![]).await;
    let alive = CheckInput { id: SERF_HEALTH.into(), name: "alive".into(), status: Status::Passing, ..Default::default() };
    write(&rig, Some(named(SERVER_SERVICE)), vec![alive]).await;
    rig.run();
    let view = eventually("the stray is gone", || rig.catalog().filter(|view| !view.services.contains_key("stray"))).await;
    assert!(view.services.contains_key(SERVER_SERVICE) && view.checks.contains_key(SERF_HEALTH));
}

#[tokio::test]
async fn what_others_removed_on_this_node_comes_back() {
    let mut rig = Rig::asleep(None, |options| options.sync_interval = Duration::from_millis(20)).await;
    rig.run();
    rig.register(with_checks([ttl("")])).await;
    let gone = state::Deregistration { node: NODE.into(), service_id: None, check_id: None };
    rig.service.catalog_deregister(&caller(), None, gone).await.unwrap();
    eventually("all is back", || rig.catalog().filter(|view| view.services.len() == 1 && view.checks.len() == 1)).await;
}

#[tokio::test]
async fn tags_may_be_overridden_through_the_catalog_where_that_is_allowed() {
    let mut rig = Rig::asleep(None, |options| options.sync_interval = Duration::from_millis(20)).await;
    rig.run();
    let mut definition = web();
    definition.service.enable_tag_override = true;
    definition.service.tags = vec!["own".into()];
    rig.register(definition.clone()).await;
    let row = rig.catalog().unwrap().services["web1"].clone();
    let input = ServiceInput { tags: vec!["theirs".into()], ..state::anti_entropy::service_input(&row) };
    write(&rig, Some(input), vec![]).await;
    let tags = || rig.agent.service(&caller(), "web1").map(|service| service.row.tags.clone());
    eventually("the agent has their tags", || tags().filter(|tags| &*tags[0] == "theirs")).await;
    assert_eq!(&*rig.catalog().unwrap().services["web1"].tags[0], "theirs");
    rig.register(definition).await;
    assert_eq!(&*rig.catalog().unwrap().services["web1"].tags[0], "own", "a new registration counts again");
}

#[tokio::test]
async fn nothing_is_written_while_nothing_differs() {
    let mut rig = Rig::asleep(None, |options| options.sync_interval = Duration::from_millis(1)).await;
    rig.register(with_checks([ttl("")])).await;
    rig.run();
    eventually("the other agent is at rest", || rig.service.consensus().tables().node("dev").cloned()).await;
    let before = rig.service.consensus().tables().applied();
    for _ in 0..3 {
        rig.agent.push(true).await.unwrap();
    }
    rig.register(with_checks([http(), ttl("")])).await;
    assert_eq!(rig.service.consensus().tables().applied().0, before.0 + 1, "one command for one registration");
}

#[tokio::test]
async fn many_registrations_at_once_all_arrive() {
    let rig = Rig::new().await;
    let all = (0..100).map(|n| {
        let service = ServiceInput { id: format!("s{n}").into(), name: "many".into(), ..Default::default() };
        rig.register(ServiceDefinition { service, checks: vec![ttl("")], token: None })
    });
    futures::future::join_all(all).await;
    let view = rig.catalog().unwrap();
    assert_eq!((view.services.len(), view.checks.len()), (100, 100));
}
