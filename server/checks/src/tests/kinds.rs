//! Each kind but HTTP against a real target: a listener, a program, a server of its protocol.

use std::path::Path;
use std::process::Command;

use state::Str;
use tokio::net::{UdpSocket, UnixListener};
use tokio_stream::wrappers::TcpListenerStream;

use super::*;
use crate::target::Target;

/// What a single probe finds.
async fn found(definition: CheckDefinition) -> (Status, String) {
    let finding = timeout(DEADLINE, Target::new(&definition, 100).probe(&net::Network::host())).await.expect("an answer in time");
    (finding.status, finding.output.to_string())
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn target(address: impl ToString) -> Option<Str> {
    Some(address.to_string().into())
}

#[tokio::test]
async fn tcp_passes_while_something_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let definition = CheckDefinition { tcp: target(address), ..Default::default() };
    assert_eq!(found(definition.clone()).await, (Status::Passing, format!("TCP connect {address}: Success")));
    drop(listener);
    let (status, output) = found(definition).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("Connection refused"), "{output}");
}

#[tokio::test]
async fn udp_is_critical_only_where_the_port_is_said_to_be_closed() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap();
    let definition = CheckDefinition { udp: target(address), timeout_ms: Some(200), ..Default::default() };
    assert_eq!(found(definition.clone()).await, (Status::Passing, format!("UDP connect {address}: Success")));
    drop(silent);
    let (status, output) = found(definition).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("refused"), "{output}");
}

#[tokio::test]
async fn grpc_asks_for_one_service() {
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("shop", tonic_health::ServingStatus::Serving).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(TcpListenerStream::new(listener)));
    let of = |service: &str| CheckDefinition { grpc: target(format!("{address}{service}")), ..Default::default() };
    assert_eq!(found(of("/shop")).await, (Status::Passing, format!("gRPC check {address}: success")));
    assert_eq!(found(of("")).await.0, Status::Passing);
    reporter.set_service_status("shop", tonic_health::ServingStatus::NotServing).await;
    let (status, output) = found(of("/shop")).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("NOT_SERVING"), "{output}");
    let (status, output) = found(of("/other")).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("NotFound"), "{output}");
}

#[tokio::test]
async fn h2ping_passes_where_http2_is_spoken() {
    let (_, health) = tonic_health::server::health_reporter();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(tonic::transport::Server::builder().add_service(health).serve_with_incoming(TcpListenerStream::new(listener)));
    let definition = CheckDefinition { h2ping: target(address), ..Default::default() };
    assert_eq!(found(definition).await, (Status::Passing, "HTTP2 ping was successful".into()));
    let http1 = serve(|_| OK.to_owned()).await;
    let definition = CheckDefinition { h2ping: target(http1), timeout_ms: Some(2000), ..Default::default() };
    let (status, output) = found(definition).await;
    assert_eq!(status, Status::Critical);
    assert!(output.starts_with(&format!("HTTP2 ping {http1}: ")), "{output}");
}

#[tokio::test]
async fn what_does_not_answer_is_given_up_and_says_for_how_long_it_was_waited() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for definition in [
        CheckDefinition { h2ping: target(address), h2ping_use_tls: true, ..Default::default() },
        CheckDefinition { grpc: target(address), ..Default::default() },
    ] {
        let (status, output) = found(CheckDefinition { timeout_ms: Some(100), ..definition }).await;
        assert_eq!(status, Status::Critical);
        assert!(output.ends_with("no answer within 100ms"), "{output}");
    }
    let closed = free_port().await;
    let (status, _) = found(CheckDefinition { grpc: target(format!("127.0.0.1:{closed}")), ..Default::default() }).await;
    assert_eq!(status, Status::Critical);
}

fn script(args: &[&str]) -> CheckDefinition {
    CheckDefinition { script_args: args.iter().map(|arg| Str::from(*arg)).collect(), ..Default::default() }
}

fn shell(text: &str) -> CheckDefinition {
    script(&["/bin/sh", "-c", text])
}

#[tokio::test]
async fn the_exit_code_of_a_program_is_the_verdict() {
    assert_eq!(found(shell("echo out; echo err >&2")).await, (Status::Passing, "out\nerr\n".into()));
    assert_eq!(found(shell("echo so so; exit 1")).await, (Status::Warning, "so so\n".into()));
    assert_eq!(found(shell("exit 2")).await, (Status::Critical, "exit status: 2".into()));
    assert_eq!(found(shell("kill -9 $$")).await.0, Status::Critical);
    let (status, output) = found(script(&["/no/such/program"])).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("`/no/such/program` can't be run"), "{output}");
}

