//! What holds for the repository as a whole: who may import whom, and how files look.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::repository;
use serde_json::Value;

/// Which of our crates each may use. A new arrow goes into DECISIONS.md first, then here.
const ARROWS: [(&str, &[&str]); 19] = [
    ("lictor-proto", &[]),
    ("lictor-state", &[]),
    ("lictor-store", &["lictor-state", "lictor-proto"]),
    ("lictor-net", &[]),
    ("lictor-process", &[]),
    ("lictor-gossip", &["lictor-net"]),
    ("lictor-consensus", &["lictor-store", "lictor-state", "lictor-proto", "lictor-net"]),
    ("lictor-checks", &["lictor-state", "lictor-net", "lictor-process"]),
    ("lictor-service", &["lictor-consensus", "lictor-gossip", "lictor-state", "lictor-net"]),
    ("lictor-forward", &["lictor-gossip", "lictor-net"]),
    ("lictor-rpc", &["lictor-service", "lictor-forward", "lictor-state", "lictor-proto", "lictor-net", "lictor-process"]),
    ("lictor-gateway", &["lictor-service", "lictor-forward", "lictor-state", "lictor-net"]),
    ("lictor-dns", &["lictor-service", "lictor-forward", "lictor-state", "lictor-net"]),
    ("lictor-client", &["lictor-proto"]),
    ("lictor-agent", EVERYTHING),
    ("lictor-tests", EVERYTHING),
    ("lictor-powercut", EVERYTHING),
    ("lictor-bench", EVERYTHING),
    ("lictor-simulation", EVERYTHING),
];

/// Libraries that stop at a border: who but these uses one has found logic for another layer.
const BORDERS: [(&str, &[&str]); 7] = [
    ("axum", &["lictor-gateway"]),
    ("clap", &["lictor-agent", "lictor-bench"]),
    ("foca", &["lictor-gossip"]),
    ("heed", &["lictor-store"]),
    ("hickory-proto", &["lictor-dns"]),
    ("openraft", &["lictor-consensus"]),
    ("socket2", &["lictor-net"]),
];

const EVERYTHING: &[&str] = &["*"];

/// More than anybody wants to read at once.
const LINES_MAX: usize = 600;

/// Words that mean that something is not done, or that tell of somebody's machine. Written in two
/// halves, so that this file is not its own offender.
const FORBIDDEN: [(&str, &str); 6] = [("TO", "DO"), ("FIX", "ME"), ("XX", "X:"), ("/wo", "rk/"), ("/ho", "me/"), ("/Us", "ers/")];

