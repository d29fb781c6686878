//! A disk without room: the agent says so, acknowledges nothing that it cannot keep, and has
//! everything that it acknowledged once there is room again.

use std::path::Path;
use std::process::Command;

use harness::{Node, Setup, isolated, tool};

/// The whole disk.
const DISK_BYTES: usize = 160 << 20;
/// What somebody else has on it at first: what is left holds the first segments of the log and
/// the state, and little more.
const BALLAST_BYTES: usize = 112 << 20;

/// A disk of its own size at `place`, which goes with the namespace that the test is in.
fn mount(place: &Path, bytes: usize) {
    std::fs::create_dir(place).unwrap();
    let ran = Command::new(tool("mount")).args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]).arg(place).output().unwrap();
    assert!(
        ran.status.success(),
        "a small disk cannot be mounted, which this test needs (root, or unprivileged user namespaces): {}",
        String::from_utf8_lossy(&ran.stderr)
    );
}

/// Writes until the disk is full, and tells how many writes were acknowledged.
fn fill(node: &mut Node) -> usize {
    let value = vec![b'x'; 256 * 1024];
    for n in 0..1000 {
        let path = format!("/v1/kv/k{n}");
        match node.http().try_send("PUT", &path, &[], &[value.as_slice(), n.to_string().as_bytes()].concat()) {
            Ok(done) if done.status == 200 => {}
            Ok(refused) => {
                println!("write {n} was refused: {} {}", refused.status, refused.text());
                assert!(refused.status >= 500 && !refused.text().is_empty(), "{}", refused.status);
                return n;
            }
            Err(error) => {
                println!("write {n} was not answered: {error}");
                return n;
            }
        }
    }
    panic!("250 MB went onto a disk of {DISK_BYTES} bytes");
}

#[test]
fn a_full_disk_loses_nothing_and_is_named() {
    isolated("disk_full::a_full_disk_loses_nothing_and_is_named", || {
        let setup = Setup::bare();
        let disk = setup.home().join("disk");
        mount(&disk, DISK_BYTES);
        std::fs::write(disk.join("ballast"), vec![0; BALLAST_BYTES]).unwrap();
        let mut node = setup.data_in(disk.join("data")).start();
        node.expect_error("");
        let acknowledged = fill(&mut node);
        assert!(acknowledged > 10, "only {acknowledged} writes fit");

        // It either goes on reading and refusing, or it ends by itself and says why.
        if node.is_running() {
            let again = node.http().try_send("PUT", "/v1/kv/again", &[], &[b'y'; 256 * 1024]);
            assert!(again.is_err() || again.is_ok_and(|response| response.status >= 500), "a write is acknowledged on a full disk");
            node.stop();
        } else {
            node.exited();
        }
        let log = node.log().text();
        assert!(log.contains("full") && log.contains("space"), "the log does not say what to do:\n{log}");

        std::fs::remove_file(disk.join("ballast")).unwrap();
        node.restart();
        for n in 0..acknowledged {
            let value = node.get(&format!("/v1/kv/k{n}?raw")).expect(200).body;
            assert!(value.ends_with(n.to_string().as_bytes()) && value.len() >= 256 * 1024, "k{n} has {} bytes", value.len());
        }
        node.put("/v1/kv/after", "room").expect(200);
        drop(node);
    });
}

#[test]
fn a_disk_that_is_full_from_the_start_is_named() {
    isolated("disk_full::a_disk_that_is_full_from_the_start_is_named", || {
        let setup = Setup::durable();
        mount(setup.data_dir(), 64 << 10);
        let mut node = setup.spawn();
        node.expect_error("");
        assert_eq!(node.exited().code(), Some(1));
        let text = node.log().text();
        assert!(text.contains("full") && text.contains(setup.data_dir().to_str().unwrap()), "{text}");
    });
}
