//! The local agent: what is registered with it, and what it tells about itself.

use harness::{Node, PATIENCE, Setup, eventually};
use serde_json::{Value, json};

fn register(node: &Node, service: Value) {
    node.put("/v1/agent/service/register", service.to_string()).expect(200);
}

fn in_catalog(node: &Node, service: &str) -> usize {
    node.get(&format!("/v1/catalog/service/{service}")).expect(200).json().as_array().unwrap().len()
}

#[test]
fn it_tells_who_it_is() {
    let node = Setup::dev().flag("-node=me").flag("-datacenter=Mars-1").start();
    let config = node.get("/v1/agent/self").expect(200).json()["Config"].clone();
    assert_eq!((&config["NodeName"], &config["Datacenter"], &config["Server"]), (&"me".into(), &"mars-1".into(), &true.into()));
    assert!(config["Version"].as_str().is_some_and(|version| !version.is_empty()));
    let members = node.get("/v1/agent/members").expect(200).json();
    assert_eq!((&members[0]["Name"], &members[0]["Status"]), (&"me".into(), &1.into()));
    let leader = node.get("/v1/status/leader").expect(200).json();
    assert_eq!(node.get("/v1/status/peers").expect(200).json(), json!([leader]));
    assert_eq!(node.get("/v1/catalog/datacenters").expect(200).json(), json!(["mars-1"]));
}

#[test]
fn a_service_is_registered_replaced_and_removed() {
    let node = Node::dev();
    let service = json!({
        "ID": "web1", "Name": "web", "Port": 80, "Tags": ["a"], "Meta": {"k": "v"}, "Weights": {"Passing": 10, "Warning": 2},
        "TaggedAddresses": {"wan": {"Address": "198.51.100.7", "Port": 8080}},
        "Checks": [{"TTL": "10m", "Status": "passing"}, {"CheckID": "own", "TTL": "10m"}],
    });
    register(&node, service);
    let one = node.get("/v1/agent/service/web1").expect(200).json();
    assert_eq!((&one["Service"], &one["Weights"], &one["Meta"]["k"]), (&"web".into(), &json!({"Passing": 10, "Warning": 2}), &"v".into()));
    assert_eq!(one["TaggedAddresses"]["wan"], json!({"Address": "198.51.100.7", "Port": 8080}));
    let checks = node.get("/v1/agent/checks").expect(200).json();
    let mut ids: Vec<&String> = checks.as_object().unwrap().keys().collect();
    ids.sort();
    assert_eq!(ids, ["own", "service:web1:1"], "{checks}");

    register(&node, json!({"ID": "web1", "Name": "web", "Port": 81}));
    assert_eq!(node.get("/v1/agent/service/web1").json()["Port"], 81);
    eventually!(PATIENCE, node.get("/v1/catalog/service/web").json()[0]["ServicePort"] == 81);
    assert_eq!(node.get("/v1/agent/checks").json().as_object().unwrap().len(), 2, "checks stay unless they are replaced");
    let replaced = json!({"ID": "web1", "Name": "web", "Check": {"CheckID": "only", "TTL": "10m"}});
    node.put("/v1/agent/service/register?replace-existing-checks=true", replaced.to_string()).expect(200);
    let left: Vec<String> = node.get("/v1/agent/checks").json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(left, ["only"]);

    node.put("/v1/agent/service/deregister/web1", "").expect(200);
    assert!(node.get("/v1/agent/service/web1").expect(404).text().contains("web1"));
    assert_eq!(node.get("/v1/agent/checks").json(), json!({}));
    eventually!(PATIENCE, in_catalog(&node, "web") == 0);
}

#[test]
fn what_does_not_exist_is_named() {
    let node = Node::dev();
    for path in ["service/deregister/none", "check/deregister/none", "check/pass/none", "check/warn/none", "check/fail/none"] {
        let refused = node.put(&format!("/v1/agent/{path}"), "").expect(404);
        assert!(refused.text().contains("none"), "{path}: {}", refused.text());
    }
    let refused = node.put("/v1/agent/check/register", json!({"Name": "c", "TTL": "1m", "ServiceID": "none"}).to_string());
    assert!(refused.expect(404).text().contains("none"));
}

