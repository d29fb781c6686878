//! Rows as they are kept at rest: what a command touched, and what stands there now.

use std::sync::Arc;

use crate::autopilot::Autopilot;
use crate::catalog::check::Check;
use crate::catalog::node::Node;
use crate::catalog::service::Service;
use crate::id::{LogIndex, Millis, SessionId, Str};
use crate::kv::KvEntry;
use crate::lock::Waiter;
use crate::session::Session;
use crate::tombstone::Tombstone;

/// Names one row. Touched rows are collected by key and read from a later snapshot, so that many
/// writes of one row between two flushes cost one write at rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowKey {
    /// A key/value entry, named by any version of it.
    Kv(KvEntry),
    /// A deleted key, or a deleted prefix.
    Tombstone {
        /// The key or prefix.
        key: Arc<[u8]>,
        /// Whether everything under it was deleted.
        prefix: bool,
    },
    /// A node, by the compared form of its name.
    Node(Str),
    /// An instance, by node (compared form) and id.
    Service(Str, Str),
    /// A check, by node (compared form) and id.
    Check(Str, Str),
    /// The index of a service by name; it outlives the last instance for a while.
    ServiceIndex(Str),
    /// A session.
    Session(SessionId),
    /// A key that nobody may lock yet.
    LockDelay(Arc<[u8]>),
    /// A lock that somebody waits for, or that has slots in use.
    LockQueue(Arc<[u8]>),
    /// Who waits for a lock, by its key and the ticket.
    LockWaiter(Arc<[u8]>, LogIndex),
    /// A part of a restore, by its place.
    Staged(u64),
    /// How servers are looked after. There is one such row.
    Autopilot,
    /// The table-wide numbers. There is one such row.
    Meta,
}

/// A row with its content.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// A key/value entry.
    Kv(KvEntry),
    /// A deletion.
    Tombstone {
        /// The key or prefix.
        key: Arc<[u8]>,
        /// Whether everything under it was deleted.
        prefix: bool,
        /// When.
        tombstone: Tombstone,
    },
    /// A node, with the index of everything on it.
    Node(Arc<Node>, LogIndex),
    /// An instance.
    Service(Arc<Service>),
    /// A check.
    Check(Arc<Check>),
    /// A service's index. `gone` is set when the service has no instance left.
    ServiceIndex {
        /// The service.
        name: Str,
        /// Its index.
        index: LogIndex,
        /// When the last instance went.
        gone: Option<Millis>,
    },
    /// A session.
    Session(Arc<Session>),
    /// A key that nobody may lock before that time.
    LockDelay(Arc<[u8]>, Millis),
    /// A lock that somebody waits for, or that has slots in use, and how many slots it has.
    LockQueue(Arc<[u8]>, u32),
    /// Who waits for the lock on a key.
    LockWaiter(Arc<[u8]>, Arc<Waiter>),
    /// A part of a restore that is under way: its place, and rows that are no state yet.
    Staged(u64, Arc<[Row]>),
    /// How servers are looked after.
    Autopilot(Autopilot),
    /// The table-wide numbers.
    Meta(MetaRow),
}

/// Table-wide numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetaRow {
    /// The last command applied.
    pub applied: LogIndex,
    /// The latest time that a command carried.
    pub clock: Millis,
    /// The last command that changed the key/value store.
    pub kv_index: LogIndex,
    /// The last command that changed the list of nodes.
    pub nodes_index: LogIndex,
    /// The last command that changed the list of services.
    pub services_index: LogIndex,
    /// The last command that changed a check.
    pub checks_index: LogIndex,
    /// The largest index of a tombstone that was reaped: what was deleted up to here may be
    /// forgotten.
    pub reaped: LogIndex,
    /// The same for services that lost their last instance.
    pub extinct_reaped: LogIndex,
    /// The incarnation of the cluster's state: drawn once when the cluster begins, drawn anew when
    /// it is restored from a backup. A watch position of another incarnation means nothing here.
    /// 0 before the first leader has begun.
    pub incarnation: u64,
    /// The number of the cluster, drawn once when it begins. A restore keeps it: the state is another one then, and the
    /// servers are the same. 0 before the first leader has begun.
    pub cluster: u64,
    /// The last command that began or ended a session.
    pub sessions_index: LogIndex,
    /// How far the revision is ahead of the log: it is, once a snapshot was restored whose revision
    /// was greater.
    pub offset: u64,
    /// The revision at which a snapshot was restored last. What any reader saw before is no more.
    pub restored: LogIndex,
    /// The restore that is under way; 0 for none.
    pub restoring: u64,
    /// When it last went on.
    pub restoring_at: Millis,
}
