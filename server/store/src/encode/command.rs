//! Commands: the payloads of the Raft log.

use bytes::Bytes;
use prost::Message;
use proto::storage::v1 as pb;
use state::{
    Check, CheckInput, Command, Compare, Deregistration, Fence, KvWrite, LockAction, LogIndex, Millis, Node, NodeInput, Operation,
    Registration, Service, ServiceInput, SessionId,
};

use crate::encode::{Malformed, catalog, check, from_option, from_session, lock, operator, session, to_option, to_session, txn};

/// Encodes a command for the log.
pub fn encode(command: &Command) -> Bytes {
    let (fence, operation) = match &command.operation {
        Operation::Fenced { fence, operation } => (Some(from_fence(fence)), &**operation),
        operation => (None, operation),
    };
    let message = pb::Command { at_ms: command.at.0, operation: Some(from_operation(operation)), fence };
    message.encode_to_vec().into()
}

/// Decodes a command from the log.
///
/// # Errors
///
/// [`Malformed`] when the bytes are not what [`encode`] makes. A command of a later release is
/// [`Malformed::Unknown`]: this one must not go on without it, since the others would.
pub fn decode(bytes: impl bytes::Buf) -> Result<Command, Malformed> {
    let message = pb::Command::decode(bytes)?;
    let operation = message.operation.ok_or(Malformed::Unknown("operation"))?;
    let operation = to_operation(operation)?;
    let operation = match message.fence {
        None => operation,
        Some(fence) => Operation::Fenced { fence: to_fence(&fence), operation: Box::new(operation) },
    };
    Ok(Command { at: Millis(message.at_ms), operation })
}

pub(super) fn from_fence(fence: &Fence) -> pb::Fence {
    pb::Fence { key: Bytes::copy_from_slice(&fence.key), token: fence.token.0 }
}

pub(super) fn to_fence(fence: &pb::Fence) -> Fence {
    Fence { key: fence.key[..].into(), token: LogIndex(fence.token) }
}

fn from_operation(operation: &Operation) -> pb::command::Operation {
    match operation {
        Operation::Kv(write) => from_write(write),
        Operation::Txn(ops) => pb::command::Operation::Txn(pb::Txn { ops: ops.iter().map(txn::from_op).collect() }),
        Operation::Register(registration) => pb::command::Operation::Register(from_registration(registration)),
        Operation::Deregister(what) => pb::command::Operation::Deregister(pb::Deregistration {
            node: what.node.to_string(),
            service_id: from_option(&what.service_id),
            check_id: from_option(&what.check_id),
        }),
        Operation::Begin { incarnation } => pb::command::Operation::Begin(pb::Begin { incarnation: *incarnation }),
        Operation::SessionCreate(session) => pb::command::Operation::SessionCreate(session::from_row(session)),
        Operation::SessionRenew(id) => pb::command::Operation::SessionRenew(pb::SessionRenew { id: from_session(Some(*id)) }),
        Operation::SessionEnd { id, cause, term, delays } => pb::command::Operation::SessionEnd(pb::SessionFinish {
            id: from_session(Some(*id)),
            cause: session::from_end(Some(*cause)).into(),
            term: *term,
            delays: *delays,
        }),
        Operation::LockAcquire(wish) => pb::command::Operation::LockAcquire(lock::from_acquire(wish)),
        Operation::LockRelease { key, session, token } => pb::command::Operation::LockRelease(pb::LockRelease {
            key: Bytes::copy_from_slice(key),
            session: from_session(Some(*session)),
            token: token.0,
        }),
        // A command carries one fence, and whoever proposes gives one.
        Operation::Fenced { operation, .. } => from_operation(operation),
        Operation::Restore { id, step } => pb::command::Operation::Restore(operator::from_restore(*id, step)),
        Operation::SetAutopilot { wanted, compare } => pb::command::Operation::AutopilotSet(pb::AutopilotSet {
            configuration: Some(operator::from_autopilot(wanted)),
            compare: from_compare(*compare),
        }),
        Operation::Noop => pb::command::Operation::Noop(pb::Noop {}),
    }
}

