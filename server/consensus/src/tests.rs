//! What a server promises, on real files: what was acknowledged is there after a restart, history
//! included, however far the state on disk lags behind the log.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use state::{ChangeBatch, Compare, KvWrite, LockAction, LogIndex, Operation, Outcome};
use store::log::LogOptions;
use store::state_store::{StateOptions, StateStore};
use tempfile::TempDir;

use super::*;

/// Remembers everything that it is told.
#[derive(Default)]
struct Recorder {
    indexes: Mutex<Vec<u64>>,
    complete_from: Mutex<u64>,
}

impl ChangeSink for Recorder {
    fn restore(&self, history: Vec<Arc<ChangeBatch>>, complete_from: LogIndex, _applied: LogIndex) {
        *self.complete_from.lock() = complete_from.0;
        self.indexes.lock().extend(history.iter().map(|batch| batch.index.0));
    }

    fn publish(&self, batch: Arc<ChangeBatch>) {
        self.indexes.lock().push(batch.index.0);
    }

    fn advance(&self, _applied: LogIndex) {}

    fn reset(&self, _applied: LogIndex) {}
}

const BOUNDS: HistoryBounds = HistoryBounds { changes_max: 1000, bytes_max: 1 << 20 };

async fn start(dir: &Path) -> (Consensus, Arc<Recorder>) {
    let log_options = LogOptions { segment_bytes: 64 << 10, first_segment_bytes: 64 << 10, ..LogOptions::default() };
    let (log, recovered) = store::log::open(&dir.join("log"), log_options).unwrap();
    let state = StateStore::open(&dir.join("state"), StateOptions { map_bytes: 1 << 30 }).unwrap();
    let member = Member { name: "n1".into(), address: "127.0.0.1:8300".into() };
    let storage = Storage::Durable { log, recovered, state, arriving: dir.join("arriving") };
    let recorder = Arc::new(Recorder::default());
    let consensus = Consensus::start(
        Options { id: 7, member, datacenter: "dc1".into(), start: Start::Alone, history: BOUNDS, network: net::Network::host(), storage },
        recorder.clone(),
    )
    .await
    .unwrap();
    consensus.ready().await.unwrap();
    (consensus, recorder)
}

fn dirs() -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    std::fs::create_dir(dir.path().join("state")).unwrap();
    dir
}

fn put(key: &str, value: &str) -> Operation {
    Operation::Kv(KvWrite::Set {
        key: key.as_bytes().into(),
        value: value.as_bytes().into(),
        flags: 0,
        compare: Compare::Any,
        lock: LockAction::Keep,
    })
}

async fn value(consensus: &Consensus, key: &str) -> Option<String> {
    let tables = consensus.read(Consistency::Linearizable).await.unwrap();
    tables.kv_get(key.as_bytes()).value.map(|entry| String::from_utf8_lossy(entry.value()).into_owned())
}

/// A quorum of one comes to read without asking, also after a restart.
async fn until_alone(consensus: &Consensus) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !consensus.has_nobody_to_ask() {
        assert!(Instant::now() < deadline, "alone: {}, leader: {}", consensus.inner.log_store.is_alone(), consensus.is_leader());
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_write_is_read_back_at_every_consistency() {
    let member = Member::default();
    let options = Options {
        id: 1,
        member,
        datacenter: "dc1".into(),
        start: Start::Alone,
        history: BOUNDS,
        network: net::Network::host(),
        storage: Storage::Memory,
    };
    let consensus = Consensus::start(options, Arc::new(Recorder::default())).await.unwrap();
    consensus.ready().await.unwrap();
    let proposed = consensus.propose(put("a", "1")).await.unwrap();
    for consistency in [Consistency::Linearizable, Consistency::Leased, Consistency::Stale] {
        let tables = consensus.read(consistency).await.unwrap();
        assert!(tables.applied() >= proposed.index);
        assert_eq!(tables.kv_get(b"a").value.unwrap().value(), b"1");
    }
    until_alone(&consensus).await;
    let status = consensus.status();
    assert_eq!((status.leader, status.state), (Some(1), "leader"));
    consensus.shutdown().await;
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_changes_nothing() {
    let options = Options {
        id: 1,
        member: Member::default(),
        datacenter: "dc1".into(),
        start: Start::Alone,
        history: BOUNDS,
        network: net::Network::host(),
        storage: Storage::Memory,
    };
    let consensus = Consensus::start(options, Arc::new(Recorder::default())).await.unwrap();
    consensus.ready().await.unwrap();
    let operation = Operation::Kv(KvWrite::Set {
        key: b"a"[..].into(),
        value: b"1"[..].into(),
        flags: 0,
        compare: Compare::ModifyIndex(LogIndex(99)),
        lock: LockAction::Keep,
    });
    assert!(matches!(consensus.propose(operation).await.unwrap().outcome, Outcome::Refused(_)));
    assert_eq!(value(&consensus, "a").await, None);
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_restarts_with_its_history() {
    let dir = dirs();
    let mut expected = Vec::new();
    for round in 0..4u32 {
        let (consensus, recorder) = start(dir.path()).await;
        assert!(*recorder.complete_from.lock() <= 1, "nothing was compacted");
        assert_eq!(*recorder.indexes.lock(), expected, "the history goes on where it ended");
        for n in 0..50u32 {
            let proposed = consensus.propose(put(&format!("k{}", n % 20), &format!("{round}.{n}"))).await.unwrap();
            expected.push(proposed.index.0);
        }
        if round % 2 == 0 {
            consensus.shutdown().await;
        } else {
            // No flush of the state: the log alone brings everything back.
            consensus.inner.stop.cancel();
            consensus.inner.raft.shutdown().await.unwrap();
        }
        drop(consensus);
    }
    let (consensus, _) = start(dir.path()).await;
    until_alone(&consensus).await;
    for n in 30..50u32 {
        assert_eq!(value(&consensus, &format!("k{}", n % 20)).await, Some(format!("3.{n}")));
    }
    consensus.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_dropped_once_the_state_is_on_disk() {
    let dir = dirs();
    let (consensus, _) = start(dir.path()).await;
    let writes = (0..12_000u32).map(|n| consensus.propose(put(&format!("k{}", n % 100), &n.to_string())));
    futures::future::try_join_all(writes).await.unwrap();
    let written = value(&consensus, "k99").await;
    assert!(written.is_some());
    consensus.inner.raft.trigger().snapshot().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while consensus.status().flushed < 12_000 {
        assert!(Instant::now() < deadline, "the state is written in time: {:?}", consensus.status());
        sleep(Duration::from_millis(10)).await;
    }
    consensus.inner.stop.cancel();
    consensus.inner.raft.shutdown().await.unwrap();
    drop(consensus);
    let (consensus, _) = start(dir.path()).await;
    assert_eq!(value(&consensus, "k99").await, written);
    consensus.shutdown().await;
}
