//! Health: who is fit for work, and how the agent finds out.

use harness::{Node, PATIENCE, Web, eventually};
use serde_json::{Value, json};

fn statuses(checks: &Value) -> Vec<String> {
    checks.as_array().unwrap().iter().map(|check| check["Status"].as_str().unwrap().to_owned()).collect()
}

fn passing(node: &Node, service: &str) -> usize {
    node.get(&format!("/v1/health/service/{service}?passing")).expect(200).json().as_array().unwrap().len()
}

fn register(node: &Node, service: Value) {
    node.put("/v1/agent/service/register", service.to_string()).expect(200);
}

#[test]
fn a_ttl_check_is_what_it_was_told_last() {
    let node = Node::dev();
    register(&node, json!({"Name": "web", "Port": 80, "Check": {"TTL": "10m", "Notes": "told by hand"}}));
    let path = "/v1/health/checks/web";
    assert_eq!(statuses(&node.get(path).expect(200).json()), ["critical"]);
    for (verb, status, fit) in [("pass", "passing", 1), ("warn", "warning", 0), ("fail", "critical", 0), ("pass", "passing", 1)] {
        node.put(&format!("/v1/agent/check/{verb}/service:web?note=because"), "").expect(200);
        let checks = eventually!(PATIENCE, {
            let checks = node.get(path).expect(200).json();
            (statuses(&checks) == [status]).then_some(checks)
        });
        assert_eq!((&checks[0]["Output"], &checks[0]["Notes"]), (&"because".into(), &"told by hand".into()));
        assert_eq!((&checks[0]["ServiceName"], &checks[0]["Type"]), (&"web".into(), &"ttl".into()));
        assert_eq!(passing(&node, "web"), fit, "{status}");
    }
    let update = json!({"Status": "warning", "Output": "in words"});
    node.put("/v1/agent/check/update/service:web", update.to_string()).expect(200);
    eventually!(PATIENCE, node.get(path).json()[0]["Output"] == "in words");
}

#[test]
fn a_ttl_check_that_hears_nothing_turns_critical() {
    let node = Node::dev();
    register(&node, json!({"Name": "web", "Check": {"TTL": "1s", "Status": "passing"}}));
    eventually!(PATIENCE, passing(&node, "web") == 0);
    let check = node.get("/v1/health/checks/web").json()[0].clone();
    assert_eq!(check["Status"], "critical");
    assert!(check["Output"].as_str().unwrap().to_uppercase().contains("TTL"), "{check}");
    node.put("/v1/agent/check/pass/service:web", "").expect(200);
    eventually!(PATIENCE, passing(&node, "web") == 1);
}

#[test]
fn an_http_check_follows_what_the_server_answers() {
    let node = Node::dev();
    let web = Web::start("127.0.0.1:0", 500);
    let url = format!("http://{}/health", web.address());
    register(&node, json!({"Name": "web", "Check": {"HTTP": url, "Interval": "1s"}}));
    let status_is = |status: &str| eventually!(PATIENCE, statuses(&node.get("/v1/health/checks/web").json()) == [status], "{status}");
    eventually!(PATIENCE, web.asked() > 0);
    for (answer, status) in [(204, "passing"), (429, "warning"), (503, "critical"), (200, "passing")] {
        web.set_status(answer);
        status_is(status);
    }
    let output = node.get("/v1/health/checks/web").json()[0]["Output"].clone();
    assert!(output.as_str().unwrap().contains("200"), "{output}");
}

#[test]
fn a_node_check_counts_for_everything_on_the_node() {
    let node = Node::dev();
    register(&node, json!({"Name": "web"}));
    eventually!(PATIENCE, passing(&node, "web") == 1);
    let check = json!({"Name": "disk", "TTL": "10m"});
    node.put("/v1/agent/check/register", check.to_string()).expect(200);
    eventually!(PATIENCE, passing(&node, "web") == 0);
    let instance = node.get("/v1/health/service/web").json()[0].clone();
    assert!(instance["Checks"].as_array().unwrap().iter().any(|check| check["CheckID"] == "disk"), "{instance}");
    let name = instance["Node"]["Node"].as_str().unwrap().to_owned();
    assert!(node.get(&format!("/v1/health/node/{name}")).text().contains("disk"));
    node.put("/v1/agent/check/deregister/disk", "").expect(200);
    eventually!(PATIENCE, passing(&node, "web") == 1);
}

#[test]
fn checks_are_listed_by_their_status() {
    let node = Node::dev();
    for (id, status) in [("a", "passing"), ("b", "warning"), ("c", "critical")] {
        register(&node, json!({"Name": id, "Check": {"CheckID": format!("is-{id}"), "TTL": "10m", "Status": status}}));
    }
    let ids = |state: &str| {
        let checks = node.get(&format!("/v1/health/state/{state}")).expect(200).json();
        let ids = checks.as_array().unwrap().iter().map(|check| check["CheckID"].as_str().unwrap().to_owned());
        ids.filter(|id| id.starts_with("is-")).collect::<Vec<_>>()
    };
    eventually!(PATIENCE, ids("any").len() == 3);
    assert_eq!(ids("passing"), ["is-a"]);
    assert_eq!(ids("warning"), ["is-b"]);
    assert_eq!(ids("critical"), ["is-c"]);
    assert_eq!(node.get("/v1/health/state/odd").expect(200).json(), json!([]));
    node.get("/v1/health/service/a?passing=perhaps").expect(400);
    node.get("/v1/health/service/").expect(400);
}
