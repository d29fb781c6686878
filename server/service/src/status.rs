//! Where this server stands.

pub use consensus::{Peer, Status};

use crate::Service;

impl Service {
    /// Where consensus stands on this server.
    pub fn consensus_status(&self) -> Status {
        self.consensus().status()
    }

    /// The server protocol address of the leader, `host:port`, when one is known.
    pub fn leader_address(&self) -> Option<String> {
        let status = self.consensus().status();
        let leader = status.leader?;
        status.peers.into_iter().find(|peer| peer.id == leader).map(|peer| peer.address)
    }

    /// The servers of the quorum.
    pub fn peers(&self) -> Vec<Peer> {
        self.consensus().status().peers
    }

    /// How many blocked queries and watches wait for a change here.
    pub fn watchers(&self) -> usize {
        self.hub().watchers()
    }
}