fn to_operation(operation: pb::command::Operation) -> Result<Operation, Malformed> {
    Ok(match operation {
        pb::command::Operation::KvSet(set) => Operation::Kv(to_set(set)?),
        pb::command::Operation::KvDelete(delete) => {
            Operation::Kv(KvWrite::Delete { key: delete.key[..].into(), compare: to_compare(delete.compare)? })
        }
        pb::command::Operation::KvDeletePrefix(delete) => Operation::Kv(KvWrite::DeletePrefix { prefix: delete.prefix[..].into() }),
        pb::command::Operation::Txn(txn) => Operation::Txn(txn.ops.into_iter().map(txn::to_op).collect::<Result<_, _>>()?),
        pb::command::Operation::Register(registration) => Operation::Register(Box::new(to_registration(registration)?)),
        pb::command::Operation::Deregister(what) => Operation::Deregister(Deregistration {
            node: what.node.into(),
            service_id: to_option(what.service_id),
            check_id: to_option(what.check_id),
        }),
        pb::command::Operation::Begin(begin) => Operation::Begin { incarnation: begin.incarnation },
        pb::command::Operation::SessionCreate(session) => Operation::SessionCreate(Box::new(session::to_row(session)?)),
        pb::command::Operation::SessionRenew(renew) => Operation::SessionRenew(to_id(&renew.id)?),
        pb::command::Operation::SessionEnd(end) => Operation::SessionEnd {
            id: to_id(&end.id)?,
            cause: session::to_end(end.cause, "cause")?.ok_or(Malformed::Missing("cause"))?,
            term: end.term,
            delays: end.delays,
        },
        pb::command::Operation::LockAcquire(wish) => lock::to_acquire(&wish)?,
        pb::command::Operation::LockRelease(pb::LockRelease { key, session, token }) => {
            Operation::LockRelease { key: key[..].into(), session: to_id(&session)?, token: LogIndex(token) }
        }
        pb::command::Operation::Restore(restore) => {
            let (id, step) = operator::to_restore(restore)?;
            Operation::Restore { id, step }
        }
        pb::command::Operation::AutopilotSet(set) => Operation::SetAutopilot {
            wanted: operator::to_autopilot(&set.configuration.ok_or(Malformed::Missing("configuration"))?),
            compare: to_compare(set.compare)?,
        },
        pb::command::Operation::Noop(pb::Noop {}) => Operation::Noop,
    })
}

pub(super) fn to_id(bytes: &[u8]) -> Result<SessionId, Malformed> {
    to_session(bytes, "id")?.ok_or(Malformed::Missing("id"))
}

fn from_write(write: &KvWrite) -> pb::command::Operation {
    match write {
        KvWrite::Set { key, value, flags, compare, lock } => pb::command::Operation::KvSet(pb::KvSet {
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            flags: *flags,
            compare: from_compare(*compare),
            lock: match lock {
                LockAction::Keep => None,
                LockAction::Acquire(session) => Some(pb::kv_set::Lock::Acquire(from_session(Some(*session)))),
                LockAction::Release(session) => Some(pb::kv_set::Lock::Release(from_session(Some(*session)))),
            },
        }),
        KvWrite::Delete { key, compare } => {
            pb::command::Operation::KvDelete(pb::KvDelete { key: Bytes::copy_from_slice(key), compare: from_compare(*compare) })
        }
        KvWrite::DeletePrefix { prefix } => {
            pb::command::Operation::KvDeletePrefix(pb::KvDeletePrefix { prefix: Bytes::copy_from_slice(prefix) })
        }
    }
}

fn to_set(set: pb::KvSet) -> Result<KvWrite, Malformed> {
    let session = |bytes: Bytes| to_session(&bytes, "lock")?.ok_or(Malformed::Missing("lock"));
    Ok(KvWrite::Set {
        key: set.key[..].into(),
        value: set.value[..].into(),
        flags: set.flags,
        compare: to_compare(set.compare)?,
        lock: match set.lock {
            None => LockAction::Keep,
            Some(pb::kv_set::Lock::Acquire(bytes)) => LockAction::Acquire(session(bytes)?),
            Some(pb::kv_set::Lock::Release(bytes)) => LockAction::Release(session(bytes)?),
        },
    })
}

