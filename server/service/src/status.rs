//! Where this server stands.

use std::collections::BTreeMap;

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

    /// The last index that each server of the quorum is known to have, by number: this one knows its own, and the
    /// leader all.
    pub fn last_indexes(&self) -> BTreeMap<u64, u64> {
        let known = self.consensus().followers().into_iter().map(|(id, follower)| (id, follower.last_index));
        let status = self.consensus().status();
        std::iter::once((status.id, status.last_index)).chain(known).collect()
    }

    /// The revision of this server's state.
    pub fn revision(&self) -> u64 {
        self.consensus().tables().applied().0
    }

    /// How many blocked queries and watches wait for a change here.
    pub fn watchers(&self) -> usize {
        self.hub().watchers()
    }
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Nodes registered.
    pub nodes: usize,
    /// Services by name.
    pub services: usize,
    /// Instances of services.
    pub instances: usize,
    /// Keys.
    pub keys: usize,
    /// Blocked queries and watches.
    pub watchers: usize,
}

impl Service {
    /// How much there is on this server, whatever its age; walks the services.
    pub fn counts(&self) -> Counts {
        let tables = self.consensus().tables();
        Counts {
            nodes: tables.nodes_len(),
            services: tables.services_len(),
            instances: tables.services().map(|(_, view)| view.instances.len()).sum(),
            keys: tables.kv_len(),
            watchers: self.hub().watchers(),
        }
    }
}
