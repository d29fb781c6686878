//! Keys and values over HTTP.

use harness::{Node, Response};
use serde_json::{Value, json};

/// The default of `limits.kv_max_value_size`.
const VALUE_BYTES_MAX: usize = 512 * 1024;

fn row(response: Response) -> Value {
    response.expect(200).json()[0].clone()
}

fn keys(response: Response) -> Vec<String> {
    serde_json::from_value(response.expect(200).json()).unwrap()
}

#[test]
fn a_key_is_written_read_and_removed() {
    let node = Node::dev();
    assert_eq!(node.put("/v1/kv/a/b?flags=42", "value").expect(200).json(), json!(true));
    let read = node.get("/v1/kv/a/b").expect(200);
    let entry = row(read.clone());
    assert_eq!(entry["Key"], "a/b");
    assert_eq!((&entry["Value"], &entry["Flags"], &entry["LockIndex"]), (&"dmFsdWU=".into(), &42.into(), &0.into()));
    assert_eq!(entry["CreateIndex"], entry["ModifyIndex"]);
    assert_eq!(entry["ModifyIndex"].as_u64(), Some(read.index()));
    assert_eq!((read.header("x-consul-knownleader"), read.header("x-consul-lastcontact")), (Some("true"), Some("0")));

    node.put("/v1/kv/a/b", "other").expect(200);
    let later = row(node.get("/v1/kv/a/b"));
    assert_eq!(later["CreateIndex"], entry["CreateIndex"]);
    assert!(later["ModifyIndex"].as_u64() > entry["ModifyIndex"].as_u64());
    assert_eq!(later["Flags"], 0);

    assert_eq!(node.delete("/v1/kv/a/b").expect(200).json(), json!(true));
    let gone = node.get("/v1/kv/a/b").expect(404);
    assert_eq!(gone.text(), "");
    assert!(gone.index() > later["ModifyIndex"].as_u64().unwrap());
    assert_eq!(node.delete("/v1/kv/a/b").expect(200).json(), json!(true), "removing what is gone succeeds");
}

