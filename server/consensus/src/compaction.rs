//! When the state is written to disk and the log before it dropped.
//!
//! Seldom enough that hot rows are written once for many changes, often enough that a restart has
//! little of the log to apply again and the log stays small. When nothing is written any more the
//! rest is flushed soon, so that an idle server has nothing left to do at its next start. Of the log some stays behind the state
//! for followers that lag a little, and all that a follower needs who gets a snapshot now.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::peer::snapshot::held::Held;
use crate::peer::snapshot::receiving::Staging;
use crate::types::Raft;

/// Commands after which the state is written.
const COMMANDS_MAX: usize = 200_000;

/// Bytes of commands after which the state is written.
const BYTES_MAX: usize = 64 << 20;

/// How long nothing must have been written before the rest is flushed.
const IDLE: Duration = Duration::from_secs(5);

/// Entries that stay in the log although the state has them, for followers that lag a little.
const ENTRIES_KEPT: u64 = 10_000;

/// Fewest entries that are dropped at a time.
const ENTRIES_AT_ONCE: u64 = 1024;

/// What was applied since the state was last written.
#[derive(Default)]
pub(crate) struct Backlog {
    commands: AtomicUsize,
    bytes: AtomicUsize,
    grown: Notify,
}

impl Backlog {
    pub(crate) fn add(&self, commands: usize, bytes: usize) {
        let commands = self.commands.fetch_add(commands, Ordering::Relaxed) + commands;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if commands >= COMMANDS_MAX || bytes >= BYTES_MAX {
            self.grown.notify_one();
        }
    }

    pub(crate) fn clear(&self) {
        self.commands.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    fn commands(&self) -> usize {
        self.commands.load(Ordering::Relaxed)
    }
}

/// Writes the state and drops the log before it, whenever it is time.
pub(crate) async fn run(raft: Raft, backlog: Arc<Backlog>, held: Arc<Held>, staging: Staging, stop: CancellationToken) {
    let mut last_seen = 0;
    loop {
        let due = tokio::select! {
            _ = stop.cancelled() => return,
            _ = backlog.grown.notified() => true,
            _ = tokio::time::sleep(IDLE) => {
                let pending = backlog.commands();
                let idle = pending > 0 && pending == last_seen;
                last_seen = pending;
                idle
            }
        };
        if due && let Err(error) = raft.trigger().snapshot().await {
            tracing::warn!(%error, "the state can't be written now");
            return;
        }
        if let Some(upto) = droppable(&raft, &held)
            && let Err(error) = raft.trigger().purge_log(upto).await
        {
            tracing::warn!(%error, "the log can't be dropped now");
            return;
        }
        staging.tidy().await;
    }
}

/// The last entry that nobody needs any more, if it is worth the while.
fn droppable(raft: &Raft, held: &Held) -> Option<u64> {
    let (durable, dropped) = {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.snapshot?.index, metrics.purged.map_or(0, |id| id.index))
    };
    let upto = durable.saturating_sub(ENTRIES_KEPT).min(held.floor().unwrap_or(u64::MAX));
    (upto >= dropped + ENTRIES_AT_ONCE).then_some(upto)
}
