//! Transactions: all or nothing, at one revision.

use consensus::Proposed;
use state::{CheckInput, KvVerb, LogIndex, NodeInput, Operation, Outcome, RowVerb, ServiceInput, TxnOp, TxnResult};

use crate::answer::ReadOptions;
use crate::catalog::{check_node, check_service};
use crate::error::{Error, Reason};
use crate::{Caller, Right, Service};

/// Into how many steps a face may split one operation: a fence, a comparison, and what they guard.
const STEPS_PER_OPERATION_MAX: usize = 3;

/// A transaction that was done.
#[derive(Clone, Debug)]
pub struct TxnDone {
    /// The log index of its writes, or the index of the snapshot it read.
    pub index: LogIndex,
    /// One result for each step that answers, in order.
    pub results: Vec<TxnResult>,
}

impl Service {
    /// Runs a transaction. One that only reads bypasses the log and is as fresh as `options` asks.
    /// Refusals: `TXN_TOO_MANY_OPERATIONS`, `TXN_TOO_LARGE`, `VALUE_TOO_LARGE`, `KEY_TOO_LONG`,
    /// `INVALID_ARGUMENT` with the step's position as `operation`, and `TXN_FAILED` with every step
    /// that failed in [`Error::refusal`].
    pub async fn txn(&self, caller: &Caller, options: &ReadOptions, mut ops: Vec<TxnOp>) -> Result<TxnDone, Error> {
        self.check_datacenter(options.datacenter.as_deref())?;
        self.check_txn(caller, &mut ops)?;
        if ops.iter().all(TxnOp::is_read) {
            let tables = self.snapshot(options).await?;
            let results = state::txn::read(&tables, &ops)?;
            return Ok(TxnDone { index: tables.applied(), results });
        }
        let Proposed { index, outcome } = self.propose(Operation::Txn(ops)).await?;
        match outcome {
            Outcome::Txn(results) => Ok(TxnDone { index, results }),
            Outcome::Done { .. } | Outcome::Session(_) | Outcome::Lock(_) => Ok(TxnDone { index, results: Vec::new() }),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Refuses a transaction with more operations than allowed.
    pub fn check_txn_operations(&self, count: usize) -> Result<(), Error> {
        let limit = self.limits().txn_ops_max;
        if count <= limit {
            return Ok(());
        }
        let message = format!("the transaction has {count} operations, the limit is {limit}; split it");
        Err(Error::new(Reason::TxnTooManyOperations, message).with("size", count).with("limit", limit))
    }

    fn check_txn(&self, caller: &Caller, ops: &mut [TxnOp]) -> Result<(), Error> {
        self.check_txn_operations(ops.len().div_ceil(STEPS_PER_OPERATION_MAX))?;
        let mut total = 0;
        for (at, op) in ops.iter_mut().enumerate() {
            let checked = self.complete(op).and_then(|()| self.check_op(caller, op));
            checked.map_err(|error| error.with("operation", at))?;
            total += bytes(op);
        }
        let limit = self.limits().txn_bytes_max;
        if total > limit {
            let message = format!("the transaction has {total} bytes, the limit is {limit}; split it");
            return Err(Error::new(Reason::TxnTooLarge, message).with("size", total).with("limit", limit));
        }
        Ok(())
    }

    /// Fills in what is left out, as a registration does.
    fn complete(&self, op: &mut TxnOp) -> Result<(), Error> {
        if let TxnOp::Node { node, .. } = op {
            if node.datacenter.is_empty() {
                node.datacenter = self.identity().datacenter.clone();
            }
            self.check_datacenter(Some(&node.datacenter))?;
        }
        Ok(())
    }

    fn check_op(&self, caller: &Caller, op: &TxnOp) -> Result<(), Error> {
        match op {
            TxnOp::Kv { verb, key, value, .. } => self.check_kv_op(caller, *verb, key, value),
            TxnOp::Node { verb, node, .. } => {
                self.authorize(caller, node_right(*verb, &node.name))?;
                check_node_op(*verb, node)
            }
            TxnOp::Service { verb, node, service, .. } => {
                let right = if verb.is_read() { Right::ServiceRead(&service.name) } else { Right::ServiceWrite(&service.name) };
                self.authorize(caller, right)?;
                check_on_node(node)?;
                check_service_op(*verb, service)
            }
            TxnOp::Check { verb, node, check, .. } => {
                self.authorize(caller, node_right(*verb, node))?;
                check_on_node(node)?;
                check_check(check)
            }
            TxnOp::Held(fence) => self.check_key(&fence.key),
            TxnOp::SessionDestroy(_) => self.authorize(caller, Right::SessionWrite("")),
        }
    }

    fn check_kv_op(&self, caller: &Caller, verb: KvVerb, key: &[u8], value: &[u8]) -> Result<(), Error> {
        let right = if verb.is_read() { Right::KeyRead(key) } else { Right::KeyWrite(key) };
        self.authorize(caller, right)?;
        // The whole store may be deleted at once, but not be read into one answer.
        if verb == KvVerb::DeleteTree {
            self.check_key_length(key)?
        } else {
            self.check_key(key)?
        }
        self.check_value(key, value.len())
    }
}

fn node_right(verb: RowVerb, name: &str) -> Right<'_> {
    if verb.is_read() { Right::NodeRead(name) } else { Right::NodeWrite(name) }
}

fn writes(verb: RowVerb) -> bool {
    matches!(verb, RowVerb::Set | RowVerb::Cas)
}

fn check_node_op(verb: RowVerb, node: &NodeInput) -> Result<(), Error> {
    if writes(verb) {
        return check_node(node, true);
    }
    if node.name.is_empty() && node.id.is_empty() {
        return Err(Error::invalid("must provide the name or the id of a node"));
    }
    Ok(())
}

fn check_on_node(node: &str) -> Result<(), Error> {
    if node.is_empty() { Err(Error::invalid("must provide node")) } else { Ok(()) }
}

fn check_service_op(verb: RowVerb, service: &ServiceInput) -> Result<(), Error> {
    if writes(verb) {
        return check_service(service);
    }
    if service.id.is_empty() && service.name.is_empty() {
        return Err(Error::invalid("must provide the id of a service"));
    }
    Ok(())
}

fn check_check(check: &CheckInput) -> Result<(), Error> {
    if check.id.is_empty() && check.name.is_empty() { Err(Error::invalid("a check needs a name or an id")) } else { Ok(()) }
}

/// What a step adds to the size of the transaction: the texts that its writer chose.
fn bytes(op: &TxnOp) -> usize {
    let pair = |(key, value): (&state::Str, &state::Str)| key.len() + value.len();
    match op {
        TxnOp::Kv { key, value, .. } => key.len() + value.len(),
        TxnOp::Node { node, .. } => {
            let pairs: usize = node.meta.iter().chain(&node.tagged_addresses).map(pair).sum();
            node.name.len() + node.address.len() + pairs
        }
        TxnOp::Service { service, .. } => {
            let tags: usize = service.tags.iter().map(|tag| tag.len()).sum();
            let addresses: usize = service.tagged_addresses.iter().map(|(tag, to)| tag.len() + to.address.len()).sum();
            service.id.len() + service.name.len() + tags + addresses + service.meta.iter().map(pair).sum::<usize>()
        }
        TxnOp::Check { check, .. } => {
            let definition = &check.definition;
            let script: usize = definition.script_args.iter().map(|arg| arg.len()).sum();
            let texts = [&definition.http, &definition.body, &definition.tcp, &definition.grpc];
            let texts: usize = texts.iter().filter_map(|text| text.as_deref()).map(str::len).sum();
            check.id.len() + check.name.len() + check.notes.len() + check.output.len() + script + texts
        }
        TxnOp::Held(fence) => fence.key.len(),
        TxnOp::SessionDestroy(_) => 0,
    }
}
