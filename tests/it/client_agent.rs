//! An agent without a log: what is registered with it, and what is asked of it.

use std::time::Duration;

use harness::{Node, eventually};

use crate::cluster::fleet::Fleet;

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
