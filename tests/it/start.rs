//! How the agent starts, refuses to start, and stops.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};

use harness::{Node, PATIENCE, Setup, binary, eventually, isolated, tool};
use nix::sys::signal::Signal;

/// What an agent says that does not start.
fn refusal(setup: &Setup) -> String {
    let mut node = setup.spawn();
    let status = node.exited();
    assert_eq!(status.code(), Some(1), "{}", node.log().text());
    node.expect_error("");
    node.log().text()
}

#[test]
fn it_is_ready_soon_and_says_where_it_is() {
    let node = Node::dev();
    println!("ready after {:?}, this build", node.ready_after());
    let text = node.log().text();
    let commands = text.lines().skip_while(|line| *line != "Try next:").skip(1).filter(|line| line.starts_with("  ")).count();
    assert_eq!(commands, 3, "three commands to try next:\n{text}");
    assert_eq!(node.get("/v1/status/leader").expect(200).json().as_str().map(str::is_empty), Some(false));
    let mut durable = Node::durable();
    println!("durable: ready after {:?}", durable.ready_after());
    durable.restart();
    println!("durable, again: ready after {:?}", durable.ready_after());
}

#[test]
fn flags_have_one_dash_or_two() {
    for dev in ["-dev", "--dev", "--dev=true"] {
        let node = Setup::bare().flag(dev).flag("--node").flag("two-dashes").start();
        assert_eq!(node.get("/v1/agent/self").json()["Config"]["NodeName"], "two-dashes");
    }
}

#[test]
fn under_the_name_of_consul_it_is_the_same() {
    let setup = Setup::dev();
    let consul = setup.home().join("consul");
    symlink(binary(), &consul).unwrap();
    let node = setup.clone().program(consul).start();
    node.put("/v1/kv/k", "v").expect(200);
}

#[test]
fn a_port_in_use_is_named_and_nothing_is_written() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    for face in ["http", "grpc", "dns"] {
        let setup = Setup::durable().and("-client=127.0.0.1").and(format!("-{face}-port={port}"));
        let text = refusal(&setup);
        assert!(text.contains(&format!("port {port} is in use")) && text.contains(&format!("-{face}-port")), "{text}");
        assert!(!setup.data_dir().exists(), "the directory was touched");
    }
}

#[test]
fn it_does_not_start_without_what_it_needs() {
    let missing = refusal(&Setup::bare().flag("-server").flag("-bootstrap-expect=1"));
    assert!(missing.contains("-data-dir"), "{missing}");
    let unknown = refusal(&Setup::dev().config("prots { http = 1 }"));
    assert!(unknown.contains("prots") && unknown.contains("did you mean `ports`"), "{unknown}");
    let flag = refusal(&Setup::dev().flag("-datacentre=x"));
    assert!(flag.contains("datacentre") && flag.contains("-datacenter"), "{flag}");
    let setup = Setup::dev();
    let file = setup.home().join("odd.json");
    std::fs::write(&file, "{\n  \"server\": tru\n}").unwrap();
    let odd = refusal(&setup.clone().flag("-config-file").flag(&file));
    assert!(odd.contains(file.to_str().unwrap()), "{odd}");
    let absent = refusal(&setup.clone().flag("-config-file=/nonexistent/x.hcl"));
    assert!(absent.contains("/nonexistent/x.hcl"), "{absent}");
    let address = refusal(&Setup::dev().and("-client=198.51.100.1"));
    assert!(address.contains("198.51.100.1"), "{address}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let setup = Setup::bare();
    let file = setup.home().join("file");
    std::fs::write(&file, "").unwrap();
    let text = refusal(&setup.clone().data_in(&file));
    assert!(text.contains(file.to_str().unwrap()) && text.contains("-data-dir"), "{text}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_named() {
    isolated("start::a_data_directory_that_cannot_be_written_is_named", || {
        // Read-only for everybody: rights alone would not keep root out.
        let setup = Setup::bare();
        let place = setup.home().join("sealed");
        std::fs::create_dir(&place).unwrap();
        let mounted = std::process::Command::new(tool("mount")).args(["-t", "tmpfs", "-o", "ro", "tmpfs"]).arg(&place).status().unwrap();
        assert!(mounted.success(), "a directory cannot be mounted, which this test needs");
        for data in [place.clone(), place.join("data")] {
            let text = refusal(&setup.clone().data_in(&data));
            assert!(text.contains(data.to_str().unwrap()) && text.contains("-data-dir"), "{text}");
        }
    });
}

#[test]
fn a_data_directory_is_used_by_one_process() {
    let first = Node::durable();
    let text = refusal(&Setup::bare().data_in(first.setup().data_dir()));
    assert!(text.contains("in use") && text.contains(&first.pid().to_string()), "{text}");
    first.put("/v1/kv/k", "v").expect(200);
}

#[test]
fn a_data_directory_of_another_node_is_refused() {
    let (one, other) = ("8f5a7c0e-2d3b-4c1a-9e6f-0123456789ab", "00000000-2d3b-4c1a-9e6f-0123456789ab");
    let setup = Setup::durable();
    let mut node = setup.clone().flag(format!("-node-id={one}")).start();
    node.put("/v1/kv/k", "v").expect(200);
    assert!(node.stop().success());
    let text = refusal(&setup.clone().flag(format!("-node-id={other}")));
    assert!(text.contains(one) && text.contains(other), "{text}");
    let node = setup.start();
    assert_eq!(node.get("/v1/kv/k?raw").expect(200).text(), "v");
    assert_eq!(node.get("/v1/agent/self").json()["Config"]["NodeID"], one);
}

#[test]
fn a_data_directory_of_a_later_release_is_refused() {
    let mut node = Node::durable();
    node.put("/v1/kv/k", "v").expect(200);
    assert!(node.stop().success());
    let about = node.setup().data_dir().join("lictor.json");
    let text = std::fs::read_to_string(&about).unwrap();
    let mut later: serde_json::Value = serde_json::from_str(&text).unwrap();
    let version = later["format_version"].as_u64().unwrap() + 1;
    later["format_version"] = version.into();
    std::fs::write(&about, later.to_string()).unwrap();
    let said = refusal(node.setup());
    assert!(said.contains(&format!("version {version}")) && said.contains("lictor.json"), "{said}");
    std::fs::write(&about, text).unwrap();
    node.restart();
    assert_eq!(node.get("/v1/kv/k?raw").expect(200).text(), "v");
}

#[test]
fn everything_acknowledged_is_there_after_every_kind_of_end() {
    let mut node = Node::durable();
    for (n, end) in [Node::kill, |node: &mut Node| assert!(node.stop().success()), Node::kill].into_iter().enumerate() {
        node.put(&format!("/v1/kv/k{n}"), n.to_string()).expect(200);
        end(&mut node);
        node.restart();
        for k in 0..=n {
            assert_eq!(node.get(&format!("/v1/kv/k{k}?raw")).expect(200).text(), k.to_string());
        }
    }
}

#[test]
fn a_signal_ends_it_in_good_order() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut node = Node::durable();
        node.put("/v1/kv/k", "v").expect(200);
        let http = node.http();
        let index = node.get("/v1/kv/k").index();
        let waiting = std::thread::spawn(move || http.try_send("GET", &format!("/v1/kv/k?index={index}&wait=60s"), &[], b""));
        node.signal(signal);
        assert_eq!(node.exited().code(), Some(0), "{signal}: {}", node.log().text());
        // Whoever waited was not left hanging.
        drop(waiting.join().unwrap());
        node.restart();
        assert_eq!(node.get("/v1/kv/k?raw").text(), "v");
    }
}

