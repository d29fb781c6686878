//! Transactions: one operation of the contract is up to three steps of the state machine: its fence,
//! its comparison, and what they guard.

use ::service::Error;
use proto::v1;
use proto::v1::precondition::Row;
use proto::v1::txn_operation::Operation;
use state::{CheckInput, KvVerb, LogIndex, NodeInput, RowVerb, ServiceInput, SessionId, Str, TxnFailure, TxnOp, TxnResult, TxnRow};

use super::common::{fence, session};
use super::kv::{entry, entry_without_value};
use super::{check, node, service};
use crate::status::{invalid, refusal};

/// A transaction as the state machine takes it, and how its answer is to be read.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    steps: Vec<Step>,
    ops: Vec<TxnOp>,
}

/// Where a step comes from.
#[derive(Clone, Debug)]
struct Step {
    /// Position of the operation in the request.
    operation: u32,
    /// Whether the row that it answers with is told.
    tells: bool,
    /// The key whose lock it takes.
    takes: Option<bytes::Bytes>,
}

/// What a precondition asks of a row.
enum Guard {
    Nothing,
    Absent,
    Present,
    At(LogIndex),
    HeldBy(SessionId),
}

/// What an operation does with a row of the catalog.
enum Action {
    Get,
    Put,
    Delete,
}

/// A row of the catalog that an operation is on.
enum Subject {
    Node(NodeInput),
    Service(Str, ServiceInput),
    Check(Str, Box<CheckInput>),
}

impl Subject {
    fn step(&self, verb: RowVerb, index: LogIndex) -> TxnOp {
        match self {
            Subject::Node(input) => TxnOp::Node { verb, node: Box::new(input.clone()), index },
            Subject::Service(node, input) => TxnOp::Service { verb, node: node.clone(), service: Box::new(input.clone()), index },
            Subject::Check(node, input) => TxnOp::Check { verb, node: node.clone(), check: input.clone(), index },
        }
    }
}

impl Plan {
    /// Plans the operations of a request.
    pub(crate) fn new(operations: Vec<v1::TxnOperation>) -> Result<Self, Error> {
        if operations.is_empty() {
            return Err(invalid("operations", "there are none"));
        }
        let mut plan = Plan::default();
        for (operation, at) in operations.into_iter().zip(0..) {
            plan.take(at, operation)?;
        }
        Ok(plan)
    }

    /// The steps, once.
    pub(crate) fn take_ops(&mut self) -> Vec<TxnOp> {
        std::mem::take(&mut self.ops)
    }

    /// The rows that a transaction that took place answers with.
    pub(crate) fn results(&self, results: &[TxnResult]) -> Vec<v1::TxnResult> {
        let told = results.iter().filter_map(|result| {
            let step = self.steps.get(result.op_index)?;
            step.tells.then(|| told(step, &result.row))
        });
        told.collect()
    }

    /// Each operation that failed, once.
    pub(crate) fn failures(&self, failures: &[TxnFailure]) -> Vec<v1::TxnFailure> {
        let mut told: Vec<v1::TxnFailure> = Vec::with_capacity(failures.len());
        for TxnFailure { op_index, cause, .. } in failures {
            let Some(step) = self.steps.get(*op_index) else { continue };
            if told.last().is_some_and(|last| last.operation == step.operation) {
                continue;
            }
            let refusal = refusal(Error::from((**cause).clone()));
            told.push(v1::TxnFailure { operation: step.operation, refusal: Some(refusal) });
        }
        told
    }

    /// An error that names a step, with the operation that the step belongs to instead.
    pub(crate) fn locate(&self, mut error: Error) -> Error {
        for (name, value) in &mut error.details {
            let step = (*name == "operation").then(|| value.parse().ok().and_then(|at: usize| self.steps.get(at))).flatten();
            if let Some(step) = step {
                *value = step.operation.to_string();
            }
        }
        error
    }

