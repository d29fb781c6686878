//! Where the catalog is: in this process, or on the servers.

use std::sync::Arc;
use std::time::Duration;

use consensus::{Consensus, Consistency, Remote};
use state::{LogIndex, NodeView, Operation, Outcome, Str, Tables};
use tokio::time::timeout;

use crate::error::Error;
use crate::watch::{Hub, Target};

/// How long a server is asked to wait for a change of a node before it answers all the same.
const FOLLOW_WAIT: Duration = Duration::from_secs(60);

/// When a node changed last; 0 when it is not registered.
pub(super) fn view_index(view: Option<&Arc<NodeView>>) -> LogIndex {
    view.map_or(LogIndex::ZERO, |view| view.index)
}

/// The catalog as the agent reads and writes it.
#[derive(Clone)]
pub enum Upstream {
    /// This agent holds the log, and is told of what changes in it.
    Here(Consensus, Arc<Hub>),
    /// Servers do.
    Servers(Remote),
}

impl From<(Consensus, Arc<Hub>)> for Upstream {
    fn from((consensus, hub): (Consensus, Arc<Hub>)) -> Self {
        Upstream::Here(consensus, hub)
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
            Upstream::Here(consensus, _) => consensus.tables(),
            Upstream::Servers(remote) => remote.tables(),
        }
    }

    /// The catalog with at least the node `name` in it, as fresh as the leader's lease makes it.
    pub(super) async fn read(&self, name: &str) -> Result<Arc<Tables>, Error> {
        Ok(match self {
            Upstream::Here(consensus, _) => consensus.read(Consistency::Leased).await?,
            Upstream::Servers(remote) => remote.read_node(name).await?,
        })
    }

    /// Another node, once it is not any more as it was at index `seen`, where 0 is a node that is not
    /// registered and `None` one that was never looked at. Answers after a minute or so in any case.
    pub(super) async fn follow(&self, name: &Str, seen: Option<LogIndex>) -> Result<Option<Arc<NodeView>>, Error> {
        match self {
            Upstream::Here(consensus, hub) => {
                let changes = hub.wait_on(Target::Node(name.clone()));
                loop {
                    let view = consensus.tables().node(name).cloned();
                    if seen != Some(view_index(view.as_ref())) || timeout(FOLLOW_WAIT, changes.changed()).await.is_err() {
                        return Ok(view);
                    }
                }
            }
            Upstream::Servers(remote) => Ok(remote.follow_node(name, seen, FOLLOW_WAIT).await?),
        }
    }

    /// Writes. Answers the state machine's refusal, if it refused.
    pub(super) async fn propose(&self, operation: Operation) -> Result<Option<String>, Error> {
        match self {
            Upstream::Here(consensus, _) => match consensus.propose(operation).await?.outcome {
                Outcome::Refused(refusal) => Ok(Some(refusal.to_string())),
                Outcome::Done { .. } | Outcome::Txn(_) | Outcome::Session(_) | Outcome::Lock(_) => Ok(None),
            },
            Upstream::Servers(remote) => Ok(remote.propose(operation).await?),
        }
    }

    /// How many nodes the catalog has.
    pub(super) fn nodes_len(&self) -> usize {
        match self {
            Upstream::Here(consensus, _) => consensus.tables().nodes_len(),
            Upstream::Servers(remote) => remote.nodes_len(),
        }
    }
}
