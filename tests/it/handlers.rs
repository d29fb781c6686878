//! Watches with handlers, from the configuration and from the command line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Mutex};

use harness::{Node, PATIENCE, Setup, eventually};
use serde_json::{Value, json};

use crate::cluster::fleet::{client_of, server_of};

/// A server that takes each line it is told, and answers `OK`: to a handler it is a memcached.
struct Cache {
    address: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Cache {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, lines) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let heard = lines.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                heard.lock().unwrap().push(line.trim().to_owned());
                let _ = stream.write_all(b"OK\r\n");
            }
        });
        Cache { address, lines }
    }

    fn flushes(&self) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| *line == "flush_all").count()
    }

    /// The watch that empties it at the event.
    fn watch(&self) -> String {
        let tell =
            format!("exec 3<>/dev/tcp/{}/{} && printf 'flush_all\\r\\n' >&3 && read -r -u 3", self.address.ip(), self.address.port());
        format!(r#"watches = [{{ type = "event", name = "flush-cache", args = ["bash", "-c", {}] }}]"#, json!(tell))
    }
}

fn file(home: &Path, name: &str) -> String {
    std::fs::read_to_string(home.join(name)).unwrap_or_default()
}

#[test]
fn memcached_is_flushed_on_every_machine_when_the_event_arrives() {
    let caches = [Cache::start(), Cache::start()];
    let server = server_of("dc1", 0, 1, &[]).config(&caches[0].watch()).start();
    let client = client_of("dc1", 0, &[server.setup().address().to_string()]).config(&caches[1].watch()).start();
    eventually!(PATIENCE, server.cli(&["members"]).stdout.lines().filter(|line| line.contains("alive")).count() == 2);
    client.cli(&["event", "-name=something-else"]).success();
    client.cli(&["event", "-name=flush-cache"]).success();
    for cache in &caches {
        eventually!(PATIENCE, cache.flushes() == 1);
    }
    server.cli(&["event", "-name=flush-cache", "-node=dc1-client-0"]).success();
    eventually!(PATIENCE, caches[1].flushes() == 2);
    assert_eq!(caches[0].flushes(), 1, "the event was for the other one");
}

#[test]
fn the_latest_state_is_never_missed_and_a_failure_is_tried_again() {
    let setup = Setup::dev();
    let home = setup.home().to_owned();
    // Fails as long as it is not allowed; never runs beside itself.
    let script = format!(
        "cd {} && mkdir busy && cat > seen.new && rmdir busy && [ -e allowed ] && echo $CONSUL_INDEX > index && mv seen.new seen",
        home.display()
    );
    let watches = format!(r#"watches = [{{ type = "key", key = "a", args = ["sh", "-c", {}] }}]"#, json!(script));
    let node = setup.config(&watches).start();
    eventually!(PATIENCE, !file(&home, "seen.new").is_empty());
    for n in 0..50 {
        node.put("/v1/kv/a", n.to_string()).expect(200);
    }
    std::fs::write(home.join("allowed"), "").unwrap();
    let last = || serde_json::from_str::<Value>(&file(&home, "seen")).unwrap_or_default();
    eventually!(PATIENCE, last()["Value"] == "NDk=");
    assert_eq!(file(&home, "index").trim(), last()["ModifyIndex"].to_string());
    node.delete("/v1/kv/a").expect(200);
    eventually!(PATIENCE, file(&home, "seen").trim() == "null");
}

#[test]
fn an_http_handler_gets_what_is_there() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, (sender, requests)) = (format!("http://{}/hook", listener.local_addr().unwrap()), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut length) = (String::new(), 0);
            while !head.ends_with("\r\n\r\n") {
                stream.read_line(&mut head).unwrap();
            }
            for line in head.to_lowercase().lines() {
                length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let _ = stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            let _ = sender.send((head, serde_json::from_slice::<Value>(&body).unwrap()));
        }
    });
    let watches = format!(
        r#"watches {{ type = "keyprefix" prefix = "app/" http_handler_config {{ path = "{url}" header {{ X-Mine = ["yes"] }} }} }}"#
    );
    let node = Setup::dev().config(&watches).start();
    let next = || requests.recv_timeout(PATIENCE).unwrap();
    assert_eq!(next().1, json!([]));
    node.put("/v1/kv/app/a", "1").expect(200);
    let (head, body) = next();
    assert!(head.starts_with("POST /hook HTTP/1.1\r\n") && head.to_lowercase().contains("x-mine: yes"), "{head}");
    assert!(head.to_lowercase().contains("x-consul-index: "), "{head}");
    assert_eq!(body[0]["Key"], "app/a");
}

#[test]
fn reloading_begins_changes_and_ends_watches_without_touching_the_others() {
    let setup = Setup::dev();
    let home = setup.home().to_owned();
    let conf = home.join("conf");
    std::fs::create_dir(&conf).unwrap();
    let write = |name: &str, key: &str| {
        let script = json!(format!("cat > /dev/null; echo run >> {}/{name}", home.display()));
        let text = format!(r#"watches {{ type = "key" key = "{key}" args = ["sh", "-c", {script}] }}"#);
        std::fs::write(conf.join(format!("{name}.hcl")), text).unwrap();
    };
    ["keep", "change", "remove"].into_iter().for_each(|name| write(name, "a"));
    let node: Node = setup.flag(format!("-config-dir={}", conf.display())).start();
    let runs = |name: &str| file(&home, name).lines().count();
    eventually!(PATIENCE, ["keep", "change", "remove"].into_iter().all(|name| runs(name) == 1));
    write("change", "b");
    write("add", "a");
    std::fs::remove_file(conf.join("remove.hcl")).unwrap();
    assert!(node.cli(&["reload"]).success().stdout.contains("triggered"));
    eventually!(PATIENCE, runs("change") == 2 && runs("add") == 1);
    node.put("/v1/kv/a", "1").expect(200);
    eventually!(PATIENCE, runs("keep") == 2 && runs("add") == 2);
    node.put("/v1/kv/b", "1").expect(200);
    eventually!(PATIENCE, runs("change") == 3);
    assert_eq!((runs("keep"), runs("remove")), (2, 1));
    std::fs::write(conf.join("keep.hcl"), "watches { type = \"key\" }").unwrap();
    let refused = node.put("/v1/agent/reload", "");
    assert!(refused.text().contains("keep.hcl:1: a watch"), "{}", refused.text());
}
