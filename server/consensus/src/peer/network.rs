//! The asking side: what the Raft library wants said to a peer.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use parking_lot::Mutex;
use prost::Message;
use proto::internal::v1 as pb;
use proto::internal::v1::peer_service_client::PeerServiceClient;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::encode::{log_id_to_proto, vote_to_proto};
use crate::error::chain;
use crate::peer::channels::Peers;
use crate::peer::snapshot::held::Held;
use crate::peer::snapshot::sending;
use crate::peer::{news, wire};
use crate::state_machine::SnapshotData;
use crate::types::{Member, TypeConfig, Vote};

/// A stream that owes an answer for this long is broken off: the follower is gone, or stuck. What has to arrive before
/// the answer can come has time for it besides.
const STALLED: Duration = Duration::from_secs(2);

/// The slowest link over which entries get through, in bytes a second: a quarter of a megabit. A stream over a
/// slower one is broken off, and what was under way comes again.
const SLOWEST: u64 = 32 << 10;

/// How long a stream may take to open.
const OPEN: Duration = Duration::from_secs(1);

/// The pause before a server that could not be reached is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// How long the next leader may take to say that it stands for election.
const TRANSFER: Duration = Duration::from_secs(1);

/// Makes connections to peers.
pub(crate) struct Network {
    pub(crate) peers: Peers,
    pub(crate) held: Arc<Held>,
}

/// One peer.
pub(crate) struct Peer {
    id: u64,
    member: Member,
    peers: Peers,
    held: Arc<Held>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, node: &Member) -> Peer {
        Peer { id: target, member: node.clone(), peers: self.peers.clone(), held: self.held.clone() }
    }
}

impl Peer {
    async fn client(&self) -> Result<PeerServiceClient<Channel>, Unreachable<TypeConfig>> {
        let address = self.peers.address(self.id, &self.member.address);
        self.peers.client(&address).await.map_err(|error| self.unreachable(&chain(&error)))
    }

    fn unreachable(&self, why: &str) -> Unreachable<TypeConfig> {
        let address = self.peers.address(self.id, &self.member.address);
        Unreachable::from_string(format!("server `{}` at {address} can't be reached: {why}", self.member.name))
    }

    /// A failed request. The connection may be the reason; another is opened next time.
    fn failed(&self, status: &Status) -> Unreachable<TypeConfig> {
        self.peers.drop_connection(&self.peers.address(self.id, &self.member.address));
        self.unreachable(&chain(status))
    }

