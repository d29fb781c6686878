//! Blocking queries: an answer when there is a new one, and not before.

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use harness::{Node, Response};
use serde_json::{Value, json};

/// Asks for what comes after `index`, in another thread.
fn after(node: &Node, path: &str, index: u64) -> JoinHandle<Response> {
    let (http, mark) = (node.http(), if path.contains('?') { '&' } else { '?' });
    let path = format!("{path}{mark}index={index}&wait=60s");
    std::thread::spawn(move || http.get(&path))
}

#[test]
fn a_change_ends_the_wait_with_the_new_answer() {
    let node = Node::dev();
    node.put("/v1/kv/k", "old").expect(200);
    let index = node.get("/v1/kv/k").index();
    let waiting = after(&node, "/v1/kv/k", index);
    node.put("/v1/kv/k", "new").expect(200);
    let answer = waiting.join().unwrap().expect(200);
    assert!(answer.index() > index);
    assert_eq!(answer.json()[0]["Value"], "bmV3");
}

#[test]
fn creation_and_removal_are_changes() {
    let node = Node::dev();
    let index = node.get("/v1/kv/k").expect(404).index();
    let waiting = after(&node, "/v1/kv/k", index);
    node.put("/v1/kv/k", "here").expect(200);
    let created = waiting.join().unwrap().expect(200);
    let waiting = after(&node, "/v1/kv/k", created.index());
    node.delete("/v1/kv/k").expect(200);
    let gone = waiting.join().unwrap().expect(404);
    assert!(gone.index() > created.index());
}

#[test]
fn a_prefix_wakes_for_what_is_under_it() {
    let node = Node::dev();
    node.put("/v1/kv/a/1", "x").expect(200);
    let index = node.get("/v1/kv/a/?recurse").index();
    let (rows, keys) = (after(&node, "/v1/kv/a/?recurse", index), after(&node, "/v1/kv/a/?keys", index));
    node.put("/v1/kv/a/2", "y").expect(200);
    assert_eq!(rows.join().unwrap().expect(200).json().as_array().unwrap().len(), 2);
    assert_eq!(keys.join().unwrap().expect(200).json(), json!(["a/1", "a/2"]));
}

#[test]
fn the_write_of_another_key_wakes_nobody() {
    let node = Node::dev();
    node.put("/v1/kv/k", "x").expect(200);
    let index = node.get("/v1/kv/k").index();
    let http = node.http();
    let asked = Instant::now();
    let waiting = std::thread::spawn(move || http.get(&format!("/v1/kv/k?index={index}&wait=1500ms")));
    for n in 0..20 {
        node.put(&format!("/v1/kv/k{n}"), "unrelated").expect(200);
        node.put("/v1/kv/k", "x").expect(200);
    }
    let answer = waiting.join().unwrap().expect(200);
    assert!(asked.elapsed() >= Duration::from_millis(1500), "it was woken after {:?}", asked.elapsed());
    assert_eq!(answer.index(), index, "an answer that did not change keeps its index");
}

#[test]
fn an_index_of_the_future_is_corrected() {
    let node = Node::dev();
    node.put("/v1/kv/k", "x").expect(200);
    let index = node.get("/v1/kv/k").index();
    assert_eq!(node.get(&format!("/v1/kv/k?index={}&wait=100ms", index + 1_000_000)).expect(200).index(), index);
}

#[test]
fn the_health_of_a_service_wakes_those_who_wait_for_it() {
    let node = Node::dev();
    let service = json!({"Name": "web", "Port": 80, "Check": {"TTL": "10m"}});
    node.put("/v1/agent/service/register", service.to_string()).expect(200);
    let all = node.get("/v1/health/service/web").expect(200);
    assert_eq!(all.json()[0]["Checks"].as_array().unwrap().iter().filter(|check| check["ServiceID"] == "web").count(), 1);
    let mut waiting = after(&node, "/v1/health/service/web?passing", all.index());
    node.put("/v1/agent/check/pass/service:web", "").expect(200);
    let mut answer = waiting.join().unwrap().expect(200);
    // A wake without news is allowed, a missed one is not.
    for _ in 0..10 {
        if answer.json() != Value::Array(Vec::new()) {
            break;
        }
        waiting = after(&node, "/v1/health/service/web?passing", answer.index());
        answer = waiting.join().unwrap().expect(200);
    }
    assert_eq!(answer.json()[0]["Service"]["ID"], "web");
}

#[test]
fn lists_of_the_catalog_can_be_waited_for() {
    let node = Node::dev();
    for (path, wanted) in [("/v1/catalog/services", "fresh"), ("/v1/catalog/nodes", "elsewhere"), ("/v1/health/state/any", "probe")] {
        let index = node.get(path).expect(200).index();
        let waiting = after(&node, path, index);
        let register = json!({
            "Node": "elsewhere", "Address": "10.0.0.7", "Service": {"Service": "fresh"},
            "Check": {"CheckID": "probe", "Name": "probe", "Status": "passing", "Notes": path},
        });
        node.put("/v1/catalog/register", register.to_string()).expect(200);
        let answer = waiting.join().unwrap().expect(200);
        assert!(answer.index() > index && answer.text().contains(wanted), "{path}: {}", answer.text());
        let deregister = json!({"Node": "elsewhere"});
        node.put("/v1/catalog/deregister", deregister.to_string()).expect(200);
    }
}

#[test]
fn what_is_no_index_and_no_time_is_refused() {
    let node = Node::dev();
    for query in ["index=x", "index=-1", "index=1.5", "index=1&wait=soon", "index=1&wait=5"] {
        let response = node.get(&format!("/v1/kv/k?{query}"));
        assert_eq!(response.status, 400, "{query}: {}", response.text());
        assert!(response.text().to_lowercase().contains("invalid"), "{query}: {}", response.text());
    }
}
