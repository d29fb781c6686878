//! Clusters of three servers, Lictor's and etcd's, each a real process on this machine.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use proto::v1;

use crate::etcd::{self, RANGE, RangeRequest};
use crate::http1;
use crate::http2::Connection;
use crate::process::Process;

/// Servers of a cluster.
const SERVERS: usize = 3;

/// Longest time until a cluster answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One server of Lictor.
pub(crate) struct Server {
    process: Process,
    ports: [SocketAddr; 5],
}

impl Server {
    /// Where its gRPC listens.
    pub(crate) fn grpc(&self) -> SocketAddr {
        self.ports[0]
    }

    /// The most resident memory that it had, in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        self.process.peak()
    }
}

/// Three servers of Lictor. They are killed, and their directory removed, when this is dropped.
pub(crate) struct LictorCluster {
    servers: Vec<Server>,
    binary: PathBuf,
    dir: PathBuf,
    formed: Duration,
}

impl LictorCluster {
    /// Starts all at the same moment, and waits until each answers. They are told of each other with those in front that
    /// are started last, so that nobody is there yet who is asked first.
    pub(crate) fn start(binary: &Path, dir: &Path) -> Result<Self> {
        fresh(dir)?;
        let ports: Vec<[SocketAddr; 5]> = free(5 * SERVERS)?.chunks(5).map(|five| five.try_into().expect("five each")).collect();
        let last_first: Vec<[SocketAddr; 5]> = ports.iter().rev().copied().collect();
        let mut cluster = LictorCluster { servers: Vec::new(), binary: binary.to_owned(), dir: dir.to_owned(), formed: Duration::ZERO };
        let began = Instant::now();
        for own in &ports {
            let process = cluster.run(own, &last_first)?;
            cluster.servers.push(Server { process, ports: *own });
        }
        for at in 0..SERVERS {
            cluster.wait(at)?;
        }
        cluster.formed = began.elapsed();
        Ok(cluster)
    }

    /// From the start of the first process until every server has answered a linearizable read.
    pub(crate) fn formed(&self) -> Duration {
        self.formed
    }

    fn run(&self, own: &[SocketAddr; 5], all: &[[SocketAddr; 5]]) -> Result<Process> {
        let [grpc, http, dns, server, gossip] = own.map(|address| address.port());
        let mut command = Command::new(&self.binary);
        command.args([
            "agent",
            "-server",
            "-bootstrap-expect=3",
            "-bind=127.0.0.1",
            "-client=127.0.0.1",
            "-log-level=warn",
            "-serf-wan-port=-1",
        ]);
        command.arg(format!("-node=bench-{server}")).arg("-data-dir").arg(self.dir.join(server.to_string()));
        for (flag, port) in [("grpc", grpc), ("http", http), ("dns", dns), ("server", server), ("serf-lan", gossip)] {
            command.arg(format!("-{flag}-port={port}"));
        }
        for [.., gossip] in all {
            command.arg(format!("-retry-join={gossip}"));
        }
        Process::start(&mut command, &self.dir.join(format!("{server}.log")))
    }

    fn wait(&mut self, at: usize) -> Result<()> {
        let address = self.servers[at].grpc();
        let process = &mut self.servers[at].process;
        until(|| has(address, "any").map(|_| ()), || process.expect_running())
    }

    /// The server at a place.
    pub(crate) fn server(&self, at: usize) -> &Server {
        &self.servers[at]
    }

    /// The place of the leader.
    pub(crate) fn leader_at(&self) -> Result<usize> {
        let mut found = None;
        until(
            || {
                for server in &self.servers {
                    let Ok((_, leader)) = http1::once(server.ports[1], "GET", "/v1/status/leader", "") else { continue };
                    let leader = String::from_utf8_lossy(&leader).trim_matches('"').to_owned();
                    found = self.servers.iter().position(|server| server.ports[3].to_string() == leader);
                    if found.is_some() {
                        return Ok(());
                    }
                }
                bail!("nobody leads")
            },
            || Ok(()),
        )?;
        found.context("nobody leads")
    }

    pub(crate) fn leader(&self) -> Result<&Server> {
        Ok(&self.servers[self.leader_at()?])
    }

    pub(crate) fn follower(&self) -> Result<&Server> {
        Ok(&self.servers[(self.leader_at()? + 1) % SERVERS])
    }

    pub(crate) fn kill(&mut self, at: usize) -> Result<()> {
        self.servers[at].process.kill()
    }

    /// Throws away all that a killed server has.
    pub(crate) fn wipe(&self, at: usize) -> Result<()> {
        let [.., server, _] = self.servers[at].ports;
        Ok(std::fs::remove_dir_all(self.dir.join(server.port().to_string()))?)
    }

