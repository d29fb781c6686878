//! Where consensus stands on this server, for people and for other layers.

use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant, RaftMetrics, ServerState};

use crate::peer::Peers;
use crate::types::{Raft, TypeConfig};

/// One server of the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number in the log.
    pub id: u64,
    /// The name of its node.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub address: String,
    /// Whether it has a vote.
    pub voter: bool,
}

/// Where consensus stands on this server.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// This server's number.
    pub id: u64,
    /// The leader's number, when one is known.
    pub leader: Option<u64>,
    /// The current term.
    pub term: u64,
    /// The last index in this server's log.
    pub last_index: u64,
    /// The last index that a quorum has.
    pub committed: u64,
    /// The last index applied here.
    pub applied: u64,
    /// The last index that is in the state on disk.
    pub flushed: u64,
    /// `leader`, `follower`, `candidate`, `learner` or `shutdown`.
    pub state: &'static str,
    /// How long ago a quorum last answered the leader; `None` elsewhere.
    pub last_contact: Option<Duration>,
    /// The index at which the quorum came to be as it is.
    pub membership_index: u64,
    /// The members of the quorum and its learners.
    pub peers: Vec<Peer>,
}

/// Where the server lives: as gossip says, else as the log says. `None` when the log does not name
/// it.
pub(crate) fn address_of(raft: &Raft, peers: &Peers, id: u64) -> Option<String> {
    let watch = raft.server_metrics();
    let metrics = watch.borrow_watched();
    let member = metrics.membership_config.membership().get_node(&id)?;
    Some(peers.address(id, &member.address))
}

/// How long ago a quorum last answered this server; `None` unless it leads.
pub(crate) fn quorum_age(metrics: &RaftMetrics<TypeConfig>) -> Option<Duration> {
    let leads = metrics.state == ServerState::Leader;
    metrics.last_quorum_acked.filter(|_| leads).map(|at| at.elapsed())
}

pub(crate) fn of(raft: &Raft, id: u64) -> Status {
    let watch = raft.metrics();
    let metrics = watch.borrow_watched();
    let membership = metrics.membership_config.membership();
    let voters: Vec<u64> = membership.voter_ids().collect();
    let peers = membership.nodes().map(|(id, member)| Peer {
        id: *id,
        name: member.name.clone(),
        address: member.address.clone(),
        voter: voters.contains(id),
    });
    Status {
        id,
        leader: metrics.current_leader,
        term: metrics.current_term,
        last_index: metrics.last_log_index.unwrap_or(0),
        committed: metrics.cluster_committed.map_or(0, |id| id.index),
        applied: metrics.last_applied.map_or(0, |id| id.index),
        flushed: metrics.snapshot.map_or(0, |id| id.index),
        state: match metrics.state {
            ServerState::Leader => "leader",
            ServerState::Follower => "follower",
            ServerState::Candidate => "candidate",
            ServerState::Learner => "learner",
            ServerState::Shutdown => "shutdown",
        },
        // A quorum of one has always heard from itself.
        last_contact: match voters[..] == [id] {
            true => Some(Duration::ZERO),
            false => quorum_age(&metrics),
        },
        membership_index: metrics.membership_config.log_id().as_ref().map_or(0, |id| id.index),
        peers: peers.collect(),
    }
}
