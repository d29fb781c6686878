//! The command line, as people and scripts use it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use harness::{Node, PATIENCE, Ran, binary, eventually};
use serde_json::Value;

#[test]
fn keys_are_put_read_and_deleted() {
    let node = Node::dev();
    assert_eq!(node.cli(&["kv", "put", "a/b", "hello"]).success().stdout, "Success! Data written to: a/b\n");
    assert_eq!(node.cli(&["kv", "get", "a/b"]).success().stdout, "hello\n");
    node.cli_with_input(&["kv", "put", "-flags=7", "a/c", "-"], "from input").success();
    let detailed = node.cli(&["kv", "get", "-detailed", "a/c"]).success().stdout;
    assert!(detailed.contains("Flags            7\n") && detailed.contains("Value            from input\n"), "{detailed}");
    let row = node.cli(&["kv", "get", "-format=json", "a/c"]).success().json();
    assert_eq!((&row["key"], &row["flags"]), (&"a/c".into(), &7.into()), "{row}");
    assert_eq!(node.cli(&["kv", "get", "-keys", "a/"]).success().stdout, "a/b\na/c\n");
    assert_eq!(node.cli(&["kv", "get", "-recurse", "a/"]).success().stdout, "a/b:hello\na/c:from input\n");

    let index = row["modify_index"].as_u64().unwrap();
    node.cli(&["kv", "put", "-cas", "-modify-index=1", "a/c", "no"]).exited(1);
    node.cli(&["kv", "put", "-cas", &format!("-modify-index={index}"), "a/c", "yes"]).success();
    assert_eq!(node.cli(&["kv", "delete", "a/b"]).success().stdout, "Success! Deleted key: a/b\n");
    node.cli(&["kv", "delete", "-recurse", "a/"]).success();
    let missing = node.cli(&["kv", "get", "a/c"]).exited(1);
    assert_eq!((missing.stdout.as_str(), missing.stderr.as_str()), ("", "Error! No key exists at: a/c\n"));
}

#[test]
fn what_is_exported_can_be_imported_elsewhere() {
    let (from, to) = (Node::dev(), Node::dev());
    let bytes: Vec<u8> = (0..=255).collect();
    from.put("/v1/kv/app/bin?flags=9", &bytes).expect(200);
    from.put("/v1/kv/app/empty", "").expect(200);
    for n in 0..3000 {
        from.put(&format!("/v1/kv/app/many/{n:04}"), n.to_string()).expect(200);
    }
    let exported = from.cli(&["kv", "export", "app/"]).success().stdout;
    let rows: Vec<Value> = serde_json::from_str(&exported).unwrap();
    assert_eq!(rows.len(), 3002);
    assert_eq!((&rows[0]["key"], &rows[0]["flags"]), (&"app/bin".into(), &9.into()));
    to.cli_with_input(&["kv", "import", "-"], &exported).success();
    assert_eq!(to.get("/v1/kv/app/bin?raw").body, bytes);
    assert_eq!(to.cli(&["kv", "export", "app/"]).success().stdout, exported);
    to.cli_with_input(&["kv", "import", "-"], "[{\"key\":").exited(1);
}

#[test]
fn services_are_registered_listed_and_removed() {
    let node = Node::dev();
    let file = node.setup().home().join("web.hcl");
    std::fs::write(&file, "service {\n  name = \"web\"\n  port = 80\n  tags = [\"blue\"]\n}\n").unwrap();
    assert_eq!(node.cli(&["services", "register", file.to_str().unwrap()]).success().stdout, "Registered service: web\n");
    node.cli(&["services", "register", "-name=db", "-port=5432", "-tag=main"]).success();
    let names = || node.cli(&["catalog", "services"]).success().stdout;
    eventually!(PATIENCE, names().lines().any(|name| name == "web") && names().lines().any(|name| name == "db"));
    let tags = node.cli(&["catalog", "services", "-tags"]).success().stdout;
    assert!(tags.lines().any(|line| line.split_whitespace().eq(["db", "main"])), "{tags}");
    let json = node.cli(&["catalog", "services", "-format=json"]).success().json();
    assert!(json.to_string().contains("\"web\""), "{json}");
    assert_eq!(node.cli(&["catalog", "datacenters"]).success().stdout, "dc1\n");
    let nodes = node.cli(&["catalog", "nodes"]).success().stdout;
    assert!(nodes.starts_with("Node") && nodes.lines().count() == 2 && nodes.contains("dc1"), "{nodes}");
    assert_eq!(node.cli(&["services", "deregister", "-id=db"]).success().stdout, "Deregistered service: db\n");
    node.cli(&["services", "deregister", "-id=db"]).exited(1);
    node.cli(&["services", "deregister", file.to_str().unwrap()]).success();
    eventually!(PATIENCE, !names().contains("web"));
}

