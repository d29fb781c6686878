//! Transactions over HTTP: all of it, or nothing.

use harness::{Node, Response};
use serde_json::{Value, json};

fn txn(node: &Node, operations: Value) -> Response {
    node.put("/v1/txn", operations.to_string())
}

fn kv(verb: &str, key: &str, more: Value) -> Value {
    let mut operation = json!({"Verb": verb, "Key": key});
    operation.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    json!({"KV": operation})
}

fn value(text: &str) -> Value {
    json!({"Value": base64(text)})
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn steps_see_each_other_and_share_one_index() {
    let node = Node::dev();
    let done = txn(&node, json!([kv("set", "a", value("1")), kv("get", "a", json!({})), kv("set", "b", value("2"))])).expect(200).json();
    assert_eq!(done["Errors"], Value::Null);
    let results = done["Results"].as_array().unwrap();
    assert_eq!(results.len(), 3, "{done}");
    assert_eq!(results[1]["KV"]["Value"], base64("1"));
    let index = |key: &str| node.get(&format!("/v1/kv/{key}")).expect(200).json()[0]["ModifyIndex"].clone();
    assert_eq!(index("a"), index("b"));
    assert_eq!(results[0]["KV"]["ModifyIndex"], index("a"));
}

#[test]
fn one_step_that_fails_undoes_all() {
    let node = Node::dev();
    node.put("/v1/kv/held", "1").expect(200);
    let failed = txn(
        &node,
        json!([
            kv("set", "new", value("x")),
            kv("cas", "held", json!({"Value": base64("2"), "Index": 1})),
            kv("check-not-exists", "held", json!({})),
        ]),
    );
    let failed = failed.expect(409).json();
    assert_eq!(failed["Results"], Value::Null);
    let errors: Vec<u64> = failed["Errors"].as_array().unwrap().iter().map(|error| error["OpIndex"].as_u64().unwrap()).collect();
    assert!(errors.contains(&1), "{failed}");
    assert!(failed["Errors"][0]["What"].as_str().is_some_and(|what| !what.is_empty()), "{failed}");
    node.get("/v1/kv/new").expect(404);
    assert_eq!(node.get("/v1/kv/held?raw").text(), "1");
}

#[test]
fn every_verb_does_what_it_says() {
    let node = Node::dev();
    for key in ["t/a", "t/b", "u"] {
        node.put(&format!("/v1/kv/{key}"), key).expect(200);
    }
    let index = node.get("/v1/kv/u").index();
    let tree = txn(&node, json!([kv("get-tree", "t/", json!({}))])).expect(200).json();
    let keys: Vec<&str> = tree["Results"].as_array().unwrap().iter().map(|row| row["KV"]["Key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["t/a", "t/b"]);
    txn(&node, json!([kv("check-index", "u", json!({"Index": index})), kv("cas", "u", json!({"Value": base64("v"), "Index": index}))]))
        .expect(200);
    txn(&node, json!([kv("check-index", "u", json!({"Index": index}))])).expect(409);
    txn(&node, json!([kv("delete-cas", "u", json!({"Index": index}))])).expect(409);
    txn(&node, json!([kv("delete", "t/a", json!({})), kv("get-or-empty", "t/a", json!({}))])).expect(200);
    txn(&node, json!([kv("delete-tree", "t/", json!({})), kv("check-not-exists", "t/b", json!({}))])).expect(200);
    txn(&node, json!([kv("get", "t/b", json!({}))])).expect(409);
    assert_eq!(node.get("/v1/kv/u?raw").text(), "v");
}

#[test]
fn a_machine_moves_with_its_service_in_one_step_that_a_watcher_sees_whole() {
    let node = Node::dev();
    let on = |name: &str, address: &str| {
        json!([
            {"Node": {"Verb": "set", "Node": {"Node": name, "Address": address}}},
            {"Service": {"Verb": "set", "Node": name, "Service": {"ID": "db-1", "Service": "db", "Port": 5432}}},
            {"Check": {"Verb": "set", "Check": {"Node": name, "CheckID": "db", "Name": "db", "ServiceID": "db-1", "Status": "passing"}}},
        ])
    };
    txn(&node, on("old", "10.0.0.1")).expect(200);
    let before = node.get("/v1/health/service/db?passing");
    let waiting = std::thread::scope(|scope| {
        let waiter = scope.spawn(|| node.get(&format!("/v1/health/service/db?passing&index={}&wait=30s", before.index())));
        let mut ops = vec![json!({"Node": {"Verb": "delete", "Node": {"Node": "old"}}})];
        ops.extend(on("new", "10.0.0.2").as_array().unwrap().iter().cloned());
        txn(&node, json!(ops)).expect(200);
        waiter.join().unwrap().json()
    });
    let addresses: Vec<&Value> = waiting.as_array().unwrap().iter().map(|row| &row["Node"]["Address"]).collect();
    assert_eq!(addresses, ["10.0.0.2"], "neither both nor none is ever seen");
}

#[test]
fn reads_alone_are_answered_too() {
    let node = Node::dev();
    node.put("/v1/kv/a", "1").expect(200);
    let read = txn(&node, json!([kv("get", "a", json!({}))])).expect(200).json();
    assert_eq!(read["Results"][0]["KV"]["Value"], base64("1"));
}

#[test]
fn what_is_too_much_or_no_transaction_is_refused() {
    let node = Node::dev();
    let many: Vec<Value> = (0..129).map(|n| kv("set", &format!("k{n}"), value("x"))).collect();
    assert!(txn(&node, json!(many)).expect(413).text().contains("128"));
    let allowed: Vec<Value> = (0..128).map(|n| kv("set", &format!("k{n}"), value("x"))).collect();
    txn(&node, json!(allowed)).expect(200);
    txn(&node, json!({"KV": {}})).expect(400);
    node.put("/v1/txn", "[{").expect(400);
    let odd = txn(&node, json!([kv("frobnicate", "k", json!({}))]));
    assert!(odd.status >= 400, "{}", odd.status);
    assert!(odd.text().contains("frobnicate"), "{}", odd.text());
}
