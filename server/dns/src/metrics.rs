//! What is counted.

use std::time::Duration;

use metrics::{Counter, counter};

/// Answers older than this are counted as stale.
const STALE_AFTER: Duration = Duration::from_secs(5);

/// Counters, looked up once.
pub(crate) struct Metrics {
    /// Questions received.
    pub(crate) queries: Counter,
    /// Questions refused because too many others were waiting.
    pub(crate) overloaded: Counter,
    stale: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics {
            queries: counter!("consul_dns_query"),
            overloaded: counter!("consul_dns_overloaded"),
            stale: counter!("consul_dns_stale_queries"),
        }
    }
}

impl Metrics {
    /// Takes note of how old the state is that an answer was read from.
    pub(crate) fn staleness(&self, age: Duration) {
        if age > STALE_AFTER {
            self.stale.increment(1);
        }
    }
}