#[tokio::test]
async fn of_endless_output_the_end_is_kept() {
    let (status, output) = found(shell("head -c 50000000 /dev/zero | tr '\\0' 'x'; echo end")).await;
    assert_eq!(status, Status::Passing);
    assert!(output.starts_with("Captured 100 of 50000004 bytes\n...\n") && output.ends_with("xend\n"), "{output}");
}

/// Whether a process with this number runs, zombies aside.
fn is_running(pid: &str) -> bool {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

async fn is_gone(pid: &str) {
    let gone = async {
        while is_running(pid) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, gone).await.expect("what the program started is killed");
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}; echo before; wait", file.display());
    let (status, output) = found(CheckDefinition { timeout_ms: Some(1000), ..shell(&text) }).await;
    assert_eq!((status, output.as_str()), (Status::Critical, "Timed out (1s) running check\nbefore\n"));
    is_gone(std::fs::read_to_string(file).unwrap().trim()).await;
}

#[tokio::test]
async fn what_a_program_leaves_behind_does_not_hold_its_verdict_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!("sleep 1000 & echo $! > {}; echo done", file.display());
    assert_eq!(found(shell(&text)).await, (Status::Passing, "done\n".into()));
    is_gone(std::fs::read_to_string(file).unwrap().trim()).await;
}

#[tokio::test]
async fn a_check_that_is_stopped_takes_its_program_along() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let text = format!("echo $$ > {}.new; mv {0}.new {0}; sleep 1000", file.display());
    let rig = Rig::new(Options::default());
    rig.start("hang", CheckDefinition { interval_ms: Some(1000), ..shell(&text) }).await;
    let started = async {
        while !file.exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, started).await.expect("the program starts");
    drop(rig);
    is_gone(std::fs::read_to_string(file).unwrap().trim()).await;
}

/// Speaks as much of the Docker Engine API as a check needs, and runs the program right here.
async fn engine(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        let mut last: Vec<String> = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let head = read_head(&mut stream).await;
            let body = read_body(&head, &mut stream).await;
            let answer = if head.starts_with("POST /containers/gone/exec ") {
                json("404 Not Found", r#"{"message":"No such container: gone"}"#)
            } else if head.starts_with("POST /containers/") {
                let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                last = body["Cmd"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned()).collect();
                json("201 Created", r#"{"Id":"e1"}"#)
            } else if head.starts_with("POST /exec/e1/start ") {
                let output = Command::new(&last[0]).args(&last[1..]).output().unwrap().stdout;
                let mut piece = vec![1, 0, 0, 0];
                piece.extend(u32::try_from(output.len()).unwrap().to_be_bytes());
                piece.extend(output);
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/vnd.docker.raw-stream\r\nconnection: close\r\n\r\n";
                [head.as_bytes(), &piece].concat()
            } else {
                let code = Command::new(&last[0]).args(&last[1..]).output().unwrap().status.code().unwrap();
                json("200 OK", &format!(r#"{{"ExitCode":{code}}}"#))
            };
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
}

fn json(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

/// The body that follows `head`, by its declared length.
async fn read_body<S: AsyncRead + Unpin>(head: &str, stream: &mut S) -> String {
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn a_program_in_a_container_is_judged_like_one_outside() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    engine(&socket).await;
    let at = |path: &Path| format!("unix://{}", path.display());
    let exec = |container: &str, text: &str| crate::docker::Exec {
        engine: at(&socket),
        container: container.into(),
        args: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
        timeout: DEADLINE,
        output_bytes_max: 100,
    };
    let run = |exec: crate::docker::Exec| async move {
        let finding = exec.run(&net::Network::host()).await;
        (finding.status, finding.output.to_string())
    };
    assert_eq!(run(exec("box", "echo fine")).await, (Status::Passing, "fine\n".into()));
    assert_eq!(run(exec("box", "echo so so; exit 1")).await, (Status::Warning, "so so\n".into()));
    assert_eq!(run(exec("box", "exit 7")).await.0, Status::Critical);
    let (status, output) = run(exec("gone", "true")).await;
    assert_eq!(status, Status::Critical);
    assert!(output.contains("No such container: gone"), "{output}");
    let nowhere = crate::docker::Exec { engine: at(&folder.path().join("none")), ..exec("box", "true") };
    assert!(run(nowhere).await.1.contains("can't reach the Docker engine"));
}