#[test]
fn a_watch_prints_a_line_for_each_change() {
    let node = Node::dev();
    node.put("/v1/kv/a/1", "x").expect(200);
    let mut command = Command::new(binary());
    command.args(["watch", "-type=keyprefix", "-prefix=a/", &format!("-grpc-addr={}", node.addresses().grpc)]);
    let mut watch = command.stdout(Stdio::piped()).spawn().unwrap();
    let (sender, lines) = std::sync::mpsc::sync_channel(16);
    let reader = BufReader::new(watch.stdout.take().unwrap());
    std::thread::spawn(move || reader.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let next_with = |part: &str| loop {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line with `{part}`"));
        serde_json::from_str::<Value>(&line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"));
        if line.contains(part) {
            break;
        }
    };
    next_with("a/1");
    node.put("/v1/kv/a/2", "y").expect(200);
    next_with("a/2");
    node.delete("/v1/kv/a/1").expect(200);
    next_with("a/1");
    watch.kill().unwrap();
    watch.wait().unwrap();
    let once = node.cli(&["watch", "-type=key", "-key=a/2", "-once"]).success().stdout;
    assert!(once.contains("a/2"), "{once}");
}

#[test]
fn a_watch_runs_a_program_for_each_change() {
    let node = Node::dev();
    let mut command = Command::new(binary());
    command.args(["watch", "-type=key", "-key=k", &format!("-grpc-addr={}", node.addresses().grpc), "cat >> seen; echo >> seen"]);
    let mut watch = command.current_dir(node.setup().home()).stdout(Stdio::null()).spawn().unwrap();
    let seen = node.setup().home().join("seen");
    let text = || std::fs::read_to_string(&seen).unwrap_or_default();
    for value in ["one", "two"] {
        node.put("/v1/kv/k", value).expect(200);
        let encoded = {
            use base64::Engine;
            base64::engine::general_purpose::STANDARD.encode(value)
        };
        eventually!(PATIENCE, text().contains(&encoded), "{value} in {}", text());
    }
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn it_tells_about_the_agent_and_itself() {
    let node = Node::dev();
    let info = node.cli(&["info"]).success().stdout;
    assert!(info.contains("agent:") && info.contains("raft"), "{info}");
    let members = node.cli(&["members"]).success().stdout;
    assert!(members.starts_with("Node") && members.contains("alive"), "{members}");
    let version = node.cli(&["version"]).success().stdout;
    assert!(version.starts_with("Lictor v"), "{version}");
    assert_eq!(node.cli(&["version", "-format=json"]).success().json()["api"], "lictor.v1");
}

#[test]
fn the_exit_code_tells_what_kind_of_failure_it_was() {
    let alone = |arguments: &[&str]| Ran::lictor(std::env::temp_dir().as_path(), None, arguments, "");
    let unknown = alone(&["frobnicate"]).exited(127);
    assert!(unknown.stderr.contains("frobnicate") && unknown.stderr.contains("Usage"), "{}", unknown.stderr);
    alone(&[]).exited(127);
    alone(&["kv"]).exited(1);
    let flag = alone(&["kv", "get", "-detialed", "k"]).exited(1);
    assert!(flag.stderr.contains("detialed") && flag.stderr.contains("detailed"), "{}", flag.stderr);
    let nobody = alone(&["kv", "get", "-grpc-addr=127.0.0.1:1", "k"]).exited(1);
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{}", nobody.stderr);
    assert!(alone(&["--help"]).success().stdout.contains("agent"));
    assert!(alone(&["kv", "put", "-help"]).success().stdout.contains("-cas"));
}

#[test]
fn one_dash_or_two_and_under_the_name_of_consul() {
    let node = Node::dev();
    node.cli(&["kv", "put", "--flags", "3", "k", "-5"]).success();
    assert_eq!(node.cli(&["kv", "get", "--base64=true", "k"]).success().stdout, "LTU=\n");
    let consul = node.setup().home().join("consul");
    std::os::unix::fs::symlink(binary(), &consul).unwrap();
    let mut command = Command::new(&consul);
    command.args(["kv", "get", "k"]).env("CONSUL_HTTP_ADDR", node.addresses().http.to_string());
    assert_eq!(Ran::with_input(command, "").success().stdout, "-5\n");
}

#[test]
fn a_reader_that_has_gone_ends_nothing_with_a_panic() {
    for arguments in [&["operator", "autopilot"][..], &["frobnicate"], &["--help"], &["kv", "get", "-grpc-addr=127.0.0.1:1", "k"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(binary());
        command.args(arguments).stdin(Stdio::null()).stdout(writer.try_clone().unwrap()).stderr(writer);
        let code = command.status().unwrap().code();
        assert!(matches!(code, Some(0 | 1 | 127)), "{arguments:?}: {code:?}");
    }
}
