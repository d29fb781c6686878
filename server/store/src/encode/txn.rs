//! The steps of transactions.

use bytes::Bytes;
use proto::storage::v1 as pb;
use state::{KvVerb, LogIndex, RowVerb, TxnOp};

use super::command::{
    from_check_input, from_fence, from_node_input, from_service_input, to_check_input, to_fence, to_id, to_node_input, to_service_input,
};
use super::{Malformed, from_session, to_session};

pub(super) fn from_op(op: &TxnOp) -> pb::TxnOp {
    pb::TxnOp { op: Some(from_kind(op)) }
}

fn from_kind(op: &TxnOp) -> pb::txn_op::Op {
    match op {
        TxnOp::Kv { verb, key, value, flags, index, session } => pb::txn_op::Op::Kv(pb::TxnKv {
            verb: from_verb(*verb).into(),
            key: Bytes::copy_from_slice(key),
            value: Bytes::copy_from_slice(value),
            flags: *flags,
            index: index.0,
            session: from_session(*session),
        }),
        TxnOp::Node { verb, node, index } => {
            pb::txn_op::Op::Node(pb::TxnNode { verb: from_row_verb(*verb).into(), node: Some(from_node_input(node)), index: index.0 })
        }
        TxnOp::Service { verb, node, service, index } => {
            let service = pb::Service { node: node.to_string(), ..from_service_input(service) };
            pb::txn_op::Op::Service(pb::TxnService { verb: from_row_verb(*verb).into(), service: Some(service), index: index.0 })
        }
        TxnOp::Check { verb, node, check, index } => {
            let check = pb::Check { node: node.to_string(), ..from_check_input(check) };
            pb::txn_op::Op::Check(pb::TxnCheck { verb: from_row_verb(*verb).into(), check: Some(check), index: index.0 })
        }
        TxnOp::Held(fence) => pb::txn_op::Op::Held(from_fence(fence)),
        TxnOp::SessionDestroy(id) => pb::txn_op::Op::SessionDestroy(from_session(Some(*id))),
    }
}

pub(super) fn to_op(op: pb::TxnOp) -> Result<TxnOp, Malformed> {
    Ok(match op.op.ok_or(Malformed::Unknown("op"))? {
        pb::txn_op::Op::Kv(kv) => TxnOp::Kv {
            verb: to_verb(kv.verb())?,
            key: kv.key[..].into(),
            value: kv.value[..].into(),
            flags: kv.flags,
            index: LogIndex(kv.index),
            session: to_session(&kv.session, "session")?,
        },
        pb::txn_op::Op::Node(step) => TxnOp::Node {
            verb: to_row_verb(step.verb())?,
            index: LogIndex(step.index),
            node: Box::new(to_node_input(step.node.ok_or(Malformed::Missing("node"))?)),
        },
        pb::txn_op::Op::Service(step) => {
            let (verb, index) = (to_row_verb(step.verb())?, LogIndex(step.index));
            let service = step.service.ok_or(Malformed::Missing("service"))?;
            TxnOp::Service { verb, node: service.node.as_str().into(), service: Box::new(to_service_input(service)), index }
        }
        pb::txn_op::Op::Check(step) => {
            let (verb, index) = (to_row_verb(step.verb())?, LogIndex(step.index));
            let check = step.check.ok_or(Malformed::Missing("check"))?;
            TxnOp::Check { verb, node: check.node.as_str().into(), check: Box::new(to_check_input(check)?), index }
        }
        pb::txn_op::Op::Held(fence) => TxnOp::Held(to_fence(&fence)),
        pb::txn_op::Op::SessionDestroy(id) => TxnOp::SessionDestroy(to_id(&id)?),
    })
}

fn from_verb(verb: KvVerb) -> pb::KvVerb {
    match verb {
        KvVerb::Set => pb::KvVerb::Set,
        KvVerb::Cas => pb::KvVerb::Cas,
        KvVerb::Lock => pb::KvVerb::Lock,
        KvVerb::Unlock => pb::KvVerb::Unlock,
        KvVerb::Get => pb::KvVerb::Get,
        KvVerb::GetOrEmpty => pb::KvVerb::GetOrEmpty,
        KvVerb::GetTree => pb::KvVerb::GetTree,
        KvVerb::CheckIndex => pb::KvVerb::CheckIndex,
        KvVerb::CheckSession => pb::KvVerb::CheckSession,
        KvVerb::CheckNotExists => pb::KvVerb::CheckNotExists,
        KvVerb::Delete => pb::KvVerb::Delete,
        KvVerb::DeleteTree => pb::KvVerb::DeleteTree,
        KvVerb::DeleteCas => pb::KvVerb::DeleteCas,
    }
}

fn to_verb(verb: pb::KvVerb) -> Result<KvVerb, Malformed> {
    Ok(match verb {
        pb::KvVerb::Unspecified => return Err(Malformed::Unknown("verb")),
        pb::KvVerb::Set => KvVerb::Set,
        pb::KvVerb::Cas => KvVerb::Cas,
        pb::KvVerb::Lock => KvVerb::Lock,
        pb::KvVerb::Unlock => KvVerb::Unlock,
        pb::KvVerb::Get => KvVerb::Get,
        pb::KvVerb::GetOrEmpty => KvVerb::GetOrEmpty,
        pb::KvVerb::GetTree => KvVerb::GetTree,
        pb::KvVerb::CheckIndex => KvVerb::CheckIndex,
        pb::KvVerb::CheckSession => KvVerb::CheckSession,
        pb::KvVerb::CheckNotExists => KvVerb::CheckNotExists,
        pb::KvVerb::Delete => KvVerb::Delete,
        pb::KvVerb::DeleteTree => KvVerb::DeleteTree,
        pb::KvVerb::DeleteCas => KvVerb::DeleteCas,
    })
}

fn from_row_verb(verb: RowVerb) -> pb::RowVerb {
    match verb {
        RowVerb::Set => pb::RowVerb::Set,
        RowVerb::Cas => pb::RowVerb::Cas,
        RowVerb::Get => pb::RowVerb::Get,
        RowVerb::GetOrEmpty => pb::RowVerb::GetOrEmpty,
        RowVerb::Delete => pb::RowVerb::Delete,
        RowVerb::DeleteCas => pb::RowVerb::DeleteCas,
        RowVerb::CheckIndex => pb::RowVerb::CheckIndex,
        RowVerb::CheckExists => pb::RowVerb::CheckExists,
        RowVerb::CheckNotExists => pb::RowVerb::CheckNotExists,
    }
}

fn to_row_verb(verb: pb::RowVerb) -> Result<RowVerb, Malformed> {
    Ok(match verb {
        pb::RowVerb::Unspecified => return Err(Malformed::Unknown("verb")),
        pb::RowVerb::Set => RowVerb::Set,
        pb::RowVerb::Cas => RowVerb::Cas,
        pb::RowVerb::Get => RowVerb::Get,
        pb::RowVerb::GetOrEmpty => RowVerb::GetOrEmpty,
        pb::RowVerb::Delete => RowVerb::Delete,
        pb::RowVerb::DeleteCas => RowVerb::DeleteCas,
        pb::RowVerb::CheckIndex => RowVerb::CheckIndex,
        pb::RowVerb::CheckExists => RowVerb::CheckExists,
        pb::RowVerb::CheckNotExists => RowVerb::CheckNotExists,
    })
}
