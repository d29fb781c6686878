//! What a command answers. A refusal is an outcome, not an error: every replica agrees on it.

use std::sync::Arc;

use crate::catalog::check::{Check, Status};
use crate::catalog::node::Node;
use crate::catalog::service::Service;
use crate::id::{LogIndex, SessionId, Str};
use crate::kv::KvEntry;
use crate::lock::LockPlace;
use crate::session::Session;

/// The answer to a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It was done, or there was nothing to do. `entry` is the key as a write left it.
    Done {
        /// Set by writes of one key.
        entry: Option<KvEntry>,
        /// How many rows it removed, for deletions.
        removed: u64,
    },
    /// A transaction was done: one result a reading or writing step, in order.
    Txn(Vec<TxnResult>),
    /// What became of a session: as it began or was renewed, or as it was when it ended. `None` when
    /// there was nothing to end.
    Session(Option<Arc<Session>>),
    /// What became of a wish to hold a lock.
    Lock(LockPlace),
    /// Nothing was changed, and why.
    Refused(Refusal),
}

impl Outcome {
    /// Done, with nothing to show.
    pub const DONE: Outcome = Outcome::Done { entry: None, removed: 0 };
}

/// One row that a transaction answers with.
#[derive(Clone, Debug, PartialEq)]
pub struct TxnResult {
    /// Position of the step, from 0.
    pub op_index: usize,
    /// The row.
    pub row: TxnRow,
}

/// A row as a step of a transaction shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum TxnRow {
    /// A key.
    Kv {
        /// The entry; its value is shown only where `with_value` is set.
        entry: KvEntry,
        /// Whether the step was a read that shows values.
        with_value: bool,
    },
    /// A node.
    Node(Arc<Node>),
    /// An instance.
    Service(Arc<Service>),
    /// A check.
    Check(Arc<Check>),
    /// A row of the catalog that was read and does not exist.
    Nothing,
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// A compare did not hold.
    #[error("the precondition on `{subject}` does not hold: expected modify index {expected}, found {found}")]
    CompareFailed {
        /// What was compared.
        subject: Str,
        /// 0 stands for "absent".
        expected: LogIndex,
        /// 0 stands for "absent".
        found: LogIndex,
    },
    /// The lock is held by another session.
    #[error("the lock on `{key}` is held by session `{holder}`")]
    LockHeld {
        /// The key.
        key: Str,
        /// Who holds it.
        holder: SessionId,
    },
    /// The lock is not held by the session that wants to release it.
    #[error("the lock on `{key}` is not held by session `{session}`")]
    LockNotHeld {
        /// The key.
        key: Str,
        /// Who asked.
        session: SessionId,
    },
    /// The last holder of a lock ended without releasing it, and its lock delay is not over.
    #[error("the lock on `{key}` is kept free for {remaining_ms} ms more, because its last holder ended without releasing it")]
    LockDelay {
        /// The key.
        key: Str,
        /// How long that lasts.
        remaining_ms: u64,
    },
    /// As many wait for a lock, or for all of them, as may.
    #[error("`{key}` has no room for another one who waits: the limit is {limit}")]
    LockQueueFull {
        /// The key of the lock.
        key: Str,
        /// How many may wait.
        limit: usize,
    },
    /// A lock is in use with another number of slots.
    #[error(
        "the lock on `{key}` is in use with {slots} slots, {asked} were asked for; give the same number, or wait until it is not in use"
    )]
    LockSlotsDiffer {
        /// The key of the lock.
        key: Str,
        /// As it is in use.
        slots: u32,
        /// As it was asked for.
        asked: u32,
    },
    /// A fence is not that of the lock's present holder.
    #[error("the fence on `{key}` is stale: token {token} was given, the present grant is {current}")]
    StaleFence {
        /// The key of the lock.
        key: Str,
        /// What was given.
        token: LogIndex,
        /// 0 when nobody holds the lock.
        current: LogIndex,
    },
    /// A row that must exist does not.
    #[error("`{subject}` does not exist")]
    Absent {
        /// What was named.
        subject: Str,
    },
    /// A session cannot be tied to a check that is critical or absent.
    #[error("a session cannot be tied to check `{check}`, which is {}", status.map_or("not registered", Status::as_str))]
    CheckNotPassing {
        /// The check.
        check: Str,
        /// `None` when it is not registered.
        status: Option<Status>,
    },
    /// The session does not exist, or exists no more.
    #[error("session `{session}` does not exist")]
    UnknownSession {
        /// Who asked.
        session: SessionId,
    },
    /// A check or deregistration names a node that is not registered.
    #[error("node `{node}` is not registered")]
    UnknownNode {
        /// The name.
        node: Str,
    },
    /// A check names an instance that is not registered on its node.
    #[error("service `{service_id}` is not registered on node `{node}`")]
    UnknownService {
        /// The node.
        node: Str,
        /// The instance.
        service_id: Str,
    },
    /// A check is not registered on its node.
    #[error("check `{check_id}` is not registered on node `{node}`")]
    UnknownCheck {
        /// The node.
        node: Str,
        /// The check.
        check_id: Str,
    },
    /// A node id belongs to another, living node; or a name to another id.
    #[error(
        "node `{name}` with id `{id}` can't be registered: node `{holder_name}` with id `{holder_id}` at {holder_address} is alive; give it \
         another name, or another id"
    )]
    NodeConflict {
        /// The name asked for.
        name: Str,
        /// The id asked for.
        id: Str,
        /// The name of the node that has one of them.
        holder_name: Str,
        /// Its id.
        holder_id: Str,
        /// Where that one is.
        holder_address: Str,
    },
    /// A restore can't go on.
    #[error("the restore can't go on: {why}; begin it anew")]
    Restore {
        /// What is wrong.
        why: Str,
    },
    /// A transaction failed; nothing of it was done.
    #[error("{} of the transaction's operations failed; nothing was changed", failures.len())]
    Txn {
        /// Which steps failed, and why.
        failures: Vec<TxnFailure>,
    },
}

/// Why one step of a transaction failed.
#[derive(Clone, Debug, PartialEq)]
pub struct TxnFailure {
    /// Position of the step, from 0.
    pub op_index: usize,
    /// What went wrong, in the words of transactions.
    pub what: String,
    /// The same with its values, for programs.
    pub cause: Box<Refusal>,
}
