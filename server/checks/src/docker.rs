//! One run of a program inside a container, over the Docker Engine API (version 1.24 and later): create
//! an exec, start it, read what it prints, ask for its exit code; judged like a script.

use std::env;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use net::{Network, Stream, chain};
use serde_json::{Value, json};
use state::Status;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use crate::connect::{Peer, plain};
use crate::schedule::Finding;
use crate::script::by_exit_code;
use crate::tail::Tail;

/// Where the engine listens unless `DOCKER_HOST` says otherwise.
const SOCKET: &str = "/var/run/docker.sock";

/// Most bytes of an answer in JSON.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Each piece of output comes after a head of so many bytes: the stream, three zeros, the length.
const PIECE_HEAD: usize = 8;

/// A program to run in a container.
#[derive(Clone, Debug)]
pub(crate) struct Exec {
    /// Where the engine listens: `unix://PATH` or `tcp://HOST:PORT`.
    pub(crate) engine: String,
    /// Name or id of the container.
    pub(crate) container: String,
    /// The program and its arguments.
    pub(crate) args: Vec<String>,
    /// How long everything together may take.
    pub(crate) timeout: Duration,
    /// Most bytes of output to report.
    pub(crate) output_bytes_max: usize,
}

/// What is run: the arguments as they are, or by a shell. A shell is given one argument as the text of a
/// script, and several as one command whose words stay whole.
pub(crate) fn command(shell: &str, args: Vec<String>) -> Vec<String> {
    if shell.is_empty() {
        return args;
    }
    let script = match args.as_slice() {
        [script] => script.clone(),
        words => words.iter().map(|word| format!("'{}'", word.replace('\'', "'\\''"))).collect::<Vec<_>>().join(" "),
    };
    vec![shell.to_owned(), "-c".to_owned(), script]
}

impl Exec {
    /// Runs the program once.
    pub(crate) async fn run(&self, network: &Network) -> Finding {
        let deadline = Instant::now() + self.timeout;
        let done = timeout_at(deadline, self.exchange(network, deadline)).await;
        match done.unwrap_or_else(|_| Err(format!("Timed out ({:?}) running check", self.timeout))) {
            Ok((code, output)) => Finding { status: by_exit_code(code), output: output.into() },
            Err(fault) => Finding { status: Status::Critical, output: format!("Docker exec in `{}`: {fault}", self.container).into() },
        }
    }

    async fn exchange(&self, network: &Network, deadline: Instant) -> Result<(i64, String), String> {
        let create = json!({ "AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "Tty": false, "Cmd": self.args });
        let made = self.ask(network, Method::POST, &format!("/containers/{}/exec", self.container), Some(create), deadline).await?;
        let id = made["Id"].as_str().ok_or("the engine's answer has no id")?.to_owned();
        let start = json!({ "Detach": false, "Tty": false });
        let (answer, _connection) = self.send(network, Method::POST, &format!("/exec/{id}/start"), Some(start), deadline).await?;
        let output = read_output(answer, self.output_bytes_max).await?;
        let ended = self.ask(network, Method::GET, &format!("/exec/{id}/json"), None, deadline).await?;
        let code = ended["ExitCode"].as_i64().ok_or("the engine does not tell the exit code")?;
        Ok((code, output))
    }

    /// One question whose answer is JSON.
    async fn ask(&self, network: &Network, method: Method, path: &str, body: Option<Value>, deadline: Instant) -> Result<Value, String> {
        let (answer, _connection) = self.send(network, method, path, body, deadline).await?;
        let bytes = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map_err(|cause| cause.to_string())?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|cause| format!("the engine's answer is not JSON: {cause}"))
    }

    /// One request over a connection of its own, which lives as long as the second value.
    async fn send(
        &self,
        network: &Network,
        method: Method,
        path: &str,
        body: Option<Value>,
        deadline: Instant,
    ) -> Result<(Response<Incoming>, JoinSet<()>), String> {
        let (mut sender, connection) = open(network, &self.engine, deadline).await?;
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("host", "docker").header("content-type", "application/json");
        let request = request.body(Full::new(Bytes::from(body))).map_err(|cause| format!("`{path}` can't be asked: {cause}"))?;
        let answer = sender.send_request(request).await.map_err(|cause| format!("no answer: {}", chain(&cause)))?;
        if answer.status().is_success() {
            return Ok((answer, connection));
        }
        let status = answer.status();
        let said = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&said).ok().and_then(|said| said["message"].as_str().map(str::to_owned));
        Err(format!("the engine answers {status}: {}", said.unwrap_or_default()))
    }
}

/// Takes the pieces of standard output and standard error apart and together again.
async fn read_output(answer: Response<Incoming>, output_bytes_max: usize) -> Result<String, String> {
    let mut body = answer.into_body();
    let mut tail = Tail::new(output_bytes_max);
    let (mut pending, mut left) = (BytesMut::new(), 0usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|cause| format!("the output breaks off: {}", chain(&cause)))?;
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        loop {
            let take = left.min(pending.len());
            tail.push(&pending[..take]);
            pending.advance(take);
            left -= take;
            if left > 0 || pending.len() < PIECE_HEAD {
                break;
            }
            left = pending[4..PIECE_HEAD].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            pending.advance(PIECE_HEAD);
        }
    }
    Ok(tail.into_text())
}

/// Where the engine listens on this machine.
pub(crate) fn engine() -> String {
    env::var("DOCKER_HOST").unwrap_or_else(|_| format!("unix://{SOCKET}"))
}

async fn open(network: &Network, engine: &str, deadline: Instant) -> Result<(SendRequest<Full<Bytes>>, JoinSet<()>), String> {
    let stream: Stream = match engine.split_once("://") {
        Some(("unix", path)) => {
            let left = deadline.saturating_duration_since(Instant::now());
            let stream = network.connect_local(Path::new(path), left).await;
            stream.map_err(|cause| format!("can't reach the Docker engine at `{path}`: {}", plain(&cause)))?
        }
        Some(("tcp" | "http", address)) => Peer::parse(address)?.connect(network, deadline).await?,
        _ => return Err(format!("the Docker engine is said to be at `{engine}`, which is neither `unix://…` nor `tcp://host:port`")),
    };
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|cause| chain(&cause))?;
    let mut driver = JoinSet::new();
    // A connection that breaks shows in the answer.
    driver.spawn(async move { drop(connection.await) });
    Ok((sender, driver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gets_a_script_or_a_command_whose_words_stay_whole() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(command("", words(&["ls", "a b"])), ["ls", "a b"]);
        assert_eq!(command("/bin/ash", words(&["test -f /x && echo ok"])), ["/bin/ash", "-c", "test -f /x && echo ok"]);
        assert_eq!(command("/bin/sh", words(&["echo", "it's", "a b"])), ["/bin/sh", "-c", r"'echo' 'it'\''s' 'a b'"]);
    }
}
