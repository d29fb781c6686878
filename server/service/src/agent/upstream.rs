//! Where the catalog is: in this process, or on the servers.

use std::sync::Arc;

use consensus::{Consensus, Consistency, Remote};
use state::{Operation, Outcome, Tables};

use crate::error::Error;

/// The catalog as the agent reads and writes it.
#[derive(Clone)]
pub enum Upstream {
    /// This agent holds the log.
    Here(Consensus),
    /// Servers do.
    Servers(Remote),
}

impl From<Consensus> for Upstream {
    fn from(consensus: Consensus) -> Self {
        Upstream::Here(consensus)
    }
}

impl From<Remote> for Upstream {
    fn from(remote: Remote) -> Self {
        Upstream::Servers(remote)
    }
}

impl Upstream {
    /// What is known without asking anybody. Where servers hold the log, only this agent's own node.
    pub(super) fn tables(&self) -> Arc<Tables> {
        match self {
            Upstream::Here(consensus) => consensus.tables(),
            Upstream::Servers(remote) => remote.tables(),
        }
    }

    /// The catalog with at least the node `name` in it, as fresh as the leader's lease makes it.
    pub(super) async fn read(&self, name: &str) -> Result<Arc<Tables>, Error> {
        Ok(match self {
            Upstream::Here(consensus) => consensus.read(Consistency::Leased).await?,
            Upstream::Servers(remote) => remote.read_node(name).await?,
        })
    }

    /// Writes. Answers the state machine's refusal, if it refused.
    pub(super) async fn propose(&self, operation: Operation) -> Result<Option<String>, Error> {
        match self {
            Upstream::Here(consensus) => match consensus.propose(operation).await?.outcome {
                Outcome::Refused(refusal) => Ok(Some(refusal.to_string())),
                Outcome::Done { .. } | Outcome::Txn(_) | Outcome::Session(_) => Ok(None),
            },
            Upstream::Servers(remote) => Ok(remote.propose(operation).await?),
        }
    }

    /// How many nodes the catalog has.
    pub(super) fn nodes_len(&self) -> usize {
        match self {
            Upstream::Here(consensus) => consensus.tables().nodes_len(),
            Upstream::Servers(remote) => remote.nodes_len(),
        }
    }
}
