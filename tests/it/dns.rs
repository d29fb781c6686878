//! DNS, asked by the real `dig`.

use harness::{Dig, Node, PATIENCE, Setup, eventually};
use serde_json::{Value, json};

fn register(node: &Node, body: Value) {
    node.put("/v1/catalog/register", body.to_string()).expect(200);
}

/// A node with meta, and two instances of `web`, one of them with an address of its own.
fn fleet(node: &Node) {
    let east = |service: Value| json!({"Node": "east", "Address": "10.0.0.1", "NodeMeta": {"rack": "7"}, "Service": service});
    register(node, east(json!({"ID": "w1", "Service": "web", "Port": 81, "Tags": ["primary", "v1.2"]})));
    let west = json!({"ID": "w2", "Service": "web", "Port": 82, "Address": "10.9.9.9", "Weights": {"Passing": 5, "Warning": 1}});
    register(node, json!({"Node": "west", "Address": "10.0.0.2", "Service": west}));
}

#[test]
fn nodes_have_addresses_and_facts() {
    let node = Setup::dev().flag("-node=me").start();
    fleet(&node);
    let east = node.dig(&["east.node.consul"]);
    assert_eq!((east.status.as_str(), east.data("A")), ("NOERROR", vec!["10.0.0.1".to_owned()]));
    assert!(east.flag("aa") && !east.flag("tc"), "{}", east.text);
    assert_eq!(east.answer[0][1], "0", "the TTL is 0 by default");
    assert_eq!(node.dig(&["east.node.dc1.consul"]).data("A"), ["10.0.0.1"]);
    assert_eq!(node.dig(&["EAST.Node.Consul"]).data("A"), ["10.0.0.1"]);
    assert_eq!(node.dig(&["east.node.consul", "TXT"]).data("TXT"), ["\"rack=7\""]);
    let any = node.dig(&["east.node.consul", "ANY"]);
    assert_eq!((any.data("A"), any.data("TXT")), (vec!["10.0.0.1".to_owned()], vec!["\"rack=7\"".to_owned()]));
    eventually!(PATIENCE, node.dig(&["me.node.consul"]).data("A").len() == 1);
}

#[test]
fn services_have_the_addresses_of_those_fit_for_work() {
    let node = Node::dev();
    fleet(&node);
    assert_eq!(node.dig(&["web.service.consul"]).data("A"), ["10.0.0.1", "10.9.9.9"]);
    assert_eq!(node.dig(&["web.service.dc1.consul"]).data("A").len(), 2);
    assert_eq!(node.dig(&["primary.web.service.consul"]).data("A"), ["10.0.0.1"]);
    assert_eq!(node.dig(&["v1.2.web.service.consul"]).data("A"), ["10.0.0.1"]);
    assert_eq!(node.dig(&["none.web.service.consul"]).status, "NXDOMAIN");

    let check = |status: &str| {
        json!({"Node": "east", "Address": "10.0.0.1", "NodeMeta": {"rack": "7"},
        "Check": {"CheckID": "c", "Name": "c", "ServiceID": "w1", "Status": status}})
    };
    register(&node, check("critical"));
    assert_eq!(node.dig(&["web.service.consul"]).data("A"), ["10.9.9.9"]);
    register(&node, check("warning"));
    assert_eq!(node.dig(&["web.service.consul"]).data("A").len(), 2, "a warning is still fit");
}

#[test]
fn srv_records_tell_port_weight_and_target() {
    let node = Node::dev();
    fleet(&node);
    for name in ["web.service.consul", "_web._tcp.service.consul", "_web._tcp.consul"] {
        let found = node.dig(&[name, "SRV"]);
        assert_eq!(found.data("SRV"), ["1 1 81 east.node.dc1.consul.", "1 5 82 0a090909.addr.dc1.consul."], "{name}: {}", found.text);
        assert_eq!(Dig::data_of(&found.additional, "A"), ["10.0.0.1", "10.9.9.9"], "{name}");
    }
    assert_eq!(node.dig(&["_web._primary.service.consul", "SRV"]).data("SRV").len(), 1);
    assert_eq!(node.dig(&["0a090909.addr.dc1.consul"]).data("A"), ["10.9.9.9"]);
}