/// The packages of the workspace, as cargo sees them.
fn packages() -> Vec<Value> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let output = command.current_dir(repository()).args(["metadata", "--no-deps", "--offline", "--format-version=1"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// Files that belong to the repository, tracked or about to be.
fn files() -> Vec<PathBuf> {
    let mut command = Command::new("git");
    command.current_dir(repository()).args(["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = command.output().expect("git can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let mut files: Vec<PathBuf> = names.split('\0').filter(|name| !name.is_empty()).map(|name| repository().join(name)).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files.dedup();
    files
}

fn sources() -> impl Iterator<Item = (PathBuf, String)> {
    let texts = files().into_iter().map(|path| (shown(&path), std::fs::read(&path).unwrap()));
    texts.filter_map(|(path, bytes)| Some((path, String::from_utf8(bytes).ok()?)))
}

fn shown(path: &Path) -> PathBuf {
    path.strip_prefix(repository()).unwrap().to_owned()
}

fn rust() -> impl Iterator<Item = (PathBuf, String)> {
    sources().filter(|(path, _)| path.extension().is_some_and(|extension| extension == "rs"))
}

#[test]
fn crates_use_only_what_lies_below_them() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let packages = packages();
    let ours: Vec<&str> = packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let mut wrong = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        // What stands in for somebody else's crate uses nothing of ours.
        let stand_in = (!name.starts_with("lictor-")).then_some(&[][..]);
        let Some(below) = allowed.get(name).copied().or(stand_in) else {
            wrong.push(format!("`{name}` is new: say in `ARROWS` what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().unwrap().iter().filter(|dependency| dependency["kind"] != "dev") {
            let other = dependency["name"].as_str().unwrap();
            if ours.contains(&other) && below != EVERYTHING && !below.contains(&other) {
                wrong.push(format!("`{name}` uses `{other}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn libraries_stop_at_the_border_of_their_layer() {
    let mut wrong = Vec::new();
    for package in packages() {
        for dependency in package["dependencies"].as_array().unwrap().iter().filter(|dependency| dependency["kind"] != "dev") {
            let border = BORDERS.iter().find(|(library, _)| dependency["name"] == *library);
            if border.is_some_and(|(_, inside)| !inside.iter().any(|name| package["name"] == *name)) {
                wrong.push(format!("{} uses {}", package["name"], dependency["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What opens a socket, of the standard library and of tokio, or opens one on somebody's behalf.
const SOCKETS: [&str; 10] = [
    "TcpListener",
    "TcpStream",
    "TcpSocket",
    "UdpSocket",
    "UnixDatagram",
    "UnixListener",
    "UnixStream",
    "HttpConnector",
    "lookup_host",
    "ToSocketAddrs",
];

/// Where sockets are opened, and where programs live that talk to agents: the command line.
const SOCKET_ROOMS: [&str; 2] = ["server/net/src", "server/agent/src/cli"];

/// The part of a file that is not its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
}

#[test]
fn every_socket_of_an_agent_is_opened_in_one_place() {
    let is_test = |path: &Path| {
        path.iter().any(|part| part == "tests") || path.file_stem().is_some_and(|stem| stem.to_string_lossy().ends_with("tests"))
    };
    let mut opened = Vec::new();
    let mut seen = 0;
    for (path, text) in rust().filter(|(path, _)| path.starts_with("server") && !is_test(path)) {
        let lines = without_tests(&text).lines().enumerate();
        let uses = lines.filter(|(_, line)| SOCKETS.iter().any(|socket| line.contains(socket)));
        if SOCKET_ROOMS.iter().any(|room| path.starts_with(room)) {
            seen += uses.count();
            continue;
        }
        opened.extend(uses.map(|(number, line)| format!("{}:{}: {}", path.display(), number + 1, line.trim())));
    }
    assert!(seen > 0, "nothing is found where sockets are opened: have they got other names?");
    assert!(opened.is_empty(), "have `net::Network` open it, so that a test can make the network up:\n{}", opened.join("\n"));
}

#[test]
fn every_file_can_be_read_in_one_go() {
    let long: Vec<String> = rust()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(path, lines)| format!("{} has {lines} lines", path.display()))
        .collect();
    assert!(long.is_empty(), "above {LINES_MAX} lines:\n{}", long.join("\n"));
}

#[test]
fn no_module_is_a_drawer() {
    let drawers = ["utils", "util", "helpers", "helper", "misc", "common_utils"];
    let found: Vec<String> = rust()
        .filter(|(path, _)| {
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let folder = path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
            drawers.contains(&stem.as_str()) || folder.is_some_and(|folder| drawers.contains(&folder.as_str()))
        })
        .map(|(path, _)| path.display().to_string())
        .collect();
    assert!(found.is_empty(), "say what is in it: {found:?}");
}

#[test]
fn nothing_is_left_undone_and_nobody_s_machine_is_named() {
    let mut found = Vec::new();
    for (path, text) in sources().filter(|(path, _)| path != Path::new("Cargo.lock")) {
        for (number, line) in text.lines().enumerate() {
            for (first, second) in FORBIDDEN {
                let word = format!("{first}{second}");
                if line.contains(&word) {
                    found.push(format!("{}:{}: `{word}`", path.display(), number + 1));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_crate_and_module_opens_with_its_idea() {
    let mut silent = Vec::new();
    for (path, text) in rust() {
        let is_build_or_tests = path.components().any(|part| part.as_os_str() == "tests") && !path.starts_with("tests");
        let is_test = is_build_or_tests || path.file_stem().is_some_and(|stem| stem == "tests");
        let opens = text.lines().find(|line| !line.trim().is_empty()).is_some_and(|line| line.starts_with("//!"));
        if !opens && !is_test {
            silent.push(path.display().to_string());
        }
    }
    assert!(silent.is_empty(), "no `//!` at the top of:\n{}", silent.join("\n"));
}
