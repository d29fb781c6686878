//! Every kind of check against a real target, seen through HTTP, DNS and a gRPC watch.

mod bad_targets;
mod docker;
mod tls;

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::Duration;

use harness::{Node, PATIENCE, Setup, Web, eventually, tool};
use lictor_client::{Change, Row, Target, WatchEvent, WatchHandle, v1};
use serde_json::{Value, json};
use tonic_health::ServingStatus;
use tonic_health::server::health_reporter;

use crate::cluster::fleet::Fleet;
use crate::watch::next;

/// One service, followed on all three faces.
struct Sight<'a> {
    node: &'a Node,
    service: String,
    watch: WatchHandle,
}

impl<'a> Sight<'a> {
    /// Registers `web-<kind>` with a check that runs each second.
    async fn register(node: &'a Node, kind: &str, check: Value) -> Self {
        let service = format!("web-{kind}");
        let watch = node.client().await.watch(Target::service(&service));
        let mut definition = json!({"Interval": "1s"});
        definition.as_object_mut().unwrap().extend(check.as_object().unwrap().clone());
        let body = json!({"Name": service, "Port": 80, "Address": "10.1.2.3", "Check": definition});
        node.put("/v1/agent/service/register", body.to_string()).expect(200);
        Sight { node, service, watch }
    }

    /// Waits until all three faces show `status`, and returns the output of the check.
    async fn sees(&mut self, status: v1::HealthStatus) -> String {
        let name = status.as_str_name().trim_start_matches("HEALTH_STATUS_").to_lowercase();
        while self.told().await != status {}
        let path = format!("/v1/health/checks/{}", self.service);
        let check = eventually!(PATIENCE, {
            let check = self.node.get(&path).expect(200).json()[0].clone();
            (check["Status"] == name.as_str()).then_some(check)
        });
        let found = usize::from(status != v1::HealthStatus::Critical);
        let question = format!("{}.service.consul", self.service);
        eventually!(PATIENCE, self.node.dig(&[question.as_str()]).data("A").len() == found, "{question} is {name}");
        check["Output"].as_str().unwrap().to_owned()
    }

    /// The status of the instance in the next event that tells one.
    async fn told(&mut self) -> v1::HealthStatus {
        loop {
            let rows: Vec<Row> = match next(&mut self.watch).await {
                WatchEvent::Snapshot { rows, .. } => rows,
                WatchEvent::Changes { changes, .. } => {
                    changes.into_iter().filter_map(|change| if let Change::Put(row) = change { Some(row) } else { None }).collect()
                }
                _ => continue,
            };
            if let Some(Row::Instance(instance)) = rows.last() {
                return instance.status();
            }
        }
    }
}

const PASSING: v1::HealthStatus = v1::HealthStatus::Passing;
const WARNING: v1::HealthStatus = v1::HealthStatus::Warning;
const CRITICAL: v1::HealthStatus = v1::HealthStatus::Critical;

fn with_scripts() -> Node {
    Setup::dev().flag("-enable-script-checks").start()
}