#[test]
fn no_such_name_and_no_such_data_are_two_answers() {
    let node = Node::dev();
    fleet(&node);
    for name in ["none.service.consul", "none.node.consul", "web.service.mars.consul", "foo.consul", "a.b.c.consul"] {
        let answer = node.dig(&[name]);
        assert_eq!(answer.status, "NXDOMAIN", "{name}");
        assert_eq!((answer.answer.len(), answer.authority[0][3].as_str()), (0, "SOA"), "{name}");
    }
    let nodata = node.dig(&["web.service.consul", "AAAA"]);
    assert_eq!((nodata.status.as_str(), nodata.answer.len(), nodata.authority[0][3].as_str()), ("NOERROR", 0, "SOA"));
    let foreign = node.dig(&["example.com"]);
    assert_eq!((foreign.status.as_str(), foreign.answer.len()), ("REFUSED", 0));
}

#[test]
fn the_zone_says_who_serves_it() {
    let node = Node::dev();
    let soa = node.dig(&["consul", "SOA"]);
    assert!(soa.data("SOA")[0].starts_with("ns.consul. hostmaster.consul. "), "{}", soa.text);
    assert!(soa.data("SOA")[0].ends_with(" 3600 600 86400 0"), "{}", soa.text);
    let ns = node.dig(&["consul", "NS"]);
    assert_eq!(ns.status, "NOERROR");
    for server in ns.data("NS") {
        assert!(server.ends_with(".node.dc1.consul."), "{server}");
        assert_eq!(node.dig(&[&server]).data("A").len(), 1, "{server} has an address");
    }
}

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let node = Node::dev();
    for n in 0..100 {
        let service = json!({"ID": format!("b{n}"), "Service": "big", "Port": 1000 + n, "Address": format!("10.1.0.{n}")});
        register(&node, json!({"Node": "n1", "Address": "10.0.0.1", "Service": service}));
    }
    let small = node.dig(&["big.service.consul", "SRV", "+noedns", "+ignore"]);
    assert!(small.flag("tc") && small.answer.len() < 100 && !small.answer.is_empty(), "{}", small.text);
    let size: usize = small.text.lines().find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: ")).unwrap().parse().unwrap();
    assert!(size <= 512, "{size} bytes without EDNS");
    let wide = node.dig(&["big.service.consul", "SRV", "+bufsize=4096", "+ignore"]);
    assert!(wide.answer.len() > small.answer.len(), "{}", wide.text);
    let whole = node.dig(&["big.service.consul", "SRV", "+tcp"]);
    assert_eq!((whole.data("SRV").len(), whole.flag("tc")), (100, false));
    assert_eq!(node.dig(&["big.service.consul", "A", "+tcp"]).data("A").len(), 100);
}

#[test]
fn addresses_of_both_families_and_names_are_told() {
    let node = Node::dev();
    register(&node, json!({"Node": "six", "Address": "2001:db8::6", "Service": {"Service": "mixed"}}));
    register(&node, json!({"Node": "four", "Address": "10.0.0.4", "Service": {"Service": "mixed"}}));
    register(&node, json!({"Node": "named", "Address": "db.example.com"}));
    assert_eq!(node.dig(&["mixed.service.consul", "A"]).data("A"), ["10.0.0.4"]);
    assert_eq!(node.dig(&["mixed.service.consul", "AAAA"]).data("AAAA"), ["2001:db8::6"]);
    assert_eq!(node.dig(&["named.node.consul"]).data("CNAME"), ["db.example.com."]);
}

#[test]
fn domain_and_ttl_are_configured() {
    let node =
        Setup::dev().config(r#"domain = "corp." alt_domain = "lictor" dns_config { node_ttl = "7s" service_ttl { "*" = "3s" } }"#).start();
    fleet(&node);
    for name in ["east.node.corp", "east.node.lictor"] {
        let found = node.dig(&[name]);
        assert_eq!((found.data("A"), found.answer[0][1].as_str()), (vec!["10.0.0.1".to_owned()], "7"), "{name}");
    }
    assert_eq!(node.dig(&["web.service.corp"]).answer[0][1], "3");
    assert_eq!(node.dig(&["east.node.consul"]).status, "REFUSED");
}
