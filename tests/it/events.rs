//! Events, fired on one machine and seen on another.

use std::fs::File;
use std::process::{Command, Stdio};

use harness::{PATIENCE, binary, eventually};
use serde_json::Value;

use crate::cluster::fleet::Fleet;

#[test]
fn events_are_listed_and_followed_from_the_command_line_and_a_waiting_query_wakes() {
    let fleet = Fleet::start("dc1", 1, 1);
    let (server, client) = (&fleet.servers[0], &fleet.clients[0]);
    eventually!(PATIENCE, server.get("/v1/agent/members").json().as_array().unwrap().len() == 2);
    let told = server.setup().home().join("told");
    let mut command = Command::new(binary());
    command.args(["event", "-follow", "-name=deploy"]).env("LICTOR_GRPC_ADDR", server.addresses().grpc.to_string());
    let mut follower = command.stdout(File::create(&told).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let times = || -> Vec<u64> {
        let text = std::fs::read_to_string(&told).unwrap();
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?["LTime"].as_u64()).collect()
    };
    let mut fired = 0;
    let mut fire = |name: &str| {
        fired += 1;
        let said = client.cli(&["event", &format!("-name={name}"), "line\nend"]).success().stdout;
        (fired, said.trim().trim_start_matches("Event ID: ").to_owned())
    };
    // Nothing says when it begins to follow.
    eventually!(PATIENCE, {
        fire("deploy");
        !times().is_empty()
    });
    fire("other");
    let (last, id) = fire("deploy");
    eventually!(PATIENCE, times().last() == Some(&last), "{:?}", times());
    let first = times()[0];
    assert_eq!(times(), (first..=last).filter(|time| *time != last - 1).collect::<Vec<_>>(), "each once, in order, of its name only");
    follower.kill().unwrap();
    follower.wait().unwrap();

    let listed = server.cli(&["event", "-list"]).success().stdout;
    let row = listed.lines().last().unwrap();
    assert!(row.starts_with(&last.to_string()) && row.contains(&id) && row.ends_with(r"deploy  line\nend"), "{listed}");
    let named = server.cli(&["event", "-list", "-name=other", "-format=json"]).success().json();
    assert_eq!((named.as_array().unwrap().len(), &named[0]["LTime"]), (1, &(last - 1).into()));
    assert!(server.cli(&["event", "-list", "-node=x"]).exited(1).stderr.contains("cannot be used with"));
    assert!(server.cli(&["event"]).exited(1).stderr.contains("--name"));

    let index = server.get("/v1/event/list?name=flush").index();
    let path = format!("/v1/event/list?name=flush&index={index}&wait=60s");
    let woken = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.get(&path));
        client.cli(&["event", "-name=flush"]).success();
        waiting.join().unwrap()
    });
    assert_eq!((woken.json()[0]["Name"].as_str(), woken.index() != index), (Some("flush"), true));

    assert!(client.cli(&["event", "-name=big", &"x".repeat(600)]).exited(1).stderr.contains("at most 512"));
    let metrics = client.get("/v1/agent/metrics?format=prometheus").text();
    assert!(metrics.lines().any(|line| line == "consul_gossip_events_refused 1"), "{metrics}");
}
