use serde_json::{Value, json};
use state::{CheckInput, Registration, Status};

use super::rig::Rig;

/// A session without checks, which the machine of these tests does not have.
async fn session(rig: &Rig, mut fields: Value) -> String {
    fields["NodeChecks"] = json!([]);
    let got = rig.put("/v1/session/create", fields.to_string()).await;
    assert_eq!(got.status, 200, "{}", got.text());
    got.json()["ID"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_session_is_begun_shown_renewed_and_ended() {
    let rig = Rig::start().await;
    let id = session(&rig, json!({"Name": "web-lock", "TTL": "90s", "LockDelay": 5, "Behavior": "delete"})).await;
    let got = rig.get(&format!("/v1/session/info/{id}")).await;
    let shown = got.json()[0].clone();
    assert_eq!(shown["ID"], json!(id));
    assert_eq!((&shown["Name"], &shown["Node"], &shown["Behavior"]), (&json!("web-lock"), &json!("dev"), &json!("delete")));
    assert_eq!((&shown["TTL"], &shown["LockDelay"]), (&json!("1m30s"), &json!(5_000_000_000u64)));
    assert_eq!((&shown["NodeChecks"], &shown["ServiceChecks"]), (&json!([]), &json!(null)));
    assert_eq!(shown["CreateIndex"], json!(got.index()));
    assert_eq!(rig.get("/v1/session/list").await.json().as_array().unwrap().len(), 1);
    assert_eq!(rig.get("/v1/session/node/DEV").await.json().as_array().unwrap().len(), 1);
    assert_eq!(rig.get("/v1/session/node/other").await.json(), json!([]));
    assert_eq!(rig.put(&format!("/v1/session/renew/{id}"), "").await.json()[0]["ID"], json!(id));
    rig.put_true(&format!("/v1/session/destroy/{id}"), "").await;
    rig.put_true(&format!("/v1/session/destroy/{id}"), "").await;
    assert_eq!(rig.get(&format!("/v1/session/info/{id}")).await.json(), json!([]));
    let gone = format!("Session id '{id}' not found");
    assert_eq!(rig.put(&format!("/v1/session/renew/{id}"), "").await.told(), (404, gone.as_str()));
}

#[tokio::test]
async fn a_key_is_locked_by_one_session_at_a_time() {
    let rig = Rig::start().await;
    let (one, other) = (session(&rig, json!({})).await, session(&rig, json!({"LockDelay": "0s"})).await);
    rig.put_true(&format!("/v1/kv/lock?acquire={one}"), "me").await;
    assert_eq!(rig.put(&format!("/v1/kv/lock?acquire={other}"), "no").await.text(), "false");
    let entry = rig.get("/v1/kv/lock").await.json()[0].clone();
    assert_eq!((&entry["Session"], &entry["LockIndex"]), (&json!(one), &json!(1)));
    assert_eq!(rig.put(&format!("/v1/kv/lock?release={other}"), "").await.text(), "false");
    rig.put_true(&format!("/v1/kv/lock?release={one}"), "me").await;
    rig.put_true(&format!("/v1/kv/lock?acquire={other}"), "me now").await;
    rig.put_true(&format!("/v1/session/destroy/{other}"), "").await;
    rig.put_true(&format!("/v1/kv/lock?acquire={one}"), "again").await;
    rig.put_true(&format!("/v1/session/destroy/{one}"), "").await;
    let third = session(&rig, json!({})).await;
    assert_eq!(rig.put(&format!("/v1/kv/lock?acquire={third}"), "").await.text(), "false", "its lock delay is not over");
    assert!(rig.get("/v1/kv/lock").await.json()[0].get("Session").is_none());
}

#[tokio::test]
async fn whoever_waits_for_the_list_is_told_of_an_end_and_not_of_a_renewal() {
    let rig = Rig::start().await;
    let id = session(&rig, json!({"TTL": "60s"})).await;
    let index = rig.get("/v1/session/list").await.index();
    let path = format!("/v1/session/list?index={index}&wait=60s");
    let end = async {
        rig.watchers(1).await;
        rig.put(&format!("/v1/session/renew/{id}"), "").await;
        rig.put("/v1/kv/unrelated", "").await;
        rig.put_true(&format!("/v1/session/destroy/{id}"), "").await;
    };
    let (got, ()) = tokio::join!(rig.get(&path), end);
    assert_eq!(got.json(), json!([]));
    assert!(got.index() > index);
}

#[tokio::test]
async fn what_makes_no_session_is_refused_in_known_words() {
    let rig = Rig::start().await;
    let bad = CheckInput { id: "bad".into(), name: "bad".into(), status: Status::Critical, ..Default::default() };
    let node = state::NodeInput { name: "n1".into(), address: "10.0.0.1".into(), ..Default::default() };
    let request = Registration { node, checks: vec![bad], ..Default::default() };
    rig.service.catalog_register(&Default::default(), None, request).await.unwrap();
    for (body, status, text) in [
        (r#"{"TTL":"5s"}"#, 500, "Invalid Session TTL '5000000000', must be between [10s=24h0m0s]"),
        (r#"{"Behavior":"keep"}"#, 500, "Invalid Behavior setting 'keep'"),
        (r#"{"Node":"nowhere"}"#, 500, "Missing node registration"),
        (r#"{"NodeChecks":["none"]}"#, 500, "Missing check 'none' registration"),
        (r#"{"Node":"n1","Checks":["bad"]}"#, 500, "Check 'bad' is in critical state"),
        (r#"{"Foo":1}"#, 400, "Request decode failed: json: unknown field \"Foo\""),
    ] {
        assert_eq!(rig.put("/v1/session/create", body).await.told(), (status, text), "{body}");
    }
    assert_eq!(rig.put("/v1/session/destroy/", "").await.told(), (400, "Missing session"));
    assert_eq!(rig.get("/v1/session/info/nonsense").await.json(), json!([]));
    assert_eq!(rig.get("/v1/session/node/").await.told(), (400, "Missing node name"));
    assert_eq!(rig.get("/v1/session/list").await.json(), json!([]), "nothing was half done");
}
