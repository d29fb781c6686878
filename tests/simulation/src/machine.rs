//! What runs on a simulated machine: an agent, and on some of them a server.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use consensus::{Consensus, HistoryBounds, Member, Options, Start, Storage};
use gossip::{Pool, Sockets, Timing};
use net::{Network, Stream};
use parking_lot::Mutex;
use service::agent::{Agent, AgentOptions};
use service::cluster::{Pools, membership};
use service::watch::Hub;
use service::{Identity, Limits, Service, leader};
use state::{Compare, KvWrite, LockAction, NodeInput, Operation};
use store::log::{LogHandle, MemoryLog};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use crate::record::{Record, Witness};

/// The datacenter.
const DATACENTER: &str = "dc1";

/// Where the pool of all agents is reached.
const GOSSIP: u16 = 8301;

/// Where servers reach each other.
const PEERS: u16 = 8300;

/// The pause between two attempts to join, and between two writes.
const PAUSE: Duration = Duration::from_millis(200);

/// Requests between an agent and its prober; there are no checks here.
const CHANNEL: usize = 64;

/// What a machine is, over all its lives.
#[derive(Clone)]
pub(crate) struct Machine {
    pub(crate) name: String,
    /// Where it lives.
    pub(crate) address: IpAddr,
    /// Its number in the log, on a server.
    pub(crate) server: Option<u64>,
    /// How many servers the cluster begins with.
    pub(crate) expect: u32,
    /// Machines to join by.
    pub(crate) join: Vec<String>,
    pub(crate) network: Network,
    /// The disk of a server.
    pub(crate) disk: MemoryLog,
    pub(crate) record: Arc<Mutex<Record>>,
}

/// A machine that runs, as seen from outside.
#[derive(Clone)]
pub(crate) struct Alive {
    pub(crate) pool: Pool,
    pub(crate) consensus: Option<Consensus>,
}

impl Machine {
    /// Runs until the machine crashes. `started` is told once everything works.
    pub(crate) async fn run(self, started: impl FnOnce(Alive)) -> anyhow::Result<()> {
        let identity = self.identity();
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, GOSSIP));
        let sockets = Sockets::bind(&self.network, any).await?;
        let pool = Pool::start(self.gossip(&identity), sockets)?;
        let consensus = match self.server {
            Some(_) => Some(self.serve(&identity, &pool).await?),
            None => None,
        };
        started(Alive { pool: pool.clone(), consensus: consensus.clone() });
        self.join(&pool).await;
        match consensus {
            Some(consensus) => self.write(&consensus).await,
            None => std::future::pending().await,
        }
    }

    fn identity(&self) -> Identity {
        Identity {
            node_name: self.name.as_str().into(),
            node_id: format!("id-of-{}", self.name).into(),
            datacenter: DATACENTER.into(),
            address: self.address.to_string().into(),
            server: self.server.is_some(),
            server_port: PEERS,
            wan_port: 0,
            raft_id: self.server.unwrap_or_default(),
            expect: self.expect,
            version: "0.0.0",
        }
    }

    fn gossip(&self, identity: &Identity) -> gossip::Options {
        gossip::Options {
            name: self.name.clone(),
            node_id: identity.node_id.to_string(),
            advertise: SocketAddr::new(self.address, GOSSIP),
            tags: identity.tags(None),
            label: format!("lan:{DATACENTER}"),
            bond: None,
            timing: Timing::lan(),
            keyring: None,
            memory: None,
            keyring_file: None,
            rejoin_after_leave: false,
        }
    }

    /// Starts the server's part, as the agent's wiring does.
    async fn serve(&self, identity: &Identity, pool: &Pool) -> anyhow::Result<Consensus> {
        let limits = Limits::default();
        let hub = Hub::new(limits.history_changes_max, limits.history_bytes_max);
        let stop = CancellationToken::new();
        tokio::spawn(hub.clone().run(stop.clone()));
        let witness = Witness { who: self.name.clone(), record: self.record.clone(), hub: hub.clone() };
        let options = Options {
            id: identity.raft_id,
            member: Member { name: self.name.clone(), address: format!("{}:{PEERS}", identity.address) },
            datacenter: DATACENTER.into(),
            start: Start::Join,
            history: HistoryBounds { changes_max: limits.history_changes_max, bytes_max: limits.history_bytes_max },
            network: self.network.clone(),
            storage: Storage::Log { log: LogHandle::on_memory(self.disk.clone()), recovered: self.disk.recovered() },
        };
        let consensus = Consensus::start(options, Arc::new(witness)).await?;
        let listener = self.network.listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PEERS))).await?;
        let incoming = futures::stream::unfold(listener, |listener| async move {
            let accepted = listener.accept().await.map(|(stream, _)| Accepted(stream));
            Some((accepted, listener))
        });
        let peers = tonic::transport::Server::builder().add_service(consensus.peer_service());
        tokio::spawn(async move { peers.serve_with_incoming(incoming).await });

        let node = NodeInput {
            id: identity.node_id.clone(),
            name: identity.node_name.clone(),
            address: identity.address.clone(),
            datacenter: identity.datacenter.clone(),
            ..NodeInput::default()
        };
        let (prober, mut requests) = mpsc::channel(CHANNEL);
        tokio::spawn(async move { while requests.recv().await.is_some() {} });
        let agent = Agent::new(AgentOptions::new(identity.clone(), node), (consensus.clone(), hub.clone()), prober)?;
        let pools = Pools { lan: pool.clone(), wan: None, leave: Arc::new(|| Box::pin(std::future::ready(()))) };
        let service = Service::new(identity.clone(), limits, consensus.clone(), hub, agent, Some(pools));
        tokio::spawn(membership::follow_addresses(consensus.clone(), pool.clone(), DATACENTER.into(), stop.clone()));
        tokio::spawn(membership::form_first_quorum(consensus.clone(), pool.clone(), identity.clone(), stop.clone()));
        tokio::spawn(leader::run(service, self.expect as usize, stop));
        Ok(consensus)
    }

    /// Tries until somebody lets this machine in.
    async fn join(&self, pool: &Pool) {
        while pool.join(&self.join).await.joined == 0 {
            sleep(PAUSE).await;
        }
    }

    /// Writes one key after the other through this server, and notes what was acknowledged.
    async fn write(&self, consensus: &Consensus) -> anyhow::Result<()> {
        loop {
            let key = format!("{}/{:016x}", self.name, rand::random::<u64>());
            let value = format!("{:016x}", rand::random::<u64>());
            let write = KvWrite::Set {
                key: key.as_bytes().into(),
                value: value.as_bytes().into(),
                flags: 0,
                compare: Compare::Any,
                lock: LockAction::Keep,
            };
            if consensus.propose(Operation::Kv(write)).await.is_ok() {
                self.record.lock().acknowledge(key, value);
            }
            sleep(PAUSE).await;
        }
    }
}

/// A connection that a peer has opened.
struct Accepted(Stream);

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
