//! The Raft library's own conformance suite, on the log and the state machine as a server has them:
//! on files, and in memory.

use std::sync::Arc;

use arc_swap::ArcSwap;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use state::{ChangeBatch, LogIndex, Millis, Tables};
use store::log::{LogHandle, LogOptions, Recovered};
use tempfile::TempDir;

use crate::ChangeSink;
use crate::clock::Clock;
use crate::compaction::Backlog;
use crate::error::RootCause;
use crate::flusher::{Flushed, Flusher, History, HistoryBounds, Position};
use crate::log_store::LogStore;
use crate::outcomes::Outcomes;
use crate::state_machine::{Shared, StateMachine};
use crate::types::TypeConfig;

struct Nobody;

impl ChangeSink for Nobody {
    fn restore(&self, _history: Vec<Arc<ChangeBatch>>, _complete_from: LogIndex, _applied: LogIndex) {}
    fn publish(&self, _batch: Arc<ChangeBatch>) {}
    fn advance(&self, _applied: LogIndex) {}
    fn reset(&self, _applied: LogIndex) {}
}

struct Builder {
    durable: bool,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Option<TempDir>> for Builder {
    async fn build(&self) -> Result<(Option<TempDir>, LogStore, StateMachine), StorageError<TypeConfig>> {
        let (dir, log, recovered) = if self.durable {
            let dir = TempDir::new().unwrap();
            let options = LogOptions { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..LogOptions::default() };
            let (log, recovered) = store::log::open(dir.path(), options).unwrap();
            (Some(dir), log, recovered)
        } else {
            (None, LogHandle::in_memory(), Recovered::default())
        };
        let published = Arc::new(ArcSwap::from_pointee(Tables::default()));
        let flushed = Flushed { position: Position::default(), tables: published.load_full() };
        let history = History::new(HistoryBounds { changes_max: 10, bytes_max: 1 << 20 }, 0);
        let flusher = Flusher::start(None, flushed, history, RootCause::default()).unwrap();
        let machine = StateMachine::new(
            Position::default(),
            Arc::new(Nobody),
            flusher,
            Arc::new(Backlog::default()),
            Shared { published, outcomes: Arc::new(Outcomes::new(0)), clock: Arc::new(Clock::new(Millis(0))), held: Arc::default() },
        );
        Ok((dir, LogStore::new(0, log, recovered, RootCause::default()).unwrap(), machine))
    }
}

#[tokio::test]
async fn the_log_on_files_conforms() {
    Suite::test_all(Builder { durable: true }).await.unwrap();
}

#[tokio::test]
async fn the_log_in_memory_conforms() {
    Suite::test_all(Builder { durable: false }).await.unwrap();
}
