//! Several agents that are one system: servers that find each other in any order, agents without a
//! log that answer everything, leaders that die, stop and come back, datacenters that meet.

pub(crate) mod fleet;
mod load;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use harness::{Node, PATIENCE, eventually};

use fleet::{Fleet, client_of, leader, server_of};
use load::{Load, assert_kept};

fn serf_health(node: &Node, of: &str) -> String {
    let checks = node.get(&format!("/v1/health/node/{of}")).json();
    let check = checks.as_array().and_then(|checks| checks.iter().find(|check| check["CheckID"] == "serfHealth").cloned());
    check.map_or_else(|| "none".into(), |check| check["Status"].as_str().unwrap_or_default().to_owned())
}

fn put_until_it_works(node: &Node, key: &str, value: &str) {
    eventually!(
        PATIENCE,
        node.put(&format!("/v1/kv/{key}"), value).status == 200,
        "`{key}` is written by way of {:?}",
        node.addresses().http
    );
}

#[test]
fn every_face_of_every_agent_gives_the_same_answers() {
    let fleet = Fleet::start("dc1", 3, 2);
    let names: Vec<String> =
        fleet.nodes().map(|node| node.get("/v1/agent/self").json()["Config"]["NodeName"].as_str().unwrap().to_owned()).collect();
    for (n, node) in fleet.nodes().enumerate() {
        put_until_it_works(node, &format!("from/{n}"), "here");
    }
    for node in fleet.nodes() {
        let keys = node.get("/v1/kv/from/?keys").json();
        assert_eq!(keys.as_array().unwrap().len(), 5, "{keys}");
        eventually!(PATIENCE, node.get("/v1/agent/members").json().as_array().unwrap().len() == 5, "everybody knows everybody");
        eventually!(PATIENCE, node.get("/v1/catalog/nodes").json().as_array().unwrap().len() == 5, "the catalog has everybody");
        for name in &names {
            let found = || node.dig(&[&format!("{name}.node.consul"), "A"]).answer.len();
            eventually!(PATIENCE, found() == 1, "{name} by way of {:?}", node.addresses().dns);
        }
        let got = node.cli(&["kv", "get", "from/0"]);
        assert_eq!((got.code, got.stdout.trim()), (Some(0), "here"), "gRPC: {}", got.stderr);
        eventually!(PATIENCE, node.get("/v1/catalog/service/consul").json().as_array().unwrap().len() == 3, "the servers are found");
    }
    let client = &fleet.clients[0];
    let web = r#"{"Name": "web", "Port": 80, "Check": {"TTL": "60s", "Status": "passing"}}"#;
    assert_eq!(client.put("/v1/agent/service/register", web).status, 200);
    for node in fleet.nodes() {
        let found = eventually!(
            PATIENCE,
            Some(node.get("/v1/health/service/web?passing").json()).filter(|found| !found.as_array().unwrap().is_empty())
        );
        assert_eq!(found[0]["Node"]["Node"], "dc1-client-0");
        eventually!(PATIENCE, node.dig(&["web.service.consul", "SRV"]).answer.len() == 1, "by way of {:?}", node.addresses().dns);
    }
    assert_eq!(client.put("/v1/agent/check/fail/service:web", "").status, 200);
    eventually!(PATIENCE, fleet.servers[0].get("/v1/health/service/web?passing").json().as_array().unwrap().is_empty());
}

#[test]
fn a_blocking_query_through_an_agent_without_a_log_is_answered_by_the_change() {
    let fleet = Fleet::start("dc1", 1, 1);
    let client = &fleet.clients[0];
    put_until_it_works(client, "a", "1");
    let index = client.get("/v1/kv/a").header("x-consul-index").unwrap().to_owned();
    let http = client.http();
    let blocked = std::thread::spawn(move || http.get(&format!("/v1/kv/a?index={index}&wait=60s&raw")).text());
    put_until_it_works(&fleet.servers[0], "a", "2");
    assert_eq!(blocked.join().unwrap(), "2");
}

