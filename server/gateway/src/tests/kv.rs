use http::Method;
use serde_json::json;

use super::rig::Rig;

#[tokio::test]
async fn a_key_is_written_read_and_deleted() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a/b?flags=42", "hello").await;
    let got = rig.get("/v1/kv/a/b").await;
    let entry = &got.json()[0];
    assert_eq!(
        (&entry["Key"], &entry["Value"], &entry["Flags"], &entry["LockIndex"]),
        (&json!("a/b"), &json!("aGVsbG8="), &json!(42), &json!(0))
    );
    assert_eq!(entry["ModifyIndex"], got.index());
    assert!(entry.get("Session").is_none());
    rig.put_true("/v1/kv/a/b", "").await;
    let entry = &rig.get("/v1/kv/a/b").await.json()[0];
    assert_eq!((&entry["Value"], &entry["Flags"]), (&json!(null), &json!(0)));
    assert_eq!(rig.delete("/v1/kv/a/b").await.told(), (200, "true"));
    assert_eq!(rig.delete("/v1/kv/a/b").await.told(), (200, "true"));
}

#[tokio::test]
async fn a_missing_key_is_404_with_an_index() {
    let rig = Rig::start().await;
    for path in ["/v1/kv/none", "/v1/kv/none?raw", "/v1/kv/none?recurse", "/v1/kv/none?keys", "/v1/kv/?recurse"] {
        let got = rig.get(path).await;
        assert_eq!(got.told(), (404, ""), "{path}");
        assert!(got.index() >= 1 && got.header("x-consul-knownleader") == "true");
    }
    assert_eq!(rig.get("/v1/kv/?keys").await.told(), (200, "[]"));
    assert_eq!(rig.get("/v1/kv/").await.told(), (400, "Missing key name"));
    assert_eq!(rig.put("/v1/kv/", "x").await.told(), (400, "Missing key name"));
    assert_eq!(rig.delete("/v1/kv/").await.told(), (400, "Missing key name"));
}

#[tokio::test]
async fn the_raw_value_is_no_web_page() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "<html>\0").await;
    let got = rig.get("/v1/kv/a?raw").await;
    assert_eq!(got.told(), (200, "<html>\0"));
    assert_eq!(got.header("content-type"), "text/plain");
    assert_eq!(got.header("x-content-type-options"), "nosniff");
    assert_eq!(got.header("content-security-policy"), "sandbox");
    assert!(got.index() > 1);
}

#[tokio::test]
async fn prefixes_are_listed_with_and_without_values() {
    let rig = Rig::start().await;
    for key in ["a/x", "a/y/1", "a/y/2", "ab", "b"] {
        rig.put_true(&format!("/v1/kv/{key}"), "v").await;
    }
    let keys = |got: super::rig::Got| -> Vec<String> {
        got.json().as_array().unwrap().iter().map(|entry| entry["Key"].as_str().unwrap().into()).collect()
    };
    assert_eq!(keys(rig.get("/v1/kv/a/?recurse").await), ["a/x", "a/y/1", "a/y/2"]);
    assert_eq!(keys(rig.get("/v1/kv/a?recurse").await), ["a/x", "a/y/1", "a/y/2", "ab"]);
    assert_eq!(rig.get("/v1/kv/a/?keys").await.json(), json!(["a/x", "a/y/1", "a/y/2"]));
    assert_eq!(rig.get("/v1/kv/a/?keys&separator=/").await.json(), json!(["a/x", "a/y/"]));
    assert_eq!(rig.get("/v1/kv/?keys&seperator=/").await.json(), json!(["a/", "ab", "b"]));
    assert_eq!(rig.delete("/v1/kv/a?recurse").await.told(), (200, "true"));
    assert_eq!(rig.get("/v1/kv/?keys").await.json(), json!(["b"]));
    assert_eq!(rig.delete("/v1/kv/?recurse").await.told(), (200, "true"));
    assert_eq!(rig.get("/v1/kv/?recurse").await.status, 404);
}

