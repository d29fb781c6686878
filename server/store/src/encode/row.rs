//! Rows of the state machine: alone in their database, or one after the other in a snapshot.

use std::sync::Arc;

use prost::Message;
use proto::storage::v1 as pb;
use state::{LogIndex, MetaRow, Millis, Row};

use crate::encode::{Malformed, Table, catalog, check, kv, lock, operator, session};

/// Encodes a row for a snapshot: [`decode`] needs nothing else to tell its kind.
pub fn encode(row: &Row) -> Vec<u8> {
    pb::Row { row: Some(from_row(row)) }.encode_to_vec()
}

/// Decodes a row of a snapshot.
///
/// # Errors
///
/// [`Malformed`] when the bytes are not what [`encode`] makes, or of a kind that this release does not know.
pub fn decode(bytes: &[u8]) -> Result<Row, Malformed> {
    to_row(pb::Row::decode(bytes)?.row.ok_or(Malformed::Unknown("row"))?)
}

/// Encodes a row for the database of its kind.
pub(crate) fn encode_value(row: &Row) -> Vec<u8> {
    match from_row(row) {
        pb::row::Row::Kv(row) => row.encode_to_vec(),
        pb::row::Row::Tombstone(row) => row.encode_to_vec(),
        pb::row::Row::Node(row) => row.encode_to_vec(),
        pb::row::Row::Service(row) => row.encode_to_vec(),
        pb::row::Row::Check(row) => row.encode_to_vec(),
        pb::row::Row::ServiceIndex(row) => row.encode_to_vec(),
        pb::row::Row::Session(row) => row.encode_to_vec(),
        pb::row::Row::LockDelay(row) => row.encode_to_vec(),
        pb::row::Row::LockQueue(row) => row.encode_to_vec(),
        pb::row::Row::LockWaiter(row) => row.encode_to_vec(),
        pb::row::Row::Staged(row) => row.encode_to_vec(),
        pb::row::Row::Autopilot(row) => row.encode_to_vec(),
        pb::row::Row::Tables(row) => row.encode_to_vec(),
    }
}

/// Decodes a row from the database `table`.
pub(crate) fn decode_value(table: Table, bytes: &[u8]) -> Result<Row, Malformed> {
    to_row(match table {
        Table::Tables => pb::row::Row::Tables(pb::Tables::decode(bytes)?),
        Table::Kv => pb::row::Row::Kv(pb::Kv::decode(bytes)?),
        Table::Tombstones => pb::row::Row::Tombstone(pb::Tombstone::decode(bytes)?),
        Table::Nodes => pb::row::Row::Node(pb::Node::decode(bytes)?),
        Table::Services => pb::row::Row::Service(pb::Service::decode(bytes)?),
        Table::Checks => pb::row::Row::Check(pb::Check::decode(bytes)?),
        Table::Sessions => pb::row::Row::Session(pb::Session::decode(bytes)?),
        Table::LockDelays => pb::row::Row::LockDelay(pb::LockDelay::decode(bytes)?),
        Table::LockQueues => pb::row::Row::LockQueue(pb::LockQueue::decode(bytes)?),
        Table::LockWaiters => pb::row::Row::LockWaiter(pb::LockWaiter::decode(bytes)?),
        Table::Staged => pb::row::Row::Staged(pb::Staged::decode(bytes)?),
        Table::Autopilot => pb::row::Row::Autopilot(pb::Autopilot::decode(bytes)?),
        Table::ServiceIndexes => pb::row::Row::ServiceIndex(pb::ServiceIndex::decode(bytes)?),
    })
}

fn from_row(row: &Row) -> pb::row::Row {
    match row {
        Row::Kv(entry) => pb::row::Row::Kv(kv::from_entry(entry)),
        Row::Tombstone { key, prefix, tombstone } => pb::row::Row::Tombstone(kv::from_tombstone(key, *prefix, tombstone)),
        Row::Node(node, index) => pb::row::Row::Node(catalog::from_node(node, *index)),
        Row::Service(service) => pb::row::Row::Service(catalog::from_service(service)),
        Row::Check(check) => pb::row::Row::Check(check::from_check(check)),
        Row::ServiceIndex { name, index, gone } => pb::row::Row::ServiceIndex(catalog::from_service_index(name, *index, *gone)),
        Row::Session(row) => pb::row::Row::Session(session::from_row(row)),
        Row::Staged(sequence, rows) => pb::row::Row::Staged(from_staged(*sequence, rows)),
        Row::Autopilot(row) => pb::row::Row::Autopilot(operator::from_autopilot(row)),
        Row::LockDelay(key, until) => pb::row::Row::LockDelay(session::from_delay(key, *until)),
        Row::LockQueue(key, slots) => pb::row::Row::LockQueue(lock::from_queue(key, *slots)),
        Row::LockWaiter(key, waiter) => pb::row::Row::LockWaiter(lock::from_waiter(key, waiter)),
        Row::Meta(meta) => pb::row::Row::Tables(from_meta(meta)),
    }
}

