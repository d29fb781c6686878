//! Watches: what is there, then every change, in order, once; over gRPC and over HTTP.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use harness::{Node, PATIENCE, Setup, tool};
use lictor_client::{Change, Cursor, Gone, ResetReason, Row, Target, WatchEvent, WatchHandle, WatchOptions, v1};
use serde_json::{Value, json};

/// The next event that is no bookmark.
pub(crate) async fn next(watch: &mut WatchHandle) -> WatchEvent {
    loop {
        let event = tokio::time::timeout(PATIENCE, watch.next()).await.expect("an event in time");
        match event.expect("the watch is served").expect("the watch goes on") {
            WatchEvent::Bookmark { .. } => {}
            event => return event,
        }
    }
}

/// The rows of the snapshot, and the cursor after it.
pub(crate) async fn snapshot(watch: &mut WatchHandle) -> (Vec<Row>, Cursor) {
    let mut all = Vec::new();
    loop {
        match next(watch).await {
            WatchEvent::Snapshot { rows, .. } => all.extend(rows),
            WatchEvent::SnapshotEnd { cursor, .. } => return (all, cursor),
            other => panic!("{other:?} in a snapshot"),
        }
    }
}

/// The next changes with their revision and cursor.
async fn changes(watch: &mut WatchHandle) -> (Vec<Change>, u64, Cursor) {
    match next(watch).await {
        WatchEvent::Changes { changes, revision, cursor, .. } => (changes, revision, cursor),
        other => panic!("{other:?} where a change is due"),
    }
}

fn put(change: &Change) -> (&[u8], &[u8]) {
    match change {
        Change::Put(Row::Entry(entry)) => (&entry.key, &entry.value),
        other => panic!("{other:?} is no written key"),
    }
}

