use axum::body::Body;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::rig::{DEADLINE, Rig};

/// The lines of a watch as they come in.
struct Lines {
    body: Incoming,
    text: String,
}

impl Lines {
    async fn open(rig: &Rig, path: &str, headers: &[(&str, &str)]) -> Lines {
        let mut request = Request::builder().uri(format!("/v1/watch/{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = rig.open(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), 200);
        Lines { body: response.into_body(), text: String::new() }
    }

    async fn line(&mut self) -> Option<String> {
        loop {
            if let Some((line, rest)) = self.text.split_once('\n') {
                let line = line.to_owned();
                self.text = rest.to_owned();
                return Some(line);
            }
            let frame = tokio::time::timeout(DEADLINE, self.body.frame()).await.expect("a line in time")?;
            self.text.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }

    /// The next line that is no bookmark.
    async fn next(&mut self) -> Value {
        loop {
            let line: Value = serde_json::from_str(&self.line().await.unwrap()).unwrap();
            if line["Type"] != "bookmark" {
                return line;
            }
        }
    }
}

fn cursor(line: &Value) -> String {
    line["Cursor"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_watch_tells_what_is_and_then_what_changes() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a/1", "x").await;
    let mut lines = Lines::open(&rig, "kv/a/?recurse", &[]).await;
    let first = lines.next().await;
    assert_eq!((&first["Type"], &first["KV"]["Key"]), (&json!("snapshot"), &json!("a/1")));
    assert_eq!(lines.next().await["Type"], "snapshot_end");
    rig.put_true("/v1/kv/b", "unrelated").await;
    rig.put_true("/v1/kv/a/2", "y").await;
    rig.delete("/v1/kv/a/1").await;
    let put = lines.next().await;
    assert_eq!((&put["Type"], &put["KV"]["Key"], &put["KV"]["Value"]), (&json!("put"), &json!("a/2"), &json!("eQ==")));
    assert_eq!(put["Index"], put["KV"]["ModifyIndex"]);
    let gone = lines.next().await;
    assert_eq!((&gone["Type"], &gone["KV"]["Key"]), (&json!("delete"), &json!("a/1")));
}

#[tokio::test]
async fn a_watch_goes_on_after_a_cursor_without_gap_or_repetition() {
    let rig = Rig::start().await;
    let mut lines = Lines::open(&rig, "kv/a", &[]).await;
    let cursor = cursor(&lines.next().await);
    drop(lines);
    rig.put_true("/v1/kv/a", "1").await;
    rig.put_true("/v1/kv/a", "2").await;
    let mut lines = Lines::open(&rig, &format!("kv/a?cursor={cursor}"), &[]).await;
    let seen = [lines.next().await, lines.next().await];
    assert_eq!(seen.each_ref().map(|line| line["KV"]["Value"].as_str().unwrap()), ["MQ==", "Mg=="]);
    let mut lines = Lines::open(&rig, &format!("kv/a?cursor={}", self::cursor(&seen[0])), &[]).await;
    assert_eq!(lines.next().await["KV"]["Value"], "Mg==");
    let foreign = format!("ff{}", &cursor[2..]);
    let mut lines = Lines::open(&rig, &format!("kv/a?cursor={foreign}"), &[]).await;
    let reset = lines.next().await;
    assert_eq!((&reset["Type"], &reset["Reason"]), (&json!("reset"), &json!("FOREIGN_CURSOR")));
    assert_eq!(lines.next().await["Type"], "snapshot");
    for bad in ["x", "ff", "zz", &"é".repeat(20)] {
        let bad = crate::percent::encode_path(bad.as_bytes());
        assert_eq!(rig.get(&format!("/v1/watch/kv/a?cursor={bad}")).await.status, 400);
    }
}

#[tokio::test]
async fn browsers_get_events_and_resume_by_their_id() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "1").await;
    let accept = ("accept", "text/event-stream");
    let mut lines = Lines::open(&rig, "kv/a", &[accept]).await;
    assert_eq!(lines.line().await.unwrap(), "event: snapshot");
    assert!(lines.line().await.unwrap().starts_with("data: {\"Type\":\"snapshot\""));
    assert_eq!(lines.line().await.unwrap(), "");
    assert_eq!(lines.line().await.unwrap(), "event: snapshot_end");
    let id = lines.line().await.unwrap().strip_prefix("id: ").unwrap().to_owned();
    rig.put_true("/v1/kv/a", "2").await;
    let mut lines = Lines::open(&rig, "kv/a", &[accept, ("last-event-id", &id)]).await;
    assert_eq!(lines.line().await.unwrap(), "event: put");
    assert!(lines.line().await.unwrap().starts_with("id: "));
    assert!(lines.line().await.unwrap().starts_with("data: {\"Type\":\"put\""));
}

#[tokio::test]
async fn the_catalog_can_be_watched_by_each_of_its_nouns() {
    let rig = Rig::start().await;
    let register = |status: &str| {
        let check = json!({"Name": "c", "Status": status, "ServiceID": "web"});
        json!({"Node": "n", "Address": "a", "Service": {"Service": "web", "Tags": ["v1"]}, "Check": check}).to_string()
    };
    for (path, field) in [
        ("service/web?passing&tag=V1", "Instance"),
        ("services", "Service"),
        ("nodes", "Node"),
        ("node/N", "Node"),
        ("checks", "Check"),
        ("checks/node/n", "Check"),
        ("checks/service/web", "Check"),
        ("checks/state/passing", "Check"),
    ] {
        let mut lines = Lines::open(&rig, path, &[]).await;
        while lines.next().await["Type"] != "snapshot_end" {}
        rig.put_true("/v1/catalog/register", register("passing")).await;
        let line = lines.next().await;
        assert_eq!(line["Type"], "put", "{path}");
        assert!(line[field].is_object(), "{path}: {line}");
        rig.put_true("/v1/catalog/deregister", json!({"Node": "n"}).to_string()).await;
        let gone = loop {
            let line = lines.next().await;
            if line["Type"] == "delete" {
                break line;
            }
        };
        assert!(gone["Index"].as_u64() > line["Index"].as_u64());
    }
    for path in ["kv/", "services/x", "checks/state/odd", "nope", "service/", ""] {
        assert_eq!(rig.get(&format!("/v1/watch/{path}")).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_watch_says_goodbye_when_the_listener_stops() {
    let rig = Rig::start().await;
    let mut lines = Lines::open(&rig, "services", &[]).await;
    assert_eq!(lines.next().await["Type"], "snapshot_end");
    rig.stop.cancel();
    let last = lines.next().await;
    assert_eq!((&last["Type"], &last["Reason"]), (&json!("error"), &json!("SHUTTING_DOWN")));
    assert!(lines.line().await.is_none());
}