    async fn ask_vote(
        &self,
        request: VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let asked = async {
            let mut client = self.client().await?;
            let answer = client.vote(wire::vote_request(self.id, &request, pre_vote)).await.map_err(|status| self.failed(&status))?;
            wire::vote_response_from(answer.into_inner())
                .ok_or_else(|| self.unreachable("its answer to a request for a vote means nothing"))
        };
        match timeout(option.hard_ttl(), asked).await {
            Ok(answer) => answer.map_err(RPCError::Unreachable),
            Err(_) => Err(RPCError::Network(NetworkError::from_string(format!(
                "server `{}` did not answer a request for a vote",
                self.member.name
            )))),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let lost = self.unreachable("it ended the stream without an answer");
        let input = futures::stream::iter([request]).boxed();
        let mut answers = RaftNetworkV2::stream_append(self, input, option).await?;
        let answer = answers.next().await.unwrap_or(Err(RPCError::Unreachable(lost)))?;
        Ok(answer.into())
    }

    /// One stream carries many requests, each sent without waiting for the answer to the one before.
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // The pause after a failure is in the input: without a look at it a dead peer would be
            // called without a break.
            let mut input = input;
            let Some(first) = input.next().await else { return Ok(futures::stream::empty().boxed()) };
            let input = news::paced(futures::stream::iter([first]).chain(input), self.peers.awaited());
            let mut client = self.client().await?;
            let owed = Owed::default();
            let (to, counted) = (self.id, owed.clone());
            let requests = input.map(move |request| {
                let request = wire::append_request(to, request);
                counted.note(&request);
                request
            });
            let opened = timeout(OPEN, client.append(requests)).await;
            let opened = opened.map_err(|_| self.failed(&Status::deadline_exceeded("it did not open a stream in time")))?;
            let answers = opened.map_err(|status| self.failed(&status))?.into_inner();
            let answers = Answers { peer: self, answers, owed };
            let answers = futures::stream::unfold(Some(answers), |answers| async move {
                let mut answers = answers?;
                let answer = answers.next().await?;
                let more = matches!(answer, Ok(Ok(_)));
                Some((answer, more.then_some(answers)))
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(request, false, option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask_vote(request, true, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let address = self.peers.address(self.id, &self.member.address);
        let client = self.peers.client_apart(&address).await.map_err(|error| self.unreachable(&chain(&error)))?;
        let sent = timeout(option.hard_ttl(), sending::send(client, self.id, vote, snapshot, &self.held));
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = sent => match sent {
                Ok(Ok(vote)) => Ok(SnapshotResponse::new(vote)),
                Ok(Err(status)) => Err(self.unreachable(&chain(&status)).into()),
                Err(_) => Err(self.unreachable("a snapshot was not installed in time").into()),
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let message = pb::TransferLeaderRequest {
            from: Some(vote_to_proto(request.from_leader())),
            to: *request.to_node_id(),
            last: request.last_log_id().map(log_id_to_proto),
        };
        let asked = async { self.client().await?.transfer_leader(message).await.map_err(|status| self.failed(&status)) };
        let answer = timeout(TRANSFER, asked).await.map_err(|_| self.unreachable("it did not take over in time"))??;
        match answer.into_inner().refused {
            refused if refused.is_empty() => Ok(Ok(())),
            refused => Err(RPCError::Network(NetworkError::from_string(refused))),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY)))
    }
}

/// The requests that are under way on one stream, oldest first: their bytes, and since when each could be on its way.
#[derive(Clone, Default)]
struct Owed(Arc<Mutex<VecDeque<(u64, Instant)>>>);

impl Owed {
    /// A request is handed over.
    fn note(&self, request: &pb::AppendRequest) {
        self.0.lock().push_back((request.encoded_len() as u64, Instant::now()));
    }

    /// The answer to the oldest one has come, so that the link is free for the next.
    fn settle(&self) {
        let mut owed = self.0.lock();
        owed.pop_front();
        if let Some((_, since)) = owed.front_mut() {
            *since = Instant::now();
        }
    }

    /// Until when the next answer has to come; `None` when none is owed.
    fn deadline(&self) -> Option<Instant> {
        self.0.lock().front().map(|(bytes, since)| *since + STALLED + Duration::from_millis(bytes * 1000 / SLOWEST))
    }
}

/// The answers to requests under way on one stream.
struct Answers<'s> {
    peer: &'s Peer,
    answers: Streaming<pb::AppendResponse>,
    owed: Owed,
}

impl Answers<'_> {
    /// The next answer. A stream that owes none may be silent for as long as it likes.
    async fn next(&mut self) -> Option<Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>> {
        loop {
            let deadline = self.owed.deadline();
            match timeout_at(deadline.unwrap_or_else(|| Instant::now() + STALLED), self.answers.message()).await {
                Ok(Ok(Some(message))) => {
                    self.owed.settle();
                    let answer = wire::append_response_from(message);
                    return Some(answer.ok_or_else(|| self.peer.unreachable("its answer to entries means nothing").into()));
                }
                Ok(Ok(None)) => return None,
                Ok(Err(status)) => return Some(Err(self.peer.failed(&status).into())),
                Err(_) if deadline.is_none() => {}
                Err(_) => return Some(Err(self.peer.failed(&Status::deadline_exceeded("it has stopped answering")).into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_to_arrive_has_time_for_it() {
        let owed = Owed::default();
        assert_eq!(owed.deadline(), None, "a stream that owes nothing may be silent");
        let request = |bytes: usize| pb::AppendRequest {
            entries: vec![pb::Entry { payload: vec![0; bytes].into(), ..pb::Entry::default() }],
            ..pb::AppendRequest::default()
        };
        owed.note(&request(0));
        owed.note(&request(256 << 10));
        let patience = || owed.deadline().expect("an answer is owed") - Instant::now();
        assert!(patience() < STALLED + Duration::from_millis(10), "{:?}", patience());
        tokio::time::advance(STALLED / 2).await;
        owed.settle();
        assert!(patience() >= STALLED + Duration::from_secs(8), "the large one begins now: {:?}", patience());
        owed.settle();
        assert_eq!(owed.deadline(), None);
    }
}
