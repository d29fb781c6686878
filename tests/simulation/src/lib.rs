//! A whole cluster in one process and one thread, on a network and a clock that are made up.
//!
//! Servers and agents are the ones of the product, from gossip and consensus to the leader's duties, on
//! a network of this crate's own ([`ether`](self)). A [`world::World`] starts, crashes, partitions and heals
//! machines, and looks at every step whether what must always hold does. Whatever a run takes for chance or
//! for the time comes from its seed: see [`fate`].

mod ether;
pub mod fate;
mod machine;
mod medium;
pub mod record;
pub mod world;