    /// Starts a killed server again on its data, and waits until it answers.
    pub(crate) fn restart(&mut self, at: usize) -> Result<()> {
        let all: Vec<[SocketAddr; 5]> = self.servers.iter().map(|server| server.ports).collect();
        self.servers[at].process = self.run(&all[at], &all)?;
        self.wait(at)
    }
}

impl Drop for LictorCluster {
    fn drop(&mut self) {
        for server in &mut self.servers {
            // Its files go after it.
            let _ = server.process.kill();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Three servers of etcd.
pub(crate) struct EtcdCluster {
    processes: Vec<Process>,
    addresses: Vec<SocketAddr>,
    dir: PathBuf,
}

/// What a server of etcd says of itself.
#[derive(Clone, PartialEq, Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

impl EtcdCluster {
    /// Starts three, or says nothing when etcd is not installed.
    pub(crate) fn start(dir: &Path) -> Result<Option<Self>> {
        if etcd::version().is_none() {
            return Ok(None);
        }
        fresh(dir)?;
        let ports = free(2 * SERVERS)?;
        let (addresses, peers) = ports.split_at(SERVERS);
        let all: Vec<String> = peers.iter().enumerate().map(|(n, peer)| format!("bench{n}=http://{peer}")).collect();
        let mut cluster = EtcdCluster { processes: Vec::new(), addresses: addresses.to_vec(), dir: dir.to_owned() };
        for (n, (address, peer)) in addresses.iter().zip(peers).enumerate() {
            let mut command = Command::new("etcd");
            command.args([&format!("--name=bench{n}"), "--logger=zap", "--log-level=error", "--quota-backend-bytes=8589934592"]);
            command.arg("--data-dir").arg(dir.join(n.to_string())).arg(format!("--initial-cluster={}", all.join(",")));
            for flag in ["listen-client-urls", "advertise-client-urls"] {
                command.arg(format!("--{flag}=http://{address}"));
            }
            for flag in ["listen-peer-urls", "initial-advertise-peer-urls"] {
                command.arg(format!("--{flag}=http://{peer}"));
            }
            cluster.processes.push(Process::start(&mut command, &dir.join(format!("{n}.log")))?);
        }
        let request = RangeRequest { key: b"any".to_vec() }.encode_to_vec();
        for address in addresses {
            let ask = || Connection::open(*address)?.call(RANGE, &request, Instant::now() + Duration::from_secs(5)).map(|_| ());
            until(ask, || Ok(())).context("etcd is not ready")?;
        }
        Ok(Some(cluster))
    }

    fn leads(address: SocketAddr) -> Result<bool> {
        let mut connection = Connection::open(address)?;
        let said = connection.call("/etcdserverpb.Maintenance/Status", &[], Instant::now() + Duration::from_secs(5))?;
        let status = StatusResponse::decode(&said[..])?;
        Ok(status.header.is_some_and(|header| header.member_id == status.leader))
    }

    pub(crate) fn leader(&self) -> Result<SocketAddr> {
        self.addresses.iter().copied().find(|address| Self::leads(*address).unwrap_or(false)).context("nobody leads etcd")
    }

    pub(crate) fn follower(&self) -> Result<SocketAddr> {
        self.addresses.iter().copied().find(|address| !Self::leads(*address).unwrap_or(true)).context("nobody follows in etcd")
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Writes one key.
pub(crate) fn put(address: SocketAddr, key: &str, within: Duration) -> Result<()> {
    let request = v1::PutRequest { key: key.to_owned().into(), value: b"v".to_vec().into(), ..Default::default() };
    let mut connection = Connection::open(address)?;
    connection.call("/lictor.v1.KvService/Put", &request.encode_to_vec(), Instant::now() + within).map(|_| ())
}

/// Whether a key is there, linearizably.
pub(crate) fn has(address: SocketAddr, key: &str) -> Result<bool> {
    let options = v1::ReadOptions { consistency: v1::Consistency::Linearizable.into(), ..Default::default() };
    let request = v1::GetRequest { options: Some(options), key: key.to_owned().into() };
    let mut connection = Connection::open(address)?;
    let answer = connection.call("/lictor.v1.KvService/Get", &request.encode_to_vec(), Instant::now() + Duration::from_secs(10))?;
    Ok(v1::GetResponse::decode(&answer[..])?.entry.is_some())
}

fn fresh(dir: &Path) -> Result<()> {
    if dir.exists() {
        std::fs::remove_dir_all(dir)?;
    }
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create `{}`", dir.display()))
}

/// Ports that nobody listens on now.
fn free(count: usize) -> Result<Vec<SocketAddr>> {
    let held = (0..count).map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).collect::<std::io::Result<Vec<_>>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<std::io::Result<_>>()?)
}

fn until(mut ready: impl FnMut() -> Result<()>, mut lives: impl FnMut() -> Result<()>) -> Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    while let Err(error) = ready() {
        lives()?;
        ensure!(Instant::now() < deadline, error.context("not ready in time"));
        sleep(Duration::from_millis(5));
    }
    Ok(())
}
