//! A quorum that is lost, made anew from the one disk that is left.

use harness::{Node, PATIENCE, Ran, eventually};

use crate::cluster::fleet::{Fleet, server_of};

fn data(node: &Node) -> String {
    node.setup().home().join("data").to_str().unwrap().to_owned()
}

fn recover(node: &Node, arguments: &[&str]) -> Ran {
    recover_all(&[node], arguments)
}

fn recover_all(nodes: &[&Node], arguments: &[&str]) -> Ran {
    let directories: Vec<String> = nodes.iter().map(|node| data(node)).collect();
    let line = ["recover"].into_iter().chain(directories.iter().map(String::as_str)).chain(arguments.iter().copied());
    Ran::lictor(nodes[0].setup().home(), None, &line.collect::<Vec<_>>(), "")
}

fn put(node: &Node, key: &str) -> bool {
    node.put(&format!("/v1/kv/{key}"), "v").status == 200
}

#[test]
fn one_disk_of_three_begins_a_new_quorum_that_others_join_empty() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    eventually!(PATIENCE, put(&fleet.servers[0], "first"), "there is a leader");
    for n in 0..200 {
        fleet.servers[n % 3].http().put_until_done(&format!("/v1/kv/k/{n}"), "v");
    }
    let mut left = fleet.servers.remove(0);
    fleet.servers.iter_mut().for_each(Node::kill);

    let busy = recover(&left, &[]).exited(1);
    assert!(busy.stderr.contains("in use"), "{}", busy.stderr);
    left.kill();
    let moved = server_of("dc1", 0, 1, &[]);
    let address = format!("dc1-server-0={}:8300", moved.address());
    let told = recover(&left, &["-address", &address]).success().stdout;
    for text in ["dc1-server-0 has the newest log", "Of 3 voters 1 is left", &format!("{}:8300", moved.address()), "Nothing was changed"] {
        assert!(told.contains(text), "no `{text}` in {told}");
    }
    recover(&left, &["-write", "-address", &address]).exited(1);
    let wrong = recover(&left, &["-address", "nobody=10.0.0.1:8300", "-write", "-yes"]).exited(1);
    assert!(wrong.stderr.contains("`nobody` is not among those given"), "{}", wrong.stderr);
    let done = recover(&left, &["-address", &address, "-write", "-yes"]).success().stdout;
    assert!(done.contains("Done. Start dc1-server-0"), "{done}");

    // The same data at another address: who a server is does not depend on where it is.
    let old_data = format!("-data-dir={}", left.setup().home().join("data").display());
    let first = moved.flag(old_data).start();
    assert_eq!(first.get("/v1/kv/k/?keys").json().as_array().unwrap().len(), 200, "all that was acknowledged");
    assert!(put(&first, "after"), "it leads");
    let join = vec![first.setup().address().to_string()];
    let mut servers = vec![first];
    for n in 3..5 {
        servers.push(server_of("dc1", n, 3, &join).start());
    }
    let voters = |node: &Node| {
        let servers = node.get("/v1/operator/raft/configuration?stale").json();
        servers["Servers"].as_array().unwrap().iter().filter(|server| server["Voter"] == true).count()
    };
    eventually!(
        PATIENCE * 2,
        voters(&servers[0]) == 3,
        "two fresh servers vote: {}",
        servers[0].get("/v1/operator/raft/configuration?stale").text()
    );
    for node in &servers {
        assert_eq!(node.get("/v1/kv/k/?keys").json().as_array().unwrap().len(), 200);
        assert_eq!(node.get("/v1/kv/after?raw").text(), "v");
    }
    servers.remove(0).kill();
    eventually!(PATIENCE, put(&servers[0], "again"), "the other two go on alone");
    left.expect_error("");
}

#[test]
fn what_is_no_data_directory_is_refused() {
    let node = Node::dev();
    let home = node.setup().home();
    let empty = home.join("empty");
    std::fs::create_dir(&empty).unwrap();
    for arguments in [vec!["recover", empty.to_str().unwrap()], vec!["recover", "nowhere"], vec!["recover"]] {
        let ran = Ran::lictor(home, None, &arguments, "").exited(1);
        assert!(ran.stderr.contains("data directory"), "{}", ran.stderr);
    }
    assert_eq!(std::fs::read_dir(&empty).unwrap().count(), 0, "nothing was made there");
}

