//! Maintenance mode: out of work and back, on every face, and over a restart.

use harness::{Node, PATIENCE, eventually};
use lictor_client::v1;
use serde_json::json;

fn found(node: &Node) -> usize {
    node.dig(&["web.service.consul"]).data("A").len()
}

/// The health of the service as its agent tells it over gRPC.
fn health_over_grpc(node: &Node) -> v1::HealthStatus {
    use v1::agent_service_client::AgentServiceClient;
    use v1::get_service_health_request::Subject;
    let address = format!("http://{}", node.addresses().grpc);
    let ask = async {
        let mut agent = AgentServiceClient::connect(address).await.unwrap();
        let request = v1::GetServiceHealthRequest { subject: Some(Subject::Service("web".into())) };
        let told = agent.get_service_health(request).await.unwrap().into_inner();
        assert_eq!(told.instances.len(), 1);
        told.status()
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ask)
}

fn register(node: &Node) {
    let service = json!({"Name": "web", "Port": 80, "Address": "10.1.2.3"});
    node.put("/v1/agent/service/register", service.to_string()).expect(200);
    eventually!(PATIENCE, found(node) == 1);
}

#[test]
fn an_instance_is_taken_out_of_work_and_put_back() {
    let mut node = Node::durable();
    register(&node);
    node.put("/v1/agent/service/maintenance/web?enable=true&reason=new%20disk", "").expect(200);
    eventually!(PATIENCE, found(&node) == 0);
    let check = node.get("/v1/agent/checks").json()["_service_maintenance:web"].clone();
    assert_eq!((&check["Status"], &check["Notes"], &check["Type"]), (&"critical".into(), &"new disk".into(), &"maintenance".into()));
    assert_eq!(node.get("/v1/agent/health/service/id/web?format=text").expect(503).text(), "maintenance");
    assert_eq!(health_over_grpc(&node), v1::HealthStatus::Maintenance);
    node.stop();
    node.restart();
    assert_eq!(node.get("/v1/agent/checks").json()["_service_maintenance:web"]["Notes"], "new disk");
    assert_eq!(found(&node), 0, "it outlives a restart");
    node.put("/v1/agent/service/maintenance/web?enable=false", "").expect(200);
    eventually!(PATIENCE, found(&node) == 1);
}

#[test]
fn a_node_is_taken_out_of_work_on_the_command_line() {
    let node = Node::dev();
    register(&node);
    assert_eq!(node.cli(&["maint"]).success().stdout, "");
    node.cli(&["maint", "-enable", "-reason=moving"]).success();
    eventually!(PATIENCE, found(&node) == 0);
    assert!(node.cli(&["maint"]).success().stdout.contains("Reason: moving"));
    node.cli(&["maint", "-disable"]).success();
    eventually!(PATIENCE, found(&node) == 1);
    node.cli(&["maint", "-enable", "-service=web"]).success();
    eventually!(PATIENCE, found(&node) == 0);
    let refused = node.cli(&["maint", "-enable", "-service=no"]).exited(1).stderr;
    assert!(refused.contains("no"), "{refused}");
}

#[test]
fn what_is_missing_is_named() {
    let node = Node::dev();
    for (path, status, text) in [
        ("/v1/agent/maintenance", 400, "Missing value for enable"),
        ("/v1/agent/maintenance?enable=perhaps", 400, "Invalid value for enable: \"perhaps\""),
        ("/v1/agent/service/maintenance/?enable=true", 400, "Missing service ID"),
        ("/v1/agent/service/maintenance/no?enable=true", 404, "Unknown service ID \"no\""),
    ] {
        let said = node.put(path, "").expect(status).text();
        assert!(said.contains(text), "{path}: {said}");
    }
}
