//! The answering side: what a server does when another one asks.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{StreamAppendError, TransferLeaderRequest};
use parking_lot::Mutex;
use proto::internal::v1 as pb;
use proto::internal::v1::install_snapshot_request::Part;
use proto::internal::v1::install_snapshot_response::Part as Answer;
use proto::internal::v1::peer_service_server::{PeerService, PeerServiceServer};
use tonic::{Request, Response, Status, Streaming};

use crate::encode::{log_id_from_proto, log_id_to_proto, vote_to_proto};
use crate::error::{Error, chain};
use crate::peer::snapshot::receiving::Receiving;
use crate::peer::{MESSAGE_MAX, wire};
use crate::{Consensus, Consistency};

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// This server as its peers see it.
#[derive(Clone)]
pub struct PeerFace {
    consensus: Consensus,
}

impl Consensus {
    /// The service that peers ask: to be served on the servers' own port.
    pub fn peer_service(&self) -> PeerServiceServer<PeerFace> {
        let face = PeerFace { consensus: self.clone() };
        PeerServiceServer::new(face).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX)
    }
}

impl PeerFace {
    /// Refuses what is meant for another server.
    fn check_to(&self, to: u64) -> Result<(), Status> {
        check_to(self.consensus.id(), to)
    }
}

fn check_to(me: u64, to: u64) -> Result<(), Status> {
    if to == me {
        return Ok(());
    }
    Err(Status::failed_precondition(format!("the request is for server {to}, but server {me} lives at this address")))
}

fn internal(error: impl std::error::Error) -> Status {
    Status::internal(chain(&error))
}

#[tonic::async_trait]
impl PeerService for PeerFace {
    type AppendStream = Answers<pb::AppendResponse>;
    type InstallSnapshotStream = Answers<pb::InstallSnapshotResponse>;

    async fn identify(&self, _request: Request<pb::IdentifyRequest>) -> Result<Response<pb::IdentifyResponse>, Status> {
        let inner = &self.consensus.inner;
        let initialized = inner.raft.is_initialized().await.map_err(internal)?;
        Ok(Response::new(pb::IdentifyResponse {
            id: inner.id,
            name: inner.member.name.clone(),
            datacenter: inner.datacenter.clone(),
            cluster: self.consensus.tables().meta().cluster,
            initialized,
            leader: self.consensus.leader_id().unwrap_or(0),
            voters: inner.raft.voter_ids().collect(),
        }))
    }

    async fn promise(&self, request: Request<pb::PromiseRequest>) -> Result<Response<pb::PromiseResponse>, Status> {
        let pb::PromiseRequest { to, from } = request.into_inner();
        self.check_to(to)?;
        let promised = self.consensus.promise(from).await.map_err(internal)?;
        let reason = promised.err().unwrap_or_default();
        Ok(Response::new(pb::PromiseResponse { granted: reason.is_empty(), reason }))
    }

