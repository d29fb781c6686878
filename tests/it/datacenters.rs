//! Two datacenters, and an agent without a log that is asked for what is in the other one.

use harness::{Node, PATIENCE, eventually};
use serde_json::json;

use crate::cluster::fleet::{Fleet, leader};

fn count(node: &Node, path: &str) -> usize {
    node.get(path).json().as_array().map_or(0, Vec::len)
}

/// A datacenter of one server and an agent without a log, and another one of two servers.
fn two() -> (Fleet, Fleet) {
    let (near, far) = (Fleet::start("dc1", 1, 1), Fleet::start("dc2", 2, 0));
    near.meet(&far);
    eventually!(PATIENCE, count(&near.servers[0], "/v1/agent/members?wan=1") == 3, "the servers know each other");
    (near, far)
}

#[test]
fn what_is_meant_for_another_datacenter_is_done_there_and_not_here() {
    let (near, far) = two();
    let client = &near.clients[0];
    let listed = client.cli(&["operator", "raft", "list-peers", "-datacenter=dc2"]);
    assert!(listed.stdout.contains("dc2-server-1") && !listed.stdout.contains("dc1-server-0"), "{}{}", listed.stdout, listed.stderr);

    // Whichever of the two servers there is kept, it leads before or after, and the other time it does not.
    for _ in 0..2 {
        let before = eventually!(PATIENCE, Some(leader(&far.servers[0])).filter(|leader| !leader.is_empty()));
        eventually!(PATIENCE, client.cli(&["operator", "raft", "transfer-leader", "-datacenter=dc2"]).code == Some(0), "it is handed over");
        let leads = |node: &Node| Some(leader(node)).filter(|leader| !leader.is_empty() && *leader != before);
        eventually!(PATIENCE, far.servers.iter().all(|node| leads(node).is_some()), "the other one leads");
        eventually!(PATIENCE, client.get("/v1/operator/autopilot/state?dc=dc2").status == 200, "the leader there is found");
    }

    // A registration may say in its body where it belongs, and that counts.
    for (node, name) in [(client, "one"), (&near.servers[0], "two")] {
        let body = |more: &str| format!(r#"{{"Datacenter": "dc2", "Node": "external", {more}}}"#);
        let registered = body(&format!(r#""Address": "10.9.9.9", "Service": {{"Service": "{name}"}}"#));
        eventually!(PATIENCE, node.put("/v1/catalog/register?dc=dc1", &registered).text() == "true", "it is registered there");
        eventually!(PATIENCE, count(&far.servers[0], &format!("/v1/catalog/service/{name}")) == 1, "it is there");
        assert_eq!(count(&near.servers[0], &format!("/v1/catalog/service/{name}")), 0, "and not here");
        let gone = body(&format!(r#""ServiceID": "{name}""#));
        assert_eq!(node.put("/v1/catalog/deregister", &gone).text(), "true");
        eventually!(PATIENCE, count(&far.servers[0], &format!("/v1/catalog/service/{name}")) == 0, "it is gone there");
    }
    let unknown = near.servers[0].put("/v1/catalog/register", r#"{"Datacenter": "dc9", "Node": "n", "Address": "10.9.9.9"}"#);
    assert!(unknown.status == 500 && unknown.text().contains("No path to datacenter"), "{}: {}", unknown.status, unknown.text());

    let fired = client.cli(&["event", "-datacenter=dc2", "-name=deploy", "now"]);
    assert_eq!(fired.code, Some(0), "{}", fired.stderr);
    assert_eq!(client.put("/v1/event/fire/deploy?dc=dc2", "again").status, 200);
    for node in &far.servers {
        eventually!(PATIENCE, count(node, "/v1/event/list?name=deploy") == 2, "it is told there");
    }
    assert_eq!(count(client, "/v1/event/list?name=deploy&dc=dc2"), 2);
    assert_eq!(count(&near.servers[0], "/v1/event/list?name=deploy"), 0, "and not here");
    eventually!(PATIENCE, count(client, "/v1/coordinate/nodes?dc=dc2") == 2, "where they are is told");

    for command in ["members", "leave"] {
        let refused = client.cli(&[command, "-datacenter=dc2"]);
        assert_eq!(refused.code, Some(1), "{command}");
        assert!(refused.stderr.contains("`-datacenter=dc2` means nothing to"), "{}", refused.stderr);
    }
    assert_eq!(client.get("/v1/agent/members?wan=1").json(), json!([]), "it is in no pool of servers");
    let listed = near.servers[0].cli(&["members", "-wan", "-detailed"]).success().stdout;
    assert!(listed.contains("dc2-server-1.dc2") && listed.contains("role=consul"), "{listed}");
    for (flag, from, to) in [("-wan", "dc1-server-0.dc1", "dc2-server-0.dc2"), ("-datacenter=dc2", "dc2-server-0", "dc2-server-1")] {
        eventually!(PATIENCE, client.cli(&["rtt", flag, from, to]).code == Some(0), "the round trip is told with {flag}");
    }
}

#[test]
fn a_datacenter_that_hangs_is_named_and_a_read_is_not_told_of_writes() {
    let (near, far) = two();
    let client = &near.clients[0];
    eventually!(PATIENCE, client.put("/v1/kv/k?dc=dc2", "v").status == 200);
    far.servers.iter().for_each(Node::pause);
    let (read, listed) = (client.get("/v1/kv/k?dc=dc2"), client.cli(&["kv", "get", "-datacenter=dc2", "k"]));
    let written = client.put("/v1/kv/k?dc=dc2", "w");
    far.servers.iter().for_each(Node::resume);
    for (status, text) in [(read.status == 500, read.text()), (listed.code == Some(1), listed.stderr)] {
        assert!(status && text.contains("`dc2`") && !text.contains("write"), "{text}");
    }
    assert!(written.status == 500 && written.text().contains("`dc2`"), "{}", written.text());
    eventually!(PATIENCE, client.get("/v1/kv/k?dc=dc2").status == 200, "it is found again");
}
