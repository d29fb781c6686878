//! Health probes: which check is due, what it asks, and what its answers come to.
//!
//! ```text
//!   Request ──▶ schedule (deadlines, thresholds) ──▶ lanes (places) ──▶ http ──▶ schedule ──▶ Report
//! ```
//!
//! [`Prober`] owns the clock and the sockets; schedule, lanes and thresholds are plain data that are told
//! the time.

mod http;
mod lanes;
mod plan;
mod prober;
mod schedule;
mod tail;
#[cfg(test)]
mod tests;
mod thresholds;
mod tls;

pub use prober::{Options, Prober};
pub use tail::Tail;
pub use thresholds::Thresholds;
