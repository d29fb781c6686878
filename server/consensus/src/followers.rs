//! What the leader knows of the servers that follow it.

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::Instant;
use openraft::async_runtime::watch::WatchReceiver;

use crate::Consensus;

/// What the leader knows of one server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Follower {
    /// Term of the last entry that it is known to have.
    pub last_term: u64,
    /// The last entry that it is known to have.
    pub last_index: u64,
    /// How long ago it last answered; `None` while it never has.
    pub last_contact: Option<Duration>,
}

impl Consensus {
    /// What this server knows of those that follow it, by number, itself among them. Empty unless it leads.
    pub fn followers(&self) -> BTreeMap<u64, Follower> {
        let watch = self.inner.raft.metrics();
        let metrics = watch.borrow_watched();
        let (Some(replication), Some(heartbeat)) = (&metrics.replication, &metrics.heartbeat) else { return BTreeMap::new() };
        let mut followers: BTreeMap<u64, Follower> = BTreeMap::new();
        for (id, matched) in replication {
            let follower = followers.entry(*id).or_default();
            (follower.last_term, follower.last_index) = matched.as_ref().map_or((0, 0), |id| (id.leader_id.term, id.index));
        }
        for (id, acknowledged) in heartbeat {
            followers.entry(*id).or_default().last_contact = acknowledged.map(|at| at.elapsed());
        }
        let own = Follower {
            last_term: metrics.current_term,
            last_index: metrics.last_log_index.unwrap_or(0),
            last_contact: Some(Duration::ZERO),
        };
        followers.insert(self.inner.id, own);
        followers
    }
}
