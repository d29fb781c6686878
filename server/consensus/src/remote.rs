//! The log from afar: what an agent that holds none asks of the servers, and their answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use proto::internal::v1 as pb;
use proto::internal::v1::remote_service_client::RemoteServiceClient;
use proto::internal::v1::remote_service_server::{RemoteService, RemoteServiceServer};
use state::{Command, Effects, LogIndex, Millis, NodeView, Operation, Outcome, Row, Tables, TablesBuilder};
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::error::{Error, chain};
use crate::peer::{MESSAGE_MAX, Peers};
use crate::{Consensus, Consistency};

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// How long a server waits at most for the change of a node.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Names the servers that can be asked, the one to be asked first in front.
pub type Candidates = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// The servers' log, as an agent without one sees it. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    candidates: Candidates,
    peers: Peers,
    latest: Arc<ArcSwap<Tables>>,
    nodes: Arc<AtomicUsize>,
}

impl Remote {
    /// Asks the servers that `candidates` names at the time, over `network`.
    pub fn new(network: net::Network, candidates: Candidates) -> Self {
        Remote { candidates, peers: Peers::new(network), latest: Arc::new(ArcSwap::from_pointee(Tables::default())), nodes: Arc::default() }
    }

    /// What was read last, one node, with what the servers have accepted of this agent since.
    pub fn tables(&self) -> Arc<Tables> {
        self.latest.load_full()
    }

    /// How many nodes the catalog had at the last read.
    pub fn nodes_len(&self) -> usize {
        self.nodes.load(Ordering::Relaxed)
    }

    /// Reads one node with everything on it.
    pub async fn read_node(&self, name: &str) -> Result<Arc<Tables>, Error> {
        let request = pb::ReadNodeRequest { name: name.to_owned(), seen_index: None, wait_ms: 0 };
        let (tables, nodes) = self.read(&request).await?;
        self.nodes.store(nodes, Ordering::Relaxed);
        self.latest.store(tables.clone());
        Ok(tables)
    }

    /// A node, once it is not any more as it was at index `seen`, where 0 stands for a node that is not
    /// registered. The server waits for `wait` at most, and then answers what there is.
    pub async fn follow_node(&self, name: &str, seen: Option<LogIndex>, wait: Duration) -> Result<Option<Arc<NodeView>>, Error> {
        let wait_ms = wait.min(WAIT_MAX).as_millis() as u64;
        let request = pb::ReadNodeRequest { name: name.to_owned(), seen_index: seen.map(|index| index.0), wait_ms };
        let (tables, _) = self.read(&request).await?;
        Ok(tables.node(name).cloned())
    }

    /// The tables with that node in them alone, and how many nodes the catalog has.
    async fn read(&self, request: &pb::ReadNodeRequest) -> Result<(Arc<Tables>, usize), Error> {
        let patience = ANSWER + Duration::from_millis(request.wait_ms);
        let ask = |mut client: RemoteServiceClient<Channel>| async move { client.read_node(request.clone()).await };
        let pb::ReadNodeResponse { rows, nodes } = self.ask(patience, ask).await?;
        let mut builder = TablesBuilder::default();
        for row in rows {
            builder.push(store::encode::row::decode(&row).map_err(|error| Error::Fatal(error.to_string().into()))?);
        }
        let tables = builder.finish().map_err(|error| Error::Fatal(error.to_string().into()))?;
        Ok((Arc::new(tables), usize::try_from(nodes).unwrap_or(usize::MAX)))
    }

    /// Proposes a command. Answers the state machine's refusal, if it refused. What was accepted shows
    /// in [`Remote::tables`] at once.
    pub async fn propose(&self, operation: Operation) -> Result<Option<String>, Error> {
        let proposed = Command { at: Millis(0), operation };
        let command = store::encode::command::encode(&proposed);
        let ask = |mut client: RemoteServiceClient<Channel>| {
            let command = command.clone();
            async move { client.apply(pb::ApplyRequest { command }).await }
        };
        let pb::ApplyResponse { refused } = self.ask(ANSWER, ask).await?;
        if refused.is_empty() {
            self.accepted(&proposed);
            return Ok(None);
        }
        Ok(Some(refused))
    }