#[test]
fn values_are_bytes_and_keys_are_text_of_any_script() {
    let node = Node::dev();
    let bytes: Vec<u8> = (0..=255).cycle().take(4096).collect();
    node.put("/v1/kv/bin", &bytes).expect(200);
    let raw = node.get("/v1/kv/bin?raw").expect(200);
    assert_eq!(raw.body, bytes);
    assert!(raw.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(raw.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(raw.header("content-security-policy"), Some("sandbox"));

    node.put("/v1/kv/empty", "").expect(200);
    assert_eq!(row(node.get("/v1/kv/empty"))["Value"], Value::Null);

    for (path, key) in
        [("a%2Fb", "a/b"), ("a%20b", "a b"), ("a+b", "a+b"), ("%C3%BCber", "über"), ("tail/", "tail/"), ("q%3Fx%26y", "q?x&y")]
    {
        node.put(&format!("/v1/kv/{path}"), key).expect(200);
        assert_eq!(row(node.get(&format!("/v1/kv/{path}")))["Key"], key);
    }
    assert_eq!(node.get("/v1/kv/a/b?raw").expect(200).text(), "a/b");
}

#[test]
fn lists_are_ordered_and_fold_at_a_separator() {
    let node = Node::dev();
    assert_eq!(node.get("/v1/kv/?keys").expect(200).json(), json!([]), "an empty store is an empty list");
    for key in ["web/b", "web/a/1", "web/a/2", "web", "webber", "x"] {
        node.put(&format!("/v1/kv/{key}"), key).expect(200);
    }
    assert_eq!(keys(node.get("/v1/kv/?keys")), ["web", "web/a/1", "web/a/2", "web/b", "webber", "x"]);
    assert_eq!(keys(node.get("/v1/kv/web/?keys")), ["web/a/1", "web/a/2", "web/b"]);
    assert_eq!(keys(node.get("/v1/kv/web/?keys&separator=/")), ["web/a/", "web/b"]);
    assert_eq!(keys(node.get("/v1/kv/?keys&separator=/")), ["web", "web/", "webber", "x"]);
    let rows = node.get("/v1/kv/web/?recurse").expect(200).json();
    let listed: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["Key"].as_str().unwrap()).collect();
    assert_eq!(listed, ["web/a/1", "web/a/2", "web/b"]);
    assert_eq!(rows[2]["Value"], "d2ViL2I=");
    node.get("/v1/kv/none/?recurse").expect(404);
    node.get("/v1/kv/none/?keys").expect(404);

    assert_eq!(node.delete("/v1/kv/web/?recurse").expect(200).json(), json!(true));
    assert_eq!(keys(node.get("/v1/kv/?keys")), ["web", "webber", "x"]);
    node.delete("/v1/kv/?recurse").expect(200);
    assert_eq!(node.get("/v1/kv/?keys").expect(200).json(), json!([]));
}

#[test]
fn compare_and_set_writes_only_over_what_was_seen() {
    let node = Node::dev();
    let cas = |index: u64, value: &str| node.put(&format!("/v1/kv/k?cas={index}"), value).expect(200).json();
    assert_eq!(cas(7, "no"), json!(false), "there is nothing of that index");
    assert_eq!(cas(0, "first"), json!(true));
    assert_eq!(cas(0, "no"), json!(false), "0 means that it must not be there");
    let index = node.get("/v1/kv/k").expect(200).index();
    assert_eq!(cas(index, "second"), json!(true));
    assert_eq!(cas(index, "no"), json!(false));
    assert_eq!(node.get("/v1/kv/k?raw").text(), "second");

    let remove = |index: u64| node.delete(&format!("/v1/kv/k?cas={index}")).expect(200).json();
    assert_eq!(remove(index), json!(false));
    assert_eq!(remove(node.get("/v1/kv/k").index()), json!(true));
    assert_eq!(remove(index), json!(true), "what is gone is as wished");
}

#[test]
fn a_write_that_changes_nothing_is_none() {
    let node = Node::dev();
    node.put("/v1/kv/k?flags=1", "same").expect(200);
    let before = row(node.get("/v1/kv/k"));
    node.put("/v1/kv/k?flags=1", "same").expect(200);
    assert_eq!(row(node.get("/v1/kv/k")), before);
    node.put("/v1/kv/k?flags=2", "same").expect(200);
    assert_ne!(row(node.get("/v1/kv/k"))["ModifyIndex"], before["ModifyIndex"]);
}

#[test]
fn a_deletion_moves_the_index_of_its_prefix_and_of_no_other() {
    let node = Node::dev();
    for key in ["a/1", "a/2", "b/1"] {
        node.put(&format!("/v1/kv/{key}"), "x").expect(200);
    }
    let (a, b) = (node.get("/v1/kv/a/?recurse").index(), node.get("/v1/kv/b/?recurse").index());
    node.delete("/v1/kv/a/2").expect(200);
    assert!(node.get("/v1/kv/a/?recurse").index() > a);
    assert_eq!(node.get("/v1/kv/b/?recurse").index(), b);
}

#[test]
fn a_value_may_be_as_large_as_the_limit_and_no_larger() {
    let node = Node::dev();
    let value = vec![b'x'; VALUE_BYTES_MAX];
    node.put("/v1/kv/large", &value).expect(200);
    assert_eq!(node.get("/v1/kv/large?raw").body, value);
    let refused = node.put("/v1/kv/large", vec![b'y'; VALUE_BYTES_MAX + 1]).expect(413);
    assert!(refused.text().contains("too large") && refused.text().contains("524288"), "{}", refused.text());
    assert_eq!(node.get("/v1/kv/large?raw").body, value);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let node = Node::dev();
    for (method, path, status) in [
        ("PUT", "/v1/kv/k?cas=1&acquire=x", 400),
        ("DELETE", "/v1/kv/k?recurse&cas=1", 400),
        ("GET", "/v1/kv/", 400),
        ("PUT", "/v1/kv/", 400),
        ("DELETE", "/v1/kv/", 400),
        ("PUT", "/v1/kv/k?flags=many", 500),
        ("PUT", "/v1/kv/k?cas=x", 500),
        ("HEAD", "/v1/kv/k", 405),
        ("POST", "/v1/kv/k", 405),
    ] {
        let response = node.http().send(method, path, &[], b"");
        assert_eq!(response.status, status, "{method} {path}: {}", response.text());
    }
    let refused = node.http().send("POST", "/v1/kv/k", &[], b"");
    assert!(refused.header("allow").unwrap().contains("PUT"), "{:?}", refused.headers);
    node.get("/v1/kv/k").expect(404);
}
