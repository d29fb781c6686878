//! The process: configuration, command line, telemetry, start and stop, and the wiring of all
//! crates below.

pub mod config;
mod nearest;
