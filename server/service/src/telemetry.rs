//! What the layer measures of itself. The handles are looked up once, so that a figure costs an
//! atomic operation where it is taken.

use std::time::Instant;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use state::Operation;

/// The figures of the service layer, under the names that dashboards for Consul know.
pub(crate) struct Telemetry {
    kvs_apply: Histogram,
    txn_apply: Histogram,
    register: Histogram,
    deregister: Histogram,
    session_apply: Histogram,
    lock_apply: Histogram,
    commit_time: Histogram,
    proposals: Counter,
    /// Reads by any face.
    pub(crate) queries: Counter,
    /// Those of them that are linearizable.
    pub(crate) consistent_reads: Counter,
    /// Queries that wait for a change now.
    pub(crate) blocking: Gauge,
    /// Streams that carry watches now.
    pub(crate) watch_streams: Gauge,
    /// Watches that had to begin anew.
    pub(crate) watch_resets: Counter,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        Telemetry {
            kvs_apply: histogram!("consul_kvs_apply"),
            txn_apply: histogram!("consul_txn_apply"),
            register: histogram!("consul_catalog_register"),
            deregister: histogram!("consul_catalog_deregister"),
            session_apply: histogram!("consul_session_apply"),
            lock_apply: histogram!("consul_lock_apply"),
            commit_time: histogram!("consul_raft_commitTime"),
            proposals: counter!("consul_raft_apply"),
            queries: counter!("consul_rpc_query"),
            consistent_reads: counter!("consul_rpc_consistentRead"),
            blocking: gauge!("consul_rpc_queries_blocking"),
            watch_streams: gauge!("consul_watch_streams"),
            watch_resets: counter!("consul_watch_resets"),
        }
    }

    /// Takes the time of a proposal; the returned function is called when it has been applied.
    pub(crate) fn proposal(&self, operation: &Operation) -> impl FnOnce() + use<> {
        self.proposals.increment(1);
        let (kind, all, started) = (self.kind(operation).cloned(), self.commit_time.clone(), Instant::now());
        move || {
            let ms = started.elapsed().as_secs_f64() * 1000.0;
            all.record(ms);
            kind.iter().for_each(|kind| kind.record(ms));
        }
    }

    fn kind(&self, operation: &Operation) -> Option<&Histogram> {
        match operation {
            Operation::Kv(_) => Some(&self.kvs_apply),
            Operation::Txn(_) => Some(&self.txn_apply),
            Operation::Register(_) => Some(&self.register),
            Operation::Deregister(_) => Some(&self.deregister),
            Operation::SessionCreate(_) | Operation::SessionRenew(_) | Operation::SessionEnd { .. } => Some(&self.session_apply),
            Operation::LockAcquire(_) | Operation::LockRelease { .. } => Some(&self.lock_apply),
            Operation::Fenced { operation, .. } => self.kind(operation),
            Operation::Begin { .. } | Operation::Restore { .. } | Operation::SetAutopilot { .. } | Operation::Noop => None,
        }
    }
}

/// One more, until it is dropped.
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Counted(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