#[test]
fn a_leader_that_is_killed_under_load_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut fleet = Fleet::start("dc1", 3, 2);
    let load = Load::by_way_of(fleet.nodes());
    for _ in 0..3 {
        load.goes_on();
        let dead = fleet.leading();
        let at = leader(&fleet.servers[dead]);
        fleet.servers[dead].kill();
        let other = &fleet.servers[(dead + 1) % 3];
        eventually!(PATIENCE, !leader(other).is_empty() && leader(other) != at, "another one leads");
        put_until_it_works(&fleet.clients[0], "after", "it");
        fleet.servers[dead].restart();
    }
    let acknowledged = load.end();
    fleet.nodes().for_each(|node| assert_kept(node, &acknowledged));
}

/// A question that is on its way, whether or not anybody reads it.
fn asked(node: &Node, how: &str) -> TcpStream {
    let mut stream = TcpStream::connect(node.addresses().http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET /v1/kv/a{how} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

#[test]
fn a_leader_that_was_stopped_gives_way_and_follows_when_it_goes_on() {
    let fleet = Fleet::start("dc1", 3, 2);
    let load = Load::by_way_of(fleet.nodes());
    load.goes_on();
    let stopped = fleet.leading();
    let at = leader(&fleet.servers[stopped]);
    let (paused, other) = (&fleet.servers[stopped], &fleet.servers[(stopped + 1) % 3]);
    put_until_it_works(paused, "a", "1");
    paused.pause();
    eventually!(PATIENCE, !leader(other).is_empty() && leader(other) != at, "another one leads");
    put_until_it_works(other, "a", "2");
    // Asked while it is stopped, it answers as soon as it goes on: before it can have heard of anything.
    let asked: Vec<TcpStream> = ["?raw", "?raw&consistent"].iter().cycle().take(20).map(|how| asked(paused, how)).collect();
    paused.resume();
    for mut answer in asked {
        let mut text = String::new();
        answer.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("HTTP/1.1 500") || text.ends_with("\r\n\r\n2"), "it never answers from the past: {text}");
    }
    assert_eq!(paused.get("/v1/kv/a?raw&consistent").text(), "2", "it never answers from the past");
    eventually!(PATIENCE, leader(paused) == leader(other), "it follows");
    put_until_it_works(paused, "a", "3");
    assert_eq!(other.get("/v1/kv/a?raw").text(), "3");
    load.goes_on();
    let acknowledged = load.end();
    fleet.nodes().for_each(|node| assert_kept(node, &acknowledged));
}

#[test]
fn all_servers_may_stop_at_once_and_come_back() {
    let mut fleet = Fleet::start("dc1", 3, 2);
    put_until_it_works(&fleet.clients[0], "kept", "yes");
    for server in &mut fleet.servers {
        server.kill();
    }
    let refused = fleet.clients[0].get("/v1/kv/kept");
    assert_eq!(refused.status, 500, "no answer is better than an empty one: {}", refused.text());
    for server in &mut fleet.servers {
        server.restart_unready();
    }
    for server in &mut fleet.servers {
        server.await_ready();
    }
    for node in fleet.nodes() {
        eventually!(PATIENCE, node.get("/v1/kv/kept?raw").text() == "yes", "it is there by way of {:?}", node.addresses().http);
    }
}

#[test]
fn a_cluster_grows_and_shrinks_while_it_is_used() {
    let mut fleet = Fleet::start("dc1", 3, 2);
    put_until_it_works(&fleet.clients[0], "a", "1");
    let load = Load::by_way_of(fleet.nodes());
    load.goes_on();
    for n in 3..5 {
        fleet.servers.push(server_of("dc1", n, 3, &fleet.addresses()).start());
    }
    eventually!(PATIENCE, voters(&fleet.clients[0]) == 5, "both have a vote");
    load.goes_on();
    for server in &fleet.servers[3..] {
        assert_eq!(server.get("/v1/kv/a?raw").text(), "1");
    }
    for _ in 0..2 {
        let mut leaving = fleet.servers.remove(0);
        assert_eq!(leaving.put("/v1/agent/leave", "").status, 200);
        assert!(leaving.exited().success());
        load.goes_on();
    }
    eventually!(PATIENCE, voters(&fleet.clients[0]) == 3, "they are out of the quorum");
    eventually!(PATIENCE, fleet.clients[0].get("/v1/catalog/node/dc1-server-0").text().trim() == "null", "and out of the catalog");
    put_until_it_works(&fleet.clients[0], "a", "2");
    let acknowledged = load.end();
    for server in &fleet.servers {
        assert_eq!(server.get("/v1/kv/a?raw").text(), "2");
        assert_kept(server, &acknowledged);
    }
}

fn voters(node: &Node) -> usize {
    let servers = node.get("/v1/operator/raft/configuration?stale").json()["Servers"].clone();
    servers.as_array().unwrap().iter().filter(|server| server["Voter"] == true).count()
}

#[test]
fn servers_leave_down_to_the_last_one_which_goes_on_alone() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    put_until_it_works(&fleet.servers[0], "a", "1");
    let led = fleet.leading();
    let last = fleet.servers.swap_remove(led);
    // Both at once: the one that stays must not be left with votes that it can't get.
    let leaving: Vec<_> = fleet.servers.iter().map(Node::http).collect();
    let asked: Vec<_> = leaving.into_iter().map(|http| std::thread::spawn(move || http.put("/v1/agent/leave", "").status)).collect();
    assert!(asked.into_iter().all(|asked| asked.join().unwrap() == 200));
    for gone in &mut fleet.servers {
        assert!(gone.exited().success());
    }
    eventually!(PATIENCE, last.put("/v1/kv/a", "2").status == 200, "the last one needs nobody");
    assert_eq!(voters(&last), 1);
}