fn to_row(row: pb::row::Row) -> Result<Row, Malformed> {
    Ok(match row {
        pb::row::Row::Kv(row) => Row::Kv(kv::to_entry(&row)?),
        pb::row::Row::Tombstone(row) => kv::to_tombstone(&row),
        pb::row::Row::Node(row) => {
            let (node, index) = catalog::to_node(row);
            Row::Node(Arc::new(node), index)
        }
        pb::row::Row::Service(row) => Row::Service(Arc::new(catalog::to_service(row))),
        pb::row::Row::Check(row) => Row::Check(Arc::new(check::to_check(row)?)),
        pb::row::Row::ServiceIndex(row) => catalog::to_service_index(row),
        pb::row::Row::Session(row) => Row::Session(Arc::new(session::to_row(row)?)),
        pb::row::Row::LockDelay(row) => session::to_delay(&row),
        pb::row::Row::LockQueue(row) => lock::to_queue(&row),
        pb::row::Row::LockWaiter(row) => lock::to_waiter(&row)?,
        pb::row::Row::Staged(row) => {
            let (sequence, rows) = to_staged(row)?;
            Row::Staged(sequence, rows)
        }
        pb::row::Row::Autopilot(row) => Row::Autopilot(operator::to_autopilot(&row)),
        pb::row::Row::Tables(row) => Row::Meta(to_meta(row)),
    })
}

/// Rows that are staged for a restore.
pub(crate) fn from_staged(sequence: u64, rows: &[Row]) -> pb::Staged {
    pb::Staged { sequence, rows: rows.iter().map(|row| pb::Row { row: Some(from_row(row)) }).collect() }
}

/// The same the other way. What is staged is no part of another stage.
pub(crate) fn to_staged(staged: pb::Staged) -> Result<(u64, Arc<[Row]>), Malformed> {
    let row = |row: pb::Row| match row.row {
        None | Some(pb::row::Row::Staged(_)) => Err(Malformed::Unknown("row")),
        Some(row) => to_row(row),
    };
    Ok((staged.sequence, staged.rows.into_iter().map(row).collect::<Result<_, _>>()?))
}

fn from_meta(meta: &MetaRow) -> pb::Tables {
    pb::Tables {
        applied: meta.applied.0,
        clock_ms: meta.clock.0,
        kv_index: meta.kv_index.0,
        nodes_index: meta.nodes_index.0,
        services_index: meta.services_index.0,
        checks_index: meta.checks_index.0,
        reaped: meta.reaped.0,
        extinct_reaped: meta.extinct_reaped.0,
        incarnation: meta.incarnation,
        cluster: meta.cluster,
        sessions_index: meta.sessions_index.0,
        offset: meta.offset,
        restored: meta.restored.0,
        restoring: meta.restoring,
        restoring_ms: meta.restoring_at.0,
    }
}

fn to_meta(row: pb::Tables) -> MetaRow {
    MetaRow {
        applied: LogIndex(row.applied),
        clock: Millis(row.clock_ms),
        kv_index: LogIndex(row.kv_index),
        nodes_index: LogIndex(row.nodes_index),
        services_index: LogIndex(row.services_index),
        checks_index: LogIndex(row.checks_index),
        reaped: LogIndex(row.reaped),
        extinct_reaped: LogIndex(row.extinct_reaped),
        incarnation: row.incarnation,
        cluster: row.cluster,
        sessions_index: LogIndex(row.sessions_index),
        offset: row.offset,
        restored: LogIndex(row.restored),
        restoring: row.restoring,
        restoring_at: Millis(row.restoring_ms),
    }
}
