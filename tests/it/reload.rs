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
    let said = node.put("/v1/agent/reload", "").expect(500).text();
    assert!(said.contains("broken.hcl:3") && said.contains("`service.prot`") && said.contains("port"), "{said}");
    assert_eq!(services(&node), ["api", "change", "keep", "remove"]);

    write(&files, "broken", r#"service { name = "x" check { tcp = "nowhere" interval = "1s" } }"#);
    let said = node.cli(&["reload"]).exited(1).stderr;
    assert!(said.contains("service `x` of the configuration") && said.contains("`nowhere`"), "{said}");
    assert_eq!(services(&node), ["api", "change", "keep", "remove"]);

    fs::remove_file(files.join("broken.hcl")).unwrap();
    node.put("/v1/agent/reload", "").expect(200);
    assert_eq!(services(&node).len(), 10);
}
