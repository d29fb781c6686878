//! Transactions: several steps, all or none, at one index.

mod catalog;
mod kv;

use crate::apply::Effects;
use crate::command::TxnOp;
use crate::id::LogIndex;
use crate::kv_write::check_fence;
use crate::outcome::{Outcome, Refusal, TxnFailure, TxnResult, TxnRow};
use crate::session::{self, SessionEnd};
use crate::tables::Tables;

/// Runs `ops` in order; later steps see what earlier ones wrote. If any fails, nothing happened
/// and every failing step is named.
pub(crate) fn run(tables: &mut Tables, index: LogIndex, ops: &[TxnOp], effects: &mut Effects) -> Result<Outcome, Refusal> {
    let mut scratch = tables.clone();
    let mut scratch_effects = Effects::default();
    let (results, failures) = steps(&mut scratch, index, ops, &mut scratch_effects);
    if !failures.is_empty() {
        return Err(Refusal::Txn { failures });
    }
    *tables = scratch;
    effects.changes.append(&mut scratch_effects.changes);
    effects.rows.append(&mut scratch_effects.rows);
    Ok(Outcome::Txn(results))
}

/// Runs the steps of a transaction that only reads, on a snapshot and without the log.
pub fn read(tables: &Tables, ops: &[TxnOp]) -> Result<Vec<TxnResult>, Refusal> {
    debug_assert!(ops.iter().all(TxnOp::is_read), "only reading steps may bypass the log");
    let (results, failures) = steps(&mut tables.clone(), tables.applied(), ops, &mut Effects::default());
    if failures.is_empty() { Ok(results) } else { Err(Refusal::Txn { failures }) }
}

impl TxnOp {
    /// Whether the step changes nothing.
    pub fn is_read(&self) -> bool {
        match self {
            TxnOp::Kv { verb, .. } => verb.is_read(),
            TxnOp::Node { verb, .. } | TxnOp::Service { verb, .. } | TxnOp::Check { verb, .. } => verb.is_read(),
            TxnOp::Held(_) => true,
            TxnOp::SessionDestroy(_) => false,
        }
    }
}

/// Why a step failed: in the words of transactions, and with its values.
struct Failure {
    what: String,
    cause: Refusal,
}

impl From<Refusal> for Failure {
    fn from(cause: Refusal) -> Self {
        Failure { what: cause.to_string(), cause }
    }
}

impl Refusal {
    /// The refusal of a step, told as `what`.
    fn told(self, what: impl Into<String>) -> Failure {
        Failure { what: what.into(), cause: self }
    }
}

/// What a step works on: the tables with what the steps before it did.
struct Scratch<'a> {
    tables: &'a mut Tables,
    index: LogIndex,
    effects: &'a mut Effects,
    op_index: usize,
    results: Vec<TxnResult>,
}

impl Scratch<'_> {
    fn show(&mut self, row: TxnRow) {
        self.results.push(TxnResult { op_index: self.op_index, row });
    }
}

fn steps(tables: &mut Tables, index: LogIndex, ops: &[TxnOp], effects: &mut Effects) -> (Vec<TxnResult>, Vec<TxnFailure>) {
    let mut scratch = Scratch { tables, index, effects, op_index: 0, results: Vec::new() };
    let mut failures = Vec::new();
    for (op_index, op) in ops.iter().enumerate() {
        scratch.op_index = op_index;
        if let Err(Failure { what, cause }) = step(&mut scratch, op) {
            failures.push(TxnFailure { op_index, what, cause: Box::new(cause) });
        }
    }
    (scratch.results, failures)
}

fn step(scratch: &mut Scratch<'_>, op: &TxnOp) -> Result<(), Failure> {
    match op {
        TxnOp::Kv { verb, key, value, flags, index, session } => {
            kv::step(scratch, &kv::Step { verb: *verb, key, value, flags: *flags, index: *index, session: *session })
        }
        TxnOp::Node { verb, node, index } => catalog::node(scratch, *verb, node, *index),
        TxnOp::Service { verb, node, service, index } => catalog::service(scratch, *verb, node, service, *index),
        TxnOp::Check { verb, node, check, index } => catalog::check(scratch, *verb, node, check, *index),
        TxnOp::Held(fence) => Ok(check_fence(scratch.tables, fence)?),
        TxnOp::SessionDestroy(id) => {
            session::finish(scratch.tables, scratch.index, *id, SessionEnd::Destroyed, false, scratch.effects);
            Ok(())
        }
    }
}
