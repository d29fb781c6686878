//! The commands that people have written for ten years, word for word, at the usual ports.

use std::time::{Duration, Instant};

use harness::{Dig, Node, PATIENCE, Ran, Setup, Web, eventually, isolated};
use serde_json::Value;

const TEST_JSON: &str = r#"{"ID":"nginx1","Name":"nginx","Tags":["primary","v1"],"Address":"127.0.0.1","Port":80,"EnableTagOverride":false,"Check":{"DeregisterCriticalServiceAfter":"12h","HTTP":"http://localhost:5000/health","Interval":"1s"}}"#;

/// The promise is 1.5 s; the rest is for a busy machine.
const FIRST_PASS_MAX: Duration = Duration::from_secs(3);

const A: &str = "dig @127.0.0.1 -p 8600 nginx.service.consul";
const SRV: &str = "dig @127.0.0.1 -p 8600 primary.nginx.service.consul SRV";

fn shell(node: &Node, line: &str) -> Ran {
    let mut command = std::process::Command::new("bash");
    command.current_dir(node.setup().home()).args(["-c", line]);
    Ran::with_input(command, "").success()
}

fn json(node: &Node, line: &str) -> Value {
    shell(node, line).json()
}

#[test]
fn the_commands_of_ten_years_work_as_they_are_written() {
    isolated("tour::the_commands_of_ten_years_work_as_they_are_written", || {
        let node = Setup::dev().default_ports().start();
        keys(&node);
        register(&node);
        nobody_is_sent_to_what_does_not_answer(&node);
        what_answers_appears_at_once(&node);
        deregister(&node);
    });
}

fn keys(node: &Node) {
    let done = shell(node, "curl --request PUT --data 'hello consul' http://localhost:8500/v1/kv/foo");
    assert_eq!(done.stdout.trim(), "true");
    let read = json(node, "curl http://localhost:8500/v1/kv/foo");
    assert_eq!((&read[0]["Key"], &read[0]["Value"], &read[0]["Flags"]), (&"foo".into(), &"aGVsbG8gY29uc3Vs".into(), &0.into()));
    let raw = shell(node, "curl http://localhost:8500/v1/kv/foo?raw");
    assert_eq!(raw.stdout, "hello consul");
}

fn register(node: &Node) {
    std::fs::write(node.setup().home().join("test.json"), TEST_JSON).unwrap();
    let done = shell(node, "curl --request PUT --data @test.json http://localhost:8500/v1/agent/service/register");
    assert_eq!(done.stdout, "");
    let service = &json(node, "curl http://localhost:8500/v1/agent/services")["nginx1"];
    assert_eq!((&service["Service"], &service["Port"]), (&"nginx".into(), &80.into()), "{service}");
    assert_eq!(service["Tags"], serde_json::json!(["primary", "v1"]));
}

fn nobody_is_sent_to_what_does_not_answer(node: &Node) {
    let check = &json(node, "curl http://localhost:8500/v1/agent/checks")["service:nginx1"];
    assert_eq!((&check["Status"], &check["ServiceID"]), (&"critical".into(), &"nginx1".into()), "{check}");
    let line = "curl http://localhost:8500/v1/catalog/service/nginx";
    let listed = eventually!(PATIENCE, json(node, line).as_array().filter(|rows| rows.len() == 1).cloned());
    assert_eq!((&listed[0]["ServiceID"], &listed[0]["ServiceAddress"]), (&"nginx1".into(), &"127.0.0.1".into()));
    assert_eq!(json(node, r#"curl "http://localhost:8500/v1/health/service/nginx?passing""#), serde_json::json!([]));
    assert_eq!(Dig::read(&shell(node, A).stdout).status, "NXDOMAIN");
    assert_eq!(Dig::read(&shell(node, SRV).stdout).status, "NXDOMAIN");
}

fn what_answers_appears_at_once(node: &Node) {
    let _web = Web::start("127.0.0.1:5000", 200);
    let answers_since = Instant::now();
    let found = eventually!(FIRST_PASS_MAX, {
        let dig = Dig::read(&shell(node, A).stdout);
        (dig.data("A") == ["127.0.0.1"]).then_some(dig)
    });
    println!("in DNS {:?} after it first answered", answers_since.elapsed());
    assert_eq!((found.status.as_str(), found.answer[0][0].as_str()), ("NOERROR", "nginx.service.consul."));

    let healthy = json(node, r#"curl "http://localhost:8500/v1/health/service/nginx?passing""#);
    assert_eq!(healthy[0]["Service"]["ID"], "nginx1", "{healthy}");
    let instances = Dig::read(&shell(node, SRV).stdout);
    assert_eq!(instances.data("SRV"), ["1 1 80 7f000001.addr.dc1.consul."], "{}", instances.text);
    assert_eq!(Dig::data_of(&instances.additional, "A"), ["127.0.0.1"], "{}", instances.text);
}

fn deregister(node: &Node) {
    let done = shell(node, "curl --request PUT http://localhost:8500/v1/agent/service/deregister/nginx1");
    assert_eq!(done.stdout, "");
    assert_eq!(json(node, "curl http://localhost:8500/v1/agent/services"), serde_json::json!({}));
    assert_eq!(json(node, "curl http://localhost:8500/v1/agent/checks"), serde_json::json!({}));
    eventually!(PATIENCE, Dig::read(&shell(node, A).stdout).status == "NXDOMAIN");
    eventually!(PATIENCE, json(node, "curl http://localhost:8500/v1/catalog/service/nginx") == serde_json::json!([]));
}