    fn take(&mut self, at: u32, operation: v1::TxnOperation) -> Result<(), Error> {
        let v1::TxnOperation { precondition, operation } = operation;
        let guard = self.guard(at, precondition)?;
        match operation.ok_or_else(|| invalid("operation", format_args!("operation {at} does nothing")))? {
            Operation::KvGet(key) => self.get(at, guard, &key),
            Operation::KvList(prefix) => self.on_prefix(at, guard, KvVerb::GetTree, &prefix)?,
            Operation::KvDeletePrefix(prefix) => self.on_prefix(at, guard, KvVerb::DeleteTree, &prefix)?,
            Operation::KvPut(put) => self.put(at, guard, put)?,
            Operation::KvDelete(key) => self.delete(at, guard, &key),
            Operation::KvCheck(key) => {
                if matches!(guard, Guard::Nothing) && self.steps.last().is_none_or(|step| step.operation != at) {
                    return Err(invalid("precondition", format_args!("operation {at} is a check and asks for nothing")));
                }
                self.check(at, &guard, &key);
            }
            Operation::NodeGet(name) => self.on_row(at, guard, Action::Get, node_named(name))?,
            Operation::NodePut(row) => self.on_row(at, guard, Action::Put, Subject::Node(node::input(row)))?,
            Operation::NodeDelete(name) => self.on_row(at, guard, Action::Delete, node_named(name))?,
            Operation::ServiceGet(key) => self.on_row(at, guard, Action::Get, service_named(key))?,
            Operation::ServicePut(put) => self.on_row(at, guard, Action::Put, service_put(put)?)?,
            Operation::ServiceDelete(key) => self.on_row(at, guard, Action::Delete, service_named(key))?,
            Operation::CheckGet(key) => self.on_row(at, guard, Action::Get, check_named(key))?,
            Operation::CheckPut(row) => {
                let node = row.node.as_str().into();
                self.on_row(at, guard, Action::Put, Subject::Check(node, Box::new(check::input(row)?)))?
            }
            Operation::CheckDelete(key) => self.on_row(at, guard, Action::Delete, check_named(key))?,
            Operation::SessionDestroy(id) => {
                if !matches!(guard, Guard::Nothing) {
                    return Err(invalid(
                        "precondition",
                        format_args!("operation {at} is on a session, of which only a fence can be asked"),
                    ));
                }
                self.push(at, false, TxnOp::SessionDestroy(session("session_destroy", &id)?));
            }
        }
        Ok(())
    }

    /// Adds the fence, and says what remains to be compared.
    fn guard(&mut self, at: u32, precondition: Option<v1::Precondition>) -> Result<Guard, Error> {
        let Some(v1::Precondition { row, fence: proof }) = precondition else { return Ok(Guard::Nothing) };
        if let Some(fence) = fence(proof)? {
            self.push(at, false, TxnOp::Held(fence));
        }
        match row {
            None => Ok(Guard::Nothing),
            Some(Row::Absent(true)) => Ok(Guard::Absent),
            Some(Row::Present(true)) => Ok(Guard::Present),
            Some(Row::Absent(false)) => Err(invalid("absent", "only `true` is valid")),
            Some(Row::Present(false)) => Err(invalid("present", "only `true` is valid")),
            Some(Row::ModifyIndex(0)) => Err(invalid("modify_index", "no row has index 0; use `absent` for a row that does not exist")),
            Some(Row::ModifyIndex(index)) => Ok(Guard::At(LogIndex(index))),
            Some(Row::HeldBy(id)) => session("held_by", &id).map(Guard::HeldBy),
        }
    }

    fn on_row(&mut self, at: u32, guard: Guard, action: Action, subject: Subject) -> Result<(), Error> {
        let (compare, index) = match guard {
            Guard::Nothing => (None, LogIndex::ZERO),
            Guard::Absent => (Some(RowVerb::CheckNotExists), LogIndex::ZERO),
            Guard::Present => (Some(RowVerb::CheckExists), LogIndex::ZERO),
            Guard::At(index) => (Some(RowVerb::CheckIndex), index),
            Guard::HeldBy(_) => {
                return Err(invalid("held_by", format_args!("operation {at} is not on a key, and only keys are locked; use a fence")));
            }
        };
        if let Some(verb) = compare {
            self.push(at, false, subject.step(verb, index));
        }
        match action {
            Action::Get if compare == Some(RowVerb::CheckNotExists) => {}
            Action::Get => self.push(at, true, subject.step(RowVerb::GetOrEmpty, LogIndex::ZERO)),
            Action::Put => self.push(at, true, subject.step(RowVerb::Set, LogIndex::ZERO)),
            Action::Delete => self.push(at, false, subject.step(RowVerb::Delete, LogIndex::ZERO)),
        }
        Ok(())
    }

    fn get(&mut self, at: u32, guard: Guard, key: &[u8]) {
        self.check(at, &guard, key);
        if !matches!(guard, Guard::Absent) {
            self.push(at, true, op(KvVerb::GetOrEmpty, key));
        }
    }

    fn on_prefix(&mut self, at: u32, guard: Guard, verb: KvVerb, prefix: &[u8]) -> Result<(), Error> {
        if !matches!(guard, Guard::Nothing) {
            return Err(invalid("precondition", format_args!("operation {at} is on a prefix, of which only a fence can be asked")));
        }
        self.push(at, verb.is_read(), op(verb, prefix));
        Ok(())
    }

