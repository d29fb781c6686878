//! The leader is killed while a snapshot is put in the place of everything: the state is wholly what it was or wholly
//! the snapshot's, on all servers alike, and who restored is told which, or that it is not known.

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use harness::{Node, PATIENCE, Response, eventually};

use crate::cluster::fleet::Fleet;

/// Keys of the snapshot.
const KEYS: usize = 200;

/// From the last byte of the snapshot to the end of the leader. A commit takes a few of them.
const KILLED_AFTER: [Duration; 5] =
    [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(3), Duration::from_millis(8), Duration::from_millis(30)];

fn leader(fleet: &Fleet) -> usize {
    eventually!(PATIENCE * 2, {
        let known = fleet.servers.iter().filter_map(|node| node.http().try_send("GET", "/v1/status/leader", &[], b"").ok());
        let known: Vec<String> = known.map(|answer| answer.text()).filter(|at| at.len() > 2).collect();
        let at = |node: &Node| format!("\"{}:8300\"", node.setup().address());
        fleet.servers.iter().position(|node| !known.is_empty() && known.iter().all(|leader| *leader == at(node)))
    })
}

/// What a server has: the value that all keys have, and whether there is a key that the snapshot lacks. Panics on a mixture.
fn content(node: &Node) -> Option<(String, bool)> {
    let answer = node.http().try_send("GET", "/v1/kv/s/?recurse", &[], b"").ok().filter(|answer| answer.status == 200)?;
    let rows = answer.json();
    let rows = rows.as_array().unwrap();
    let values: std::collections::BTreeSet<&str> = rows.iter().map(|row| row["Value"].as_str().unwrap()).collect();
    let extra = rows.iter().any(|row| row["Key"] == "s/extra");
    assert_eq!((values.len(), rows.len()), (1, KEYS + usize::from(extra)), "the state is a mixture: {values:?}");
    Some((values.into_iter().next().unwrap().to_owned(), extra))
}

fn fill(node: &Node, value: &str) {
    for n in 0..KEYS {
        node.http().put_until_done(&format!("/v1/kv/s/{n}"), value.repeat(50));
    }
}

/// Sends a restore but for its last bytes; waits until the rest of it is staged.
fn nearly_restored(node: &Node, file: &Path) -> (TcpStream, Vec<u8>) {
    let applied = || node.get("/v1/agent/self").json()["Stats"]["raft"]["applied_index"].to_string();
    let before = applied();
    let bytes = std::fs::read(file).unwrap();
    let mut stream = TcpStream::connect(node.addresses().http).unwrap();
    write!(stream, "PUT /v1/snapshot HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len()).unwrap();
    let (most, last) = bytes.split_at(bytes.len() - 20);
    stream.write_all(most).unwrap();
    eventually!(PATIENCE, applied() != before, "its rows are on their way");
    (stream, last.to_vec())
}

/// The answer to a request that was sent; `None` when whoever was asked is gone.
fn answer(stream: TcpStream) -> Option<Response> {
    stream.set_read_timeout(Some(Duration::from_secs(90))).unwrap();
    Response::read(stream).ok()
}

/// One round: restore at one server, and kill the leader.
fn round(fleet: &mut Fleet, file: &Path, at_the_leader: bool, after: Duration) -> &'static str {
    let leading = leader(fleet);
    let asked = if at_the_leader { leading } else { (leading + 1) % 3 };
    fill(&fleet.servers[asked], "present");
    fleet.servers[asked].http().put_until_done("/v1/kv/s/extra", "present".repeat(50));
    let before = content(&fleet.servers[asked]).unwrap();
    let (mut stream, last) = nearly_restored(&fleet.servers[asked], file);
    stream.write_all(&last).unwrap();
    std::thread::sleep(after);
    fleet.servers[leading].kill();
    let answered = answer(stream);

    let left: Vec<usize> = (0..3).filter(|at| *at != leading).collect();
    let found = eventually!(PATIENCE * 2, content(&fleet.servers[left[0]]), "the others go on");
    fleet.servers[leading].restart();
    for node in &fleet.servers {
        eventually!(PATIENCE * 2, content(node).as_ref() == Some(&found), "all servers agree");
    }
    let restored = !found.1;
    assert_eq!(found == before, !restored, "it is the one or the other: {found:?}");
    match answered {
        None => {
            assert!(at_the_leader, "who is alive answers");
            "nobody is left to answer"
        }
        Some(answer) if answer.status == 200 => {
            assert!(restored, "it was said to be restored");
            "restored"
        }
        Some(answer) => {
            let text = answer.text();
            let unknown = text.contains("may or may not");
            assert!(unknown || (text.contains("nothing was changed") && !restored), "restored: {restored}, but the answer is `{text}`");
            if unknown { "unknown" } else { "not restored" }
        }
    }
}

#[test]
fn a_leader_that_is_killed_in_the_commit_leaves_all_or_nothing() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    eventually!(PATIENCE, fleet.servers[0].put("/v1/kv/warm", "up").status == 200, "there is a leader");
    fill(&fleet.servers[0], "snapshot");
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("backup.snap");
    fleet.servers[0].cli(&["snapshot", "save", file.to_str().unwrap()]).success();
    for (n, after) in KILLED_AFTER.into_iter().enumerate() {
        let at_the_leader = n % 2 == 1;
        let told = round(&mut fleet, &file, at_the_leader, after);
        println!("killed {after:?} after the last byte, asked {}: {told}", if at_the_leader { "the leader" } else { "a follower" });
    }
    // It is never stuck: a restore that nobody disturbs does what it says.
    let node = &fleet.servers[leader(&fleet)];
    node.cli(&["snapshot", "restore", file.to_str().unwrap()]).success();
    for node in &fleet.servers {
        eventually!(PATIENCE, content(node).is_some_and(|(_, extra)| !extra), "every server has it");
    }
}
