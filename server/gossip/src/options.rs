//! How a pool is taken part in, and what is asked of it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::keyring::{Key, Keyring};
use crate::timing::Timing;

/// How a pool is taken part in.
#[derive(Clone, Debug)]
pub struct Options {
    /// This member's name.
    pub name: String,
    /// The node's UUID.
    pub node_id: String,
    /// The address that others reach it at; the port is the socket's own when 0.
    pub advertise: SocketAddr,
    /// What it says of itself.
    pub tags: BTreeMap<String, String>,
    /// What tells this pool from others: its kind and, for a LAN pool, the datacenter.
    pub label: String,
    /// A tag whose value is the same for all members that have it; who has another one is not let in.
    pub bond: Option<&'static str>,
    /// The pace.
    pub timing: Timing,
    /// The keys, if packets are sealed.
    pub keyring: Option<Keyring>,
    /// Where peers and clocks are remembered over a restart.
    pub memory: Option<PathBuf>,
    /// Where changed keys are kept.
    pub keyring_file: Option<PathBuf>,
    /// Whether a member that had left in good order goes back by itself.
    pub rejoin_after_leave: bool,
}

/// Why a pool can't be taken part in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket can't be had.
    #[error("gossip can't use {address}: {source}; is another agent running, or is the address another machine's?")]
    Socket {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The request can't be met. Nothing was changed.
    #[error("{0}")]
    Refused(String),
    /// There is too much to do at the moment. Nothing was changed, and later it may be met.
    #[error("{0}")]
    Busy(String),
}

/// What became of an attempt to join.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinReport {
    /// Members that have let this one in.
    pub joined: usize,
    /// Addresses that turned out to be this member's own: asking them is no mistake, and no help.
    pub own: Vec<String>,
    /// Addresses that did not, and why.
    pub failed: Vec<(String, String)>,
}

/// Something to be done with the keys of every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOperation {
    /// Tell the keys.
    List,
    /// Add a key that opens.
    Install(Key),
    /// Seal with this key from now on.
    Use(Key),
    /// Take a key out.
    Remove(Key),
}

/// The keys of each member that answered, or why it did not.
pub type KeyAnswers = BTreeMap<String, Result<Vec<Key>, String>>;
