//! A server that lags gets what it lacks: entries over a link that is slow, and the whole state over one that breaks,
//! while writes go on. What was there once does not come again.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use harness::{Node, PATIENCE, eventually, isolated};

use crate::hosts::{Hosts, address};

/// Bytes of each large value, and how many there are: 100 MB.
const VALUE: usize = 500_000;
const VALUES: usize = 200;
const STATE: u64 = (VALUE * VALUES) as u64;

/// More entries than the log keeps for those who lag a little.
const ENTRIES: usize = 13_000;

fn server(hosts: &Hosts, host: usize) -> Node {
    let setup = hosts.agent(host).flag("-server").flag("-bootstrap-expect=3").and("-server-port=8300").and("-serf-wan-port=8302");
    hosts.others(host).fold(setup, |setup, other| setup.flag(format!("-retry-join={}:8301", address(other)))).spawn()
}

/// Puts `count` values with `tasks` at a time.
async fn put(node: &Node, tasks: usize, count: usize, of: fn(usize) -> (String, Vec<u8>)) {
    let client = node.client().await;
    let mut putting = tokio::task::JoinSet::new();
    for task in 0..tasks {
        let client = client.clone();
        putting.spawn(async move {
            for n in (task..count).step_by(tasks) {
                let (key, value) = of(n);
                // To put it twice does no harm, and an election may come in between.
                let mut attempts = 0;
                while let Err(error) = client.kv().put(&key, value.clone()).await {
                    attempts += 1;
                    assert!(attempts < 20, "{key}: {error}");
                }
            }
        });
    }
    putting.join_all().await;
}

/// So much that the log does not reach back to the beginning any more.
fn fill(runtime: &tokio::runtime::Runtime, node: &Node) {
    runtime.block_on(put(node, 64, ENTRIES, |n| (format!("small/{}", n % 100), vec![b's'; 10])));
    let before = written(node);
    eventually!(PATIENCE, written(node) >= ENTRIES, "the state is on disk, and not only up to {before}");
    // While this is written, what lies behind that is dropped.
    runtime.block_on(put(node, 4, VALUES, |n| (format!("large/{n}"), vec![n as u8; VALUE])));
}

/// Up to where the state is on disk.
fn written(node: &Node) -> usize {
    let told = node.cli(&["info"]).success().stdout;
    let line = told.lines().find_map(|line| line.trim().strip_prefix("last_snapshot_index"));
    line.unwrap_or_else(|| panic!("no index in {told}")).trim_matches([' ', '=']).parse().unwrap()
}

/// Bytes of what has arrived of a state.
fn arrived(data: &Path) -> u64 {
    let files = std::fs::read_dir(data.join("arriving")).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|about| about.len()).sum()
}

/// What a follower said that it had, each time that the leader sent its state.
fn reused(node: &Node) -> Vec<u64> {
    let lines = node.log().lines().into_iter().filter(|line| line.contains("the leader sends its state"));
    lines.map(|line| line.split("bytes_here=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()).collect()
}

/// Three servers, each on a host of its own, and which of them leads.
fn three(hosts: &Hosts) -> (Vec<Node>, usize) {
    let mut nodes: Vec<Node> = (0..3).map(|host| server(hosts, host)).collect();
    nodes.iter_mut().for_each(Node::await_ready);
    let leader = eventually!(
        PATIENCE,
        (0..3).find(|host| nodes[0].get("/v1/status/leader").text() == format!("\"{}:8300\"", address(*host))),
        "one leads"
    );
    (nodes, leader)
}

#[test]
fn entries_get_through_a_slow_link_once() {
    isolated("transfer::entries_get_through_a_slow_link_once", || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let hosts = Hosts::new(3);
        let (mut nodes, leader) = three(&hosts);
        let late = hosts.others(leader).next().unwrap();
        nodes[late].kill();
        const LOG: usize = 10 * VALUE;
        runtime.block_on(put(&nodes[leader], 2, LOG / VALUE, |n| (format!("large/{n}"), vec![n as u8; VALUE])));

        // Eight seconds for what it lacks: longer than any request waits for a server that starts.
        hosts.slow(late, 5_000);
        let before = hosts.received(late);
        nodes[late].restart();
        let sent = (hosts.received(late) - before) as usize;
        assert!((LOG..2 * LOG).contains(&sent), "{sent} bytes went over the link for {LOG} of entries");
        assert_eq!(nodes[late].get("/v1/kv/large/9?raw&stale").body, vec![9; VALUE], "who is ready has caught up");
        assert!(reused(&nodes[late]).is_empty(), "the log was enough");
    });
}

#[test]
fn a_cut_link_and_a_crash_cost_what_was_on_its_way() {
    isolated("transfer::a_cut_link_and_a_crash_cost_what_was_on_its_way", || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let hosts = Hosts::new(3);
        let (mut nodes, leader) = three(&hosts);
        let late = hosts.others(leader).next().unwrap();
        let data = nodes[late].setup().home().join("data");
        nodes[late].kill();
        fill(&runtime, &nodes[leader]);

        // Somebody writes all the while.
        let stop = Arc::new(AtomicBool::new(false));
        let (http, stopped) = (nodes[leader].http(), stop.clone());
        let writer = std::thread::spawn(move || {
            let mut n = 0;
            while !stopped.load(Ordering::Relaxed) {
                http.put_until_done(&format!("/v1/kv/meanwhile/{n}"), "v");
                n += 1;
            }
            n
        });

        let before = hosts.received(late);
        nodes[late].restart_unready();
        eventually!(PATIENCE * 2, arrived(&data) > STATE / 4, "the state is on its way");
        hosts.others(late).for_each(|other| hosts.cut(late, other));
        let first = arrived(&data);
        assert!(first < STATE, "it was cut in the midst of it");
        eventually!(PATIENCE * 2, nodes[leader].log().contains("did not get through"), "the leader notices");
        hosts.others(late).for_each(|other| hosts.mend(late, other));
        eventually!(PATIENCE * 2, reused(&nodes[late]).len() >= 2 && arrived(&data) > first.max(STATE / 2), "it goes on");
        nodes[late].kill();
        let second = arrived(&data);
        nodes[late].restart();

        let here = reused(&nodes[late]);
        assert!(here.len() >= 3, "{here:?}");
        assert!(here[0] < STATE / 10, "at first nothing is there: {here:?}");
        assert!(here[1] > first / 2 && here[1] > STATE / 8, "after the cut it goes on from {first}: {here:?}");
        assert!(*here.last().unwrap() > second / 2, "after the crash it goes on from {second}: {here:?}");
        stop.store(true, Ordering::Relaxed);
        let written = writer.join().unwrap();
        let sent = hosts.received(late) - before;
        println!("{sent} bytes went over the link for a state of {STATE}; {here:?} were there; {written} writes meanwhile");
        assert!((STATE..STATE * 3 / 2).contains(&sent), "{sent} bytes went over the link for a state of {STATE}");

        let last = format!("/v1/kv/meanwhile/{}?raw&stale", written - 1);
        eventually!(PATIENCE, nodes[late].get(&last).text() == "v", "it has caught up");
        let keys = |node: &Node| node.get("/v1/kv/?keys&stale").text();
        assert_eq!(keys(&nodes[late]), keys(&nodes[leader]));
        for n in [0, VALUES / 2, VALUES - 1] {
            assert_eq!(nodes[late].get(&format!("/v1/kv/large/{n}?raw&stale")).body, vec![n as u8; VALUE], "value {n}");
        }
        eventually!(PATIENCE, !data.join("arriving").exists(), "nothing is left of it");
    });
}