#[test]
fn a_dead_server_that_is_told_to_be_gone_for_good_has_no_vote_any_more() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    let dead = (fleet.leading() + 1) % 3;
    let name = format!("dc1-server-{dead}");
    let mut gone = fleet.servers.remove(dead);
    gone.kill();
    let node = &fleet.servers[0];
    eventually!(PATIENCE, node.cli(&["members", "-status=failed"]).stdout.contains(&name), "it is found dead");
    assert_eq!(voters(node), 3, "it may come back");
    assert_eq!(node.cli(&["force-leave", "-prune", &name]).code, Some(0));
    eventually!(PATIENCE, voters(node) == 2, "its vote is gone with it");
}

#[test]
fn a_member_that_dies_turns_critical_and_one_that_is_told_to_be_gone_is_forgotten() {
    let mut fleet = Fleet::start("dc1", 1, 2);
    let server = &fleet.servers[0];
    eventually!(PATIENCE, serf_health(server, "dc1-client-1") == "passing");
    fleet.clients[1].kill();
    eventually!(PATIENCE, serf_health(server, "dc1-client-1") == "critical", "it is found dead");
    let listed = server.cli(&["members", "-status=failed"]);
    assert!(listed.stdout.contains("dc1-client-1"), "{}", listed.stdout);
    assert_eq!(server.cli(&["force-leave", "dc1-client-1"]).code, Some(0));
    eventually!(PATIENCE, serf_health(server, "dc1-client-1") == "none", "it is out of the catalog");
    fleet.clients[1].restart();
    eventually!(PATIENCE, serf_health(&fleet.servers[0], "dc1-client-1") == "passing", "it came back");
    fleet.clients[1].kill();
    eventually!(PATIENCE, serf_health(&fleet.servers[0], "dc1-client-1") == "critical", "it is found dead again");
    fleet.clients[0].put("/v1/agent/force-leave/dc1-client-1?prune", "").expect(200);
    eventually!(PATIENCE, !fleet.servers[0].get("/v1/agent/members").text().contains("dc1-client-1"), "nobody knows it any more");
    let unknown = fleet.clients[0].put("/v1/agent/force-leave/nobody", "").expect(500);
    assert!(unknown.text().contains("No node found with name 'nobody'"), "{}", unknown.text());
}

#[test]
fn an_agent_that_died_together_with_all_servers_is_critical_when_they_are_back() {
    let mut fleet = Fleet::start("dc1", 1, 2);
    eventually!(PATIENCE, serf_health(&fleet.servers[0], "dc1-client-1") == "passing");
    fleet.clients[1].kill();
    fleet.servers[0].kill();
    fleet.servers[0].restart();
    // Nobody has ever told this leader of it: it is given some time to come back.
    eventually!(2 * PATIENCE, serf_health(&fleet.servers[0], "dc1-client-1") == "critical", "it counts as dead");
    assert_eq!(serf_health(&fleet.servers[0], "dc1-client-0"), "passing");
}

