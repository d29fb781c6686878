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
            queries: counter!("lictor_dns_queries_total"),
            overloaded: counter!("lictor_dns_overloaded_total"),
            stale: counter!("lictor_dns_stale_answers_total"),
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