#[test]
fn a_hangup_does_not_end_it() {
    let mut node = Node::dev();
    node.signal(Signal::SIGHUP);
    eventually!(PATIENCE, node.log().contains("SIGHUP"));
    assert!(node.is_running());
    node.put("/v1/kv/k", "v").expect(200);
}

#[test]
fn the_process_id_is_kept_in_a_file_while_it_runs() {
    let setup = Setup::dev();
    let file = setup.home().join("lictor.pid");
    let mut node = setup.clone().flag("-pid-file").flag(&file).start();
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), node.pid().to_string());
    assert!(node.stop().success());
    assert!(!file.exists());
}

#[test]
fn data_is_for_its_owner_only() {
    let node = Node::durable();
    let mode = std::fs::metadata(node.setup().data_dir()).unwrap().permissions().mode();
    assert_eq!(mode & 0o007, 0, "{mode:o}");
}

#[test]
fn addresses_are_worked_out_on_the_machine() {
    isolated("start::addresses_are_worked_out_on_the_machine", || {
        let added = std::process::Command::new(tool("ip")).args(["address", "add", "10.5.6.7/24", "dev", "lo"]).status().unwrap();
        assert!(added.success(), "the private network gets an address");
        let refused = refusal(&Setup::dev().default_ports().flag(r#"-bind={{ GetInterfaceIP "eth7" }}"#));
        assert!(refused.contains("`bind_addr`") && refused.contains("lo 10.5.6.7/24"), "{refused}");
        let node = Setup::dev()
            .default_ports()
            .flag(r#"-bind={{ GetInterfaceIP "lo" }}"#)
            .flag(r#"-client={{ GetAllInterfaces | include "network" "10.0.0.0/8" | attr "address" }} 127.0.0.1"#)
            .flag("-serf-lan-bind={{ GetPrivateIP }}")
            .flag("-advertise-wan=203.0.113.9")
            .start();
        let told = node.get("/v1/agent/self").expect(200).json();
        assert_eq!(told["DebugConfig"]["ClientAddrs"], serde_json::json!(["10.5.6.7", "127.0.0.1"]));
        assert_eq!((&told["DebugConfig"]["BindAddr"], &told["Member"]["Addr"]), (&"10.5.6.7".into(), &"10.5.6.7".into()));
        let name = told["Config"]["NodeName"].as_str().unwrap();
        let tagged = &node.get(&format!("/v1/catalog/node/{name}")).expect(200).json()["Node"]["TaggedAddresses"];
        assert_eq!(
            (&tagged["lan"], &tagged["wan"], &tagged["wan_ipv4"]),
            (&"10.5.6.7".into(), &"203.0.113.9".into(), &"203.0.113.9".into())
        );
    });
}

#[test]
fn a_log_file_does_not_grow_for_ever() {
    let setup = Setup::dev();
    let folder = setup.home().join("log");
    std::fs::create_dir(&folder).unwrap();
    let node = setup
        .flag("-log-level=debug")
        .flag(format!("-log-file={}/agent.log", folder.display()))
        .flag("-log-rotate-bytes=300")
        .flag("-log-rotate-max-files=2")
        .start();
    let files = || std::fs::read_dir(&folder).unwrap().count();
    eventually!(PATIENCE, {
        // Each reload is a line.
        node.put("/v1/agent/reload", "").expect(200);
        files() == 3
    });
    for _ in 0..5 {
        node.put("/v1/agent/reload", "").expect(200);
    }
    assert_eq!(files(), 3, "two old files and the present one");
    assert!(std::fs::read_to_string(folder.join("agent.log")).unwrap().contains("lictor"));
}
