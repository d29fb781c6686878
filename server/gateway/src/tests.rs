//! The whole face over a real listener and a real, throw-away service.

mod agent;
mod blocking;
mod catalog;
mod event;
mod general;
mod kv;
mod lists;
mod rig;
mod session;
mod txn;
mod watch;