#[tokio::test]
async fn compare_and_set_answers_true_or_false() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a?cas=0", "1").await;
    assert_eq!(rig.put("/v1/kv/a?cas=0", "2").await.told(), (200, "false"));
    let index = rig.get("/v1/kv/a").await.index();
    assert_eq!(rig.put(&format!("/v1/kv/a?cas={}", index + 1), "2").await.text(), "false");
    rig.put_true(&format!("/v1/kv/a?cas={index}"), "2").await;
    assert_eq!(rig.delete(&format!("/v1/kv/a?cas={index}")).await.text(), "false");
    assert_eq!(rig.delete("/v1/kv/missing?cas=77").await.text(), "true");
    let index = rig.get("/v1/kv/a").await.index();
    assert_eq!(rig.delete(&format!("/v1/kv/a?cas={index}")).await.text(), "true");
}

#[tokio::test]
async fn contradictions_and_malformed_numbers_are_refused() {
    let rig = Rig::start().await;
    assert_eq!(rig.put("/v1/kv/a?cas=1&acquire=x", "").await.told(), (400, "Conflicting flags: cas=1&acquire=x\n"));
    assert_eq!(rig.delete("/v1/kv/a?recurse&cas=1").await.told(), (400, "Conflicting flags: recurse&cas=1\n"));
    assert_eq!(rig.put("/v1/kv/a?cas=x", "").await.told(), (500, "strconv.ParseUint: parsing \"x\": invalid syntax"));
    assert_eq!(
        rig.put("/v1/kv/a?flags=99999999999999999999", "").await.told(),
        (500, "strconv.ParseUint: parsing \"99999999999999999999\": value out of range")
    );
    let unknown = "11111111-2222-3333-4444-555555555555";
    let got = rig.put(&format!("/v1/kv/a?acquire={unknown}"), "").await;
    assert_eq!(got.told(), (500, format!("raft apply failed: invalid session \"{unknown}\"").as_str()));
    assert!(rig.put("/v1/kv/a?acquire=x", "").await.text().contains("invalid session \"x\""));
    assert!(rig.put("/v1/kv/a?acquire=", "").await.text().contains("missing session"));
    assert_eq!(rig.put(&format!("/v1/kv/a?release={unknown}"), "").await.told(), (200, "false"));
}

#[tokio::test]
async fn values_have_a_largest_size() {
    let rig = Rig::start().await;
    let limit = 512 * 1024;
    rig.put_true("/v1/kv/a", vec![b'x'; limit]).await;
    let got = rig.put("/v1/kv/a", vec![b'x'; limit + 1]).await;
    assert_eq!(got.status, 413);
    assert!(got.text().starts_with("Request body(524289 bytes) too large, max size: 524288 bytes. See "));
    let chunked = axum::body::Body::from_stream(futures::stream::iter((0..600).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024]))));
    assert_eq!(rig.ask(Method::PUT, "/v1/kv/a", chunked).await.status, 413);
    assert_eq!(rig.get("/v1/kv/a?raw").await.body.len(), limit);
}

#[tokio::test]
async fn keys_are_bytes_with_slashes_and_blanks() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a%2Fb%20c+d", "1").await;
    assert_eq!(rig.get("/v1/kv/a/b%20c%2Bd").await.json()[0]["Key"], "a/b c+d");
    rig.put_true("/v1/kv/%ff", "1").await;
    assert_eq!(rig.get("/v1/kv/%ff").await.json()[0]["Key"], "\u{fffd}");
    assert_eq!(rig.get("/v1/kv/%fe").await.status, 404);
    rig.put_true("/v1/kv/dir/", "1").await;
    assert_eq!(rig.get("/v1/kv/dir").await.status, 404);
}

#[tokio::test]
async fn long_lists_are_streamed_whole_and_in_order() {
    let rig = Rig::start().await;
    for number in 0..60 {
        rig.put_true(&format!("/v1/kv/long/{number:03}"), vec![b'v'; 20_000]).await;
    }
    for query in ["", "&pretty"] {
        let got = rig.get(&format!("/v1/kv/long/?recurse{query}")).await;
        assert_eq!(got.header("content-length"), "", "more than a megabyte is sent in pieces");
        let list = got.json();
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), 60);
        assert!(list.iter().enumerate().all(|(number, entry)| entry["Key"] == format!("long/{number:03}")));
    }
}
