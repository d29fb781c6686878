//! An agent without a log: what is registered with it, and what is asked of it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Node, Setup, eventually, tool};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::cluster::fleet::{Fleet, client_of};

/// Well below the minute after which an agent compares everything at the earliest: what is seen by then
/// was written for its own sake.
const SOON: Duration = Duration::from_secs(20);

const WEB: &str = r#"{"Name": "web", "Port": 80, "Check": {"TTL": "10m", "Status": "passing"}}"#;

/// The status of each instance's own check, as `node` tells it.
fn statuses(node: &Node, service: &str) -> Vec<String> {
    let checks = node.get(&format!("/v1/health/checks/{service}")).json();
    checks.as_array().into_iter().flatten().map(|check| check["Status"].as_str().unwrap().to_owned()).collect()
}

fn instances(node: &Node, service: &str) -> usize {
    node.get(&format!("/v1/catalog/service/{service}")).json().as_array().map_or(0, Vec::len)
}

#[test]
fn servers_show_what_is_registered_with_a_client_whatever_becomes_of_it_or_of_them() {
    let mut fleet = Fleet::start("dc1", 1, 2);
    let (server, client) = (&fleet.servers[0], &fleet.clients[0]);
    client.put("/v1/agent/service/register", WEB).expect(200);
    eventually!(SOON, statuses(server, "web") == ["passing"]);
    for (report, status) in [("fail", "critical"), ("pass", "passing"), ("fail", "critical"), ("pass", "passing")] {
        client.put(&format!("/v1/agent/check/{report}/service:web"), "").expect(200);
        eventually!(SOON, statuses(server, "web") == [status], "it is {status} again");
    }
    client.put("/v1/agent/service/deregister/web", "").expect(200);
    eventually!(SOON, instances(server, "web") == 0, "it is gone");

    // What is registered outlives the agent. What others have written under its name is gone when it is
    // back, what they took away comes back with it, and the rest is not its.
    client.put("/v1/agent/service/register", WEB).expect(200);
    fleet.clients[1].put("/v1/agent/service/register", r#"{"Name": "other"}"#).expect(200);
    let catalog = |what: &str, body: &str| assert_eq!(server.put(&format!("/v1/catalog/{what}"), body).text(), "true");
    catalog("register", r#"{"Node": "external", "Address": "10.9.9.9", "Service": {"Service": "database"}}"#);
    fleet.clients[0].kill();
    catalog("register", r#"{"Node": "dc1-client-0", "SkipNodeUpdate": true, "Service": {"Service": "stray"}}"#);
    catalog("deregister", r#"{"Node": "dc1-client-0", "ServiceID": "web"}"#);
    assert_eq!((instances(server, "stray"), instances(server, "web")), (1, 0));
    fleet.clients[0].restart();
    assert_eq!(fleet.clients[0].get("/v1/agent/services").json()["web"]["Port"], 80);
    let server = &fleet.servers[0];
    eventually!(SOON, instances(server, "stray") == 0 && statuses(server, "web") == ["passing"], "it is as it was");
    assert_eq!((instances(server, "database"), instances(server, "other")), (1, 1));

    // And a catalog that is gone.
    let server = &mut fleet.servers[0];
    server.kill();
    std::fs::remove_dir_all(server.setup().home().join("data")).unwrap();
    server.restart();
    eventually!(SOON, instances(&fleet.servers[0], "web") == 1 && instances(&fleet.servers[0], "other") == 1, "all is registered anew");
    assert_eq!(statuses(&fleet.servers[0], "web"), ["passing"]);
    assert_eq!(instances(&fleet.servers[0], "database"), 0, "nobody else would know of it");
}

/// Waits for a change of the key `a` by way of `node`, as a browser would, and has `change` make it.
fn watched(node: &Node, change: impl FnOnce()) {
    let url = format!("http://{}/v1/watch/kv/a", node.addresses().http);
    let mut curl = Command::new(tool("curl"));
    curl.args(["-sN", "--max-time", "30", "-H", "Accept: text/event-stream", &url]).stdout(Stdio::piped());
    let mut curl = curl.spawn().unwrap();
    let mut lines = BufReader::new(curl.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut until = |part: &str| lines.find(|line| line.contains(part)).unwrap_or_else(|| panic!("no line with `{part}`"));
    until("event: snapshot");
    change();
    until("event: put");
    curl.kill().unwrap();
    curl.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_answers_as_a_server_does_and_with_what_is_configured_on_it() {
    let mut fleet = Fleet::start("dc1", 1, 0);
    let server = &fleet.servers[0];
    let setup = client_of("dc1", 0, &fleet.addresses()).config(r#"http_config { response_headers { "X-Agent" = "mine" } }"#);
    let client = setup.start();
    for (path, body) in [("/v1/kv/a", "1"), ("/v1/agent/service/register", WEB)] {
        eventually!(SOON, client.put(path, body).status == 200, "there is a leader");
    }
    for path in ["/v1/kv/a", "/v1/kv/none", "/v1/agent/services", "/v1/catalog/nodes", "/v1/nothing"] {
        assert_eq!(client.get(path).header("x-agent"), Some("mine"), "{path}");
    }

    let steps = r#"[{"KV": {"Verb": "set", "Key": "b", "Value": "Mg=="}}, {"KV": {"Verb": "get", "Key": "a"}}]"#;
    let done = client.put("/v1/txn", steps).expect(200).json();
    assert_eq!((done["Results"].as_array().map(Vec::len), &done["Results"][1]["KV"]["Value"]), (Some(2), &"MQ==".into()), "{done}");
    let failed = client.put("/v1/txn", r#"[{"KV": {"Verb": "check-not-exists", "Key": "a"}}]"#).expect(409);
    assert!(failed.text().contains("exists"), "{}", failed.text());
    assert_eq!(server.get("/v1/kv/b?raw").text(), "2");

    watched(&client, || assert_eq!(server.put("/v1/kv/a", "changed").text(), "true"));
    let saved = client.get("/v1/snapshot").expect(200);
    server.put("/v1/kv/a", "later").expect(200);
    client.put("/v1/snapshot", &saved.body).expect(200);
    assert_eq!(server.get("/v1/kv/a?raw").text(), "changed", "it is as it was saved");

    let info = client.cli(&["info"]).success().stdout;
    assert!(info.contains("\tknown_servers = 1\n") && !info.contains("raft:"), "{info}");
    assert_eq!(client.get("/v1/agent/self").json()["Stats"]["consul"]["known_servers"], "1");

    let health = HealthClient::new(client.client().await.channel());
    let status = async || health.clone().check(HealthCheckRequest::default()).await.unwrap().into_inner().status();
    assert_eq!(status().await, ServingStatus::Serving);
    fleet.servers[0].kill();
    eventually!(SOON, status().await == ServingStatus::NotServing, "it tells that no server is known");
}

#[test]
fn a_client_asks_its_own_recursors_what_its_servers_do_not_know() {
    let elsewhere = Setup::dev().config("domain = \"elsewhere\"").start();
    let address = elsewhere.setup().address().to_string();
    let body = r#"{"Node": "far", "Address": "10.7.7.7"}"#;
    elsewhere.put("/v1/catalog/register", body).expect(200);

    let fleet = Fleet::start("dc1", 1, 0);
    let recursor = elsewhere.addresses().dns;
    let client = client_of("dc1", 0, &fleet.addresses()).config(&format!("recursors = [\"{recursor}\"]")).start();
    let body = r#"{"Node": "alias", "Address": "far.node.elsewhere"}"#;
    eventually!(SOON, client.put("/v1/catalog/register", body).status == 200, "there is a leader");
    let found = client.dig(&["alias.node.consul", "A"]);
    assert_eq!((found.data("CNAME"), found.data("A")), (vec!["far.node.elsewhere.".into()], vec!["10.7.7.7".into()]));
    assert_eq!(client.dig(&["-x", "10.7.7.7"]).data("PTR"), ["far.node.dc1.elsewhere."]);
    assert!(client.dig(&["-x", &address]).status == "NOERROR", "nobody here has `{address}`");
    assert_eq!(client.dig(&["none.node.consul", "A"]).status, "NXDOMAIN", "what is ours is not asked of others");
}
