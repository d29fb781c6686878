//! What a watch tells.

use std::time::Duration;

use bytes::Bytes;
use proto::v1;
use proto::v1::change::Change as Wire;

use super::Cursor;
use crate::error::Error;

/// What happened to a watch.
#[derive(Debug)]
pub enum WatchEvent {
    /// A part of the snapshot; more parts, and then [`WatchEvent::SnapshotEnd`], follow.
    Snapshot {
        /// Rows as they are, each once.
        rows: Vec<Row>,
        /// The revision that the snapshot shows.
        revision: u64,
    },
    /// The snapshot is complete: what was not in it does not exist.
    SnapshotEnd {
        /// The revision that the snapshot shows.
        revision: u64,
        /// Where the watch stands.
        cursor: Cursor,
    },
    /// What changed at one revision, in the order in which it was made.
    Changes {
        /// At least one.
        changes: Vec<Change>,
        /// The revision.
        revision: u64,
        /// Where the watch stands.
        cursor: Cursor,
        /// Whether more changes of this revision follow in the next event.
        continued: bool,
    },
    /// Nothing changed up to here.
    Bookmark {
        /// The revision up to which nothing changed.
        revision: u64,
        /// Where the watch stands.
        cursor: Cursor,
        /// Whether the server knows a leader. Without one there is nothing new to tell.
        leader_known: bool,
    },
    /// Forget what you hold: a fresh snapshot follows.
    Reset {
        /// Why.
        reason: ResetReason,
        /// The same in words for people.
        message: String,
    },
    /// The connection was lost. The watch goes on by itself after a pause; what it holds is
    /// complete but may be old until the next event.
    Interrupted {
        /// What happened.
        error: Error,
        /// The pause.
        retry_in: Duration,
    },
}

/// A row that is there.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "an instance is large in the contract as well; boxing it would only add an allocation")]
pub enum Row {
    /// A key.
    Entry(v1::Entry),
    /// An instance of a service, with its node and checks.
    Instance(v1::Instance),
    /// A node.
    Node(v1::Node),
    /// A check.
    Check(v1::Check),
    /// A service in the list of services.
    Service(v1::ServiceSummary),
}

/// The name of a row that is gone, or is no longer in the target.
#[derive(Clone, Debug, PartialEq)]
pub enum Gone {
    /// A key.
    Key(Bytes),
    /// An instance of a service.
    Instance(v1::InstanceDelete),
    /// A node, by its name.
    Node(String),
    /// A check.
    Check(v1::CheckKey),
    /// A service, by its name.
    Service(String),
}

/// One row that came, changed or went.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "an instance is large in the contract as well; boxing it would only add an allocation")]
pub enum Change {
    /// It came, or changed.
    Put(Row),
    /// It went.
    Delete(Gone),
}

/// Why a watch begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The cursor is older than the history that the servers keep.
    Compacted,
    /// This reader was too slow.
    SlowConsumer,
    /// The cursor is from another cluster or datacenter, or from before a restore.
    ForeignCursor,
    /// The data was replaced by a restore.
    Restored,
    /// The connection was lost in the middle of a snapshot.
    SnapshotCut,
    /// A reason that this version of the client does not know.
    Other,
}

impl From<v1::ResetReason> for ResetReason {
    fn from(reason: v1::ResetReason) -> Self {
        match reason {
            v1::ResetReason::Unspecified => ResetReason::Other,
            v1::ResetReason::Compacted => ResetReason::Compacted,
            v1::ResetReason::SlowConsumer => ResetReason::SlowConsumer,
            v1::ResetReason::ForeignCursor => ResetReason::ForeignCursor,
            v1::ResetReason::Restored => ResetReason::Restored,
        }
    }
}

impl TryFrom<v1::Change> for Change {
    type Error = Error;

    fn try_from(change: v1::Change) -> Result<Self, Error> {
        let unknown = || Error::Contract("a change is of a kind that this client does not know; use a newer one".into());
        Ok(match change.change.ok_or_else(unknown)? {
            Wire::KvPut(entry) => Change::Put(Row::Entry(entry)),
            Wire::KvDelete(key) => Change::Delete(Gone::Key(key)),
            Wire::InstancePut(instance) => Change::Put(Row::Instance(instance)),
            Wire::InstanceDelete(instance) => Change::Delete(Gone::Instance(instance)),
            Wire::NodePut(node) => Change::Put(Row::Node(node)),
            Wire::NodeDelete(node) => Change::Delete(Gone::Node(node)),
            Wire::CheckPut(check) => Change::Put(Row::Check(check)),
            Wire::CheckDelete(check) => Change::Delete(Gone::Check(check)),
            Wire::ServicePut(service) => Change::Put(Row::Service(service)),
            Wire::ServiceDelete(service) => Change::Delete(Gone::Service(service)),
        })
    }
}
