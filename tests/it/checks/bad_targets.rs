//! Targets and programs that misbehave: each is named for what it does, and no other check waits for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use super::*;

/// Does the same with every connection, until the process ends.
fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn read_request(stream: &mut TcpStream) {
    let mut bytes = [0; 4096];
    let _ = stream.read(&mut bytes);
}

/// How many processes run whose arguments hold this word.
fn processes_with(word: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter(|entry| fs::read(entry.path().join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(word))).count()
}

/// A program that counts how often it was run.
fn counter(node: &Node) -> (Value, impl Fn() -> usize) {
    let file = node.setup().home().join("runs");
    let count = format!("echo run >> {}", file.display());
    let check = json!({"Name": "count", "Args": ["/bin/sh", "-c", count], "Interval": "1s"});
    (check, move || fs::read_to_string(&file).unwrap_or_default().lines().count())
}

fn register(node: &Node, check: &Value) {
    node.put("/v1/agent/check/register", check.to_string()).expect(200);
}

fn check(node: &Node, id: &str) -> (String, String) {
    let check = node.get("/v1/agent/checks").json()[id].clone();
    let text = |name: &str| check[name].as_str().unwrap_or_default().to_owned();
    (text("Status"), text("Output"))
}

#[test]
fn http_targets_that_misbehave() {
    let node = with_scripts();
    let never = listen(|mut stream| {
        read_request(&mut stream);
        // Held open until the other side gives up.
        let _ = stream.read(&mut [0; 1]);
    });
    let endless = listen(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let round = listen(|mut stream| {
        read_request(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    });
    let silent_head = listen(|mut stream| while stream.write_all(b"x-more: and more\r\n").is_ok() {});
    for (name, address) in [("never", never), ("endless", endless), ("round", round), ("head", silent_head)] {
        register(&node, &json!({"Name": name, "HTTP": format!("http://{address}/"), "Interval": "1s", "Timeout": "1s"}));
    }
    let (count, runs) = counter(&node);
    register(&node, &count);
    eventually!(PATIENCE, check(&node, "never").1.contains("no answer within 1s"));
    eventually!(PATIENCE, check(&node, "round").1.contains("stopped after 10 redirects"));
    eventually!(PATIENCE, check(&node, "endless").0 == "passing", "it did answer");
    let (_, output) = check(&node, "endless");
    assert!(output.contains("Captured 4096 of") && output.len() < 8192, "{} bytes", output.len());
    eventually!(PATIENCE, !check(&node, "head").1.is_empty());
    assert_eq!(check(&node, "head").0, "critical");
    let so_far = runs();
    eventually!(PATIENCE, runs() >= so_far + 3, "the other check keeps its schedule");
}

#[test]
fn programs_that_misbehave() {
    let node = with_scripts();
    // Numbers that nobody else sleeps for.
    let mark = std::process::id();
    let (forks, leaves) = (format!("{mark}.0071"), format!("{mark}.0072"));
    let sh = |name: &str, script: &str| json!({"Name": name, "Args": ["/bin/sh", "-c", script], "Interval": "1s", "Timeout": "1s"});
    register(&node, &sh("forks", &format!("for n in 1 2 3 4 5; do sleep {forks} & done; wait")));
    register(&node, &sh("leaves", &format!("sleep {leaves} & echo done")));
    // A gigabyte and more, as fast as it is read.
    register(&node, &sh("prints", "head -c 1200000000 /dev/zero | tr '\\0' x; exit 1"));
    register(&node, &sh("none", "exec /nonexistent/program"));
    let (count, runs) = counter(&node);
    register(&node, &count);
    eventually!(PATIENCE, check(&node, "forks").1.contains("Timed out (1s) running check"));
    eventually!(PATIENCE, check(&node, "leaves") == ("passing".into(), "done\n".into()), "what it left behind does not hold it up");
    eventually!(PATIENCE, check(&node, "prints").1.len() > 100);
    assert!(check(&node, "prints").1.len() < 8192, "the output is bounded");
    eventually!(PATIENCE, check(&node, "none").1.contains("/nonexistent/program"));
    let so_far = runs();
    eventually!(PATIENCE, runs() >= so_far + 3, "the other check keeps its schedule");
    for id in ["forks", "leaves", "prints", "none"] {
        node.put(&format!("/v1/agent/check/deregister/{id}"), "").expect(200);
    }
    eventually!(PATIENCE, processes_with(&forks) + processes_with(&leaves) == 0, "nothing is left of them");
}
