//! What may be asked of the state machine: the payload of a Raft log entry.

use std::collections::BTreeMap;

use crate::autopilot::Autopilot;
use crate::catalog::check::{CheckDefinition, Status};
use crate::catalog::service::{ServiceAddress, Weights};
use crate::id::{LogIndex, Millis, SessionId, Str};
use crate::restore::RestoreStep;
use crate::session::{Session, SessionEnd};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The proposer's clock. The state machine takes the larger of this and the last one.
    pub at: Millis,
    /// What to do.
    pub operation: Operation,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// One write to the key/value store.
    Kv(KvWrite),
    /// Several reads, compares and writes, all or none.
    Txn(Vec<TxnOp>),
    /// Upsert a node, and on it perhaps a service and checks.
    Register(Box<Registration>),
    /// Remove a check, a service, or a node with all that is on it.
    Deregister(Deregistration),
    /// Draw the cluster's incarnation, unless it has one. The number is chosen by the proposer and
    /// is never 0.
    Begin {
        /// The number drawn.
        incarnation: u64,
    },
    /// Begin a session. Its times and indexes are set when it is applied.
    SessionCreate(Box<Session>),
    /// Renew a session.
    SessionRenew(SessionId),
    /// End a session. With [`SessionEnd::Expired`] only if it was not renewed in the meantime.
    SessionEnd {
        /// Which one.
        id: SessionId,
        /// Why.
        cause: SessionEnd,
        /// The term of the leader that proposed it; 0 when it was asked for.
        term: u64,
        /// Whether its keys are kept free for its lock delay.
        delays: bool,
    },
    /// Take a lock, or wait for it.
    LockAcquire(Box<LockAcquire>),
    /// Give a lock back, or a place in its queue.
    LockRelease {
        /// The key of the lock or of the slot.
        key: Box<[u8]>,
        /// Who holds it or waits for it.
        session: SessionId,
        /// Only the grant with this token; 0 is whichever there is.
        token: LogIndex,
    },
    /// Do something only while a lock is held.
    Fenced {
        /// The lock, and the proof of holding it.
        fence: Fence,
        /// What to do; not a fenced operation again.
        operation: Box<Operation>,
    },
    /// A step of a restore.
    Restore {
        /// Which restore: a number drawn for it, never 0.
        id: u64,
        /// Which step.
        step: RestoreStep,
    },
    /// Change how servers are looked after.
    SetAutopilot {
        /// The new values; its indexes are set when it is applied.
        wanted: Autopilot,
        /// Change only if this holds.
        compare: Compare,
    },
    /// Do nothing: a round through the log.
    Noop,
}

/// Proof of holding a lock, made to travel with writes: the index at which the lock was granted
/// grows with each grant, so that a write by an earlier holder is refused however late it arrives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The key of the lock.
    pub key: Box<[u8]>,
    /// The index of the command that granted it.
    pub token: LogIndex,
}

/// A wish to hold a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockAcquire {
    /// The key of the lock.
    pub key: Box<[u8]>,
    /// How many may hold it at once; 0 is a lock without slots.
    pub slots: u32,
    /// Who wants it.
    pub session: SessionId,
    /// What is written to the key with the grant.
    pub value: Box<[u8]>,
    /// Wait in the queue where it is not free.
    pub wait: bool,
}

/// A write to the key/value store.
#[derive(Clone, Debug, PartialEq)]
pub enum KvWrite {
    /// Create or overwrite a key.
    Set {
        /// The key.
        key: Box<[u8]>,
        /// The value.
        value: Box<[u8]>,
        /// The writer's opaque number.
        flags: u64,
        /// Write only if this holds.
        compare: Compare,
        /// What to do with the lock on the key.
        lock: LockAction,
    },
    /// Delete a key. Deleting what is absent succeeds.
    Delete {
        /// The key.
        key: Box<[u8]>,
        /// Delete only if this holds.
        compare: Compare,
    },
    /// Delete every key that starts with `prefix`.
    DeletePrefix {
        /// Empty deletes all.
        prefix: Box<[u8]>,
    },
}

/// A condition on a row's present state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// Always holds.
    #[default]
    Any,
    /// The row must not exist.
    Absent,
    /// The row must exist with this modify index.
    ModifyIndex(LogIndex),
    /// The row must exist.
    Present,
    /// The row must be an entry that this session has locked.
    HeldBy(SessionId),
}

