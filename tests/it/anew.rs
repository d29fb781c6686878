//! Agents that begin anew where they were: a container without a volume, a disk that was replaced.

use harness::{Node, PATIENCE, eventually};
use serde_json::Value;

use crate::cluster::fleet::{Fleet, client_of};

/// Ends a node, takes its disk away, and starts it again before anybody has missed it.
fn begin_anew(node: &mut Node) {
    node.kill();
    let data = node.setup().home().join("data");
    std::fs::remove_dir_all(&data).unwrap();
    node.restart();
}

fn own_id(node: &Node) -> String {
    node.get("/v1/agent/self").json()["Config"]["NodeID"].as_str().unwrap().to_owned()
}

/// The ids by which `node` knows the living members called `name`.
fn known_as(node: &Node, pool: &str, name: &str) -> Vec<String> {
    let members = node.get(&format!("/v1/agent/members{pool}")).json();
    let alive = |member: &&Value| member["Name"] == name && member["Status"] == 1;
    let id = |member: &Value| member["Tags"]["id"].as_str().unwrap_or_default().to_owned();
    members.as_array().unwrap().iter().filter(alive).map(id).collect()
}

fn catalog_id(node: &Node, name: &str) -> String {
    node.get(&format!("/v1/catalog/node/{name}")).json()["Node"]["ID"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_client_agent_with_an_empty_disk_takes_its_own_place_at_once() {
    let mut fleet = Fleet::start("dc1", 1, 2);
    let name = "dc1-client-1";
    eventually!(PATIENCE, catalog_id(&fleet.servers[0], name) == own_id(&fleet.clients[1]), "it is in the catalog");
    let before = own_id(&fleet.clients[1]);
    begin_anew(&mut fleet.clients[1]);
    let now = own_id(&fleet.clients[1]);
    assert_ne!(before, now, "its id went with its disk");
    assert_eq!(fleet.clients[1].put("/v1/agent/service/register", r#"{"Name": "web", "Port": 80}"#).status, 200);
    for node in fleet.nodes() {
        eventually!(PATIENCE, known_as(node, "", name) == [now.as_str()], "{}", node.get("/v1/agent/members").text());
        eventually!(PATIENCE, catalog_id(node, name) == now, "the catalog has it as it is now");
        eventually!(PATIENCE, node.get("/v1/health/service/web?passing").json().as_array().unwrap().len() == 1, "its service is found");
    }
    // Who comes from elsewhere does not get the name of a living one.
    let join = fleet.addresses();
    let mut twin = client_of("dc1", 1, &join).spawn();
    eventually!(PATIENCE, twin.log().contains("belongs to a living node"), "{}", twin.log().text());
    assert_eq!(known_as(&fleet.servers[0], "", name), [now.as_str()]);
    twin.kill();
}

#[test]
fn a_server_with_an_empty_disk_is_a_voter_again_and_what_it_was_is_none() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    eventually!(PATIENCE, fleet.servers[0].put("/v1/kv/before", "1").status == 200, "there is a leader");
    let voters = |node: &Node| {
        let configuration = node.get("/v1/operator/raft/configuration?stale").json();
        let servers = configuration["Servers"].as_array().cloned().unwrap_or_default();
        servers.iter().filter(|server| server["Voter"] == true).map(|server| server["ID"].to_string()).collect::<Vec<_>>()
    };
    eventually!(PATIENCE, voters(&fleet.servers[0]).len() == 3, "all three vote");
    let before = voters(&fleet.servers[0]);
    for lost in 0..2 {
        begin_anew(&mut fleet.servers[lost]);
        let (name, now) = (format!("dc1-server-{lost}"), own_id(&fleet.servers[lost]));
        let settled = |node: &Node| {
            let voters = voters(node);
            voters.len() == 3 && voters.iter().filter(|id| before.contains(id)).count() == 2 - lost
        };
        for node in &fleet.servers {
            eventually!(PATIENCE * 2, settled(node), "{}", node.get("/v1/operator/raft/configuration?stale").text());
            eventually!(PATIENCE, known_as(node, "", &name) == [now.as_str()], "{}", node.get("/v1/agent/members").text());
            let wan = format!("{name}.dc1");
            eventually!(PATIENCE, known_as(node, "?wan=1", &wan) == [now.as_str()], "{}", node.get("/v1/agent/members?wan=1").text());
            eventually!(PATIENCE, catalog_id(node, &name) == now, "the catalog has it as it is now");
        }
        assert_eq!(fleet.servers[lost].get("/v1/kv/before?raw").text(), "1", "it has what the others have");
    }
    fleet.servers[2].kill();
    eventually!(PATIENCE, fleet.servers[0].put("/v1/kv/after", "2").status == 200, "the two that began anew are a quorum");
}

#[test]
fn a_server_with_another_name_is_the_same_server() {
    let mut node = Node::durable();
    assert_eq!(node.put("/v1/agent/service/register", r#"{"Name": "web", "Port": 80}"#).status, 200);
    let before = node.get("/v1/agent/self").json()["Config"]["NodeName"].as_str().unwrap().to_owned();
    node.stop();
    node.set_up(|setup| setup.and("-node=renamed"));
    node.restart();
    let nodes = || node.get("/v1/catalog/nodes").json().as_array().unwrap().iter().map(|node| node["Node"].clone()).collect::<Vec<_>>();
    eventually!(PATIENCE, nodes() == ["renamed"], "{before} is no more: {:?}", nodes());
    eventually!(PATIENCE, node.get("/v1/health/service/web?passing").json()[0]["Node"]["Node"] == "renamed", "its service is found");
    assert_eq!(node.put("/v1/session/create", r#"{"TTL": "10s"}"#).status, 200);
}
