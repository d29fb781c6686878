//! Transactions: one operation of the contract is one or two steps of the state machine, a
//! comparison before what it guards.

use ::service::{Error, Reason};
use proto::v1;
use proto::v1::precondition::Row;
use proto::v1::txn_operation::Operation;
use state::{KvVerb, LogIndex, SessionId, TxnFailure, TxnOp, TxnResult};

use super::common::{no_fence, session};
use super::kv::{entry, entry_without_value};
use crate::status::{invalid, not_implemented, refusal};

/// A transaction as the state machine takes it, and how its answer is to be read.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    steps: Vec<Step>,
    ops: Vec<TxnOp>,
}

/// Where a step comes from.
#[derive(Clone, Copy, Debug)]
struct Step {
    /// Position of the operation in the request.
    operation: u32,
    /// What it does, to name the reason should it fail.
    verb: KvVerb,
    /// Whether the row that it answers with is told.
    tells: bool,
}

/// What a precondition asks of a row.
enum Guard {
    Nothing,
    Absent,
    Present,
    At(LogIndex),
    HeldBy(SessionId),
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
            step.tells.then(|| told(step.operation, result))
        });
        told.collect()
    }

    /// Each operation that failed, once.
    pub(crate) fn failures(&self, failures: &[TxnFailure]) -> Vec<v1::TxnFailure> {
        let mut told: Vec<v1::TxnFailure> = Vec::with_capacity(failures.len());
        for TxnFailure { op_index, what } in failures {
            let Some(step) = self.steps.get(*op_index) else { continue };
            if told.last().is_some_and(|last| last.operation == step.operation) {
                continue;
            }
            let refusal = refusal(Error::new(reason(step.verb), what.clone()));
            told.push(v1::TxnFailure { operation: step.operation, refusal: Some(refusal) });
        }
        told
    }

    fn take(&mut self, at: u32, operation: v1::TxnOperation) -> Result<(), Error> {
        let v1::TxnOperation { precondition, operation } = operation;
        let guard = guard(precondition)?;
        match operation.ok_or_else(|| invalid("operation", format_args!("operation {at} does nothing")))? {
            Operation::KvGet(key) => self.get(at, guard, &key),
            Operation::KvList(prefix) => self.on_prefix(at, guard, KvVerb::GetTree, &prefix)?,
            Operation::KvDeletePrefix(prefix) => self.on_prefix(at, guard, KvVerb::DeleteTree, &prefix)?,
            Operation::KvPut(put) => self.put(at, guard, put)?,
            Operation::KvDelete(key) => self.delete(at, guard, &key),
            Operation::KvCheck(key) => {
                if matches!(guard, Guard::Nothing) {
                    return Err(invalid("precondition", format_args!("operation {at} is a check and asks for nothing")));
                }
                self.check(at, &guard, &key);
            }
            Operation::NodeGet(_) | Operation::NodePut(_) | Operation::NodeDelete(_) => return Err(later("node")),
            Operation::ServiceGet(_) | Operation::ServicePut(_) | Operation::ServiceDelete(_) => return Err(later("service")),
            Operation::CheckGet(_) | Operation::CheckPut(_) | Operation::CheckDelete(_) => return Err(later("check")),
            Operation::SessionDestroy(_) => return Err(later("session")),
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
        let TxnOp::Kv { verb, .. } = &op;
        self.steps.push(Step { operation, verb: *verb, tells });
        self.ops.push(op);
    }
}