fn resume_after(cursor: Cursor) -> WatchOptions {
    WatchOptions { resume_from: Some(cursor), ..WatchOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_comes_first_and_then_each_change_once() {
    let node = Node::dev();
    let client = node.client().await;
    client.kv().put("a/1", "old").await.unwrap();
    client.kv().put("b/1", "no matter").await.unwrap();
    let mut watch = client.watch(Target::prefix("a/"));
    let (rows, _) = snapshot(&mut watch).await;
    assert!(matches!(&rows[..], [Row::Entry(entry)] if entry.value == "old"), "{rows:?}");

    let written = client.kv().put("a/2", "new").await.unwrap();
    client.kv().put("b/1", "still no matter").await.unwrap();
    client.kv().put("a/2", "new").await.unwrap();
    client.kv().delete("a/1").await.unwrap();
    let (first, revision, _) = changes(&mut watch).await;
    assert_eq!((put(&first[0]), revision), ((&b"a/2"[..], &b"new"[..]), written.revision()));
    let (second, later, _) = changes(&mut watch).await;
    assert!(matches!(&second[..], [Change::Delete(Gone::Key(key))] if key == "a/1"), "{second:?}");
    assert!(later > revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_told_as_one() {
    let node = Node::dev();
    let client = node.client().await;
    let mut watch = client.watch(Target::prefix(""));
    snapshot(&mut watch).await;
    let txn = lictor_client::Txn::new().put("x", "1").put("y", "2").delete("x");
    let done = client.kv().txn(txn).await.unwrap();
    let (told, revision, _) = changes(&mut watch).await;
    assert_eq!(revision, done.revision());
    assert!(told.iter().any(|change| matches!(change, Change::Put(Row::Entry(entry)) if entry.key == "y")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_goes_on_where_it_was_even_after_a_kill() {
    let mut node = Node::durable();
    let client = node.client().await;
    let mut watch = client.watch(Target::prefix("k"));
    let (_, begun) = snapshot(&mut watch).await;
    for n in 0..20 {
        client.kv().put(format!("k{n}"), n.to_string()).await.unwrap();
    }
    let (_, _, after_first) = changes(&mut watch).await;
    drop(watch);
    node.kill();
    node.restart();
    let client = node.client().await;
    for (cursor, first) in [(begun, 0), (after_first, 1)] {
        let mut watch = client.watch_with(Target::prefix("k"), resume_after(cursor));
        for n in first..20 {
            let (told, ..) = changes(&mut watch).await;
            assert_eq!(put(&told[0]).0, format!("k{n}").as_bytes());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_held_over_a_restart_goes_on_by_itself() {
    let mut node = Node::durable();
    let client = node.client().await;
    let mut watch = client.watch(Target::key("k"));
    snapshot(&mut watch).await;
    node.kill();
    node.restart();
    node.client().await.kv().put("k", "after").await.unwrap();
    let told = loop {
        match next(&mut watch).await {
            WatchEvent::Interrupted { .. } => {}
            WatchEvent::Changes { changes, .. } => break changes,
            other => panic!("{other:?} where a change is due"),
        }
    };
    assert_eq!(put(&told[0]).1, b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_is_gone_is_said_to_be_gone() {
    let node = Setup::dev().config("watch_history { changes_max = 8 }").start();
    let client = node.client().await;
    let mut watch = client.watch(Target::prefix(""));
    let (_, cursor) = snapshot(&mut watch).await;
    drop(watch);
    for n in 0..40 {
        client.kv().put(format!("k{n:02}"), "x").await.unwrap();
    }
    let mut watch = client.watch_with(Target::prefix(""), resume_after(cursor));
    let reset = next(&mut watch).await;
    assert!(matches!(reset, WatchEvent::Reset { reason: ResetReason::Compacted, .. }), "{reset:?}");
    assert_eq!(snapshot(&mut watch).await.0.len(), 40);
    client.kv().put("after", "x").await.unwrap();
    assert_eq!(put(&changes(&mut watch).await.0[0]).0, b"after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_another_cluster_begins_anew() {
    let (one, other) = (Node::dev(), Node::dev());
    let mut watch = one.client().await.watch(Target::prefix(""));
    let (_, cursor) = snapshot(&mut watch).await;
    let mut watch = other.client().await.watch_with(Target::prefix(""), resume_after(cursor));
    let reset = next(&mut watch).await;
    assert!(matches!(reset, WatchEvent::Reset { reason: ResetReason::ForeignCursor, .. }), "{reset:?}");
    snapshot(&mut watch).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_decides_who_is_in_a_watch_of_the_fit() {
    let node = Node::dev();
    let client = node.client().await;
    let mut fit = client.watch(Target::service("web").passing_only());
    let mut names = client.watch(Target::services());
    assert!(snapshot(&mut fit).await.0.is_empty());
    snapshot(&mut names).await;

    let service = json!({"ID": "w1", "Name": "web", "Tags": ["t"], "Check": {"TTL": "10m"}});
    node.put("/v1/agent/service/register", service.to_string()).expect(200);
    let (told, ..) = changes(&mut names).await;
    assert!(matches!(&told[..], [Change::Put(Row::Service(summary))] if summary.name == "web" && summary.tags == ["t"]), "{told:?}");

    node.put("/v1/agent/check/pass/service:w1", "").expect(200);
    let (told, ..) = changes(&mut fit).await;
    let [Change::Put(Row::Instance(instance))] = &told[..] else { panic!("{told:?}") };
    assert_eq!(instance.status(), v1::HealthStatus::Passing);
    assert_eq!(instance.service.as_ref().unwrap().id, "w1");

    node.put("/v1/agent/check/fail/service:w1", "").expect(200);
    let (told, ..) = changes(&mut fit).await;
    assert!(matches!(&told[..], [Change::Delete(Gone::Instance(gone))] if gone.service_id == "w1"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_sleeps_hinders_nobody() {
    let node = Setup::dev().config("watch_history { changes_max = 64 }").start();
    let client = node.client().await;
    let mut asleep = client.watch(Target::prefix(""));
    snapshot(&mut asleep).await;
    let (value, writes) = (vec![b'x'; 64 * 1024], 400);
    for n in 0..writes {
        client.kv().put(format!("k{:03}", n % 100), [value.as_slice(), n.to_string().as_bytes()].concat()).await.unwrap();
    }
    // It wakes, and either has everything or is told what it missed: the end is the truth.
    let mut state = std::collections::BTreeMap::new();
    let wanted = [value.as_slice(), (writes - 1).to_string().as_bytes()].concat();
    loop {
        match next(&mut asleep).await {
            WatchEvent::Reset { .. } => state.clear(),
            WatchEvent::Snapshot { rows, .. } => rows.into_iter().for_each(|row| note(&mut state, row)),
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    let Change::Put(row) = change else { panic!("{change:?}") };
                    note(&mut state, row);
                }
            }
            WatchEvent::Interrupted { .. } | WatchEvent::SnapshotEnd { .. } | WatchEvent::Bookmark { .. } => {}
        }
        if state.get(&b"k099"[..]).is_some_and(|value| *value == wanted) {
            break;
        }
    }
    assert_eq!(state.len(), 100);
}

fn note(state: &mut std::collections::BTreeMap<Vec<u8>, Vec<u8>>, row: Row) {
    let Row::Entry(entry) = row else { panic!("{row:?}") };
    state.insert(entry.key.to_vec(), entry.value.to_vec());
}

/// `curl -N`, line by line.
struct Lines {
    curl: Child,
    lines: std::sync::mpsc::Receiver<Value>,
}

impl Lines {
    fn of(node: &Node, path: &str) -> Self {
        let url = format!("http://{}{path}", node.addresses().http);
        let mut curl = Command::new(tool("curl")).args(["-sN", &url]).stdout(Stdio::piped()).spawn().unwrap();
        let reader = BufReader::new(curl.stdout.take().unwrap());
        let (sender, lines) = std::sync::mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok).filter(|line| !line.is_empty()) {
                let json = serde_json::from_str(&line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
                if sender.send(json).is_err() {
                    return;
                }
            }
        });
        Lines { curl, lines }
    }

    /// The next line that is no bookmark, once it is of this type.
    fn next(&self, wanted: &str) -> Value {
        loop {
            let line = self.lines.recv_timeout(PATIENCE + Duration::from_secs(5)).expect("a line in time");
            if line["Type"] == wanted {
                return line;
            }
            assert_eq!(line["Type"], "bookmark", "{line} where `{wanted}` is due");
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.curl.kill();
        let _ = self.curl.wait();
    }
}

#[test]
fn a_browser_gets_the_same_as_events_that_it_can_resume() {
    let node = Node::dev();
    node.put("/v1/kv/k", "x").expect(200);
    let url = format!("http://{}/v1/watch/kv/k", node.addresses().http);
    let mut curl = Command::new(tool("curl"));
    curl.args(["-sN", "-H", "Accept: text/event-stream", "-D", "-", &url]).stdout(Stdio::piped());
    let mut curl = curl.spawn().unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut until = |part: &str| lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with `{part}`"));
    until("text/event-stream");
    until("event: snapshot");
    assert!(until("data: ").contains("\"k\""));
    let id = until("id: ").trim_start_matches("id: ").to_owned();
    node.put("/v1/kv/k", "y").expect(200);
    until("event: put");
    until("id: ");
    curl.kill().unwrap();
    curl.wait().unwrap();

    let mut resumed = Command::new(tool("curl"));
    resumed.args(["-sN", "-H", "Accept: text/event-stream", "-H", &format!("Last-Event-ID: {id}"), &url]).stdout(Stdio::piped());
    let mut resumed = resumed.spawn().unwrap();
    let first = BufReader::new(resumed.stdout.take().unwrap()).lines().map_while(Result::ok).find(|line| line.starts_with("event: "));
    assert_eq!(first.as_deref(), Some("event: put"), "the change that was missed comes first");
    resumed.kill().unwrap();
    resumed.wait().unwrap();
}

#[test]
fn curl_prints_a_line_for_each_change_and_goes_on_from_a_cursor() {
    let node = Node::dev();
    node.put("/v1/kv/a/1", "x").expect(200);
    let watch = Lines::of(&node, "/v1/watch/kv/a/?recurse");
    assert_eq!(watch.next("snapshot")["KV"]["Key"], "a/1");
    let cursor = watch.next("snapshot_end")["Cursor"].as_str().unwrap().to_owned();
    node.put("/v1/kv/b", "other").expect(200);
    node.put("/v1/kv/a/2", "y").expect(200);
    node.delete("/v1/kv/a/1").expect(200);
    assert_eq!(watch.next("put")["KV"]["Key"], "a/2");
    assert_eq!(watch.next("delete")["KV"]["Key"], "a/1");
    drop(watch);

    let resumed = Lines::of(&node, &format!("/v1/watch/kv/a/?recurse&cursor={cursor}"));
    assert_eq!(resumed.next("put")["KV"]["Value"], "eQ==");
    assert_eq!(resumed.next("delete")["KV"]["Key"], "a/1");
}
