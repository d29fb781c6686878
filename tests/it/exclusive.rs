//! `lictor session` and `lictor lock`: programs that run one at a time, or a few at a time.

use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use harness::{Node, PATIENCE, binary, eventually};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A program under way; what is left of it in the end is killed.
struct Locked {
    child: Child,
}

impl Locked {
    fn start(node: &Node, arguments: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.current_dir(node.setup().home()).arg("lock").args(arguments);
        command.env("LICTOR_GRPC_ADDR", node.addresses().grpc.to_string());
        command.stdin(Stdio::null());
        Locked { child: command.spawn().expect("the command starts") }
    }

    fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    fn ended(&mut self) -> Option<i32> {
        eventually!(PATIENCE, self.has_ended().is_some());
        self.has_ended().and_then(|status| status.code())
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn lives(pid: &str) -> bool {
    kill(Pid::from_raw(pid.trim().parse().unwrap()), None).is_ok()
}

fn lock_key(node: &Node, key: &str) -> Option<Value> {
    let got = node.get(&format!("/v1/kv/{key}"));
    (got.status == 200).then(|| got.json()[0].clone())
}

fn http_session(node: &Node) -> String {
    node.put("/v1/session/create", json!({"TTL": "60s", "LockDelay": "0s"}).to_string()).expect(200).json()["ID"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn sessions_are_begun_shown_renewed_and_ended() {
    let node = Node::dev();
    let id = node.cli(&["session", "create", "-name=worker", "-ttl=30s", "-lock-delay=5s", "-behavior=delete"]).success().stdout;
    let id = id.trim();
    let info = node.cli(&["session", "info", "-format=json", id]).success().json();
    let told = [&info["name"], &info["ttl"], &info["lock_delay"], &info["behavior"]];
    assert_eq!(told, [&json!("worker"), &json!("30s"), &json!("5s"), &json!("delete")]);
    assert!(node.cli(&["session", "list"]).success().stdout.contains(id));
    assert!(node.cli(&["session", "renew", id]).success().stdout.contains("30s"));
    node.cli(&["session", "destroy", id]).success();
    let gone = node.cli(&["session", "renew", id]).exited(1);
    assert!(gone.stderr.contains("UNKNOWN_SESSION"), "{}", gone.stderr);
    assert!(node.cli(&["session", "info", id]).exited(1).stderr.contains("UNKNOWN_SESSION"));
    assert!(node.cli(&["session", "create", "-ttl=1s"]).exited(1).stderr.contains("INVALID_ARGUMENT"));
}

#[test]
fn a_program_runs_under_the_lock_and_leaves_nothing_behind() {
    let node = Node::dev();
    let ran = node.cli(&["lock", "job", "lictor=$CONSUL_LOCK_HELD token=$LICTOR_LOCK_TOKEN; echo $lictor $LICTOR_LOCK_PREFIX"]);
    assert_eq!(ran.success().stdout, "true job\n");
    assert_eq!(lock_key(&node, "job/.lock"), None);
    assert_eq!(node.get("/v1/session/list").json(), json!([]));
    node.cli(&["lock", "job", "exit 3"]).exited(0);
    node.cli(&["lock", "-child-exit-code", "job", "exit 3"]).exited(2);
    assert_eq!(
        node.cli_with_input(&["lock", "-pass-stdin", "-shell=false", "job", "cat"], "from outside").success().stdout,
        "from outside"
    );
    assert!(node.cli(&["lock", "job"]).exited(1).stderr.contains("PROGRAM is missing"));
}

#[test]
fn programs_and_the_http_recipe_exclude_each_other() {
    let node = Node::dev();
    let flags = 0x2ddc_cbc0_58a5_0c18_u64;
    let session = http_session(&node);
    assert_eq!(node.put(&format!("/v1/kv/job/.lock?acquire={session}&flags={flags}"), "").text().trim(), "true");
    let refused = node.cli(&["lock", "-timeout=300ms", "job", "touch ran"]).exited(1);
    assert!(refused.stderr.contains("was not free within"), "{}", refused.stderr);
    let marker = node.setup().home().join("ran");
    assert!(!marker.exists());

    let mut waiting = Locked::start(&node, &["job", "touch ran; while [ ! -e enough ]; do sleep 0.05; done"]);
    eventually!(PATIENCE, node.get("/v1/session/list").json().as_array().is_some_and(|sessions| sessions.len() == 2));
    assert!(!marker.exists());
    assert_eq!(node.put(&format!("/v1/kv/job/.lock?release={session}&flags={flags}"), "").text().trim(), "true");
    eventually!(PATIENCE, marker.exists());
    assert_eq!(lock_key(&node, "job/.lock").unwrap()["Flags"], flags);
    assert_eq!(node.put(&format!("/v1/kv/job/.lock?acquire={session}&flags={flags}"), "").text().trim(), "false");
    std::fs::write(node.setup().home().join("enough"), "").unwrap();
    assert_eq!(waiting.ended(), Some(0));
    assert_eq!(node.put(&format!("/v1/kv/job/.lock?acquire={session}&flags={flags}"), "").text().trim(), "true");
    node.put("/v1/kv/other/.lock", "something else").expect(200);
    assert!(node.cli(&["lock", "other", "true"]).exited(1).stderr.contains("is no lock for one"));
}

#[test]
fn a_program_whose_lock_is_lost_is_ended_with_its_children() {
    let node = Node::dev();
    let home = node.setup().home().to_owned();
    // The child of the program does not listen to SIGTERM.
    let program =
        "sh -c 'trap \"\" TERM; echo $$ > deaf; while :; do sleep 0.1; done' & trap 'echo told >> log; exit' TERM; echo $$ > pid; wait";
    let mut locked = Locked::start(&node, &["job", program]);
    eventually!(PATIENCE, !lines(&home.join("pid")).is_empty() && !lines(&home.join("deaf")).is_empty());
    let holder = lock_key(&node, "job/.lock").unwrap()["Session"].as_str().unwrap().to_owned();
    node.put(&format!("/v1/session/destroy/{holder}"), "").expect(200);
    assert_eq!(locked.ended(), Some(1));
    assert_eq!(lines(&home.join("log")), ["told"]);
    eventually!(PATIENCE, !lives(&lines(&home.join("deaf"))[0]));
}

#[test]
fn a_program_does_not_outlive_whoever_holds_its_lock() {
    let node = Node::dev();
    let home = node.setup().home().to_owned();
    let mut locked = Locked::start(&node, &["job", "echo $$ > pid; exec sleep 600"]);
    eventually!(PATIENCE, !lines(&home.join("pid")).is_empty());
    let pid = lines(&home.join("pid")).remove(0);
    locked.signal(Signal::SIGKILL);
    assert_eq!(locked.ended(), None);
    eventually!(PATIENCE, !lives(&pid));

    std::fs::remove_file(home.join("pid")).unwrap();
    let mut stopped = Locked::start(&node, &["other", "echo $$ > pid; exec sleep 600"]);
    eventually!(PATIENCE, !lines(&home.join("pid")).is_empty());
    let pid = lines(&home.join("pid")).remove(0);
    stopped.signal(Signal::SIGSTOP);
    let is_held = || lock_key(&node, "other/.lock").is_some_and(|key| !key["Session"].is_null());
    eventually!(PATIENCE, !is_held() || !lives(&pid));
    assert!(is_held(), "the program ended before the lock did");
    stopped.signal(Signal::SIGCONT);
    assert_eq!(stopped.ended(), Some(1));
}

#[test]
fn a_rolling_restart_takes_few_services_down_at_a_time() {
    const SERVICES: usize = 5;
    const DOWN_MAX: usize = 2;
    let node = Node::dev();
    let home = node.setup().home().to_owned();
    let run = |n: usize| {
        let child = Command::new("sleep").arg("600").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::fs::write(home.join(format!("service-{n}.pid")), child.id().to_string()).unwrap();
        Locked { child }
    };
    let mut services: Vec<Locked> = (0..SERVICES).map(run).collect();
    let roll = |n: usize| {
        let restart = format!("echo down {n} >> log; kill $(cat service-{n}.pid); sleep 0.3; echo up {n} >> log");
        Locked::start(&node, &["-n", "2", "restart", &restart])
    };
    let mut rolls: Vec<Locked> = (0..SERVICES).map(roll).collect();
    for roll in &mut rolls {
        assert_eq!(roll.ended(), Some(0));
    }
    let (mut down, mut worst) = (0_usize, 0);
    for line in lines(&home.join("log")) {
        down = if line.starts_with("down") { down + 1 } else { down - 1 };
        worst = worst.max(down);
    }
    assert_eq!((down, lines(&home.join("log")).len()), (0, 2 * SERVICES));
    assert!((1..=DOWN_MAX).contains(&worst), "{worst} services were down at once");
    services.iter_mut().for_each(|service| assert_eq!(service.ended(), None, "each was restarted"));
    assert_eq!(node.get("/v1/kv/restart/?keys").status, 404, "nothing is left");
    let mut other = Locked::start(&node, &["-n", "2", "restart", "while [ ! -e enough ]; do sleep 0.05; done"]);
    eventually!(PATIENCE, lock_key(&node, "restart/.lock").is_some());
    assert!(node.cli(&["lock", "-n=3", "restart", "true"]).exited(1).stderr.contains("has 2 slots"));
    std::fs::write(home.join("enough"), "").unwrap();
    assert_eq!(other.ended(), Some(0));
}
