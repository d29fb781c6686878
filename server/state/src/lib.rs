//! The state machine: tables, a command, its log index in; an outcome and the changes out.
//!
//! Everything here is a pure function of the Raft log. There is no clock, no randomness, no IO
//! and no async: what needs a time or an id carries it inside the [`Command`], stamped by the
//! proposer. Replicas that apply the same commands in the same order are equal to the last bit.
//!
//! The tables are persistent maps, so a [`Tables`] clone is an O(1) snapshot that may live across
//! an await, feed a stream or be written to disk while later commands are applied to another copy.

pub mod anti_entropy;
pub mod apply;
pub mod autopilot;
pub mod builder;
pub mod catalog;
pub mod change;
pub mod command;
pub mod deadlines;
pub mod id;
pub mod kv;
mod kv_write;
pub mod lock;
pub mod outcome;
pub mod probe;
pub mod restore;
pub mod row;
pub mod session;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod tombstone;
pub mod txn;

pub use apply::{Effects, apply};
pub use autopilot::Autopilot;
pub use builder::TablesBuilder;
pub use catalog::check::{Check, CheckDefinition, Status};
pub use catalog::node::{Node, NodeView};
pub use catalog::service::{Instance, Service, ServiceAddress, ServiceSummary, ServiceView, Weights};
pub use change::{Change, ChangeBatch};
pub use command::{
    CheckInput, Command, Compare, Deregistration, Fence, KvVerb, KvWrite, LockAcquire, LockAction, NodeInput, Operation, Registration,
    RowVerb, ServiceInput, TxnOp,
};
pub use id::{LogIndex, Millis, SessionId, Str};
pub use kv::KvEntry;
pub use lock::{LockPlace, Queue, Waiter};
pub use outcome::{Outcome, Refusal, TxnFailure, TxnResult, TxnRow};
pub use restore::RestoreStep;
pub use row::{MetaRow, Row, RowKey};
pub use session::{Behavior, Session, SessionEnd};
pub use tables::{Indexed, Tables};
pub use tombstone::Tombstone;