fn from_compare(compare: Compare) -> Option<pb::Compare> {
    let compare = match compare {
        Compare::Any => return None,
        Compare::Absent => pb::compare::Compare::Absent(true),
        Compare::ModifyIndex(index) => pb::compare::Compare::ModifyIndex(index.0),
        Compare::Present => pb::compare::Compare::Present(true),
        Compare::HeldBy(session) => pb::compare::Compare::HeldBy(from_session(Some(session))),
    };
    Some(pb::Compare { compare: Some(compare) })
}

fn to_compare(compare: Option<pb::Compare>) -> Result<Compare, Malformed> {
    let Some(compare) = compare else { return Ok(Compare::Any) };
    match compare.compare {
        Some(pb::compare::Compare::Absent(true)) => Ok(Compare::Absent),
        Some(pb::compare::Compare::ModifyIndex(index)) => Ok(Compare::ModifyIndex(LogIndex(index))),
        Some(pb::compare::Compare::Present(true)) => Ok(Compare::Present),
        Some(pb::compare::Compare::HeldBy(bytes)) => {
            to_session(&bytes, "compare")?.map(Compare::HeldBy).ok_or(Malformed::Missing("compare"))
        }
        Some(pb::compare::Compare::Absent(false) | pb::compare::Compare::Present(false)) | None => Err(Malformed::Unknown("compare")),
    }
}

fn from_registration(registration: &Registration) -> pb::Registration {
    pb::Registration {
        node: Some(from_node_input(&registration.node)),
        skip_node_update: registration.skip_node_update,
        service: registration.service.as_ref().map(from_service_input),
        checks: registration.checks.iter().map(from_check_input).collect(),
    }
}

fn to_registration(registration: pb::Registration) -> Result<Registration, Malformed> {
    Ok(Registration {
        node: to_node_input(registration.node.ok_or(Malformed::Missing("node"))?),
        skip_node_update: registration.skip_node_update,
        service: registration.service.map(to_service_input),
        checks: registration.checks.into_iter().map(to_check_input).collect::<Result<_, _>>()?,
    })
}

// An input is a row without what the state machine adds, and is written as such a row.

pub(super) fn from_node_input(input: &NodeInput) -> pb::Node {
    let NodeInput { id, name, address, datacenter, tagged_addresses, meta } = input.clone();
    let node = Node { id, name, address, datacenter, tagged_addresses, meta, ..Node::default() };
    catalog::from_node(&node, LogIndex::ZERO)
}

pub(super) fn to_node_input(node: pb::Node) -> NodeInput {
    let (node, _) = catalog::to_node(node);
    let Node { id, name, address, datacenter, tagged_addresses, meta, .. } = node;
    NodeInput { id, name, address, datacenter, tagged_addresses, meta }
}

pub(super) fn from_service_input(input: &ServiceInput) -> pb::Service {
    let input = input.clone();
    catalog::from_service(&Service {
        id: input.id,
        name: input.name,
        tags: input.tags,
        address: input.address,
        port: input.port,
        socket_path: input.socket_path,
        meta: input.meta,
        tagged_addresses: input.tagged_addresses,
        weights: input.weights,
        enable_tag_override: input.enable_tag_override,
        kind: input.kind,
        ..Service::default()
    })
}

pub(super) fn to_service_input(service: pb::Service) -> ServiceInput {
    let service = catalog::to_service(service);
    ServiceInput {
        id: service.id,
        name: service.name,
        tags: service.tags,
        address: service.address,
        port: service.port,
        socket_path: service.socket_path,
        meta: service.meta,
        tagged_addresses: service.tagged_addresses,
        weights: service.weights,
        enable_tag_override: service.enable_tag_override,
        kind: service.kind,
    }
}

pub(super) fn from_check_input(input: &CheckInput) -> pb::Check {
    let input = input.clone();
    check::from_check(&Check {
        id: input.id,
        name: input.name,
        status: input.status,
        notes: input.notes,
        output: input.output,
        service_id: input.service_id,
        kind: input.kind,
        interval_ms: input.interval_ms,
        timeout_ms: input.timeout_ms,
        definition: input.definition,
        ..Check::default()
    })
}

pub(super) fn to_check_input(message: pb::Check) -> Result<CheckInput, Malformed> {
    let check = check::to_check(message)?;
    Ok(CheckInput {
        id: check.id,
        name: check.name,
        status: check.status,
        notes: check.notes,
        output: check.output,
        service_id: check.service_id,
        kind: check.kind,
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        definition: check.definition,
    })
}
