//! Everything there is, saved to a file and brought back: under load, into other clusters, and what
//! becomes of a file that is not as it was written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Node, PATIENCE, Setup, eventually};
use lictor_client::{Target, WatchEvent};
use serde_json::Value;

use crate::cluster::fleet::Fleet;

/// A node from outside with a service, a session on it that holds a lock, and keys of all kinds.
fn fill(node: &Node) {
    let outside = r#"{"Node": "outside", "Address": "10.9.9.9", "Service": {"Service": "web", "Port": 80, "Tags": ["a"]}, "Check": {"Name": "up", "Status": "warning"}}"#;
    eventually!(PATIENCE, node.put("/v1/catalog/register", outside).status == 200, "there is a leader");
    let session = node.put("/v1/session/create", r#"{"Node": "outside", "NodeChecks": [], "TTL": "3600s"}"#).json();
    let session = session["ID"].as_str().unwrap().to_owned();
    assert_eq!(node.put(&format!("/v1/kv/steady/lock?acquire={session}"), "held").text(), "true");
    for n in 0..40 {
        let value = vec![b'v'; 40_000 * (n % 3)];
        node.http().put_until_done(&format!("/v1/kv/steady/{n}?flags={n}"), value);
    }
    assert_eq!(node.delete("/v1/kv/steady/7").status, 200);
}

/// What a user sees of all that was filled in.
fn content(node: &Node) -> Option<(Value, Value)> {
    let (kv, web) = (node.get("/v1/kv/steady/?recurse&stale"), node.get("/v1/health/service/web?stale"));
    (kv.status == 200 && web.status == 200).then(|| (kv.json(), web.json()))
}

fn save(node: &Node, name: &str) -> PathBuf {
    save_to(node, node.setup().home().join(name))
}

fn save_to(node: &Node, file: PathBuf) -> PathBuf {
    let saved = node.cli(&["snapshot", "save", file.to_str().unwrap()]).success();
    assert!(saved.stdout.starts_with("Saved and verified snapshot to index "), "{}", saved.stdout);
    file
}

fn index(node: &Node) -> u64 {
    node.get("/v1/kv/steady/1").header("x-consul-index").unwrap().parse().unwrap()
}

/// Keys of the load by writer, which must have no gap: a snapshot is of one moment.
fn written(node: &Node) -> BTreeMap<String, usize> {
    let keys = node.get("/v1/kv/load/?keys").json();
    let mut counts: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for key in keys.as_array().unwrap() {
        let mut steps = key.as_str().unwrap().splitn(3, '/').skip(1);
        let (writer, n) = (steps.next().unwrap(), steps.next().unwrap().parse().unwrap());
        counts.entry(writer.to_owned()).or_default().push(n);
    }
    let whole = |(writer, mut seen): (String, Vec<usize>)| {
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..seen.len()), "writer {writer} has gaps");
        (writer, seen.len())
    };
    counts.into_iter().map(whole).collect()
}

