//! The agent of this machine.

use lictor_client::ErrorReason;
use proto::v1;
use proto::v1::check_definition::Kind;
use tonic::Code;

use super::{Server, soon};

#[tokio::test]
async fn the_agent_tells_who_it_is() {
    let server = Server::start().await;
    let client = server.client().await;
    let info = soon(client.agent().info()).await.unwrap();
    assert_eq!((&*info.node, &*info.datacenter, info.server), ("dev", "dc1", true));
    assert!(info.started_at.is_some() && info.stats.contains_key("raft.term"));
    let members = soon(client.agent().members(v1::Pool::Lan)).await.unwrap();
    assert_eq!((members.len(), &*members[0].name, members[0].port), (1, "dev", 8300));
    assert_eq!(soon(client.agent().members(v1::Pool::Wan)).await.unwrap()[0].name, "dev.dc1");
}

#[tokio::test]
async fn a_service_is_registered_with_a_check_that_is_reported_on() {
    let server = Server::start().await;
    let client = server.client().await;
    let agent = client.agent();
    let ttl = prost_types::Duration { seconds: 30, nanos: 0 };
    let definition = v1::CheckDefinition { kind: Some(Kind::Ttl(v1::TtlCheck { ttl: Some(ttl) })), ..Default::default() };
    let check = v1::CheckRegistration { definition: Some(definition), ..Default::default() };
    let service = v1::Service { name: "web".into(), port: 80, ..Default::default() };
    let request = v1::RegisterServiceRequest { service: Some(service), checks: vec![check], replace_existing_checks: false };
    let registered = soon(agent.register_service(request)).await.unwrap();
    assert_eq!(registered.check_ids, ["service:web"]);
    assert_eq!(registered.service.unwrap().id, "web");

    let good_for = soon(agent.update_ttl("service:web", v1::HealthStatus::Passing, "fine")).await.unwrap();
    assert_eq!(good_for.as_secs(), 30);
    let checks = soon(agent.checks("")).await.unwrap();
    assert_eq!((checks.len(), checks[0].status(), &*checks[0].output), (1, v1::HealthStatus::Passing, "fine"));
    assert!(matches!(checks[0].definition.as_ref().and_then(|definition| definition.kind.as_ref()), Some(Kind::Ttl(_))));

    soon(agent.deregister_service("web")).await.unwrap();
    assert!(soon(agent.services("")).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_registered_is_not_found() {
    let server = Server::start().await;
    let client = server.client().await;
    let error = soon(client.agent().deregister_service("nobody")).await.unwrap_err();
    assert_eq!((error.code(), error.reason()), (Code::NotFound, Some(ErrorReason::UnknownService)));
    let error = soon(client.agent().update_ttl("nothing", v1::HealthStatus::Passing, "")).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::UnknownCheck));
    let check = v1::CheckRegistration { check_id: "c".into(), ..Default::default() };
    let error = soon(client.agent().register_check(check, "")).await.unwrap_err();
    assert_eq!(error.detail("field"), Some("definition"));
}