fn guard(precondition: Option<v1::Precondition>) -> Result<Guard, Error> {
    let Some(v1::Precondition { row, fence }) = precondition else { return Ok(Guard::Nothing) };
    no_fence(fence)?;
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

fn op(verb: KvVerb, key: &[u8]) -> TxnOp {
    indexed(verb, key, LogIndex::ZERO)
}

fn indexed(verb: KvVerb, key: &[u8], index: LogIndex) -> TxnOp {
    TxnOp::Kv { verb, key: key.into(), value: Box::default(), flags: 0, index, session: None }
}

fn later(kind: &str) -> Error {
    not_implemented(&format!("{kind} operations in a transaction"))
}

/// Why a step of this kind fails.
fn reason(verb: KvVerb) -> Reason {
    match verb {
        // No session exists yet, so that every acquisition fails for want of one.
        KvVerb::Lock => Reason::UnknownSession,
        KvVerb::Unlock => Reason::LockNotHeld,
        _ => Reason::PreconditionFailed,
    }
}

fn told(operation: u32, result: &TxnResult) -> v1::TxnResult {
    let TxnResult { op_index: _, entry: row, with_value } = result;
    let exists = row.modify_index() > LogIndex::ZERO;
    let told = if *with_value { entry(row) } else { entry_without_value(row) };
    v1::TxnResult { operation, row: exists.then_some(v1::txn_result::Row::Entry(told)), fence: None }
}

#[cfg(test)]
mod tests {
    use state::KvEntry;
    use state::kv::KvHeader;

    use super::*;

    fn operation(row: Option<Row>, operation: Operation) -> v1::TxnOperation {
        let precondition = row.map(|row| v1::Precondition { row: Some(row), fence: None });
        v1::TxnOperation { precondition, operation: Some(operation) }
    }

    fn key() -> bytes::Bytes {
        bytes::Bytes::from_static(b"k")
    }

    fn verbs(operations: Vec<v1::TxnOperation>) -> Vec<KvVerb> {
        let mut plan = Plan::new(operations).unwrap();
        plan.take_ops().iter().map(|TxnOp::Kv { verb, .. }| *verb).collect()
    }

    #[test]
    fn operations_become_steps_with_their_comparisons_before_them() {
        use KvVerb::*;
        let put = || Operation::KvPut(v1::TxnKvPut { key: key(), ..Default::default() });
        for (row, does, expected) in [
            (None, put(), vec![Set]),
            (Some(Row::Absent(true)), put(), vec![Cas]),
            (Some(Row::ModifyIndex(3)), put(), vec![Cas]),
            (Some(Row::Present(true)), put(), vec![Get, Set]),
            (None, Operation::KvGet(key()), vec![GetOrEmpty]),
            (Some(Row::ModifyIndex(3)), Operation::KvGet(key()), vec![CheckIndex, GetOrEmpty]),
            (Some(Row::Absent(true)), Operation::KvGet(key()), vec![CheckNotExists]),
            (Some(Row::ModifyIndex(3)), Operation::KvDelete(key()), vec![DeleteCas]),
            (None, Operation::KvDeletePrefix(key()), vec![DeleteTree]),
            (Some(Row::Absent(true)), Operation::KvCheck(key()), vec![CheckNotExists]),
        ] {
            assert_eq!(verbs(vec![operation(row, does)]), expected);
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_cause() {
        for (refused, reason) in [
            (vec![], "INVALID_ARGUMENT"),
            (vec![v1::TxnOperation::default()], "INVALID_ARGUMENT"),
            (vec![operation(None, Operation::KvCheck(key()))], "INVALID_ARGUMENT"),
            (vec![operation(Some(Row::Absent(true)), Operation::KvList(key()))], "INVALID_ARGUMENT"),
            (vec![operation(None, Operation::NodeGet("n".into()))], "NOT_IMPLEMENTED"),
        ] {
            assert_eq!(Plan::new(refused).unwrap_err().reason.as_str(), reason);
        }
    }

    #[test]
    fn rows_and_failures_name_the_operation_that_was_asked_for() {
        let get = |row| operation(row, Operation::KvGet(key()));
        let plan = Plan::new(vec![get(Some(Row::Present(true))), get(None)]).unwrap();
        let header = KvHeader { modify_index: LogIndex(5), ..Default::default() };
        let row = |op_index, header| TxnResult { op_index, entry: KvEntry::new(b"k", b"v", header), with_value: true };

        let told = plan.results(&[row(0, header), row(1, header), row(2, KvHeader::default())]);
        assert_eq!(told.iter().map(|result| (result.operation, result.row.is_some())).collect::<Vec<_>>(), [(0, true), (1, false)]);

        let failed = |op_index| TxnFailure { op_index, what: "no".into() };
        let told = plan.failures(&[failed(0), failed(1), failed(2)]);
        assert_eq!(told.iter().map(|failure| failure.operation).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(told[0].refusal.as_ref().unwrap().reason(), v1::ErrorReason::PreconditionFailed);
    }
}
