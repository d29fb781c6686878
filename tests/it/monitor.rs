//! The log of an agent, read from outside while it is written.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use harness::{Node, PATIENCE, Setup};
use lictor_client::v1::LogLevel;

/// Asks for a stream and reads on until a line holds `wanted`; the head of the answer is among them.
fn read_until(node: &Node, path: &str, wanted: &str, cause: impl FnOnce()) -> Vec<String> {
    let mut stream = TcpStream::connect(node.addresses().http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("the line comes in time"));
    let mut read: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    cause();
    for line in lines {
        read.push(line);
        if read.last().is_some_and(|line| line.contains(wanted)) {
            return read;
        }
    }
    panic!("the stream ended before `{wanted}`: {read:#?}");
}

fn reload(node: &Node) {
    node.put("/v1/agent/reload", "").expect(200);
}

#[test]
fn over_http_lines_come_as_they_are_written() {
    let node = Node::dev();
    let read = read_until(&node, "/v1/agent/monitor", "configuration reloaded", || reload(&node));
    assert!(read[0].starts_with("HTTP/1.1 200"), "{read:#?}");
    assert!(read.last().unwrap().contains("[INFO]  lictor_agent::reload: configuration reloaded: trigger=request"), "{read:#?}");

    let read = read_until(&node, "/v1/agent/monitor?logjson&loglevel=debug", "configuration reloaded", || reload(&node));
    let line: serde_json::Value = serde_json::from_str(read.last().unwrap()).unwrap();
    assert_eq!((&line["@level"], &line["@message"]), (&"info".into(), &"configuration reloaded".into()));
    assert_eq!(line["trigger"], "request");
}

#[test]
fn an_unknown_level_is_refused() {
    let node = Node::dev();
    assert_eq!(node.get("/v1/agent/monitor?loglevel=loud").expect(400).text(), "Unknown log level: loud");
    let said = node.cli(&["monitor", "-log-level=loud"]).exited(1).stderr;
    assert!(said.contains("unknown log level `loud`"), "{said}");
}

#[tokio::test]
async fn over_grpc_with_its_values() {
    let node = Node::dev();
    let client = node.client().await;
    let mut log = client.agent().monitor(LogLevel::Info).await.unwrap();
    client.agent().reload().await.unwrap();
    let line = tokio::time::timeout(PATIENCE, async {
        loop {
            let line = log.next().await.unwrap().expect("the agent goes on");
            if line.message == "configuration reloaded" {
                return line;
            }
        }
    });
    let line = line.await.expect("the line comes in time");
    assert_eq!((line.level(), line.fields["trigger"].as_str(), line.dropped), (LogLevel::Info, "request", 0));
}

#[test]
fn metrics_flow_as_json() {
    let node = Node::dev();
    let read = read_until(&node, "/v1/agent/metrics/stream", "\"Gauges\"", || ());
    let picture: serde_json::Value = serde_json::from_str(read.last().unwrap()).unwrap();
    assert!(picture["Gauges"].as_array().is_some_and(|gauges| !gauges.is_empty()), "{picture}");
}

#[test]
fn the_level_of_the_log_follows_a_reload() {
    let setup = Setup::dev();
    let files = setup.home().join("conf");
    std::fs::create_dir(&files).unwrap();
    let file = files.join("log.hcl");
    std::fs::write(&file, r#"log_level = "err""#).unwrap();
    let node = setup.flag(format!("-config-dir={}", files.display())).start();
    std::fs::write(&file, r#"log_level = "debug" check_update_interval = "7s""#).unwrap();
    let said = node.cli(&["reload"]).success().stdout;
    let in_force = said.lines().find(|line| line.starts_with("In force now: ")).unwrap_or_default();
    assert!(in_force.contains("log_level") && in_force.contains("check_update_interval"), "{said}");
    assert!(!said.contains("Needs a restart"), "{said}");
    let again = node.cli(&["reload"]).success().stdout;
    assert!(!again.contains("In force now") && !again.contains("Needs a restart"), "{again}");
}
