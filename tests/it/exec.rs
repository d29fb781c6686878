//! `lictor exec`: programs on many machines.

use std::process::{Command, Stdio};

use harness::{Node, PATIENCE, binary, eventually};
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde_json::json;

use crate::cluster::fleet::{client_of, server_of};

/// One server, which runs programs, and two agents, of which the first one does.
fn three() -> (Node, Node, Node) {
    let on = "disable_remote_exec = false";
    let server = server_of("dc1", 0, 1, &[]).config(on).start();
    let others = [server.setup().address().to_string()];
    let (runs, refuses) = (client_of("dc1", 0, &others).config(on).start(), client_of("dc1", 1, &others).start());
    for node in [&server, &runs, &refuses] {
        eventually!(PATIENCE, node.cli(&["members"]).stdout.lines().filter(|line| line.contains("alive")).count() == 3);
    }
    (server, runs, refuses)
}

#[test]
fn a_program_runs_where_it_is_allowed_and_is_refused_where_it_is_not() {
    let (server, runs, refuses) = three();
    for asked in [&server, &runs, &refuses] {
        let ran = asked.cli(&["exec", "-node=client", "echo hello from $0; echo oops >&2"]).exited(1);
        assert_eq!(ran.stdout, "dc1-client-0: hello from /bin/sh\n");
        assert!(ran.stderr.contains("dc1-client-0: oops\n"), "{}", ran.stderr);
        let why = "dc1-client-1: refused: remote execution is off on this agent; set `disable_remote_exec = false`";
        assert!(ran.stderr.contains(why) && ran.stderr.contains("1 of 2 nodes have run it"), "{}", ran.stderr);
    }
    let ran = server.cli(&["exec", "-node=server|client-0", "-shell=false", "echo", "a  b"]).success();
    let mut lines: Vec<&str> = ran.stdout.lines().collect();
    lines.sort();
    assert_eq!(lines, ["dc1-client-0: a  b", "dc1-server-0: a  b"]);
    let failed = server.cli(&["exec", "-node=client-0", "exit 7"]).exited(2);
    assert!(failed.stderr.contains("dc1-client-0: ended with exit code 7"), "{}", failed.stderr);
    server.cli(&["exec", "-node=client-0", "-shell=false", "/nonexistent/program"]).exited(2);
    assert!(server.cli(&["exec", "-node=nobody", "true"]).exited(1).stderr.contains("UNKNOWN_NODE"));
    assert!(server.cli(&["exec", "-node=(", "true"]).exited(1).stderr.contains("INVALID_FILTER"));
    assert!(server.cli(&["exec", "-tag=x", "true"]).exited(1).stderr.contains("needs a service filter"));
    let slow = server.cli(&["exec", "-node=client-0", "-timeout=300ms", "sleep 600"]).exited(2);
    assert!(slow.stderr.contains("it ran for too long"), "{}", slow.stderr);
    assert_eq!(server.get("/v1/event/list").json(), json!([]), "runs are no events that anybody is shown");
    assert!(server.cli(&["event", "-name=_rexec"]).exited(1).stderr.contains("_rexec"));
}

#[test]
fn services_and_tags_choose_the_machines() {
    let (server, runs, _refuses) = three();
    runs.put("/v1/agent/service/register", json!({"Name": "web", "Tags": ["blue"]}).to_string()).expect(200);
    eventually!(PATIENCE, server.get("/v1/catalog/service/web").json() != json!([]));
    assert_eq!(server.cli(&["exec", "-service=^web$", "echo here"]).success().stdout, "dc1-client-0: here\n");
    assert_eq!(server.cli(&["exec", "-service=web", "-tag=blue", "echo here"]).success().stdout, "dc1-client-0: here\n");
    assert!(server.cli(&["exec", "-service=web", "-tag=green", "echo here"]).exited(1).stderr.contains("UNKNOWN_NODE"));
    let much = server.cli(&["exec", "-node=client-0", "head -c 6000000 /dev/zero | tr '\\0' x | fold -w 1000"]).success();
    assert!(much.stderr.contains("bytes of its output were left out"), "{}", much.stderr);
    assert!(much.stdout.len() > 4_000_000, "{} bytes came", much.stdout.len());
}

#[test]
fn programs_end_with_their_children_when_the_caller_goes() {
    let (_server, runs, refuses) = three();
    let pid = runs.setup().home().join("pid");
    let mut command = Command::new(binary());
    command.arg("exec").arg("-node=client-0").arg(format!("sleep 600 & echo $! > {}; echo begun; wait", pid.display()));
    command.env("LICTOR_GRPC_ADDR", refuses.addresses().grpc.to_string());
    let mut caller = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let read = || std::fs::read_to_string(&pid).ok().and_then(|text| text.trim().parse::<i32>().ok());
    eventually!(PATIENCE, read().is_some());
    let child = Pid::from_raw(read().unwrap());
    assert!(kill(child, None).is_ok());
    caller.kill().unwrap();
    caller.wait().unwrap();
    eventually!(PATIENCE, kill(child, None).is_err());
}
