//! etcd, for comparison: the two requests that the rows need, and a server if it is installed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use prost::Message;

use crate::http2::Connection;
use crate::process::Process;

/// Stores one key.
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
/// Reads one key, or more.
pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";

/// What a put says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct PutRequest {
    /// Key.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    /// Value.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

/// What a read of one key says; it is linearizable, because nothing else is asked for.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RangeRequest {
    /// Key.
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

/// A running server. It is killed, and its directory removed, when this is dropped.
pub(crate) struct Etcd {
    /// The process.
    pub(crate) process: Process,
    /// Where it listens to clients.
    pub(crate) address: SocketAddr,
    /// What it calls itself, with its version.
    pub(crate) version: String,
    dir: PathBuf,
}

impl Etcd {
    /// Starts a durable server in `dir`, or says nothing when etcd is not installed.
    pub(crate) fn start(dir: &Path) -> Result<Option<Etcd>> {
        let Some(version) = version() else { return Ok(None) };
        let held = [TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?];
        let [address, peer] = [held[0].local_addr()?, held[1].local_addr()?];
        drop(held);
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        std::fs::create_dir_all(dir)?;
        let mut command = Command::new("etcd");
        command.args(["--name=bench", "--logger=zap", "--log-level=error", "--quota-backend-bytes=8589934592"]);
        command.arg("--data-dir").arg(dir.join("data")).arg(format!("--initial-cluster=bench=http://{peer}"));
        for flag in ["listen-client-urls", "advertise-client-urls"] {
            command.arg(format!("--{flag}=http://{address}"));
        }
        for flag in ["listen-peer-urls", "initial-advertise-peer-urls"] {
            command.arg(format!("--{flag}=http://{peer}"));
        }
        let process = Process::start(&mut command, &dir.join("log"))?;
        let mut etcd = Etcd { process, address, version, dir: dir.to_owned() };
        etcd.wait().with_context(|| format!("etcd is not ready; see `{}`", dir.join("log").display()))?;
        Ok(Some(etcd))
    }

    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(20);
        let request = RangeRequest { key: b"any".to_vec() }.encode_to_vec();
        loop {
            let answered = Connection::open(self.address).and_then(|mut connection| connection.call(RANGE, &request, deadline));
            match answered {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => self.process.expect_running()?,
            }
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // As for an agent: the process first, then its files.
        let _ = self.process.kill();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// `etcd` and its version, if it is installed.
pub(crate) fn version() -> Option<String> {
    let said = Command::new("etcd").arg("--version").stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = text.lines().next()?.rsplit(' ').next()?.to_owned();
    Some(format!("etcd {version}"))
}
