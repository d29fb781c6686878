//! Machines that can't reach each other while both run: real processes on hosts of their own.

use harness::{Node, PATIENCE, eventually, isolated};

use crate::cluster::fleet::leader;
use crate::hosts::{Hosts, address};

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
        let old = eventually!(PATIENCE, (0..3).find(|host| leader(&nodes[0]) == format!("{}:8300", address(*host))), "a server leads");
        let first = format!("{}:8300", address(old));
        let new = hosts.others(old).next().expect("there are three");

        hosts.others(old).for_each(|other| hosts.cut(old, other));
        eventually!(PATIENCE, nodes[new].put("/v1/kv/k", "after").status == 200, "the other two go on");
        let refused = nodes[old].get("/v1/kv/k?consistent");
        assert_eq!(refused.status, 500, "{}", refused.text());
        assert!(nodes[old].get("/v1/kv/k?raw").status == 500, "what is asked for without a word is not answered from the past either");
        assert_eq!(nodes[old].get("/v1/kv/k?raw&stale").text(), "before", "who wants what is here gets it");
        assert_ne!(nodes[old].put("/v1/kv/lost", "never").status, 200);

        let age = |node: &Node| node.get("/v1/kv/k?stale").header("x-consul-lastcontact").unwrap().parse::<u64>().unwrap();
        eventually!(PATIENCE, age(&nodes[old]) > 1_500, "what is asked for however old tells how old it is");
        eventually!(PATIENCE, leader(&nodes[old]).is_empty(), "who hears of nobody leads nobody");
        let refused = nodes[old].get("/v1/kv/k?stale&max_stale=1s");
        assert_eq!(refused.status, 500, "there is nothing as new as that: {}", refused.text());

        assert_ne!(first, leader(&nodes[new]));
        hosts.others(old).for_each(|other| hosts.mend(old, other));
        eventually!(PATIENCE, nodes[old].get("/v1/kv/k?raw").text() == "after", "it follows again");
        eventually!(PATIENCE, leader(&nodes[old]) == leader(&nodes[new]), "they agree");
        let keys = |node: &Node| node.get("/v1/kv/?keys").text();
        eventually!(PATIENCE, nodes.iter().all(|node| keys(node) == keys(&nodes[new])), "all have the same keys");
        assert!(!keys(&nodes[new]).contains("lost"), "what was not acknowledged is not there");

        // Another one, which does not lead: it asks whether it would be elected before it begins a term of its own.
        let leads = |host: usize| leader(&nodes[new]) == format!("{}:8300", address(host));
        let aside = eventually!(PATIENCE, (0..3).find(|host| !leads(*host) && *host != new), "one follows");
        let term = |node: &Node| node.get("/v1/agent/self").json()["Stats"]["raft"]["term"].as_str().unwrap().to_owned();
        hosts.others(aside).for_each(|other| hosts.cut(aside, other));
        let before = term(&nodes[aside]);
        eventually!(PATIENCE, age(&nodes[aside]) > 4_000, "its patience is over many times");
        assert_eq!(term(&nodes[aside]), before, "it comes back with nothing that the others would have to give way to");
        hosts.others(aside).for_each(|other| hosts.mend(aside, other));
        eventually!(PATIENCE, nodes[aside].put("/v1/kv/k", "last").status == 200, "it is one of them again");
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