    async fn append(&self, request: Request<Streaming<pb::AppendRequest>>) -> Result<Response<Self::AppendStream>, Status> {
        let failure = Arc::new(Mutex::new(None));
        let (noted, inner) = (failure.clone(), self.consensus.inner.clone());
        let open = inner.streams.open();
        let requests = request.into_inner().map(move |message| {
            let _ = &open;
            let message = message?;
            check_to(inner.id, message.to)?;
            wire::append_request_from(message)
        });
        // The library takes requests, not errors: the first error ends the stream and is told last.
        let requests = requests.scan((), move |(), request: Result<_, Status>| {
            let request = request.map_err(|status| *noted.lock() = Some(status)).ok();
            std::future::ready(request)
        });
        let inner = self.consensus.inner.clone();
        let answers = self.consensus.inner.raft.stream_append(requests).map(move |answer| match answer {
            Ok(result) => {
                // Whoever leads no longer is not heard.
                if !matches!(result, Err(StreamAppendError::HigherVote(_))) {
                    inner.contact.note();
                }
                Ok(wire::append_response(&result))
            }
            Err(fatal) => Err(internal(fatal)),
        });
        let end = futures::stream::once(async move { failure.lock().take() }).filter_map(|status| async move { status.map(Err) });
        Ok(Response::new(Box::pin(answers.chain(end))))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let message = request.into_inner();
        self.check_to(message.to)?;
        let pre_vote = message.pre_vote;
        let request = wire::vote_request_from(message)?;
        if !request.leadership_transfer && self.consensus.inner.contact.is_bound() {
            return Err(Status::unavailable("this server has just started: before that it may have promised a leader its lease"));
        }
        let raft = &self.consensus.inner.raft;
        let answer = if pre_vote { raft.pre_vote(request).await } else { raft.vote(request).await };
        Ok(Response::new(wire::vote_response(&answer.map_err(internal)?)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::InstallSnapshotRequest>>,
    ) -> Result<Response<Self::InstallSnapshotStream>, Status> {
        let mut pieces = request.into_inner();
        let Some(Part::Head(head)) = pieces.message().await?.and_then(|message| message.part) else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        self.check_to(head.to)?;
        let inner = self.consensus.inner.clone();
        let (vote, known) = (wire::vote_of(head.vote)?, inner.raft.server_metrics().borrow_watched().vote);
        if known.partial_cmp(&vote) == Some(std::cmp::Ordering::Greater) {
            return Err(Status::failed_precondition(format!("server {} knows of a later term than its leader", inner.id)));
        }
        inner.contact.note();
        let receiving = Receiving::begin(&inner.staging, head, self.consensus.tables()).await?;
        let wanted = Answer::Wanted(pb::SnapshotWanted { places: receiving.wanted() });
        let rest = async move {
            let vote = receiving.vote;
            let snapshot = receiving.receive(pieces).await?;
            let installed = inner.raft.install_full_snapshot(vote, snapshot).await.map_err(internal)?;
            if installed.vote == vote {
                metrics::counter!("consul_raft_snapshot_install").increment(1);
                receiving.installed().await;
            }
            Ok(pb::InstallSnapshotResponse { part: Some(Answer::Installed(vote_to_proto(&installed.vote))) })
        };
        let first = futures::stream::iter([Ok(pb::InstallSnapshotResponse { part: Some(wanted) })]);
        Ok(Response::new(Box::pin(first.chain(futures::stream::once(rest)))))
    }

    async fn transfer_leader(&self, request: Request<pb::TransferLeaderRequest>) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let message = request.into_inner();
        self.check_to(message.to)?;
        let from = wire::vote_of(message.from)?;
        let request = TransferLeaderRequest::new(from, message.to, message.last.map(log_id_from_proto));
        let answer = self.consensus.inner.raft.handle_transfer_leader(request).await.map_err(internal)?;
        let refused = answer.err().map_or_else(String::new, |refused| refused.to_string());
        Ok(Response::new(pb::TransferLeaderResponse { refused }))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Result<Response<pb::ProposeResponse>, Status> {
        use pb::propose_response::Result as Wire;
        let message = request.into_inner();
        self.check_to(message.to)?;
        let command = store::encode::command::decode(message.command).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let result = match self.consensus.propose_as_leader(command.operation).await {
            Ok(Some(id)) => {
                self.consensus.peers().awaited().wait_for(id.index);
                Wire::Committed(log_id_to_proto(&id))
            }
            Ok(None) => Wire::NotLeader(self.consensus.leader_id().unwrap_or(0)),
            Err(Error::Overloaded(bound)) => Wire::Overloaded(bound as u64),
            Err(error) => return Err(internal(error)),
        };
        Ok(Response::new(pb::ProposeResponse { result: Some(result) }))
    }

    async fn read_index(&self, request: Request<pb::ReadIndexRequest>) -> Result<Response<pb::ReadIndexResponse>, Status> {
        use pb::read_index_response::Result as Wire;
        let pb::ReadIndexRequest { to, leased } = request.into_inner();
        self.check_to(to)?;
        let consistency = if leased { Consistency::Leased } else { Consistency::Linearizable };
        let result = match self.consensus.inner.readers.index_as_leader(consistency).await {
            Ok(index) => {
                self.consensus.peers().awaited().wait_for(index);
                Wire::Index(index)
            }
            Err(Error::NoLeader) => Wire::NotLeader(self.consensus.leader_id().unwrap_or(0)),
            Err(error) => return Err(internal(error)),
        };
        Ok(Response::new(pb::ReadIndexResponse { result: Some(result) }))
    }
}