    /// Does here what the servers have done. Indexes that come of it are this view's own, behind all that were read.
    fn accepted(&self, command: &Command) {
        self.latest.rcu(|tables| {
            let mut tables = Tables::clone(tables);
            let read = tables.nodes().map(|view| view.index).max().unwrap_or_default();
            let index = LogIndex(tables.applied().max(read).0 + 1);
            if let Outcome::Refused(refusal) = state::apply(&mut tables, index, command, &mut Effects::default()) {
                tracing::debug!(%refusal, "what a server has accepted does not fit to what was read of this node; it is read again in time");
            }
            tables
        });
    }

    /// Asks one server after the other. What is asked here may be done twice: it says how something
    /// shall be, not what shall be changed.
    async fn ask<T, F>(&self, patience: Duration, ask: impl Fn(RemoteServiceClient<Channel>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        for address in (self.candidates)() {
            let Ok(channel) = self.peers.channel(&address).await else { continue };
            let client = RemoteServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX);
            match timeout(patience, ask(client)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                Ok(Err(status)) => tracing::debug!(%status, server = address, "a server did not answer; the next one is asked"),
                Err(_) => tracing::debug!(server = address, "a server did not answer in time; the next one is asked"),
            }
            self.peers.drop_connection(&address);
        }
        Err(Error::NoLeader)
    }
}

/// This server as agents without a log see it.
#[derive(Clone)]
pub struct RemoteFace {
    consensus: Consensus,
}

impl Consensus {
    /// The service that agents without a log ask: to be served on the servers' own port.
    pub fn remote_service(&self) -> RemoteServiceServer<RemoteFace> {
        RemoteServiceServer::new(RemoteFace { consensus: self.clone() }).max_decoding_message_size(MESSAGE_MAX)
    }
}

#[tonic::async_trait]
impl RemoteService for RemoteFace {
    async fn apply(&self, request: Request<pb::ApplyRequest>) -> Result<Response<pb::ApplyResponse>, Status> {
        let pb::ApplyRequest { command } = request.into_inner();
        let command = store::encode::command::decode(command).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let proposed = self.consensus.propose(command.operation).await.map_err(|error| Status::unavailable(chain(&error)))?;
        let refused = match proposed.outcome {
            Outcome::Refused(refusal) => refusal.to_string(),
            Outcome::Done { .. } | Outcome::Txn(_) | Outcome::Session(_) | Outcome::Lock(_) => String::new(),
        };
        Ok(Response::new(pb::ApplyResponse { refused }))
    }

    async fn read_node(&self, request: Request<pb::ReadNodeRequest>) -> Result<Response<pb::ReadNodeResponse>, Status> {
        let pb::ReadNodeRequest { name, seen_index, wait_ms } = request.into_inner();
        let mut tables = self.consensus.read(Consistency::Leased).await.map_err(|error| Status::unavailable(chain(&error)))?;
        let deadline = Instant::now() + Duration::from_millis(wait_ms).min(WAIT_MAX);
        let index_in = |tables: &Tables| tables.node(&name).map_or(0, |view| view.index.0);
        while Some(index_in(&tables)) == seen_index {
            // Not the revision, which may be ahead of the log.
            let next = self.consensus.inner.outcomes.applied(tables.log_applied() + 1);
            let is_over = timeout_at(deadline, next).await.is_err();
            tables = self.consensus.tables();
            if is_over {
                break;
            }
        }
        let rows = tables.node(&name).map(|view| rows_of(view)).unwrap_or_default();
        Ok(Response::new(pb::ReadNodeResponse { rows, nodes: tables.nodes_len() as u64 }))
    }
}

fn rows_of(view: &state::NodeView) -> Vec<Bytes> {
    let node = std::iter::once(Row::Node(view.node.clone(), view.index));
    let services = view.services.values().cloned().map(Row::Service);
    let checks = view.checks.values().cloned().map(Row::Check);
    node.chain(services).chain(checks).map(|row| store::encode::row::encode(&row).into()).collect()
}
