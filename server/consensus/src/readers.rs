//! Up to where the log must be applied for a read to be fresh (read index: Ongaro 2014, §6.4).
//!
//! Reads that come while one asks share the next question: a thousand readers cost the leader no
//! more than one, and none of the data passes through it. A question that was sent before a read
//! began can't answer it, so a read never joins one that is under way.

use std::sync::Arc;
use std::time::Duration;

use openraft::ReadPolicy;
use openraft::errors::RaftError;
use proto::internal::v1 as pb;
use proto::internal::v1::read_index_response::Result as Answer;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::error::{Error, RootCause};
use crate::peer::Peers;
use crate::types::Raft;
use crate::{Consistency, status};

/// Reads that may wait for the next question.
const WAITING_MAX: usize = 16_384;

/// How long the leader may take to answer one question.
const ANSWER: Duration = Duration::from_secs(1);

type Reader = oneshot::Sender<Result<u64, Error>>;

/// Asks for read indexes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    linearizable: mpsc::Sender<Reader>,
    leased: mpsc::Sender<Reader>,
    asking: Arc<Asking>,
}

struct Asking {
    id: u64,
    raft: Raft,
    peers: Peers,
    leader: watch::Receiver<Option<u64>>,
    cause: RootCause,
}

impl Readers {
    /// Starts the two tasks that ask. They end with the last handle.
    pub(crate) fn start(id: u64, raft: Raft, peers: Peers, leader: watch::Receiver<Option<u64>>, cause: RootCause) -> Self {
        let asking = Arc::new(Asking { id, raft, peers, leader, cause });
        let task = |consistency| {
            let (sender, queue) = mpsc::channel(WAITING_MAX);
            tokio::spawn(ask_for_all(asking.clone(), consistency, queue));
            sender
        };
        Readers { linearizable: task(Consistency::Linearizable), leased: task(Consistency::Leased), asking }
    }

    /// The index that a read must see, from whoever leads.
    pub(crate) async fn index(&self, consistency: Consistency) -> Result<u64, Error> {
        let queue = if consistency == Consistency::Leased { &self.leased } else { &self.linearizable };
        let (sender, answer) = oneshot::channel();
        queue.try_send(sender).map_err(|_| Error::Overloaded(WAITING_MAX))?;
        // Without an answer the task has ended, and with it this server.
        answer.await.unwrap_or(Err(Error::NoLeader))
    }

    /// The same for another server, which asks because it takes this one for the leader.
    pub(crate) async fn index_as_leader(&self, consistency: Consistency) -> Result<u64, Error> {
        if *self.asking.leader.borrow() != Some(self.asking.id) {
            return Err(Error::NoLeader);
        }
        self.index(consistency).await
    }
}

/// Answers everybody who waits with one question, again and again.
async fn ask_for_all(asking: Arc<Asking>, consistency: Consistency, mut queue: mpsc::Receiver<Reader>) {
    let mut readers = Vec::new();
    while queue.recv_many(&mut readers, WAITING_MAX).await > 0 {
        let answer = timeout(ANSWER, asking.ask(consistency)).await.unwrap_or(Err(Error::NoLeader));
        for reader in readers.drain(..) {
            // Who was cancelled needs no answer.
            let _ = reader.send(answer.clone());
        }
    }
}

impl Asking {
    async fn ask(&self, consistency: Consistency) -> Result<u64, Error> {
        let leader = *self.leader.borrow();
        match leader {
            None => Err(Error::NoLeader),
            Some(leader) if leader == self.id => self.ask_quorum(consistency).await,
            Some(leader) => self.ask_leader(leader, consistency).await,
        }
    }

    async fn ask_quorum(&self, consistency: Consistency) -> Result<u64, Error> {
        let policy = if consistency == Consistency::Leased { ReadPolicy::LeaseRead } else { ReadPolicy::ReadIndex };
        match self.raft.get_read_linearizer(policy).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(_)) => Err(Error::NoLeader),
            Err(error) => Err(self.cause.behind(&error)),
        }
    }

    async fn ask_leader(&self, leader: u64, consistency: Consistency) -> Result<u64, Error> {
        let Some(address) = status::address_of(&self.raft, &self.peers, leader) else { return Err(Error::NoLeader) };
        let Ok(mut client) = self.peers.client(&address).await else { return Err(Error::NoLeader) };
        let request = pb::ReadIndexRequest { to: leader, leased: consistency == Consistency::Leased };
        match client.read_index(request).await {
            Ok(answer) => match answer.into_inner().result {
                Some(Answer::Index(index)) => Ok(index),
                _ => Err(Error::NoLeader),
            },
            Err(status) => {
                tracing::debug!(%status, leader, "the leader did not say up to where to read");
                self.peers.drop_connection(&address);
                Err(Error::NoLeader)
            }
        }
    }
}
