//! Nodes, services, checks and their health.

use std::collections::HashMap;

use lictor_client::{CatalogQuery, Client, ErrorReason, HealthQuery};
use proto::v1;
use proto::v1::checks_target::Selection;

use super::{Server, soon};

/// Registers an instance of `web` on `node` with one check.
async fn register(client: &Client, node: &str, status: v1::HealthStatus) {
    let node = v1::Node {
        name: node.into(),
        address: "10.0.0.1".into(),
        meta: HashMap::from([("rack".into(), node.into())]),
        ..Default::default()
    };
    let service = v1::Service { name: "web".into(), port: 80, tags: vec!["v1".into()], ..Default::default() };
    let check = v1::Check { check_id: "web".into(), service_id: "web".into(), status: status.into(), ..Default::default() };
    let request = v1::RegisterRequest { node: Some(node), service: Some(service), checks: vec![check], ..Default::default() };
    soon(client.catalog().register(request)).await.unwrap();
}

async fn three(server: &Server) -> Client {
    let client = server.client().await;
    register(&client, "n1", v1::HealthStatus::Passing).await;
    register(&client, "n2", v1::HealthStatus::Critical).await;
    register(&client, "n3", v1::HealthStatus::Warning).await;
    client
}

fn nodes(instances: &[v1::Instance]) -> Vec<&str> {
    instances.iter().map(|instance| &*instance.node.as_ref().unwrap().name).collect()
}

#[tokio::test]
async fn what_is_registered_is_listed() {
    let server = Server::start().await;
    let client = three(&server).await;
    let catalog = client.catalog();
    assert_eq!(soon(catalog.datacenters()).await.unwrap().value, ["dc1"]);
    let listed = soon(catalog.nodes(CatalogQuery::default())).await.unwrap().value;
    let names: Vec<&str> = listed.iter().map(|node| &*node.name).filter(|name| name.starts_with('n')).collect();
    assert_eq!(names, ["n1", "n2", "n3"]);
    let services = soon(catalog.services(CatalogQuery::default())).await.unwrap().value;
    let web = services.iter().find(|service| service.name == "web").expect("it is registered");
    assert_eq!((&web.tags[..], web.instances), (&["v1".to_owned()][..], Some(3)));
    let instances = soon(catalog.instances("WEB", CatalogQuery::default())).await.unwrap().value;
    assert_eq!(nodes(&instances), ["n1", "n2", "n3"]);
    assert!(instances[0].checks.is_empty() && instances[0].status == 0, "the catalog tells no health");
}

#[tokio::test]
async fn lists_come_in_pages_and_through_filters() {
    let server = Server::start().await;
    let client = three(&server).await;
    let paged = CatalogQuery { page_size: 1, ..Default::default() };
    assert_eq!(nodes(&soon(client.catalog().instances("web", paged)).await.unwrap().value), ["n1", "n2", "n3"]);
    let in_rack = CatalogQuery { node_meta: HashMap::from([("rack".into(), "n2".into())]), ..Default::default() };
    assert_eq!(nodes(&soon(client.catalog().instances("web", in_rack)).await.unwrap().value), ["n2"]);
    let filter = CatalogQuery { filter: r#"Node == "n3""#.into(), ..Default::default() };
    assert_eq!(nodes(&soon(client.catalog().instances("web", filter)).await.unwrap().value), ["n3"]);
    let broken = CatalogQuery { filter: "Nonsense ==".into(), ..Default::default() };
    let error = soon(client.catalog().nodes(broken)).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::InvalidFilter));
    let near = CatalogQuery { near: "never-heard-of".into(), ..Default::default() };
    assert_eq!(nodes(&soon(client.catalog().instances("web", near)).await.unwrap().value), ["n1", "n2", "n3"], "as it was");
}

#[tokio::test]
async fn health_tells_who_is_fit_for_work() {
    let server = Server::start().await;
    let client = three(&server).await;
    assert_eq!(nodes(&soon(client.health().passing("web")).await.unwrap().value), ["n1"]);
    let all = soon(client.health().instances("web", HealthQuery::default())).await.unwrap().value;
    let status: Vec<v1::HealthStatus> = all.iter().map(v1::Instance::status).collect();
    assert_eq!(status, [v1::HealthStatus::Passing, v1::HealthStatus::Critical, v1::HealthStatus::Warning]);
    let critical = Selection::Status(v1::HealthStatus::Critical.into());
    let checks = soon(client.health().checks(critical, HealthQuery::default())).await.unwrap().value;
    assert_eq!((checks.len(), &*checks[0].node), (1, "n2"));
    let of_service = soon(client.health().checks(Selection::Service("web".into()), HealthQuery::default())).await.unwrap();
    assert_eq!(of_service.value.len(), 3);
}

#[tokio::test]
async fn a_node_is_read_with_what_is_on_it_and_removed() {
    let server = Server::start().await;
    let client = three(&server).await;
    let read = Default::default();
    let found = soon(client.catalog().node("N1", &read)).await.unwrap().value;
    assert_eq!((found.services.len(), found.checks.len()), (1, 1));
    let request = v1::DeregisterRequest { node: "n1".into(), ..Default::default() };
    assert!(soon(client.catalog().deregister(request.clone())).await.unwrap().value);
    assert!(!soon(client.catalog().deregister(request)).await.unwrap().value);
    assert!(soon(client.catalog().node("n1", &read)).await.unwrap().value.node.is_none(), "absence is an answer");
}

#[tokio::test]
async fn a_registration_without_a_node_is_refused() {
    let server = Server::start().await;
    let client = server.client().await;
    let error = soon(client.catalog().register(v1::RegisterRequest::default())).await.unwrap_err();
    assert_eq!((error.reason(), error.detail("field")), (Some(ErrorReason::InvalidArgument), Some("node")));
}
