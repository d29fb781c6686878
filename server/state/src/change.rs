//! What a command changed, in the words of those who watch.
//!
//! A change says what the row was and what it is. With both sides a filter can decide exactly
//! whether its watcher sees an appearance, an update, a disappearance or nothing at all.

use std::sync::Arc;

use crate::catalog::check::Check;
use crate::catalog::node::Node;
use crate::catalog::service::{Instance, ServiceSummary};
use crate::id::{LogIndex, Str};
use crate::kv::KvEntry;
use crate::session::{Session, SessionEnd};

/// All changes of one command, in the order in which it made them.
#[derive(Clone, Debug)]
pub struct ChangeBatch {
    /// The command's log index: the revision of every change in the batch.
    pub index: LogIndex,
    /// Never empty.
    pub changes: Vec<Change>,
}

/// One row before and after. At least one side is set.
#[derive(Clone, Debug)]
pub enum Change {
    /// A key was written.
    KvPut {
        /// The entry as it is now.
        entry: KvEntry,
    },
    /// A key was deleted.
    KvDelete {
        /// The entry as it was.
        entry: KvEntry,
    },
    /// A node's own row.
    Node {
        /// As it was; absent when it appeared.
        before: Option<Arc<Node>>,
        /// As it is; absent when it was deregistered.
        after: Option<Arc<Node>>,
    },
    /// An instance of a service, its node and the checks that decide on it, as one joined row.
    Instance {
        /// As it was.
        before: Option<Arc<Instance>>,
        /// As it is.
        after: Option<Arc<Instance>>,
    },
    /// A check's own row.
    Check {
        /// As it was.
        before: Option<Arc<Check>>,
        /// As it is.
        after: Option<Arc<Check>>,
    },
    /// A line in the list of services.
    Service {
        /// As it was.
        before: Option<Arc<ServiceSummary>>,
        /// As it is.
        after: Option<Arc<ServiceSummary>>,
    },
    /// A session that began or ended; renewals are no change.
    Session {
        /// As it was; absent when it began.
        before: Option<Arc<Session>>,
        /// As it is; absent when it ended.
        after: Option<Arc<Session>>,
        /// Why it ended, if it did.
        end: Option<SessionEnd>,
    },
}

impl Change {
    /// The node, service or check name pair that a reader would log; for diagnosis only.
    pub fn subject(&self) -> Str {
        fn either<T>(before: &Option<Arc<T>>, after: &Option<Arc<T>>, name: impl Fn(&T) -> Str) -> Str {
            after.as_ref().or(before.as_ref()).map(|row| name(row)).unwrap_or_else(|| "".into())
        }
        match self {
            Change::KvPut { entry } | Change::KvDelete { entry } => String::from_utf8_lossy(entry.key()).into(),
            Change::Node { before, after } => either(before, after, |node| node.name.clone()),
            Change::Instance { before, after } => either(before, after, |instance| instance.service.name.clone()),
            Change::Check { before, after } => either(before, after, |check| check.id.clone()),
            Change::Service { before, after } => either(before, after, |service| service.name.clone()),
            Change::Session { before, after, .. } => either(before, after, |session| session.id.to_string().into()),
        }
    }

    /// An estimate of the memory that keeping this change in the history costs, in bytes.
    pub fn weight(&self) -> usize {
        const ROW: usize = 128;
        match self {
            Change::KvPut { entry } | Change::KvDelete { entry } => ROW + entry.key().len() + entry.value().len(),
            Change::Instance { before, after } => ROW + 8 * ROW * (before.is_some() as usize + after.is_some() as usize),
            Change::Node { .. } | Change::Check { .. } | Change::Service { .. } | Change::Session { .. } => 4 * ROW,
        }
    }
}
