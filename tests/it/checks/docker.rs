//! A program in a container, by way of a stand-in that speaks the Docker engine's API and runs the
//! programs right here.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use super::*;

/// Listens until the process ends.
fn engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let commands: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let commands = commands.clone();
            thread::spawn(move || answer(&stream, &commands));
        }
    });
}

fn answer(stream: &UnixStream, commands: &Mutex<Vec<Vec<String>>>) {
    let (head, body) = read(stream);
    let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
    let steps: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let reply = match steps.as_slice() {
        ["containers", "box", "exec"] => {
            let wanted: Value = serde_json::from_slice(&body).unwrap();
            let command = wanted["Cmd"].as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect();
            let mut commands = commands.lock().unwrap();
            commands.push(command);
            as_json("201 Created", &json!({"Id": (commands.len() - 1).to_string()}))
        }
        ["exec", id, "start"] => {
            let said = run(commands, id).stdout;
            let mut reply = b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: close\r\n\r\n".to_vec();
            reply.extend([1, 0, 0, 0]);
            reply.extend((said.len() as u32).to_be_bytes());
            reply.extend(said);
            reply
        }
        ["exec", id, "json"] => as_json("200 OK", &json!({"ExitCode": run(commands, id).status.code()})),
        _ => as_json("404 Not Found", &json!({"message": format!("No such container: {}", steps.get(1).unwrap_or(&""))})),
    };
    // The agent may have gone.
    let _ = (&*stream).write_all(&reply);
}

fn run(commands: &Mutex<Vec<Vec<String>>>, id: &str) -> std::process::Output {
    let command = commands.lock().unwrap()[id.parse::<usize>().unwrap()].clone();
    Command::new(&command[0]).args(&command[1..]).output().unwrap()
}

fn as_json(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into()
}

/// The head of a request and its body.
fn read(stream: &UnixStream) -> (String, Vec<u8>) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line).is_ok_and(|read| read > 0) && !line.trim().is_empty() {
        head.push_str(&line);
        line.clear();
    }
    let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    (head, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_in_a_container_is_judged_by_its_exit_code() {
    let setup = Setup::dev().flag("-enable-script-checks");
    let socket = setup.home().join("docker.sock");
    engine(&socket);
    let node = setup.env("DOCKER_HOST", format!("unix://{}", socket.display())).start();
    let file = node.setup().home().join("verdict");
    verdict_file(&file, 0, "fine");
    let mut sight = Sight::register(&node, "docker", json!({"DockerContainerID": "box", "Args": ["/bin/sh", file]})).await;
    assert_eq!(sight.sees(PASSING).await, "fine\n");
    for (code, status) in [(1, WARNING), (2, CRITICAL), (0, PASSING)] {
        verdict_file(&file, code, &format!("code {code}"));
        assert_eq!(sight.sees(status).await, format!("code {code}\n"));
    }

    let shell = json!({"Name": "shell", "DockerContainerID": "box", "Shell": "/bin/bash", "Args": ["echo $((40 + 2)) | tr -d '\\n'"], "Interval": "1s"});
    node.put("/v1/agent/check/register", shell.to_string()).expect(200);
    eventually!(PATIENCE, node.get("/v1/agent/checks").json()["shell"]["Output"] == "42");
    let gone = json!({"Name": "gone", "DockerContainerID": "gone", "Args": ["true"], "Interval": "1s"});
    node.put("/v1/agent/check/register", gone.to_string()).expect(200);
    let output = || node.get("/v1/agent/checks").json()["gone"]["Output"].as_str().unwrap_or_default().to_owned();
    eventually!(PATIENCE, output().contains("No such container: gone"));
}
