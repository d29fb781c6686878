//! Reloading: what changed in the files is in force, and nothing else is touched.

use std::fs;
use std::path::PathBuf;

use harness::{Node, PATIENCE, Setup, eventually};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

/// A node with three services in files, and one that was registered by a program.
fn node() -> (Node, PathBuf) {
    let setup = Setup::dev();
    let files = setup.home().join("conf");
    fs::create_dir(&files).unwrap();
    for name in ["keep", "change", "remove"] {
        write(&files, name, &format!(r#"service {{ name = "{name}" port = 1 check {{ ttl = "10m" }} }}"#));
    }
    let node = setup.flag(format!("-config-dir={}", files.display())).start();
    node.put("/v1/agent/service/register", json!({"Name": "api", "Port": 9}).to_string()).expect(200);
    node.put("/v1/agent/check/pass/service:keep?note=told", "").expect(200);
    (node, files)
}

fn write(files: &std::path::Path, name: &str, text: &str) {
    fs::write(files.join(format!("{name}.hcl")), text).unwrap();
}

/// Changes one, adds one, removes one.
fn edit(files: &std::path::Path) {
    write(files, "change", r#"service { name = "change" port = 2 }"#);
    write(files, "add", r#"service { name = "add" port = 3 }"#);
    fs::remove_file(files.join("remove.hcl")).unwrap();
}

fn services(node: &Node) -> Vec<String> {
    node.get("/v1/agent/services").expect(200).json().as_object().unwrap().keys().cloned().collect()
}

fn check(node: &Node, id: &str) -> Value {
    node.get("/v1/agent/checks").expect(200).json()[id].clone()
}

fn is_edited(node: &Node) {
    assert_eq!(services(node), ["add", "api", "change", "keep"]);
    assert_eq!(node.get("/v1/agent/service/change").json()["Port"], 2);
    assert!(check(node, "service:change").is_null(), "a check that the file defines no more is gone");
    let kept = check(node, "service:keep");
    assert_eq!((&kept["Status"], &kept["Output"]), (&"passing".into(), &"told".into()), "it was not touched");
    eventually!(PATIENCE, node.get("/v1/catalog/service/remove").json() == json!([]));
    eventually!(PATIENCE, node.get("/v1/catalog/service/change").json()[0]["ServicePort"] == 2);
}

#[test]
fn over_http() {
    let (node, files) = node();
    edit(&files);
    assert_eq!(node.put("/v1/agent/reload", "").expect(200).text(), "");
    is_edited(&node);
}

#[test]
fn by_signal() {
    let (node, files) = node();
    edit(&files);
    node.signal(Signal::SIGHUP);
    eventually!(PATIENCE, services(&node).contains(&"add".to_owned()));
    eventually!(PATIENCE, services(&node) == ["add", "api", "change", "keep"]);
    eventually!(PATIENCE, node.get("/v1/agent/service/change").json()["Port"] == 2);
    is_edited(&node);
}

#[test]
fn on_the_command_line_it_says_what_needs_a_restart() {
    let (node, files) = node();
    edit(&files);
    write(&files, "more", r#"datacenter = "dc7" log_level = "debug""#);
    let said = node.cli(&["reload"]).success().stdout;
    assert!(said.contains("In force now: services") && said.contains("log_level"), "{said}");
    assert!(said.ends_with("Needs a restart: datacenter\n"), "{said}");
    is_edited(&node);
    let again = node.cli(&["reload"]).success().stdout;
    assert!(!again.contains("In force now") && again.ends_with("Needs a restart: datacenter\n"), "{again}");
}

#[test]
fn one_broken_file_among_ten_changes_nothing_and_is_named() {
    let (node, files) = node();
    edit(&files);
    for n in 0..6 {
        write(&files, &format!("more{n}"), &format!(r#"service {{ name = "more{n}" }}"#));
    }
    write(&files, "broken", "service {\n  name = \"x\"\n  prot = 1\n}");
    let refused = node.put("/v1/agent/reload", "").expect(500);
    assert_eq!(refused.header("x-lictor-reason"), Some("INVALID_CONFIGURATION"));
    let details = refused.header("x-lictor-details").unwrap();
    assert!(details.contains("broken.hcl&line=3&field=service.prot&mistakes=1"), "{details}");
    let said = refused.text();
    assert!(said.contains("broken.hcl:3") && said.contains("`service.prot`") && said.contains("port"), "{said}");
    assert_eq!(services(&node), ["api", "change", "keep", "remove"]);

    write(&files, "broken", r#"service { name = "x" check { tcp = "nowhere" interval = "1s" } }"#);
    let said = node.cli(&["reload"]).exited(1).stderr;
    assert!(said.contains("broken.hcl:1: service `x`") && said.contains("`nowhere`"), "{said}");
    assert_eq!(services(&node), ["api", "change", "keep", "remove"]);

    fs::remove_file(files.join("broken.hcl")).unwrap();
    node.put("/v1/agent/reload", "").expect(200);
    assert_eq!(services(&node).len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_grpc_a_mistake_is_told_with_its_place() {
    let (node, files) = node();
    write(&files, "broken", "service {\n  name = \"x\"\n  prot = 1\n}");
    let error = node.client().await.agent().reload().await.unwrap_err();
    let lictor_client::Error::Refused(refused) = &error else { panic!("{error:?}") };
    let metadata = &refused.details;
    let place = files.join("broken.hcl").display().to_string();
    assert_eq!(refused.reason, Some(lictor_client::ErrorReason::InvalidConfiguration));
    assert_eq!((metadata["file"].as_str(), metadata["line"].as_str(), metadata["field"].as_str()), (place.as_str(), "3", "service.prot"));
}

#[test]
fn a_duplicate_id_is_told_with_both_places() {
    let (node, files) = node();
    write(&files, "other", "\nservice {\n  name = \"keep\"\n}");
    let said = node.put("/v1/agent/reload", "").expect(500).text();
    assert!(said.contains("other.hcl:3: the service id `keep` is taken") && said.contains("keep.hcl:1 already"), "{said}");
}

#[test]
fn what_can_change_while_it_runs_does() {
    let (node, files) = node();
    write(
        &files,
        "live",
        r#"
        node_meta { rack = "r9" }  discard_check_output = true  check_update_interval = "1m"  log_level = "debug"
        dns_config { node_ttl = "17s" }  http_config { response_headers { "X-Test" = "yes" } block_endpoints = ["/v1/catalog/datacenters"] }
        limits { http_max_conns_per_client = 7 kv_max_value_size = 1000 }  log_json = true  ports { http = 1 }
        "#,
    );
    let said = node.cli(&["reload"]).success().stdout;
    for key in [
        "node_meta",
        "discard_check_output",
        "check_update_interval",
        "log_level",
        "dns_config.node_ttl",
        "http_config.response_headers",
        "http_config.block_endpoints",
        "limits.http_max_conns_per_client",
    ] {
        let live = said.lines().find(|line| line.starts_with("In force now:")).unwrap();
        assert!(live.contains(key), "{key}: {said}");
    }
    // The port stands on the command line, which counts over files.
    assert!(said.ends_with("Needs a restart: limits.kv_max_value_size, log_json\n"), "{said}");
    let answer = node.get("/v1/agent/self").expect(200);
    assert_eq!(answer.header("x-test"), Some("yes"));
    let told = answer.json();
    let debug = &told["DebugConfig"];
    assert_eq!((&debug["DNSNodeTTL"], &debug["KVMaxValueSize"], &told["Meta"]["rack"]), (&"17s".into(), &524_288.into(), &"r9".into()));
    node.get("/v1/catalog/datacenters").expect(403);
    let name = told["Config"]["NodeName"].as_str().unwrap();
    eventually!(PATIENCE, node.get(&format!("/v1/catalog/node/{name}")).json()["Node"]["Meta"]["rack"] == "r9");
    let question = format!("{name}.node.consul");
    eventually!(PATIENCE, node.dig(&[question.as_str()]).answer.iter().any(|record| record[1] == "17"));
    node.put("/v1/agent/check/pass/service:keep?note=dropped", "").expect(200);
    assert_eq!(check(&node, "service:keep")["Output"], "");
}
