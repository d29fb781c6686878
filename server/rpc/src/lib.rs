//! The gRPC face: the public contract over the service layer.
//!
//! Each method takes a message apart, calls the service layer, and puts its answer into a message;
//! [`convert`] holds the two directions, field by field, and [`status`] the one table from
//! refusals to gRPC. What a call means is decided below.
//!
//! [`serve`] also tells whether this server is ready (the standard health service) and what it
//! can be asked (reflection).

mod agent;
mod autopilot;
mod caller;
mod carry;
mod catalog;
mod convert;
mod elsewhere;
mod event;
pub mod exec;
mod gather;
mod health;
mod kv;
mod late;
mod listener;
mod lock;
mod near;
mod operator;
mod options;
mod page;
mod ready;
mod serve;
mod server;
mod session;
mod snapshot;
mod status;
mod watch;

pub use options::{ConfigKeys, MetricsText, Reserve, RpcOptions};
pub use serve::{Error, carrying_routes, routes, serve, serve_routes};

#[cfg(test)]
mod tests;
