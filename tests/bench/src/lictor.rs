//! Agents of Lictor: the release binary, started on free ports, and when it is ready.

use std::env;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use proto::v1;

use crate::http2::Connection;
use crate::process::Process;
use crate::{dns, http1, requests};

/// Longest time until an agent answers.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// How often a starting agent is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Builds the release binary, and says where it is.
pub(crate) fn build() -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let built = Command::new(cargo).args(["build", "--release", "--package", "lictor-agent", "--bin", "lictor"]).status();
    ensure!(built.context("cannot run cargo; `--binary` names a binary that is there")?.success(), "the agent does not build");
    let own = env::current_exe().context("this program does not know where it is")?;
    let binary = own.with_file_name("lictor");
    ensure!(binary.exists(), "the agent is not at `{}`; `--binary` says where", binary.display());
    Ok(binary)
}

/// How an agent keeps what it is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In memory only: `-dev`.
    Dev,
    /// In a directory of its own, with real `fsync`.
    Durable,
}

/// A running agent. It is killed, and its directory removed, when this is dropped.
pub(crate) struct Agent {
    /// The process.
    pub(crate) process: Process,
    /// Where the faces listen.
    pub(crate) ports: Ports,
    /// From the start of the process until every face answered.
    pub(crate) ready_after: Duration,
    start: Start,
}

/// All that is needed to start an agent, again as well.
#[derive(Clone)]
struct Start {
    binary: PathBuf,
    dir: PathBuf,
    storage: Storage,
}

/// Where the faces of an agent listen.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    /// gRPC.
    pub(crate) grpc: SocketAddr,
    /// HTTP.
    pub(crate) http: SocketAddr,
    /// DNS.
    pub(crate) dns: SocketAddr,
    server: SocketAddr,
}

impl Agent {
    /// Starts an agent without any data and waits until it is ready. `dir` is made for it.
    pub(crate) fn start(binary: &Path, dir: &Path, storage: Storage) -> Result<Agent> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))?;
        let start = Start { binary: binary.to_owned(), dir: dir.to_owned(), storage };
        let ports = Ports::free()?;
        let began = Instant::now();
        let mut process = start.run(ports)?;
        wait_for_grpc(&mut process, ports).and_then(|()| wait_for_http_and_dns(&mut process, ports)).with_context(|| start.said())?;
        Ok(Agent { process, ports, ready_after: began.elapsed(), start })
    }

    /// Kills the agent without warning, starts it again on its data, and says how long it took from
    /// the start until a linearizable read was answered, and whether that answer held a key.
    pub(crate) fn crash_and_restart(&mut self, key: &str) -> Result<(Duration, bool)> {
        self.process.kill()?;
        let began = Instant::now();
        self.process = self.start.run(self.ports)?;
        wait_for_grpc(&mut self.process, self.ports).with_context(|| self.start.said())?;
        let found = self.get(key)?.is_some();
        Ok((began.elapsed(), found))
    }

    /// A linearizable read of one key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<v1::Entry>> {
        get(&mut Connection::open(self.ports.grpc)?, key)
    }

    /// Registers an instance, with a node of its own and a passing check.
    pub(crate) fn register(&self, http: &mut http1::Connection, service: &str, number: usize) -> Result<()> {
        let body = serde_json::json!({
            "Node": format!("node-{number:04}"), "Address": format!("10.0.{}.{}", number / 256, number % 256),
            "Service": {
                "ID": format!("{service}-{number:04}"), "Service": service, "Port": 8080, "Tags": ["primary", "v1"],
                "Address": format!("10.1.{}.{}", number / 256, number % 256), "Meta": {"version": "1.2.3"},
            },
            "Check": {
                "CheckID": format!("service:{service}-{number:04}"), "Name": "answers", "Status": "passing",
                "ServiceID": format!("{service}-{number:04}"), "Output": "HTTP GET http://localhost/health: 200 OK",
            },
        })
        .to_string();
        let head = format!("PUT /v1/catalog/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", body.len());
        let (answer, said) = http.ask(&[head.as_bytes(), body.as_bytes()].concat())?;
        ensure!(answer.status == 200, "a registration was answered {}: {}", answer.status, String::from_utf8_lossy(&said));
        Ok(())
    }

    /// A connection to the HTTP face.
    pub(crate) fn http(&self) -> Result<http1::Connection> {
        http1::Connection::open(self.ports.http, 64 * 1024)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // The process is killed by its own drop, but its files should go after it, not before.
        let _ = self.process.kill();
        let _ = std::fs::remove_dir_all(&self.start.dir);
    }
}

impl Start {
    fn run(&self, ports: Ports) -> Result<Process> {
        let mut command = Command::new(&self.binary);
        command.args(["agent", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=bench", "-log-level=warn"]);
        command.args(["-serf-lan-port=-1", "-serf-wan-port=-1"]);
        for (flag, address) in [("grpc", ports.grpc), ("http", ports.http), ("dns", ports.dns), ("server", ports.server)] {
            command.arg(format!("-{flag}-port={}", address.port()));
        }
        command.args(["-hcl", "limits { http_max_conns_per_client = 0 }"]);
        match self.storage {
            Storage::Dev => command.arg("-dev"),
            Storage::Durable => command.args(["-server", "-bootstrap-expect=1"]).arg("-data-dir").arg(self.dir.join("data")),
        };
        Process::start(&mut command, &self.log())
    }

    fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The end of what the agent has logged, for an error.
    fn said(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("the agent did not become ready; it said: {}", lines[lines.len().saturating_sub(5)..].join("\n"))
    }
}

impl Ports {
    /// Ports that nobody listens on now.
    fn free() -> Result<Ports> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let held = (0..3).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<Vec<_>>>()?;
        let [grpc, http, server] = [held[0].local_addr()?, held[1].local_addr()?, held[2].local_addr()?];
        Ok(Ports { grpc, http, server, dns: udp.local_addr()? })
    }
}

/// Waits until a linearizable read is answered over gRPC.
fn wait_for_grpc(process: &mut Process, ports: Ports) -> Result<()> {
    until(process, || get(&mut Connection::open(ports.grpc)?, &requests::key(0)).map(|_| ()))
}

/// Waits until the other faces answer from the catalog and know a leader.
fn wait_for_http_and_dns(process: &mut Process, ports: Ports) -> Result<()> {
    until(process, || {
        let (_, leader) = http1::once(ports.http, "GET", "/v1/status/leader", "")?;
        ensure!(leader.len() > 2, "no leader yet");
        Ok(())
    })?;
    let question = dns::question("consul", dns::SOA);
    until(process, || {
        dns::once(ports.dns, &question, Duration::from_millis(20))?.context("no answer of DNS")?;
        Ok(())
    })
}

fn until(process: &mut Process, mut ready: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let Err(error) = ready() else { return Ok(()) };
        process.expect_running()?;
        if Instant::now() > deadline {
            bail!(error.context("not ready in time"));
        }
        sleep(LOOK_EVERY);
    }
}

fn get(connection: &mut Connection, key: &str) -> Result<Option<v1::Entry>> {
    let options = v1::ReadOptions { consistency: v1::Consistency::Linearizable.into(), ..Default::default() };
    let request = v1::GetRequest { options: Some(options), key: key.to_owned().into() };
    let deadline = Instant::now() + Duration::from_secs(5);
    let answer = connection.call("/lictor.v1.KvService/Get", &request.encode_to_vec(), deadline)?;
    Ok(v1::GetResponse::decode(&answer[..])?.entry)
}
