//! Machines that can't reach each other while both run: real processes on hosts of their own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use harness::{Node, PATIENCE, Setup, binary, eventually, isolated, tool};

/// Hosts on one switch, which the test is connected to as well.
struct Hosts {
    count: usize,
}

fn ip(arguments: &str) {
    call("ip", arguments);
}

fn call(program: &str, arguments: &str) {
    let output = Command::new(tool(program)).args(arguments.split(' ')).output().expect("the program can be started");
    assert!(output.status.success(), "`{program} {arguments}`: {}", String::from_utf8_lossy(&output.stderr));
}

fn address(host: usize) -> String {
    format!("10.77.0.{}", 10 + host)
}

impl Hosts {
    /// Makes them, in the network namespace that the test has for itself.
    fn new(count: usize) -> Hosts {
        // Names of namespaces are files here, and no other test is to see them.
        call("mount", "-t tmpfs tmpfs /run");
        ip("link add switch type bridge");
        ip("addr add 10.77.0.1/24 dev switch");
        ip("link set switch up");
        for host in 0..count {
            ip(&format!("netns add host{host}"));
            ip(&format!("link add port{host} type veth peer name eth0 netns host{host}"));
            ip(&format!("link set port{host} master switch up"));
            ip(&format!("-n host{host} addr add {}/24 dev eth0", address(host)));
            ip(&format!("-n host{host} link set lo up"));
            ip(&format!("-n host{host} link set eth0 up"));
        }
        Hosts { count }
    }

    /// An agent on a host.
    fn agent(&self, host: usize) -> Setup {
        let setup = Setup::bare();
        let program = setup.home().join("on-host");
        let script = format!("#!/bin/sh\nexec {} netns exec host{host} {} \"$@\"\n", tool("ip").display(), binary().display());
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let data = setup.home().join("data");
        let here = address(host);
        setup
            .program(program)
            .flag(format!("-node=host{host}"))
            .flag(format!("-data-dir={}", data.display()))
            .and(format!("-bind={here}"))
            .and(format!("-client={here}"))
            .and("-serf-lan-port=8301")
    }

    /// From now on what two hosts send each other arrives nowhere, and nobody tells them.
    fn cut(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            ip(&format!("-n host{from} neigh replace {} lladdr 02:00:00:00:00:99 dev eth0 nud permanent", address(to)));
        }
    }

    fn mend(&self, a: usize, b: usize) {
        for (from, to) in [(a, b), (b, a)] {
            ip(&format!("-n host{from} neigh del {} dev eth0", address(to)));
        }
    }

    fn others(&self, host: usize) -> impl Iterator<Item = usize> {
        (0..self.count).filter(move |other| *other != host)
    }
}

fn leader(node: &Node) -> String {
    node.get("/v1/status/leader").text().trim_matches('"').to_owned()
}

#[test]
fn a_leader_that_is_cut_off_acknowledges_nothing_and_answers_nothing_old_as_new() {
    isolated("partition::a_leader_that_is_cut_off_acknowledges_nothing_and_answers_nothing_old_as_new", || {
        let hosts = Hosts::new(3);
        let server = |host: usize| {
            let setup = hosts.agent(host).flag("-server").flag("-bootstrap-expect=3").and("-server-port=8300").and("-serf-wan-port=8302");
            hosts.others(host).fold(setup, |setup, other| setup.flag(format!("-retry-join={}:8301", address(other))))
        };
        let mut nodes: Vec<Node> = (0..3).map(|host| server(host).spawn()).collect();
        nodes.iter_mut().for_each(Node::await_ready);
        eventually!(PATIENCE, nodes[0].put("/v1/kv/k", "before").status == 200);
        let first = leader(&nodes[0]);
        let old = (0..3).find(|host| first == format!("{}:8300", address(*host))).expect("a server leads");
        let new = hosts.others(old).next().expect("there are three");

        hosts.others(old).for_each(|other| hosts.cut(old, other));
        eventually!(PATIENCE, nodes[new].put("/v1/kv/k", "after").status == 200, "the other two go on");
        let refused = nodes[old].get("/v1/kv/k?consistent");
        assert_eq!(refused.status, 500, "{}", refused.text());
        assert!(nodes[old].get("/v1/kv/k?raw").status == 500, "what is asked for without a word is not answered from the past either");
        assert_eq!(nodes[old].get("/v1/kv/k?raw&stale").text(), "before", "who wants what is here gets it");
        assert_ne!(nodes[old].put("/v1/kv/lost", "never").status, 200);

        let second = leader(&nodes[new]);
        assert_ne!(first, second);
        hosts.others(old).for_each(|other| hosts.mend(old, other));
        eventually!(PATIENCE, nodes[old].get("/v1/kv/k?raw").text() == "after", "it follows again");
        assert_eq!(leader(&nodes[old]), second, "who comes back disturbs nobody");
        let keys = |node: &Node| node.get("/v1/kv/?keys").text();
        eventually!(PATIENCE, nodes.iter().all(|node| keys(node) == keys(&nodes[new])), "all have the same keys");
        assert!(!keys(&nodes[new]).contains("lost"), "what was not acknowledged is not there");
        nodes.iter_mut().for_each(|node| node.expect_error("leader"));
    });
}

#[test]
fn a_link_between_datacenters_that_is_cut_is_named_and_heals() {
    isolated("partition::a_link_between_datacenters_that_is_cut_is_named_and_heals", || {
        let hosts = Hosts::new(2);
        let server = |host: usize| {
            let setup = hosts.agent(host).flag("-server").flag("-bootstrap-expect=1").flag(format!("-datacenter=dc{}", host + 1));
            let setup = setup.and("-server-port=8300").and("-serf-wan-port=8302");
            hosts.others(host).fold(setup, |setup, other| setup.flag(format!("-retry-join-wan={}:8302", address(other))))
        };
        let mut nodes: Vec<Node> = (0..2).map(|host| server(host).spawn()).collect();
        nodes.iter_mut().for_each(Node::await_ready);
        eventually!(PATIENCE, nodes[0].put("/v1/kv/k?dc=dc2", "over there").status == 200);
        assert_eq!(nodes[1].get("/v1/kv/k?raw").text(), "over there");

        hosts.cut(0, 1);
        eventually!(PATIENCE, nodes[0].get("/v1/kv/k?dc=dc2").text().contains("dc2"), "the datacenter is named");
        let refused = nodes[0].get("/v1/kv/k?dc=dc2");
        assert_eq!(refused.status, 500, "{}", refused.text());
        assert_eq!(nodes[0].put("/v1/kv/here", "works").status, 200, "each goes on by itself");

        hosts.mend(0, 1);
        eventually!(PATIENCE, nodes[0].get("/v1/kv/k?dc=dc2&raw").text() == "over there", "the link heals");
    });
}