#[test]
fn of_two_disks_the_one_with_the_newest_log_counts_and_both_are_the_quorum() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    eventually!(PATIENCE, put(&fleet.servers[0], "first"), "there is a leader");
    let mut old = fleet.servers.remove(2);
    old.kill();
    for n in 0..50 {
        eventually!(PATIENCE, put(&fleet.servers[n % 2], &format!("k/{n}")), "the other two go on");
    }
    let mut new = fleet.servers.remove(1);
    new.kill();
    fleet.servers.remove(0).kill();

    let told = recover_all(&[&old, &new], &[]).success().stdout;
    assert!(told.contains("dc1-server-1 has the newest log"), "{told}");
    let twice = recover_all(&[&old, &old], &[]).exited(1);
    assert!(twice.stderr.contains("is given twice"), "{}", twice.stderr);
    for wrong in ["dc1-server-1=10.0.0.9", "dc1-server-1", "dc1-server-1=10.0.0.9:0", "dc1-server-1=:8300"] {
        let refused = recover_all(&[&old, &new], &["-address", wrong, "-write", "-yes"]).exited(1);
        assert!(refused.stderr.contains(wrong), "{wrong}: {}", refused.stderr);
    }

    let moved = [server_of("dc1", 1, 1, &[]), server_of("dc1", 2, 1, &[])];
    let at = |n: usize, name: &str| format!("{name}={}:8300", moved[n].address());
    let (first, second) = (at(0, "dc1-server-1"), at(1, "dc1-server-2"));
    let done = recover_all(&[&old, &new], &["-address", &first, "-address", &second, "-write", "-yes"]).success().stdout;
    assert!(done.contains("Done. Start dc1-server-1"), "{done}");
    let [first, second] = moved;
    let (here, there) = (first.address(), second.address());
    let start = |setup: harness::Setup, data: String, other: std::net::IpAddr| {
        setup.flag(format!("-data-dir={data}")).flag(format!("-retry-join={other}:8301")).spawn()
    };
    let mut servers = [start(first, data(&new), there), start(second, data(&old), here)];
    servers.iter_mut().for_each(Node::await_ready);
    for node in &servers {
        eventually!(PATIENCE, put(node, "after"), "they lead");
        assert_eq!(node.get("/v1/kv/k/?keys").json().as_array().unwrap().len(), 50, "all that was acknowledged");
        let quorum = node.get("/v1/operator/raft/configuration?stale").json();
        assert_eq!(quorum["Servers"].as_array().unwrap().len(), 2, "{quorum}");
    }
}

#[test]
fn disks_that_do_not_belong_together_are_refused() {
    let (mut one, mut other) = (Node::durable(), Node::durable());
    for node in [&one, &other] {
        assert!(put(node, "k"));
    }
    one.kill();
    other.kill();
    let refused = recover_all(&[&one, &other], &["-write", "-yes"]).exited(1);
    assert!(refused.stderr.contains("does not belong to it") && refused.stderr.contains("another cluster's data"), "{}", refused.stderr);

    let copy = one.setup().home().join("copy");
    let copied = std::process::Command::new("cp").arg("-r").arg(data(&one)).arg(&copy).status().unwrap();
    assert!(copied.success());
    let refused = recover(&one, &[copy.to_str().unwrap(), "-write", "-yes"]).exited(1);
    assert!(refused.stderr.contains("one is a copy"), "{}", refused.stderr);
    for node in [&mut one, &mut other] {
        node.restart();
        assert_eq!(node.get("/v1/kv/k?raw").text(), "v", "nothing was changed");
    }
}

#[test]
fn a_log_with_a_flipped_bit_is_told_of_and_not_built_upon() {
    let mut node = Node::durable();
    for n in 0..100 {
        assert!(put(&node, &format!("k/{n}")));
    }
    node.kill();
    let log = std::path::Path::new(&data(&node)).join("log");
    let files = std::fs::read_dir(&log).unwrap().map(|entry| entry.unwrap().path());
    let largest = files.max_by_key(|file| std::fs::read(file).unwrap().iter().filter(|byte| **byte != 0).count()).unwrap();
    let good = std::fs::read(&largest).unwrap();
    // In the midst of what is written: the file is longer than that, and the zeros between two frames mean nothing.
    let written: Vec<usize> = (0..good.len()).filter(|at| good[*at] != 0).collect();
    let mut bad = good.clone();
    bad[written[written.len() / 2]] ^= 1;
    std::fs::write(&largest, &bad).unwrap();
    let refused = recover(&node, &["-write", "-yes"]).exited(1);
    assert!(refused.stderr.contains("is damaged at byte"), "{}", refused.stderr);
    assert_eq!(std::fs::read(&largest).unwrap(), bad, "nothing was written");

    std::fs::write(&largest, &good).unwrap();
    recover(&node, &["-write", "-yes"]).success();
    node.restart();
    assert_eq!(node.get("/v1/kv/k/?keys").json().as_array().unwrap().len(), 100);
}