    fn put(&mut self, at: u32, guard: Guard, put: v1::TxnKvPut) -> Result<(), Error> {
        let v1::TxnKvPut { key, value, flags, lock } = put;
        let (verb, session) = match lock {
            None => (KvVerb::Set, None),
            Some(v1::txn_kv_put::Lock::Acquire(id)) => (KvVerb::Lock, Some(session("acquire", &id)?)),
            Some(v1::txn_kv_put::Lock::Release(id)) => (KvVerb::Unlock, Some(session("release", &id)?)),
        };
        let (verb, index) = match (guard, verb) {
            (Guard::Absent, KvVerb::Set) => (KvVerb::Cas, LogIndex::ZERO),
            (Guard::At(index), KvVerb::Set) => (KvVerb::Cas, index),
            (guard, verb) => {
                self.check(at, &guard, &key);
                (verb, LogIndex::ZERO)
            }
        };
        self.push(at, true, TxnOp::Kv { verb, key: (*key).into(), value: (*value).into(), flags, index, session });
        Ok(())
    }

    fn delete(&mut self, at: u32, guard: Guard, key: &[u8]) {
        match guard {
            Guard::At(index) => self.push(at, false, indexed(KvVerb::DeleteCas, key, index)),
            guard => {
                self.check(at, &guard, key);
                self.push(at, false, op(KvVerb::Delete, key));
            }
        }
    }

    /// Adds the comparison, whose row is not told.
    fn check(&mut self, at: u32, guard: &Guard, key: &[u8]) {
        let step = match guard {
            Guard::Nothing => return,
            Guard::Absent => op(KvVerb::CheckNotExists, key),
            Guard::Present => op(KvVerb::Get, key),
            Guard::At(index) => indexed(KvVerb::CheckIndex, key, *index),
            Guard::HeldBy(session) => {
                let (key, value) = (key.into(), Box::default());
                TxnOp::Kv { verb: KvVerb::CheckSession, key, value, flags: 0, index: LogIndex::ZERO, session: Some(*session) }
            }
        };
        self.push(at, false, step);
    }

    fn push(&mut self, operation: u32, tells: bool, op: TxnOp) {
        let takes = match &op {
            TxnOp::Kv { verb: KvVerb::Lock, key, .. } => Some(bytes::Bytes::copy_from_slice(key)),
            _ => None,
        };
        self.steps.push(Step { operation, tells, takes });
        self.ops.push(op);
    }
}

fn op(verb: KvVerb, key: &[u8]) -> TxnOp {
    indexed(verb, key, LogIndex::ZERO)
}

fn indexed(verb: KvVerb, key: &[u8], index: LogIndex) -> TxnOp {
    TxnOp::Kv { verb, key: key.into(), value: Box::default(), flags: 0, index, session: None }
}

fn node_named(name: String) -> Subject {
    Subject::Node(NodeInput { name: name.into(), ..NodeInput::default() })
}

fn service_named(key: v1::ServiceKey) -> Subject {
    let v1::ServiceKey { node, service_id } = key;
    Subject::Service(node.into(), ServiceInput { id: service_id.into(), ..ServiceInput::default() })
}

fn service_put(put: v1::TxnServicePut) -> Result<Subject, Error> {
    let v1::TxnServicePut { node, service: row } = put;
    let row = row.ok_or_else(|| invalid("service", "it is missing"))?;
    Ok(Subject::Service(node.into(), service::input(row)))
}

fn check_named(key: v1::CheckKey) -> Subject {
    let v1::CheckKey { node, check_id } = key;
    Subject::Check(node.into(), Box::new(CheckInput { id: check_id.into(), ..CheckInput::default() }))
}

fn told(step: &Step, row: &TxnRow) -> v1::TxnResult {
    use v1::txn_result::Row;
    let mut fence = None;
    let row = match row {
        TxnRow::Kv { entry: row, with_value } => {
            fence = step.takes.clone().map(|key| v1::Fence { key, token: row.fence().0 });
            let told = if *with_value { entry(row) } else { entry_without_value(row) };
            (row.modify_index() > LogIndex::ZERO).then_some(Row::Entry(told))
        }
        TxnRow::Node(row) => Some(Row::Node(node::node(row))),
        TxnRow::Service(row) => Some(Row::Service(service::service(row))),
        TxnRow::Check(row) => Some(Row::Check(check::check(row))),
        TxnRow::Nothing => None,
    };
    v1::TxnResult { operation: step.operation, row, fence }
}

#[cfg(test)]
mod tests;