#[test]
fn a_snapshot_taken_under_load_comes_back_in_other_clusters() {
    let fleet = Fleet::start("dc1", 3, 1);
    fill(&fleet.clients[0]);
    let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::new([const { AtomicUsize::new(0) }; 3]));
    let writers: Vec<_> = (0..3)
        .map(|writer| {
            let (http, stop, counts) = (fleet.servers[writer].http(), stop.clone(), counts.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let n = counts[writer].load(Ordering::Relaxed);
                    http.put_until_done(&format!("/v1/kv/load/{writer}/{n}"), "v");
                    counts[writer].store(n + 1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    eventually!(PATIENCE, counts.iter().all(|count| count.load(Ordering::Relaxed) > 50), "there is load");
    let acknowledged: Vec<usize> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    let home = tempfile::tempdir().unwrap();
    let file = save_to(&fleet.clients[0], home.path().join("backup.snap"));
    stop.store(true, Ordering::Relaxed);
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let (wanted, at) = (content(&fleet.servers[0]).unwrap(), index(&fleet.servers[0]));
    drop(fleet);

    let solo = Node::durable();
    let told = solo.cli(&["snapshot", "inspect", file.to_str().unwrap()]).success().stdout;
    for line in ["Index", "Datacenter  dc1", "kv", "sessions", "nodes"] {
        assert!(told.contains(line), "no `{line}` in {told}");
    }
    assert_eq!(solo.cli(&["snapshot", "restore", file.to_str().unwrap()]).success().stdout.split(' ').next(), Some("Restored"));
    assert_eq!(content(&solo).unwrap(), wanted);
    let found = written(&solo);
    for (writer, acknowledged) in acknowledged.iter().enumerate() {
        assert!(found[&writer.to_string()] >= *acknowledged, "writer {writer}: {found:?}, {acknowledged} were acknowledged before");
    }
    drop(solo);

    let mut fleet = Fleet::start("dc1", 3, 0);
    let follower = (fleet.leading() + 1) % 3;
    fleet.servers[follower].cli(&["snapshot", "restore", file.to_str().unwrap()]).success();
    for node in &fleet.servers {
        eventually!(PATIENCE, content(node).as_ref() == Some(&wanted), "every server has it");
        assert_eq!(written(node), found);
        assert!(index(node) >= at);
        eventually!(
            PATIENCE,
            node.get("/v1/catalog/service/consul").json().as_array().is_some_and(|all| all.len() >= 3),
            "servers are found"
        );
    }
    let put = fleet.servers[0].put("/v1/kv/after", "1");
    assert_eq!(put.status, 200);
    let after: u64 = fleet.servers[0].get("/v1/kv/after").json()[0]["ModifyIndex"].as_u64().unwrap();
    assert!(after > at, "revision {after} follows {at}, that of the snapshot's cluster");
    fleet.servers.iter_mut().for_each(Node::kill);
    fleet.servers.iter_mut().for_each(Node::restart_unready);
    for node in &mut fleet.servers {
        node.await_ready();
        assert_eq!(content(node).unwrap(), wanted, "it is there after a power failure");
        assert_eq!(node.get("/v1/kv/after?raw").text(), "1");
    }
}

#[test]
fn a_file_that_is_not_as_it_was_written_changes_nothing() {
    let fleet = Fleet::start("dc1", 3, 0);
    let node = &fleet.servers[0];
    fill(node);
    let file = save(node, "good.snap");
    let good = std::fs::read(&file).unwrap();
    let wanted = content(node).unwrap();
    let (mut flipped, mut later) = (good.clone(), good.clone());
    let at = good.len() - 50_000;
    flipped[at] ^= 4;
    later[8] = 9;
    let longer = [&good[..], b"x"].concat();
    let endless = &good[..good.len() - (9 + 2 + 32)];
    let damaged: [(&str, &[u8], &str); 7] = [
        ("empty", b"", "it is cut"),
        ("endless", endless, "it is cut"),
        ("flipped", &flipped, "damaged between byte"),
        ("cut", &good[..good.len() - 1], "it is cut"),
        ("later", &later, "format version 9"),
        ("longer", &longer, "more follows"),
        ("other", b"{}", "not a snapshot"),
    ];
    for (n, (name, bytes, why)) in damaged.into_iter().enumerate() {
        let answer = fleet.servers[n % 3].put("/v1/snapshot", bytes);
        assert_eq!(answer.status, 500, "{name}");
        assert!(answer.text().contains(why) && answer.text().contains("nothing was changed"), "{name}: {}", answer.text());
        let path = node.setup().home().join(name);
        std::fs::write(&path, bytes).unwrap();
        for command in ["verify", "restore", "inspect"] {
            let ran = node.cli(&["snapshot", command, path.to_str().unwrap()]).exited(1);
            assert!(ran.stderr.contains(why), "{command} {name}: {}", ran.stderr);
        }
    }
    assert_eq!(content(node).unwrap(), wanted);
    assert_eq!(node.put("/v1/kv/after", "1").status, 200, "the cluster goes on");
    let told = node.cli(&["snapshot", "verify", file.to_str().unwrap()]).success().stdout;
    assert!(told.contains("is whole"), "{told}");
    let refused = "consul_snapshot_refused";
    let metrics = node.get("/v1/agent/metrics?format=prometheus").text();
    assert!(metrics.lines().any(|line| line.starts_with(refused) && !line.ends_with(" 0")), "counted: {metrics}");
}

#[test]
fn a_save_that_fails_leaves_the_earlier_file() {
    let mut node = Node::durable();
    fill(&node);
    let file = save(&node, "kept.snap");
    let before = std::fs::read(&file).unwrap();
    node.kill();
    node.cli(&["snapshot", "save", file.to_str().unwrap()]).exited(1);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let left: Vec<_> = std::fs::read_dir(file.parent().unwrap()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".tmp")), "{left:?}");
}

/// Sends the first part of a restore, and leaves the connection open.
fn half_a_restore(node: &Node, file: &Path) -> std::net::TcpStream {
    use std::io::Write;
    let bytes = std::fs::read(file).unwrap();
    let mut stream = std::net::TcpStream::connect(node.addresses().http).unwrap();
    write!(stream, "PUT /v1/snapshot HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
    stream.write_all(&bytes[..bytes.len() * 9 / 10]).unwrap();
    stream
}

#[test]
fn a_crash_in_the_midst_of_a_restore_leaves_what_was_there() {
    let mut node = Node::durable();
    fill(&node);
    let file = save(&node, "backup.snap");
    assert_eq!(node.put("/v1/kv/steady/new", "1").status, 200);
    let wanted = content(&node).unwrap();
    for _ in 0..3 {
        let before = node.get("/v1/agent/self").json()["Stats"]["raft"]["applied_index"].clone();
        let _connection = half_a_restore(&node, &file);
        eventually!(PATIENCE, node.get("/v1/agent/self").json()["Stats"]["raft"]["applied_index"] != before, "the restore is under way");
        node.restart();
        assert_eq!(content(&node).unwrap(), wanted);
    }
    node.cli(&["snapshot", "restore", file.to_str().unwrap()]).success();
    node.restart();
    assert_eq!(node.get("/v1/kv/steady/new").status, 404, "it was not there when the snapshot was taken");
    assert_eq!(node.get("/v1/kv/steady/lock?raw").text(), "held");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_is_told_that_everything_is_another() {
    let node = Setup::durable().start();
    fill(&node);
    let file = save(&node, "backup.snap");
    assert_eq!(node.put("/v1/kv/steady/1", "later").status, 200);
    let index = index(&node);
    let http = node.http();
    let blocked = std::thread::spawn(move || http.get(&format!("/v1/kv/steady/1?index={index}&wait=60s")));
    let client = node.client().await;
    let mut watch = client.watch(Target::prefix("steady/"));
    while !matches!(watch.next().await.unwrap(), Some(WatchEvent::SnapshotEnd { .. })) {}
    node.cli(&["snapshot", "restore", file.to_str().unwrap()]).success();
    let mut reset = false;
    loop {
        match watch.next().await.unwrap().unwrap() {
            WatchEvent::Reset { .. } => reset = true,
            WatchEvent::SnapshotEnd { .. } => break,
            _ => {}
        }
    }
    assert!(reset, "the watch was told to forget what it knew");
    let woken = blocked.join().unwrap();
    assert!(woken.header("x-consul-index").unwrap().parse::<u64>().unwrap() > index);
    assert_ne!(woken.json()[0]["Value"], "bGF0ZXI=", "the value is that of the snapshot");
}
