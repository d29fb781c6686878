//! The types that the Raft library is used with.

use std::fmt;

use bytes::Bytes;
use openraft::impls::{OneshotResponder, leader_id_std};
use state::{Command, LogIndex, Outcome};
use store::encode;

/// Raft as it is used here: one leader a term, as in the paper (Ongaro 2014, §3.4), and answers
/// through a oneshot channel each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Proposal;
    type R = Option<Applied>;
    type NodeId = u64;
    type Node = Member;
    type Term = u64;
    type LeaderId = leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Proposal, u64, Member>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = openraft::impls::TokioRuntime;
    type Responder<T>
        = OneshotResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Payload = openraft::alias::PayloadOf<TypeConfig>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Member>;

/// What a command has answered, and the revision that it made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Applied {
    pub(crate) revision: LogIndex,
    pub(crate) outcome: Outcome,
}

/// A server of the quorum as the log knows it. Its id is not its address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// The name of its node.
    pub name: String,
    /// Where its peers reach it, `host:port`.
    pub address: String,
}

/// A command on its way into the log, with the bytes that stand for it there. They are made by
/// whoever proposes, so that the one task that runs the protocol does not have to.
#[derive(Clone, PartialEq)]
pub(crate) struct Proposal {
    pub(crate) command: std::sync::Arc<Command>,
    pub(crate) bytes: Bytes,
}

impl Proposal {
    pub(crate) fn new(command: Command) -> Self {
        let bytes = encode::command::encode(&command);
        Proposal { command: std::sync::Arc::new(command), bytes }
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "command of {} bytes", self.bytes.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
