//! What servers say to each other to keep one log: the protocol of `lictor.internal.v1`.
//!
//! [`network`] is the asking side as the Raft library drives it, [`service`] the answering side,
//! [`news`] what need not be sent, [`snapshot`] the transfer of a whole state, [`wire`] the two directions of every message and
//! [`channels`] the connections below them. A server is known by its number in the log; where it
//! lives is looked up at each connection, because addresses change and numbers do not.

pub(crate) mod channels;
pub(crate) mod network;
pub(crate) mod news;
pub(crate) mod service;
pub(crate) mod snapshot;
pub(crate) mod wire;

pub use channels::Peers;
pub use service::PeerFace;

/// Largest message between servers, in bytes: above the largest batch of entries.
pub(crate) const MESSAGE_MAX: usize = 64 << 20;
