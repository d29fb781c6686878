//! Transactions: all or nothing, at one revision.

use consensus::Proposed;
use state::{KvVerb, LogIndex, Operation, Outcome, TxnOp, TxnResult};

use crate::answer::ReadOptions;
use crate::error::{Error, Reason};
use crate::{Caller, Right, Service};

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
    /// and `TXN_FAILED` with every step that failed in [`Error::refusal`].
    pub async fn txn(&self, caller: &Caller, options: &ReadOptions, ops: Vec<TxnOp>) -> Result<TxnDone, Error> {
        self.check_datacenter(options.datacenter.as_deref())?;
        self.check_txn(caller, &ops)?;
        if ops.iter().all(TxnOp::is_read) {
            let tables = self.snapshot(options).await?;
            let results = state::txn::read(&tables, &ops)?;
            return Ok(TxnDone { index: tables.applied(), results });
        }
        let Proposed { index, outcome } = self.propose(Operation::Txn(ops)).await?;
        match outcome {
            Outcome::Txn(results) => Ok(TxnDone { index, results }),
            Outcome::Done { .. } | Outcome::Session(_) => Ok(TxnDone { index, results: Vec::new() }),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    fn check_txn(&self, caller: &Caller, ops: &[TxnOp]) -> Result<(), Error> {
        let limits = self.limits();
        if ops.len() > limits.txn_ops_max {
            let message = format!("the transaction has {} operations, the limit is {}; split it", ops.len(), limits.txn_ops_max);
            return Err(Error::new(Reason::TxnTooManyOperations, message).with("size", ops.len()).with("limit", limits.txn_ops_max));
        }
        let mut total = 0;
        for TxnOp::Kv { verb, key, value, .. } in ops {
            let right = if verb.is_read() { Right::KeyRead(key) } else { Right::KeyWrite(key) };
            self.authorize(caller, right)?;
            // The whole store may be deleted at once, but not be read into one answer.
            if *verb == KvVerb::DeleteTree {
                self.check_key_length(key)?
            } else {
                self.check_key(key)?
            }
            self.check_value(key, value.len())?;
            total += key.len() + value.len();
        }
        if total > limits.txn_bytes_max {
            let message = format!("the transaction has {total} bytes, the limit is {}; split it", limits.txn_bytes_max);
            return Err(Error::new(Reason::TxnTooLarge, message).with("size", total).with("limit", limits.txn_bytes_max));
        }
        Ok(())
    }
}