/// What a write does with the lock on its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LockAction {
    /// Leaves it as it is.
    #[default]
    Keep,
    /// Takes it for this session.
    Acquire(SessionId),
    /// Gives it up, if this session holds it.
    Release(SessionId),
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum TxnOp {
    /// A step on one key or prefix.
    Kv {
        /// What to do.
        verb: KvVerb,
        /// The key, or the prefix for verbs on trees.
        key: Box<[u8]>,
        /// The value to write.
        value: Box<[u8]>,
        /// The writer's opaque number.
        flags: u64,
        /// The index to compare with.
        index: LogIndex,
        /// The session to lock, unlock or compare with.
        session: Option<SessionId>,
    },
    /// A step on one node. Reading, comparing and deleting find it by its id if one is given, else
    /// by its name.
    Node {
        /// What to do.
        verb: RowVerb,
        /// The node.
        node: Box<NodeInput>,
        /// The index to compare with.
        index: LogIndex,
    },
    /// A step on one instance.
    Service {
        /// What to do.
        verb: RowVerb,
        /// The node that it is on.
        node: Str,
        /// The instance.
        service: Box<ServiceInput>,
        /// The index to compare with.
        index: LogIndex,
    },
    /// A step on one check.
    Check {
        /// What to do.
        verb: RowVerb,
        /// The node that it is on.
        node: Str,
        /// The check.
        check: Box<CheckInput>,
        /// The index to compare with.
        index: LogIndex,
    },
    /// Fail unless the lock is still held under this grant.
    Held(Fence),
    /// End a session. One that does not exist counts as ended.
    SessionDestroy(SessionId),
}

/// What a transaction's step does with a row of the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowVerb {
    /// Write.
    Set,
    /// Write if the modify index is as given; 0 asks for absence.
    Cas,
    /// Read; absent fails.
    Get,
    /// Read; absent reads as nothing.
    GetOrEmpty,
    /// Delete. Deleting what is absent succeeds.
    Delete,
    /// Delete if the modify index is as given; absent fails.
    DeleteCas,
    /// Fail unless the modify index is as given.
    CheckIndex,
    /// Fail unless it exists.
    CheckExists,
    /// Fail if it exists.
    CheckNotExists,
}

impl RowVerb {
    /// Whether the step changes nothing.
    pub fn is_read(self) -> bool {
        use RowVerb::*;
        matches!(self, Get | GetOrEmpty | CheckIndex | CheckExists | CheckNotExists)
    }
}

/// What a transaction's step does with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvVerb {
    /// Write.
    Set,
    /// Write if the modify index is as given.
    Cas,
    /// Take the lock and write.
    Lock,
    /// Give up the lock and write.
    Unlock,
    /// Read; absent fails.
    Get,
    /// Read; absent reads as an empty entry.
    GetOrEmpty,
    /// Read all under a prefix.
    GetTree,
    /// Fail unless the modify index is as given.
    CheckIndex,
    /// Fail unless the session holds the lock.
    CheckSession,
    /// Fail if the key exists.
    CheckNotExists,
    /// Delete.
    Delete,
    /// Delete all under a prefix.
    DeleteTree,
    /// Delete if the modify index is as given.
    DeleteCas,
}

impl KvVerb {
    /// Whether the step changes nothing.
    pub fn is_read(self) -> bool {
        use KvVerb::*;
        matches!(self, Get | GetOrEmpty | GetTree | CheckIndex | CheckSession | CheckNotExists)
    }
}

/// An upsert of a node, and on it perhaps a service and checks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Registration {
    /// The node.
    pub node: NodeInput,
    /// Leave the node's row alone if it exists.
    pub skip_node_update: bool,
    /// An instance on the node.
    pub service: Option<ServiceInput>,
    /// Checks of the node or of an instance on it.
    pub checks: Vec<CheckInput>,
}

/// A node as it is registered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeInput {
    /// A UUID, or empty.
    pub id: Str,
    /// Its name.
    pub name: Str,
    /// Its address; may be empty only with `skip_node_update`.
    pub address: Str,
    /// Its datacenter.
    pub datacenter: Str,
    /// Further addresses by tag.
    pub tagged_addresses: BTreeMap<Str, Str>,
    /// Free pairs.
    pub meta: BTreeMap<Str, Str>,
}

/// An instance as it is registered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceInput {
    /// Unique on its node; empty means the name.
    pub id: Str,
    /// The name by which it is found.
    pub name: Str,
    /// Labels.
    pub tags: Vec<Str>,
    /// Where it is reached; empty means the node's address.
    pub address: Str,
    /// 0 when it has none.
    pub port: u32,
    /// Unix socket instead of a port.
    pub socket_path: Str,
    /// Free pairs.
    pub meta: BTreeMap<Str, Str>,
    /// Further addresses by tag.
    pub tagged_addresses: BTreeMap<Str, ServiceAddress>,
    /// Share of the traffic.
    pub weights: Weights,
    /// Tags written through the catalog win over those of the owning agent.
    pub enable_tag_override: bool,
    /// Empty for an ordinary service.
    pub kind: Str,
}

/// A check as it is registered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckInput {
    /// Unique on its node; empty means the name.
    pub id: Str,
    /// A name for people.
    pub name: Str,
    /// The verdict.
    pub status: Status,
    /// Free text.
    pub notes: Str,
    /// What the last run printed.
    pub output: Str,
    /// The instance it belongs to; empty for the node.
    pub service_id: Str,
    /// How it is run.
    pub kind: Str,
    /// Milliseconds between runs.
    pub interval_ms: Option<u64>,
    /// Milliseconds a run may take.
    pub timeout_ms: Option<u64>,
    /// How it is run, in full.
    pub definition: CheckDefinition,
}

/// What to remove from the catalog.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deregistration {
    /// On which node.
    pub node: Str,
    /// Only this instance, with its checks.
    pub service_id: Option<Str>,
    /// Only this check.
    pub check_id: Option<Str>,
}
