//! Health probes: which check is due, what it asks, and what its answers come to.
//!
//! ```text
//!   Request ──▶ schedule (deadlines, thresholds) ──▶ lanes (places) ──▶ target ──▶ schedule ──▶ Report
//! ```
//!
//! A target is of one kind: `http`, `tcp`, `udp`, `grpc`, `h2ping`, `script` or `docker`, a module each.
//! [`Prober`] owns the clock and the sockets; schedule, lanes and thresholds are plain data that are told
//! the time.

mod connect;
mod docker;
mod grpc;
mod h2ping;
mod http;
mod lanes;
mod plan;
mod prober;
mod schedule;
mod script;
mod tail;
mod target;
mod tcp;
#[cfg(test)]
mod tests;
mod thresholds;
mod tls;
mod udp;

/// Makes the HTTP request of a definition once, outside of any schedule: whether it went well, and
/// what was answered.
pub async fn request(network: &net::Network, definition: &state::CheckDefinition, output_bytes_max: usize) -> (state::Status, state::Str) {
    let finding = http::probe(network, &plan::Plan::new(definition, output_bytes_max)).await;
    (finding.status, finding.output)
}

/// What stands in the way of such a request, if anything does.
pub fn request_fault(definition: &state::CheckDefinition) -> Option<String> {
    plan::Plan::new(definition, 0).ask.err()
}

pub use prober::{Options, Prober};
pub use tail::Tail;
pub use thresholds::Thresholds;