#[test]
fn a_definition_that_makes_no_sense_is_refused_with_its_fault() {
    let node = Node::dev();
    for (body, part) in [
        (json!({"Port": 80}), "name"),
        (json!({"Name": "w", "Address": "0.0.0.0"}), "address"),
        (json!({"Name": "w", "Check": {"HTTP": "http://a"}}), "interval"),
        (json!({"Name": "w", "Check": {"TTL": "soon"}}), "soon"),
        (json!({"Name": "w", "Check": {"TTL": "1m", "Status": "fine"}}), "status"),
        (json!({"Name": "w", "Prot": 80}), "Prot"),
        (json!({"Name": "w", "Port": "eighty"}), "Port"),
    ] {
        let refused = node.put("/v1/agent/service/register", body.to_string());
        assert!((400..=500).contains(&refused.status), "{body}: {}", refused.status);
        assert!(refused.text().to_lowercase().contains(&part.to_lowercase()), "{body}: {}", refused.text());
    }
    assert!(node.put("/v1/agent/service/register", "{").expect(400).text().contains("decode"));
    assert_eq!(node.get("/v1/agent/services").json(), json!({}));
}

#[test]
fn registrations_outlive_a_restart_and_a_kill() {
    let mut node = Node::durable();
    register(&node, json!({"Name": "kept", "Port": 1, "Check": {"TTL": "10m"}}));
    register(&node, json!({"Name": "left", "Port": 2}));
    node.put("/v1/agent/check/pass/service:kept", "").expect(200);
    node.put("/v1/agent/service/deregister/left", "").expect(200);
    node.kill();
    node.restart();
    let services = node.get("/v1/agent/services").expect(200).json();
    assert_eq!(services.as_object().unwrap().keys().collect::<Vec<_>>(), ["kept"]);
    eventually!(PATIENCE, in_catalog(&node, "kept") == 1 && in_catalog(&node, "left") == 0);
    assert!(node.stop().success());
    node.restart();
    assert_eq!(node.get("/v1/agent/service/kept").expect(200).json()["Port"], 1);
}

#[test]
fn services_of_a_file_are_registered_at_the_start() {
    let setup = Setup::dev();
    let file = setup.home().join("web.json");
    std::fs::write(&file, r#"{"service": {"name": "web", "port": 80, "tags": ["f"], "check": {"ttl": "10m", "status": "passing"}}}"#)
        .unwrap();
    let node = setup.clone().flag("-config-file").flag(file).start();
    assert_eq!(node.get("/v1/agent/services").expect(200).json()["web"]["Port"], 80);
    eventually!(PATIENCE, node.get("/v1/health/service/web?passing").json().as_array().unwrap().len() == 1);
}

#[test]
fn what_the_catalog_lost_comes_back() {
    let node = Setup::dev().flag("-node=me").start();
    register(&node, json!({"Name": "web", "Port": 80}));
    eventually!(PATIENCE, in_catalog(&node, "web") == 1);
    node.put("/v1/catalog/deregister", json!({"Node": "me", "ServiceID": "web"}).to_string()).expect(200);
    // The agent looks at the whole catalog from time to time, and at its own part at each change.
    register(&node, json!({"Name": "other"}));
    eventually!(2 * PATIENCE + std::time::Duration::from_secs(60), in_catalog(&node, "web") == 1);
}

#[test]
fn health_in_one_status_for_those_who_only_look_at_the_code() {
    let node = Node::dev();
    register(&node, json!({"ID": "w1", "Name": "web", "Check": {"TTL": "10m"}}));
    for (verb, code, word) in [("pass", 200, "passing"), ("warn", 429, "warning"), ("fail", 503, "critical")] {
        node.put(&format!("/v1/agent/check/{verb}/service:w1"), "").expect(200);
        assert_eq!(node.get("/v1/agent/health/service/id/w1?format=text").expect(code).text(), word);
        assert_eq!(node.get("/v1/agent/health/service/name/web").expect(code).json()[0]["AggregatedStatus"], word);
    }
    node.get("/v1/agent/health/service/id/none").expect(404);
}

#[test]
fn metrics_are_there_for_prometheus() {
    let node = Node::dev();
    node.put("/v1/kv/k", "v").expect(200);
    let metrics = node.get("/v1/agent/metrics?format=prometheus").expect(200);
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"), "{:?}", metrics.headers);
    let text = metrics.text();
    assert!(text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count() > 20, "{text}");
    assert!(text.contains("consul_kvs_apply_count 1"), "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in `{line}`")).1;
        assert!(value.parse::<f64>().is_ok(), "`{line}` has no number");
    }
}
