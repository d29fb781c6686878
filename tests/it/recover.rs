//! A quorum that is lost, made anew from the one disk that is left.

use harness::{Node, PATIENCE, Ran, eventually};

use crate::cluster::fleet::{Fleet, server_of};

fn recover(node: &Node, arguments: &[&str]) -> Ran {
    let home = node.setup().home();
    let data = home.join("data");
    let line: Vec<&str> = ["recover", data.to_str().unwrap()].into_iter().chain(arguments.iter().copied()).collect();
    Ran::lictor(home, None, &line, "")
}

fn put(node: &Node, key: &str) -> bool {
    node.put(&format!("/v1/kv/{key}"), "v").status == 200
}

#[test]
fn one_disk_of_three_begins_a_new_quorum_that_others_join_empty() {
    let mut fleet = Fleet::start("dc1", 3, 0);
    eventually!(PATIENCE, put(&fleet.servers[0], "first"), "there is a leader");
    for n in 0..200 {
        assert!(put(&fleet.servers[n % 3], &format!("k/{n}")), "write {n}");
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
        let servers = node.get("/v1/operator/raft/configuration").json();
        servers["Servers"].as_array().unwrap().iter().filter(|server| server["Voter"] == true).count()
    };
    eventually!(
        PATIENCE * 2,
        voters(&servers[0]) == 3,
        "two fresh servers vote: {}",
        servers[0].get("/v1/operator/raft/configuration").text()
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
