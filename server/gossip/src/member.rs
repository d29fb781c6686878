//! Members: what each says of itself, and what the others hold of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Largest description of a member on the wire, in bytes: it travels in datagrams beside other news.
pub(crate) const RECORD_MAX: usize = 900;

/// What a member is to the probing: an address, and which of the lives at this address it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Id {
    pub(crate) address: SocketAddr,
    /// Grows with every start and every return from the dead: the higher one is the living one.
    pub(crate) bump: u64,
}

impl foca::Identity for Id {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        Some(Id { address: self.address, bump: self.bump.saturating_add(1) })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.bump > adversary.bump
    }
}

/// What a member says of itself. Of two, the one with the higher `(bump, version)` counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) name: Arc<str>,
    pub(crate) node_id: Arc<str>,
    pub(crate) id: Id,
    pub(crate) version: u64,
    pub(crate) tags: BTreeMap<String, String>,
    /// It goes, or was told to be gone.
    pub(crate) leaving: bool,
    /// It is to be forgotten as well.
    pub(crate) pruned: bool,
}

impl Record {
    pub(crate) fn age(&self) -> (u64, u64) {
        (self.id.bump, self.version)
    }

    /// Whether both describe one member, in this life or another: the same node, or whoever lives at its address. A
    /// node that comes back without its data directory has another id, and is the same member nevertheless.
    pub(crate) fn is_same(&self, other: &Record) -> bool {
        self.node_id == other.node_id || self.id.address == other.id.address
    }

    /// Whether one could be what the other one was before: renamed, or without its data directory.
    pub(crate) fn is_namesake(&self, other: &Record) -> bool {
        self.node_id == other.node_id || self.name == other.name
    }
}

/// How a member is, as far as this one knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Status {
    /// It answers.
    Alive,
    /// It has said that it goes, and still answers.
    Leaving,
    /// It has gone in good order.
    Left,
    /// It stopped answering.
    Failed,
}

impl Status {
    /// The word that people and programs know it by.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Alive => "alive",
            Status::Leaving => "leaving",
            Status::Left => "left",
            Status::Failed => "failed",
        }
    }
}

/// One member of the pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: the node's in a LAN pool, `node.datacenter` in the WAN pool.
    pub name: String,
    /// The node's UUID.
    pub node_id: String,
    /// Where it is reached.
    pub address: IpAddr,
    /// The port of this pool there.
    pub port: u16,
    /// What it says of itself.
    pub tags: BTreeMap<String, String>,
    /// How it is.
    pub status: Status,
}

/// What is held of a member.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Arc<Record>,
    pub(crate) status: Status,
    /// When it came to be so.
    pub(crate) since: Duration,
}

impl Entry {
    pub(crate) fn member(&self) -> Member {
        Member {
            name: self.record.name.to_string(),
            node_id: self.record.node_id.to_string(),
            address: self.record.id.address.ip(),
            port: self.record.id.address.port(),
            tags: self.record.tags.clone(),
            status: self.status,
        }
    }
}
