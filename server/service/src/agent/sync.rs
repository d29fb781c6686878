//! The catalog is kept in line with the agent: changes at once, everything now and then.
//!
//! A push writes what is marked; a full sync also compares what is not, and removes what the catalog
//! has beyond the agent. What could not be written stays marked and is tried again, soon at first and
//! then every quarter of a minute or so.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::StreamExt;
use state::Operation;
use state::anti_entropy::Scope;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::error::Error;

/// Most writes under way: enough to share flushes of the log, few enough to leave room for others.
const WRITES_AT_ONCE: usize = 64;

/// How long a registration waits for its push before it answers. It is then tried again behind its
/// back.
const REGISTRATION_PATIENCE: Duration = Duration::from_secs(5);

/// First pause after a failure.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// Longest pause after a failure; up to as much is added at random.
const RETRY_MAX: Duration = Duration::from_secs(15);

/// Failures in a row before they are worth a word: a server has no leader when it starts.
const QUIET_FAILURES: u32 = 3;

/// How long after a server has appeared everything is compared, at most, in a cluster whose interval
/// is not stretched.
const SERVER_PAUSE: Duration = Duration::from_secs(3);

/// Nodes up to which the sync interval is not stretched.
const UNSTRETCHED_NODES: usize = 128;

impl Agent {
    /// Pushes what is marked and syncs fully at intervals, until `stop`.
    pub(super) async fn keep_in_sync(&self, stop: &CancellationToken) {
        let mut whole_at = Instant::now();
        let mut retry_at = whole_at;
        let mut failures = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.inner.changed.notified() => {}
                () = sleep_until(if failures == 0 { whole_at } else { retry_at }) => {}
            }
            let whole = self.inner.whole_wanted.swap(false, Ordering::AcqRel) || Instant::now() >= whole_at;
            let pushed = tokio::select! {
                () = stop.cancelled() => return,
                pushed = self.push(whole) => pushed,
            };
            match pushed {
                Ok(()) => {
                    failures = 0;
                    if whole {
                        whole_at = Instant::now() + self.sync_pause();
                    }
                }
                Err(error) => {
                    self.inner.whole_wanted.fetch_or(whole, Ordering::AcqRel);
                    failures += 1;
                    retry_at = Instant::now() + retry_pause(failures, rand::random());
                    if failures > QUIET_FAILURES {
                        tracing::warn!("the catalog could not be brought into line, and will be tried again: {error}");
                    }
                }
            }
        }
    }

    /// Pushes after a change made by a caller who waits. A failure is not the caller's: the change
    /// is made, and the push is tried again.
    pub(super) async fn push_registration(&self) {
        let failed = match timeout(REGISTRATION_PATIENCE, self.push(false)).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {REGISTRATION_PATIENCE:?}"),
        };
        tracing::warn!("the change is not in the catalog yet, and will be tried again: {failed}");
        self.inner.changed.notify_one();
    }

    /// Writes what is marked, or with `whole` everything that differs. May be dropped at any time:
    /// what was not seen to be written stays marked.
    pub(super) async fn push(&self, whole: bool) -> Result<(), Error> {
        let _turn = self.inner.pushing.lock().await;
        if !whole && self.inner.local.lock().marks().is_empty() {
            return Ok(());
        }
        let node = self.node();
        let tables = if whole { self.inner.upstream.read(&node.name).await? } else { self.inner.upstream.tables() };
        let catalog = tables.node(&node.name).map(|view| &**view);
        let (marks, operations) = {
            let mut local = self.inner.local.lock();
            if let (true, Some(catalog)) = (whole, catalog) {
                local.take_overridden_tags(catalog);
            }
            (local.marks().clone(), local.differences(&node, catalog, whole))
        };
        let mut failed = Scope::default();
        let mut first_error = None;
        let writes = operations.into_iter().map(|operation| async {
            self.inner.local.lock().write_begins(&operation);
            let result = self.write(operation.clone()).await;
            (operation, result)
        });
        let mut writes = futures::stream::iter(writes).buffer_unordered(WRITES_AT_ONCE);
        while let Some((operation, result)) = writes.next().await {
            match result {
                Ok(()) => self.inner.local.lock().write_ended(&operation),
                Err(error) => {
                    failed.add(&Scope::of(&operation));
                    first_error.get_or_insert(error);
                }
            }
        }
        self.inner.local.lock().settle(&marks, &failed);
        first_error.map_or(Ok(()), Err)
    }

    /// Writes once. What the state machine refuses is not tried again before the next full sync.
    async fn write(&self, operation: Operation) -> Result<(), Error> {
        if let Some(refusal) = self.inner.upstream.propose(operation).await? {
            tracing::warn!("the catalog refused what is registered here: {refusal}");
        }
        Ok(())
    }

    /// Has the next comparison be one of everything, and that at once.
    pub(super) fn compare_everything(&self) {
        self.inner.whole_wanted.store(true, Ordering::Release);
        self.inner.changed.notify_one();
    }

    /// How long to wait when a server has appeared: by chance, since every agent sees it at once.
    pub(super) fn pause_for_server(&self) -> Duration {
        let most = SERVER_PAUSE * stretch(self.inner.upstream.nodes_len());
        most.mul_f64(rand::random())
    }

    fn sync_pause(&self) -> Duration {
        let nodes = self.inner.upstream.nodes_len();
        let pause = self.inner.options.sync_interval * stretch(nodes);
        pause + pause.mul_f64(rand::random())
    }
}

/// How often the sync interval is to be taken in a cluster of `nodes`: once up to 128, and once more
/// for each doubling.
fn stretch(nodes: usize) -> u32 {
    let doublings = nodes.div_ceil(UNSTRETCHED_NODES).max(1).next_power_of_two().trailing_zeros();
    1 + doublings
}

/// The pause after so many failures in a row: it doubles up to its bound, where chance in `0..1`
/// spreads it over twice that.
fn retry_pause(failures: u32, chance: f64) -> Duration {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    if doubled < RETRY_MAX { doubled } else { RETRY_MAX + RETRY_MAX.mul_f64(chance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_grows_with_each_doubling_of_the_cluster() {
        let table = [(0, 1), (1, 1), (128, 1), (129, 2), (256, 2), (257, 3), (512, 3), (1000, 4), (1024, 4), (10_000, 8)];
        for (nodes, times) in table {
            assert_eq!(stretch(nodes), times, "{nodes} nodes");
        }
    }

    #[test]
    fn retries_come_soon_at_first_and_never_stop_coming() {
        let pauses: Vec<u128> = (1..=7).map(|failures| retry_pause(failures, 0.0).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 15_000]);
        assert_eq!(retry_pause(u32::MAX, 0.5), Duration::from_millis(22_500));
    }
}
