//! Proposals, wherever the leader is.
//!
//! The leader puts a command into the log; another server passes it on and works out the outcome
//! by itself when it applies the command. A proposal is tried again only as long as it is certain
//! that it is not in the log: after that its fate is told as unknown, never guessed.

use std::time::Duration;

use openraft::errors::{ClientWriteError, RaftError};
use proto::internal::v1 as pb;
use proto::internal::v1::propose_response::Result as Answer;
use state::{Command, LogIndex, Operation, Outcome};
use tokio::time::{sleep, timeout};

use crate::encode::log_id_from_proto;
use crate::error::Error;
use crate::peer::channels::never_sent;
use crate::types::{Applied, LogId, Proposal};
use crate::{Consensus, HOLD, IN_FLIGHT_MAX, LEADER_POLL, Proposed, status};

/// The pause before the leader is asked again, after it could not be.
const RETRY: Duration = Duration::from_millis(50);

impl From<Applied> for Proposed {
    fn from(Applied { revision, outcome }: Applied) -> Self {
        Proposed { index: revision, outcome }
    }
}

impl Consensus {
    /// Tries until somebody leads, within [`HOLD`].
    pub(crate) async fn propose_until_led(&self, operation: Operation) -> Result<Proposed, Error> {
        let proposal = Proposal::new(Command { at: self.now(), operation });
        let mut sent = false;
        let proposed = timeout(HOLD, async {
            loop {
                if let Some(proposed) = self.propose_once(&proposal, &mut sent).await? {
                    return Ok(proposed);
                }
                sent = false;
                sleep(LEADER_POLL).await;
            }
        });
        match proposed.await {
            Ok(proposed) => proposed,
            Err(_) if sent => Err(Error::Timeout(HOLD)),
            Err(_) => Err(Error::NoLeader),
        }
    }

    /// One attempt. `None` means that the command is not in the log and will not be; `sent` is set
    /// while that is not certain.
    async fn propose_once(&self, proposal: &Proposal, sent: &mut bool) -> Result<Option<Proposed>, Error> {
        match self.leader_id() {
            None => Ok(None),
            Some(leader) if leader == self.inner.id => {
                *sent = true;
                self.propose_here(proposal.clone()).await
            }
            Some(leader) => self.propose_through(leader, proposal, sent).await,
        }
    }

    async fn propose_here(&self, proposal: Proposal) -> Result<Option<Proposed>, Error> {
        match self.inner.raft.client_write(proposal).await {
            Ok(response) => {
                let index = LogIndex(response.log_id.index);
                let applied = response.data.unwrap_or(Applied { revision: index, outcome: Outcome::DONE });
                Ok(Some(applied.into()))
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Ok(None),
            Err(RaftError::APIError(_)) => Err(Error::Interrupted),
            Err(error) => Err(self.inner.cause.behind(&error)),
        }
    }

    async fn propose_through(&self, leader: u64, proposal: &Proposal, sent: &mut bool) -> Result<Option<Proposed>, Error> {
        let inner = &self.inner;
        let Some(address) = status::address_of(&inner.raft, &inner.peers, leader) else { return Ok(None) };
        let Ok(mut client) = inner.peers.client(&address).await else {
            sleep(RETRY).await;
            return Ok(None);
        };
        let wanted = inner.outcomes.want();
        *sent = true;
        match client.propose(pb::ProposeRequest { to: leader, command: proposal.bytes.clone() }).await {
            Ok(answer) => match answer.into_inner().result {
                Some(Answer::Committed(id)) => {
                    let index = log_id_from_proto(id).index;
                    let applied = wanted.outcome(index).await.ok_or(Error::Interrupted)?;
                    Ok(Some(applied.into()))
                }
                Some(Answer::Overloaded(bound)) => Err(Error::Overloaded(bound as usize)),
                Some(Answer::NotLeader(_)) => Ok(None),
                None => Err(Error::Interrupted),
            },
            Err(status) => {
                inner.peers.drop_connection(&address);
                if never_sent(&status) || status.code() == tonic::Code::FailedPrecondition {
                    sleep(RETRY).await;
                    return Ok(None);
                }
                tracing::debug!(%status, leader, "a write that was passed on may or may not have been applied");
                Err(Error::Interrupted)
            }
        }
    }

    /// Puts another server's command into the log, under this server's clock. `None` when this
    /// server does not lead.
    pub(crate) async fn propose_as_leader(&self, operation: Operation) -> Result<Option<LogId>, Error> {
        let _permit = self.inner.in_flight.try_acquire().map_err(|_| Error::Overloaded(IN_FLIGHT_MAX))?;
        let proposal = Proposal::new(Command { at: self.now(), operation });
        match timeout(HOLD, self.inner.raft.client_write(proposal)).await {
            Ok(Ok(response)) => Ok(Some(response.log_id)),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => Ok(None),
            Ok(Err(RaftError::APIError(_))) => Err(Error::Interrupted),
            Ok(Err(error)) => Err(self.inner.cause.behind(&error)),
            Err(_) => Err(Error::Timeout(HOLD)),
        }
    }
}
