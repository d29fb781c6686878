//! How servers are looked after, and calls that are carried to whom they are for.

use harness::{Node, PATIENCE, Setup, eventually};
use lictor_client::{PutOptions, ReadOptions};

use crate::cluster::fleet::Fleet;

fn follower(fleet: &Fleet) -> usize {
    (fleet.leading() + 1) % fleet.servers.len()
}

#[test]
fn autopilot_tells_how_the_servers_do_and_is_told_what_to_do() {
    let fleet = Fleet::start("dc1", 3, 1);
    let at = follower(&fleet);
    for node in [&fleet.servers[at], &fleet.clients[0]] {
        let told = eventually!(
            PATIENCE,
            Some(node.cli(&["operator", "autopilot", "state"])).filter(|ran| ran.stdout.contains("Healthy: true")),
            "all servers are well"
        );
        assert!(told.stdout.contains("\nFailure Tolerance: 1\n") && told.stdout.contains("dc1-server-2"), "{}", told.stdout);
        // A machine that pauses makes a server unwell for a moment.
        let state = eventually!(
            PATIENCE,
            Some(node.get("/v1/operator/autopilot/state").json()).filter(|state| state["FailureTolerance"] == 1),
            "one may fail"
        );
        assert_eq!(state["Voters"].as_array().unwrap().len(), 3, "{state}");
        assert!(matches!(node.get("/v1/operator/autopilot/health").status, 200 | 429));
    }
    let node = &fleet.clients[0];
    let config = node.cli(&["operator", "autopilot", "get-config"]).success().stdout;
    assert!(config.contains("CleanupDeadServers = true") && config.contains("ServerStabilizationTime = 10s"), "{config}");
    let set = node.cli(&["operator", "autopilot", "set-config", "-min-quorum=3", "-server-stabilization-time=2s"]).success();
    assert_eq!(set.stdout.trim(), "Configuration updated!");
    let path = "/v1/operator/autopilot/configuration";
    let found = fleet.servers[at].get(path).json();
    assert_eq!((found["MinQuorum"].as_u64(), found["ServerStabilizationTime"].as_str()), (Some(3), Some("2s")), "{found}");
    assert_eq!(found["CleanupDeadServers"], true, "what was not named stays as it is");
    let index = found["ModifyIndex"].as_u64().unwrap();
    assert_eq!(node.put(&format!("{path}?cas={}", index - 1), r#"{"MinQuorum": 5}"#).text(), "false");
    assert_eq!(node.put(&format!("{path}?cas={index}"), r#"{"MinQuorum": 5, "CleanupDeadServers": false}"#).text(), "true");
    assert_eq!(node.get(path).json()["MinQuorum"], 5);
    assert_eq!(node.put(path, r#"{"Typo": 5}"#).status, 400);
}

#[test]
fn servers_are_looked_after_as_the_configuration_says_until_somebody_says_otherwise() {
    let block = "autopilot { min_quorum = 3  server_stabilization_time = \"3s\"  cleanup_dead_servers = false }";
    let mut node = Setup::durable().config(block).start();
    let path = "/v1/operator/autopilot/configuration";
    let found = node.get(path).json();
    assert_eq!((&found["MinQuorum"], &found["ServerStabilizationTime"]), (&3.into(), &"3s".into()), "{found}");
    assert_eq!((&found["CleanupDeadServers"], &found["MaxTrailingLogs"]), (&false.into(), &250.into()), "{found}");
    assert_eq!(node.get("/v1/agent/self").json()["DebugConfig"]["AutopilotMinQuorum"], 3);
    node.cli(&["operator", "autopilot", "set-config", "-min-quorum=5"]).success();
    node.kill();
    node.restart();
    let found = node.get(path).json();
    assert_eq!((&found["MinQuorum"], &found["CleanupDeadServers"]), (&5.into(), &false.into()), "what was set stays: {found}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_only_the_leader_can_do_works_by_way_of_any_server() {
    let fleet = Fleet::start("dc1", 3, 1);
    let by_way_of = &fleet.servers[follower(&fleet)];
    let before = by_way_of.get("/v1/status/leader").text();
    let next = by_way_of.client().await.operator().transfer_leader(0, "").await.unwrap().expect("somebody leads");
    eventually!(PATIENCE, by_way_of.get("/v1/status/leader").text() == format!("\"{}\"", next.address), "the one that was told leads");
    assert_ne!(by_way_of.get("/v1/status/leader").text(), before);
    let unknown = fleet.clients[0].cli(&["operator", "raft", "remove-peer", "-id=1"]).exited(1);
    assert!(unknown.stderr.contains("no server of the quorum is `1`"), "{}", unknown.stderr);
    let hand_over = || fleet.clients[0].http().send("POST", "/v1/operator/raft/transfer-leader", &[], b"");
    let told = eventually!(PATIENCE, Some(hand_over()).filter(|told| told.status == 200), "the server that is asked knows who leads");
    assert_eq!(told.json()["Success"], true);
    let another = |leader: &str| leader.len() > 2 && leader != format!("\"{}\"", next.address);
    eventually!(PATIENCE, another(&by_way_of.get("/v1/status/leader").text()), "another one leads");
}

#[test]
fn who_is_in_the_quorum_is_told_with_how_far_each_has_come_and_the_dead_can_be_taken_out() {
    let mut fleet = Fleet::start("dc1", 4, 1);
    let configuration = |node: &Node| node.get("/v1/operator/raft/configuration");
    // Nothing while there is no leader.
    let servers = |node: &Node| {
        let answer = Some(configuration(node)).filter(|answer| answer.status == 200);
        answer.and_then(|answer| answer.json()["Servers"].as_array().cloned()).unwrap_or_default()
    };
    let known = |node: &Node| servers(node).iter().filter(|server| server["LastIndex"].as_u64() > Some(0)).count();
    for node in fleet.nodes() {
        eventually!(PATIENCE, known(node) == 4, "how far each has come: {}", configuration(node).text());
        let listed = || node.cli(&["operator", "raft", "list-peers"]).stdout;
        let trailing = |listed: &str| listed.lines().filter(|line| line.ends_with("commits") || line.ends_with("commit")).count();
        let listed = eventually!(PATIENCE, Some(listed()).filter(|listed| trailing(listed) == 3), "{}", listed());
        assert!(listed.lines().next().unwrap().ends_with("RaftProtocol  Commit Index  Trails Leader By"), "{listed}");
    }
    for (count, by_id) in [(3, true), (2, false)] {
        let (client, at) = (&fleet.clients[0], follower(&fleet));
        let address = format!("{}:8300", fleet.servers[at].setup().address());
        let row = eventually!(PATIENCE, servers(client).into_iter().find(|server| server["Address"] == *address), "it is one of them");
        let (id, name) = (row["ID"].as_str().unwrap(), row["Node"].as_str().unwrap());
        let mut dead = fleet.servers.remove(at);
        dead.kill();
        // Once it is known to be dead it is not taken in again.
        eventually!(PATIENCE, client.cli(&["members", "-status=failed"]).stdout.contains(name), "`{name}` is found dead");
        match by_id {
            true => {
                let removed = client.cli(&["operator", "raft", "remove-peer", &format!("-id={id}")]).success();
                assert_eq!(removed.stdout.trim(), format!("Removed peer with id \"{id}\""));
            }
            false => drop(client.delete(&format!("/v1/operator/raft/peer?address={address}")).expect(200)),
        }
        eventually!(PATIENCE, servers(client).len() == count, "{}", configuration(client).text());
        let again = client.delete(&format!("/v1/operator/raft/peer?address={address}"));
        assert!(again.status == 500 && again.text().contains("server of the quorum is `"), "{}", again.text());
    }

    // Two of two are needed: without the other one nobody knows who leads, and each tells what it believes if asked to.
    let mut servers = fleet.servers.into_iter();
    let (left, mut other) = (servers.next().unwrap(), servers.next().unwrap());
    other.kill();
    eventually!(PATIENCE, configuration(&left).status == 500, "there is no leader to ask");
    let believed = left.get("/v1/operator/raft/configuration?stale").expect(200).json();
    assert_eq!(believed["Servers"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_call_for_another_datacenter_is_answered_there() {
    let one = Fleet::start("dc1", 1, 1);
    let two = Fleet::start("dc2", 1, 0);
    one.meet(&two);
    for node in one.nodes() {
        let client = node.client().await;
        let there = PutOptions::new().datacenter("dc2");
        eventually!(
            PATIENCE,
            client.kv().put_with("far", "away", there.clone()).await,
            "dc2 takes it by way of {:?}",
            node.addresses().grpc
        );
        let read = ReadOptions::default().datacenter("dc2");
        let found = client.kv().get_with("far", &read).await.unwrap();
        assert_eq!((found.value.map(|entry| entry.value), found.meta.datacenter.as_str()), (Some("away".into()), "dc2"));
        assert!(client.kv().get("far").await.unwrap().value.is_none(), "it is not here");
        let state = client.operator().autopilot_state("dc2").await.unwrap();
        assert_eq!(state.servers.len(), 1);
        let unknown = client.kv().get_with("far", &ReadOptions::default().datacenter("dc9")).await.unwrap_err();
        assert!(unknown.to_string().contains("dc9") && unknown.to_string().contains("dc2"), "{unknown}");
        let cli = node.cli(&["kv", "get", "-datacenter=dc2", "far"]).success();
        assert_eq!(cli.stdout.trim(), "away");
    }
    assert_eq!(two.servers[0].get("/v1/kv/far?raw").text(), "away");
}
