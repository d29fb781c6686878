//! Who is there: pools of agents that watch each other.
//!
//! A [`Pool`] is one agent's part in one pool: the LAN pool of a datacenter, or the WAN pool of all
//! servers. Members probe each other at random (SWIM: Das, Gupta, Motivala 2002), which costs each
//! of them the same whatever their number, and every packet carries news: who came, who is gone,
//! what tags somebody has, what event was fired.
//!
//! [`foca`] does the probing. What a fleet needs around it is here: [`core`] has the members' names
//! and tags, graceful leave, events under a Lamport clock, doubt about oneself and about hasty suspicions
//! (Lifeguard: Dadgar, Phillips, Currey 2018) and network [`coordinate`]s, all without a clock or a socket of its own, so
//! that thousands of members run in one test; [`pool`] gives it time, datagrams, and TCP for what
//! must be whole: joining, and comparing everything from time to time.

mod bounds;
mod coordinate;
mod core;
mod entries;
mod event;
mod keyring;
mod member;
mod memory;
mod news;
mod options;
mod peers;
mod pool;
mod sockets;
mod stream;
mod suspicions;
mod timing;
mod wire;

#[cfg(test)]
mod bad_input_tests;
#[cfg(test)]
mod forged;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use coordinate::Coordinate;
pub use event::{Arrived, Event, NewEvent, PAYLOAD_MAX};
pub use keyring::{BadKey, Key, Keyring};
pub use member::{Member, Status};
pub use options::{Error, JoinReport, KeyAnswers, KeyOperation, Options};
pub use pool::{Feed, Pool, Recent};
pub use sockets::Sockets;
pub use timing::Timing;
