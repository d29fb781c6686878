//! The process: configuration, command line, telemetry, start and stop, and the wiring of all the
//! crates below.

pub mod banner;
pub mod cli;
mod cluster;
pub mod config;
mod faces;
mod log_feed;
mod log_file;
mod metrics_catalog;
mod nearest;
mod reload;
pub mod shutdown;
pub mod start;
pub mod telemetry;
pub mod watches;
pub mod wiring;

/// The product's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