/// A program whose words and exit code stand in a file.
fn verdict_file(path: &Path, code: u8, words: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, format!("echo {words}; exit {code}\n")).unwrap();
    fs::rename(fresh, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_judged_by_its_exit_code() {
    let node = with_scripts();
    let file = node.setup().home().join("verdict");
    verdict_file(&file, 0, "fine");
    let mut sight = Sight::register(&node, "script", json!({"Args": ["/bin/sh", file]})).await;
    assert_eq!(sight.sees(PASSING).await, "fine\n");
    for (code, status) in [(1, WARNING), (3, CRITICAL), (0, PASSING)] {
        verdict_file(&file, code, &format!("code {code}"));
        assert_eq!(sight.sees(status).await, format!("code {code}\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plug_in_of_nagios_works_as_it_is() {
    let node = with_scripts();
    let file = node.setup().home().join("heartbeat");
    let plug_in = tool("check_file_age");
    fs::write(&file, "fresh").unwrap();
    let check = json!({"Args": [plug_in, "-w", "600", "-c", "86400", "-W", "0", "-C", "0", "-f", file]});
    let mut sight = Sight::register(&node, "nagios", check).await;
    assert!(sight.sees(PASSING).await.contains("FILE_AGE OK"));
    let age = |seconds: u64| {
        let opened = fs::File::options().write(true).open(&file).unwrap();
        opened.set_modified(std::time::SystemTime::now() - Duration::from_secs(seconds)).unwrap();
    };
    age(3600);
    assert!(sight.sees(WARNING).await.contains("FILE_AGE WARNING"));
    age(2 * 86400);
    assert!(sight.sees(CRITICAL).await.contains("FILE_AGE CRITICAL"));
    age(0);
    assert!(sight.sees(PASSING).await.contains("FILE_AGE OK"));
}

#[tokio::test(flavor = "multi_thread")]
async fn http_is_judged_by_the_status_of_the_answer() {
    let node = Node::dev();
    let web = Web::start("127.0.0.1:0", 200);
    let url = format!("http://{}/health", web.address());
    let mut sight = Sight::register(&node, "http", json!({"HTTP": url})).await;
    assert!(sight.sees(PASSING).await.starts_with(&format!("HTTP GET {url}: 200 ")));
    for (code, status) in [(429, WARNING), (503, CRITICAL), (204, PASSING)] {
        web.set_status(code);
        assert!(sight.sees(status).await.contains(&format!(": {code} ")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ttl_is_what_the_program_says_until_it_says_nothing() {
    let node = Node::dev();
    let mut sight = Sight::register(&node, "ttl", json!({"TTL": "10m", "Interval": ""})).await;
    for (verb, status) in [("pass", PASSING), ("warn", WARNING), ("fail", CRITICAL), ("pass", PASSING)] {
        node.put(&format!("/v1/agent/check/{verb}/service:web-ttl?note={verb}ed"), "").expect(200);
        assert_eq!(sight.sees(status).await, format!("{verb}ed"));
    }
    let short = json!({"Name": "web-short", "Port": 80, "Address": "10.1.2.3", "Check": {"TTL": "300ms", "Status": "passing"}});
    node.put("/v1/agent/service/register", short.to_string()).expect(200);
    let output = || node.get("/v1/agent/checks").json()["service:web-short"]["Output"].clone();
    eventually!(PATIENCE, output() == "TTL expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_keeps_many_ttls_alive_and_its_end_is_named() {
    const CHECKS: usize = 40;
    let ttl = Duration::from_secs(4);
    let node = Node::dev();
    for n in 0..CHECKS {
        let check = json!({"Name": format!("job{n}"), "TTL": format!("{}s", ttl.as_secs())});
        node.put("/v1/agent/check/register", check.to_string()).expect(200);
    }
    let address = format!("http://{}", node.addresses().grpc);
    let mut agent = v1::agent_service_client::AgentServiceClient::connect(address).await.unwrap();
    let (beats, waiting) = tokio::sync::mpsc::channel(CHECKS);
    let mut answers = agent.heartbeat(tokio_stream::wrappers::ReceiverStream::new(waiting)).await.unwrap().into_inner();
    let begun = std::time::Instant::now();
    let statuses = || {
        let checks = node.get("/v1/agent/checks").json();
        let row = |row: &Value| (row["Status"].as_str().unwrap().to_owned(), row["Output"].as_str().unwrap().to_owned());
        checks.as_object().unwrap().values().map(row).collect::<Vec<_>>()
    };
    // Longer than any of them lives without it.
    while begun.elapsed() < 2 * ttl {
        for n in 0..CHECKS {
            let beat = v1::HeartbeatRequest { check_id: format!("job{n}"), status: PASSING.into(), output: "busy".into() };
            beats.send(beat).await.unwrap();
            let answer = answers.message().await.unwrap().expect("each report is answered");
            assert_eq!((answer.check_id, answer.ttl.unwrap().seconds), (format!("job{n}"), ttl.as_secs() as i64));
        }
        assert!(statuses().iter().all(|(status, _)| status == "passing"));
    }
    drop(beats);
    assert!(answers.message().await.unwrap().is_none());
    let ended = "TTL expired: the heartbeat stream was closed by its client; the last report was: busy";
    eventually!(PATIENCE, statuses().iter().all(|(status, output)| status == "critical" && output == ended), "{:?}", statuses());
}

/// Warns with the first failure, fails with the third: so that kinds which know only one kind of
/// failure show all statuses.
fn patient(mut check: Value) -> Value {
    check["FailuresBeforeWarning"] = 1.into();
    check["FailuresBeforeCritical"] = 3.into();
    check
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_follows_whether_the_port_is_open() {
    let node = Node::dev();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut sight = Sight::register(&node, "tcp", patient(json!({"TCP": address.to_string()}))).await;
    assert_eq!(sight.sees(PASSING).await, format!("TCP connect {address}: Success"));
    drop(listener);
    sight.sees(WARNING).await;
    assert!(sight.sees(CRITICAL).await.contains("Connection refused"));
    let _again = TcpListener::bind(address).unwrap();
    sight.sees(PASSING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_follows_whether_the_port_is_closed() {
    let node = Node::dev();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut sight = Sight::register(&node, "udp", patient(json!({"UDP": address.to_string(), "Timeout": "100ms"}))).await;
    assert_eq!(sight.sees(PASSING).await, format!("UDP connect {address}: Success"));
    drop(socket);
    sight.sees(WARNING).await;
    assert!(sight.sees(CRITICAL).await.contains("refused"));
    let _again = UdpSocket::bind(address).unwrap();
    sight.sees(PASSING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_server_is_asked_for_its_health() {
    let node = Node::dev();
    let (reporter, health) = health_reporter();
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming));
    let mut sight = Sight::register(&node, "grpc", patient(json!({"GRPC": format!("{address}/shop")}))).await;
    assert_eq!(sight.sees(PASSING).await, format!("gRPC check {address}: success"));
    reporter.set_service_status("shop", ServingStatus::NotServing).await;
    sight.sees(WARNING).await;
    assert!(sight.sees(CRITICAL).await.contains("NOT_SERVING"));
    reporter.set_service_status("shop", ServingStatus::Serving).await;
    sight.sees(PASSING).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_server_is_pinged() {
    let node = Node::dev();
    let serve = |listener| {
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let (_, health) = health_reporter();
        tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(incoming))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = serve(listener);
    let check = json!({"H2PING": address.to_string(), "H2PingUseTLS": false});
    let mut sight = Sight::register(&node, "h2ping", patient(check)).await;
    assert_eq!(sight.sees(PASSING).await, "HTTP2 ping was successful");
    server.abort();
    sight.sees(WARNING).await;
    assert!(sight.sees(CRITICAL).await.contains("Connection refused"));
    serve(tokio::net::TcpListener::bind(address).await.unwrap());
    sight.sees(PASSING).await;
}

#[test]
fn a_text_that_changes_with_each_run_is_fresh_here_and_writes_nothing() {
    let node = with_scripts();
    let file = node.setup().home().join("runs");
    let script = format!("echo run >> {0}; wc -l < {0}", file.display());
    let check = json!({"Name": "count", "Args": ["/bin/sh", "-c", script], "Interval": "1s"});
    node.put("/v1/agent/check/register", check.to_string()).expect(200);
    let own = || node.get("/v1/agent/checks").json()["count"].clone();
    let run = || own()["Output"].as_str().and_then(|output| output.trim().parse::<u32>().ok()).unwrap_or(0);
    let first = eventually!(PATIENCE, Some(run()).filter(|run| *run > 0 && own()["Status"] == "passing"));
    let in_catalog = || node.get("/v1/health/state/any").json().as_array().unwrap().iter().find(|row| row["CheckID"] == "count").cloned();
    let shown = eventually!(PATIENCE, in_catalog().filter(|row| row["Status"] == "passing"));
    let writes = || {
        let text = node.get("/v1/agent/metrics?format=prometheus").expect(200).text();
        text.lines().find_map(|line| line.strip_prefix("consul_raft_applied_index ")).unwrap().to_owned()
    };
    let before = writes();
    eventually!(PATIENCE, run() >= first + 4, "the owning agent has the fresh text");
    assert_eq!(in_catalog().unwrap(), shown, "the catalog has the text of the change of status");
    assert_eq!(writes(), before, "the log has not grown by a single command");
}

#[test]
fn outputs_are_dropped_where_the_configuration_says_so() {
    let node = Setup::dev()
        .flag("-enable-local-script-checks")
        .config(r#"discard_check_output = true  check { name = "own" args = ["/bin/sh", "-c", "echo secret"] interval = "1s" }"#)
        .start();
    let check =
        eventually!(PATIENCE, Some(node.get("/v1/agent/checks").json()["own"].clone()).filter(|check| check["Status"] == "passing"));
    assert_eq!(check["Output"], "");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alias_follows_another_instance_here_or_on_another_node() {
    let node = Node::dev();
    let db = json!({"Name": "db", "Check": {"CheckID": "db-ttl", "TTL": "10m", "Status": "passing"}});
    node.put("/v1/agent/service/register", db.to_string()).expect(200);
    let body = json!({"Name": "web-alias", "Port": 80, "Address": "10.1.2.3", "Check": {"AliasService": "db"}});
    let watch = node.client().await.watch(Target::service("web-alias"));
    node.put("/v1/agent/service/register", body.to_string()).expect(200);
    let mut sight = Sight { node: &node, service: "web-alias".into(), watch };
    assert_eq!(sight.sees(PASSING).await, "All checks passing.");
    for (verb, status) in [("warn", WARNING), ("fail", CRITICAL), ("pass", PASSING)] {
        node.put(&format!("/v1/agent/check/{verb}/db-ttl"), "").expect(200);
        sight.sees(status).await;
    }
    node.put("/v1/agent/service/deregister/db", "").expect(200);
    assert!(sight.sees(CRITICAL).await.contains("`db` is not registered"));

    let far = |status: &str| {
        let check = json!({"Node": "far", "CheckID": "disk", "Name": "disk", "Status": status});
        node.put("/v1/catalog/register", json!({"Node": "far", "Address": "10.9.9.9", "Check": check}).to_string()).expect(200);
    };
    far("warning");
    let check = json!({"Name": "far", "AliasNode": "far"});
    node.put("/v1/agent/check/register", check.to_string()).expect(200);
    eventually!(PATIENCE, node.get("/v1/agent/checks").json()["far"]["Status"] == "warning");
    far("passing");
    eventually!(PATIENCE, node.get("/v1/agent/checks").json()["far"]["Status"] == "passing");
}

#[test]
fn an_alias_on_an_agent_without_a_log_follows_a_node_elsewhere() {
    let fleet = Fleet::start("dc1", 1, 1);
    let (server, client) = (&fleet.servers[0], &fleet.clients[0]);
    let far = |status: &str| {
        let check = json!({"Node": "far", "CheckID": "disk", "Name": "disk", "Status": status, "ServiceID": "db"});
        let body = json!({"Node": "far", "Address": "10.9.9.9", "Service": {"Service": "db"}, "Check": check});
        server.put("/v1/catalog/register", body.to_string()).expect(200);
    };
    let check = json!({"Name": "far", "AliasNode": "far", "AliasService": "db"});
    client.put("/v1/agent/check/register", check.to_string()).expect(200);
    let alias = || client.get("/v1/agent/checks").json()["far"].clone();
    eventually!(PATIENCE, alias()["Output"] == "node `far` is not registered");
    for status in ["passing", "warning", "critical", "passing"] {
        far(status);
        eventually!(PATIENCE, alias()["Status"] == status, "the alias follows to {status}");
        let shown = || server.get("/v1/health/state/any").json();
        eventually!(PATIENCE, shown().as_array().unwrap().iter().any(|check| check["CheckID"] == "far" && check["Status"] == status));
    }
}

#[test]
fn a_program_is_run_only_where_the_operator_allows_it() {
    let check = json!({"Name": "x", "Args": ["true"], "Interval": "1s"});
    let refused = Node::dev().put("/v1/agent/check/register", check.to_string()).expect(500).text();
    assert!(refused.contains("enable_script_checks"), "{refused}");

    let local = Setup::dev()
        .flag("-enable-local-script-checks")
        .config(r#"check { name = "own" args = ["/bin/sh", "-c", "echo from the file"] interval = "1s" }"#)
        .start();
    let refused = local.put("/v1/agent/check/register", check.to_string()).expect(500).text();
    assert!(refused.contains("remote calls"), "{refused}");
    eventually!(PATIENCE, local.get("/v1/agent/checks").json()["own"]["Output"] == "from the file\n");
}

#[test]
fn a_bad_target_disturbs_no_other_check() {
    let node = with_scripts();
    let counter = node.setup().home().join("runs");
    let register = |check: Value| node.put("/v1/agent/check/register", check.to_string()).expect(200);
    register(json!({"Name": "hang", "Args": ["sleep", "1000"], "Interval": "1s", "Timeout": "1s"}));
    register(json!({"Name": "flood", "Args": ["/bin/sh", "-c", "exec yes"], "Interval": "1s", "Timeout": "1s"}));
    let count = format!("echo run >> {}", counter.display());
    register(json!({"Name": "count", "Args": ["/bin/sh", "-c", count], "Interval": "1s"}));
    let output = |id: &str| node.get("/v1/agent/checks").json()[id]["Output"].as_str().unwrap_or_default().to_owned();
    eventually!(PATIENCE, output("hang").contains("Timed out (1s) running check"));
    eventually!(PATIENCE, output("flood").contains("Timed out (1s) running check"));
    assert!(output("flood").len() < 8192, "the output is bounded");
    let runs = || fs::read_to_string(&counter).unwrap_or_default().lines().count();
    eventually!(PATIENCE, runs() >= 3);
}

#[test]
fn a_definition_that_makes_no_sense_is_named() {
    let node = with_scripts();
    for (check, text) in [
        (json!({"Name": "x", "TCP": "nowhere", "Interval": "1s"}), "`nowhere` is not of the form `host:port`"),
        (json!({"Name": "x", "GRPC": "/shop", "Interval": "1s"}), "not of the form `host:port`"),
        (json!({"Name": "x", "H2PING": "h:x", "Interval": "1s"}), "`h:x`"),
        (json!({"Name": "x", "TCP": "localhost:1"}), "Interval must be > 0"),
        (json!({"Name": "x", "DockerContainerID": "box", "Interval": "1s"}), "TTL must be > 0 for TTL checks"),
        (json!({"Name": "x", "AliasNode": "n", "Interval": "1s"}), "Interval cannot be set for Alias checks"),
        (json!({"Name": "x"}), "TTL must be > 0 for TTL checks"),
        (json!({"Name": "x", "TTL": "1s", "TCP": "localhost:1", "Interval": "1s"}), "Interval and TTL cannot both be specified"),
        (
            json!({"Name": "x", "HTTP": "http://localhost/", "TCP": "localhost:1", "Interval": "1s"}),
            "it is of several kinds at once (`http`, `tcp`); register one check for each",
        ),
    ] {
        let said = node.put("/v1/agent/check/register", check.to_string()).expect(400).text();
        assert!(said.contains(text), "{check}: {said}");
    }
    assert_eq!(node.get("/v1/agent/checks").json(), json!({}));
}
