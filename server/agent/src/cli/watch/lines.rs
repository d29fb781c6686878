//! Events of a watch as lines of JSON.

use lictor_client::{Change, Gone, ResetReason, Row, WatchEvent};
use serde_json::{Value, json};

use crate::cli::json;

/// One line for each row of a snapshot and each change; none for signs of life.
pub(crate) fn of(event: &WatchEvent) -> Vec<Value> {
    match event {
        WatchEvent::Snapshot { rows, revision } => rows.iter().map(|row| line("snapshot", *revision, put(row))).collect(),
        WatchEvent::SnapshotEnd { revision, .. } => vec![json!({"event": "snapshot_end", "revision": revision})],
        WatchEvent::Changes { changes, revision, .. } => changes
            .iter()
            .map(|change| match change {
                Change::Put(row) => line("put", *revision, put(row)),
                Change::Delete(row) => line("delete", *revision, gone(row)),
            })
            .collect(),
        WatchEvent::Reset { reason, message } => vec![json!({"event": "reset", "reason": reset(*reason), "message": message})],
        WatchEvent::Bookmark { .. } | WatchEvent::Interrupted { .. } => Vec::new(),
    }
}

fn line(event: &str, revision: u64, (kind, row): (&str, Value)) -> Value {
    json!({"event": event, "revision": revision, kind: row})
}

fn put(row: &Row) -> (&'static str, Value) {
    match row {
        Row::Entry(entry) => ("entry", json::entry(entry)),
        Row::Instance(instance) => ("instance", json::instance(instance)),
        Row::Node(node) => ("node", json::node(node)),
        Row::Check(check) => ("check", json::check(check)),
        Row::Service(service) => ("service", json::summary(service)),
    }
}

fn gone(row: &Gone) -> (&'static str, Value) {
    match row {
        Gone::Key(key) => {
            let (name, key) = json::key(key);
            ("entry", json!({name: key}))
        }
        Gone::Instance(row) => ("instance", json!({"node": row.node, "service_id": row.service_id, "service": row.service})),
        Gone::Node(name) => ("node", json!({"name": name})),
        Gone::Check(check) => ("check", json!({"node": check.node, "check_id": check.check_id})),
        Gone::Service(name) => ("service", json!({"name": name})),
    }
}

fn reset(reason: ResetReason) -> &'static str {
    match reason {
        ResetReason::Compacted => "compacted",
        ResetReason::SlowConsumer => "slow_consumer",
        ResetReason::ForeignCursor => "foreign_cursor",
        ResetReason::Restored => "restored",
        ResetReason::SnapshotCut => "snapshot_cut",
        ResetReason::Other => "other",
    }
}
