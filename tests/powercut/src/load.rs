//! A load for the store, and what must be true of whatever a cut leaves of it.
//!
//! The driver (the program `powercut-load`) says in the [marks](crate::MARKS) what it is about to do and what it was
//! promised. From these lines the checker knows which states of the log and of the rows are allowed.

mod check;
mod driver;
mod model;

use std::path::Path;

pub use check::{Survivor, check};
pub use driver::drive;

use store::data_dir::Identity;
use store::log::LogOptions;
use store::state_store::StateOptions;

/// Segments so small that a short run rolls over, purges and recycles many of them.
fn log_options() -> LogOptions {
    LogOptions { segment_bytes: 32 << 10, first_segment_bytes: 8 << 10, ..LogOptions::default() }
}

fn state_options() -> StateOptions {
    StateOptions { map_bytes: 64 << 20 }
}

fn identity() -> Identity {
    Identity { node_id: Some("the node under load".to_owned()), ..Identity::default() }
}

/// Where the driver keeps its data below the observed directory. It makes it itself.
fn data_root(dir: &Path) -> std::path::PathBuf {
    dir.join("data")
}
