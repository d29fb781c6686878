//! Sessions on a real server: they and what they hold outlive it, and end when they must.

use harness::{Node, PATIENCE, eventually};
use serde_json::json;

fn create(node: &Node, fields: serde_json::Value) -> String {
    let made = node.put("/v1/session/create", fields.to_string());
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()["ID"].as_str().unwrap().to_owned()
}

/// Waits until the server has told that its own machine is alive, to which sessions are tied.
fn alive(node: &Node) {
    eventually!(PATIENCE, node.get("/v1/health/state/passing").text().contains("serfHealth"));
}

#[test]
fn sessions_and_locks_outlive_a_crash() {
    let mut node = Node::durable();
    alive(&node);
    let holder = create(&node, json!({"Name": "holder", "TTL": "3600s"}));
    let gone = create(&node, json!({"LockDelay": "60s"}));
    assert_eq!(node.put(&format!("/v1/kv/held?acquire={holder}"), "me").text(), "true");
    assert_eq!(node.put(&format!("/v1/kv/left?acquire={gone}"), "me").text(), "true");
    assert_eq!(node.put(&format!("/v1/session/destroy/{gone}"), "").text(), "true");
    node.kill();
    node.restart();
    let shown = node.get(&format!("/v1/session/info/{holder}")).json();
    assert_eq!((&shown[0]["Name"], &shown[0]["NodeChecks"]), (&json!("holder"), &json!(["serfHealth"])));
    assert_eq!(node.get("/v1/kv/held").json()[0]["Session"], json!(holder));
    let other = create(&node, json!({}));
    assert_eq!(node.put(&format!("/v1/kv/held?acquire={other}"), "").text(), "false", "it is still held");
    assert_eq!(node.put(&format!("/v1/kv/left?acquire={other}"), "").text(), "false", "its lock delay is not over");
    assert_eq!(node.put(&format!("/v1/kv/held?release={holder}"), "").text(), "true");
    assert_eq!(node.put(&format!("/v1/kv/held?acquire={other}"), "").text(), "true");
}

#[test]
fn a_service_that_turns_critical_loses_its_lock() {
    let node = Node::dev();
    alive(&node);
    let service = json!({"Name": "web", "Check": {"CheckID": "web-ttl", "TTL": "3600s", "Status": "passing"}});
    assert_eq!(node.put("/v1/agent/service/register", service.to_string()).status, 200);
    eventually!(PATIENCE, node.get("/v1/health/checks/web").json()[0]["Status"] == json!("passing"));
    let session = create(&node, json!({"ServiceChecks": [{"ID": "web-ttl"}], "Behavior": "delete", "LockDelay": 0}));
    assert_eq!(node.put(&format!("/v1/kv/leader?acquire={session}"), "me").text().trim(), "true");
    assert_eq!(node.put("/v1/agent/check/fail/web-ttl", "").status, 200);
    eventually!(PATIENCE, node.get("/v1/kv/leader").status == 404);
    assert_eq!(node.get(&format!("/v1/session/info/{session}")).json(), json!([]));
}