#[test]
fn an_event_reaches_every_agent_that_it_concerns() {
    let fleet = Fleet::start("dc1", 1, 2);
    assert_eq!(fleet.clients[1].put("/v1/agent/service/register", r#"{"Name": "cache", "Tags": ["blue"]}"#).status, 200);
    eventually!(PATIENCE, fleet.servers[0].get("/v1/agent/members").json().as_array().unwrap().len() == 3);
    let fired = fleet.clients[0].cli(&["event", "-name=flush", "-service=cache", "-tag=blue", "now"]);
    assert_eq!(fired.code, Some(0), "{}", fired.stderr);
    let events = |node: &Node| node.get("/v1/event/list?name=flush").json();
    let event = eventually!(PATIENCE, Some(events(&fleet.clients[1])).filter(|events| !events.as_array().unwrap().is_empty()))[0].clone();
    assert_eq!((&event["Payload"], &event["ServiceFilter"]), (&"bm93".into(), &"cache".into()));
    assert!(events(&fleet.clients[0]).as_array().unwrap().is_empty(), "it does not concern this one");
    let large = fleet.clients[0].put("/v1/event/fire/large", vec![b'x'; 600]);
    assert!(large.status == 500 || large.status == 400, "{}", large.status);
    assert!(large.text().contains("at most 512"), "{}", large.text());
}

#[test]
fn a_session_keeps_its_ttl_over_a_change_of_leader_and_frees_its_lock_when_it_ends() {
    const TTL: Duration = Duration::from_secs(10);
    let mut fleet = Fleet::start("dc1", 3, 1);
    eventually!(PATIENCE, serf_health(&fleet.clients[0], "dc1-client-0") == "passing");
    let begun = Instant::now();
    let made = fleet.clients[0].put("/v1/session/create", r#"{"TTL": "10s", "Behavior": "delete", "LockDelay": 0}"#);
    let id = made.json()["ID"].as_str().unwrap_or_else(|| panic!("{}", made.text())).to_owned();
    let shown = fleet.servers[0].get(&format!("/v1/session/info/{id}")).json();
    assert_eq!(shown[0]["Node"], "dc1-client-0", "it is tied to the agent that was asked");
    assert_eq!(fleet.clients[0].put(&format!("/v1/kv/lock?acquire={id}"), "me").text(), "true");

    let dead = fleet.leading();
    let at = leader(&fleet.servers[dead]);
    fleet.servers[dead].kill();
    let other = &fleet.servers[(dead + 1) % 3];
    eventually!(PATIENCE, !leader(other).is_empty() && leader(other) != at, "another one leads");
    eventually!(PATIENCE, other.get("/v1/kv/lock").status == 404, "the session has ended");
    assert!(begun.elapsed() >= TTL, "it ended after {:?}, before its time", begun.elapsed());
    assert_eq!(other.get(&format!("/v1/session/info/{id}")).json(), serde_json::json!([]));
}

#[test]
fn lists_are_sorted_from_a_node_and_the_round_trip_between_two_is_told() {
    let fleet = Fleet::start("dc1", 2, 1);
    for node in fleet.nodes() {
        assert_eq!(node.put("/v1/agent/service/register", r#"{"Name": "web"}"#).status, 200);
    }
    let nodes = |path: &str| -> Vec<String> {
        let rows = fleet.servers[0].get(path).json();
        rows.as_array().unwrap().iter().map(|row| row["Node"]["Node"].as_str().or(row["Node"].as_str()).unwrap().to_owned()).collect()
    };
    eventually!(PATIENCE, fleet.servers[0].get("/v1/coordinate/nodes").json().as_array().unwrap().len() == 3, "everybody was heard");
    for near in ["dc1-client-0", "dc1-server-1"] {
        for path in ["/v1/health/service/web", "/v1/catalog/service/web", "/v1/catalog/nodes", "/v1/health/state/any"] {
            eventually!(PATIENCE, nodes(&format!("{path}?near={near}")).first().is_some_and(|first| first == near), "{path} from {near}");
        }
    }
    let mine = eventually!(
        PATIENCE,
        Some(fleet.clients[0].get("/v1/catalog/nodes?near=_agent").json()).filter(|rows| rows[0]["Node"] == "dc1-client-0")
    );
    assert_eq!(mine.as_array().unwrap().len(), 3);
    for (near, first) in [("dc1-server-1", "dc1-server-1"), ("_agent", "dc1-client-0")] {
        let listed = || fleet.clients[0].cli(&["catalog", "nodes", &format!("-near={near}")]).stdout;
        eventually!(PATIENCE, listed().lines().nth(1).is_some_and(|row| row.starts_with(first)), "over gRPC too, from {near}");
    }
    let from_here = fleet.clients[0].cli(&["rtt", "dc1-server-0"]);
    assert!(from_here.stdout.starts_with("Estimated dc1-server-0 <-> dc1-client-0 rtt: "), "{}{}", from_here.stdout, from_here.stderr);
    let told = fleet.clients[0].cli(&["rtt", "dc1-server-0", "dc1-server-1"]);
    assert!(told.stdout.starts_with("Estimated dc1-server-0 <-> dc1-server-1 rtt: "), "{}{}", told.stdout, told.stderr);
    assert_eq!(fleet.clients[0].cli(&["rtt", "dc1-server-0", "nobody"]).code, Some(1));
}

#[test]
fn gossip_is_sealed_and_its_key_is_changed_under_way() {
    let old = server_of("dc1", 9, 1, &[]).start();
    let key = old.cli(&["keygen"]).stdout.trim().to_owned();
    let server = server_of("dc1", 0, 1, &[]).flag(format!("-encrypt={key}")).start();
    let at = [server.setup().address().to_string()];
    let client = client_of("dc1", 0, &at).flag(format!("-encrypt={key}")).start();
    eventually!(PATIENCE, client.get("/v1/agent/members").json().as_array().unwrap().len() == 2, "both are in the pool");
    let refused = old.cli(&["join", &format!("{}:8301", at[0])]);
    assert!(refused.stderr.contains("is sealed"), "{}", refused.stderr);
    let new = client.cli(&["keygen"]).stdout.trim().to_owned();
    for action in ["-install", "-use"] {
        let done = client.cli(&["keyring", &format!("{action}={new}")]);
        assert_eq!(done.code, Some(0), "{action}: {}", done.stderr);
    }
    assert_eq!(client.cli(&["keyring", &format!("-remove={new}")]).code, Some(1), "the key that is used stays");
    assert_eq!(client.cli(&["keyring", &format!("-remove={key}")]).code, Some(0));
    let listed = server.cli(&["keyring", "-list"]).stdout;
    assert!(listed.contains(&new) && listed.contains("[2/2]") && !listed.contains(&key), "{listed}");
    let keys = server.get("/v1/operator/keyring").json();
    let counts: Vec<_> = keys.as_array().unwrap().iter().map(|ring| (&ring["WAN"], &ring["PrimaryKeys"][&new])).collect();
    assert_eq!(counts, [(&true.into(), &1.into()), (&false.into(), &2.into())], "both pools of a server seal with it");
    assert_eq!(old.cli(&["keyring", "-list"]).code, Some(1), "what is not sealed has no keys");
}

#[test]
fn two_datacenters_answer_for_each_other_and_say_so_when_they_cannot() {
    let near = Fleet::start("dc1", 1, 1);
    let mut far = Fleet::start("dc2", 1, 0);
    near.meet(&far);
    eventually!(PATIENCE, near.clients[0].get("/v1/catalog/datacenters").json() == serde_json::json!(["dc1", "dc2"]), "both are known");
    for (node, dc) in [(&near.clients[0], "dc2"), (&near.servers[0], "dc2"), (&far.servers[0], "dc1")] {
        eventually!(PATIENCE, node.put(&format!("/v1/kv/to/{dc}?dc={dc}"), "x").text() == "true", "written in {dc}");
        assert_eq!(node.get(&format!("/v1/kv/to/{dc}?dc={dc}&raw")).text(), "x");
        assert_eq!(node.get(&format!("/v1/kv/to/{dc}")).status, 404, "and not here");
    }
    assert_eq!(far.servers[0].get("/v1/kv/to/dc2?raw").text(), "x");
    assert_eq!(near.clients[0].dig(&["consul.service.dc2.consul", "A"]).answer.len(), 1);
    let unknown = near.clients[0].get("/v1/catalog/nodes?dc=dc9");
    assert!(unknown.status == 500 && unknown.text().contains("dc9"), "{}: {}", unknown.status, unknown.text());

    far.servers[0].kill();
    let cut = near.servers[0].get("/v1/kv/to/dc2?dc=dc2");
    assert!(cut.status == 500 && cut.text().contains("dc2"), "{}: {}", cut.status, cut.text());
    far.servers[0].restart();
    eventually!(PATIENCE, near.clients[0].get("/v1/kv/to/dc2?dc=dc2&raw").text() == "x", "the link has healed");
}

#[test]
fn a_stranger_is_not_let_in_and_says_why() {
    let fleet = Fleet::start("dc1", 1, 0);
    let stranger = server_of("dc2", 0, 1, &[]).start();
    let refused = stranger.cli(&["join", &format!("{}:8301", fleet.servers[0].setup().address())]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("this is the pool `lan:dc1`"), "{}", refused.stderr);
    let refused = stranger.put(&format!("/v1/agent/join/{}:8301", fleet.servers[0].setup().address()), "").expect(500);
    assert!(refused.text().contains("failed to join") && refused.text().contains("`lan:dc1`"), "{}", refused.text());
    let mut twin = client_of("dc1", 0, &fleet.addresses()).flag("-node=dc1-server-0").flag("-retry-max=2").spawn();
    twin.expect_error("nobody has let this agent into the LAN pool");
    assert!(!twin.exited().success());
    assert!(twin.log().text().contains("the name `dc1-server-0` belongs to a living node"), "{}", twin.log().text());
    let nobody = stranger.cli(&["join", "127.0.0.1:1"]);
    assert_eq!(nobody.code, Some(1));
    assert!(stranger.get("/v1/agent/metrics?format=prometheus").text().contains("consul_gossip_joins_failed 3"), "all are counted");
    // Its own address is no mistake, and no help, whoever asks.
    let own = format!("{}:8301", stranger.setup().address());
    let itself = stranger.cli(&["join", &own]);
    assert_eq!(itself.code, Some(0), "{}", itself.stderr);
    assert!(itself.stderr.contains("this agent's own address") && itself.stdout.is_empty(), "{}", itself.stderr);
    assert_eq!(stranger.put(&format!("/v1/agent/join/{own}"), "").status, 200);
}

#[test]
fn a_server_with_another_clusters_data_is_not_let_in() {
    let fleet = Fleet::start("dc1", 1, 1);
    put_until_it_works(&fleet.clients[0], "ours", "1");
    let mut foreign = server_of("dc1", 7, 1, &[]).start();
    put_until_it_works(&foreign, "mine", "1");
    for node in fleet.nodes() {
        let address = format!("{}:8301", node.setup().address());
        let refused = foreign.cli(&["join", &address]).exited(1);
        assert!(refused.stderr.contains("belongs to another cluster"), "{}", refused.stderr);
        assert!(foreign.put(&format!("/v1/agent/join/{address}"), "").text().contains("belongs to another cluster"));
        foreign.set_up(|setup| setup.and(format!("-retry-join={address}")));
    }
    // It knows whose data it has before it has told anybody that it is there.
    foreign.stop();
    foreign.restart();
    eventually!(PATIENCE, fleet.clients[0].log().text().matches("a member was not let in").count() >= 3, "nor is it after a restart");
    for node in fleet.nodes() {
        assert!(!node.get("/v1/agent/members").text().contains("dc1-server-7"), "{}", node.get("/v1/agent/members").text());
        assert_eq!((node.get("/v1/kv/mine").status, node.get("/v1/kv/ours?raw").text().as_str()), (404, "1"));
    }
    assert_eq!(foreign.get("/v1/kv/mine?raw").text(), "1", "nothing of it is overwritten");
}
