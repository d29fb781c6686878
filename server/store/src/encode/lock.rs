//! Locks that somebody waits for.

use std::sync::Arc;

use bytes::Bytes;
use proto::storage::v1 as pb;
use state::{LockAcquire, LogIndex, Operation, Row, Waiter};

use crate::encode::{Malformed, from_session, to_session};

pub(super) fn from_queue(key: &[u8], slots: u32) -> pb::LockQueue {
    pb::LockQueue { key: Bytes::copy_from_slice(key), slots }
}

pub(super) fn to_queue(row: &pb::LockQueue) -> Row {
    Row::LockQueue(row.key[..].into(), row.slots)
}

pub(super) fn from_waiter(key: &[u8], waiter: &Waiter) -> pb::LockWaiter {
    pb::LockWaiter {
        key: Bytes::copy_from_slice(key),
        ticket: waiter.ticket.0,
        session: from_session(Some(waiter.session)),
        value: Bytes::copy_from_slice(&waiter.value),
    }
}

pub(super) fn to_waiter(row: &pb::LockWaiter) -> Result<Row, Malformed> {
    let session = to_session(&row.session, "session")?.ok_or(Malformed::Missing("session"))?;
    let waiter = Waiter { ticket: LogIndex(row.ticket), session, value: row.value[..].into() };
    Ok(Row::LockWaiter(row.key[..].into(), Arc::new(waiter)))
}

pub(super) fn from_acquire(wish: &LockAcquire) -> pb::LockAcquire {
    pb::LockAcquire {
        key: Bytes::copy_from_slice(&wish.key),
        slots: wish.slots,
        session: from_session(Some(wish.session)),
        value: Bytes::copy_from_slice(&wish.value),
        wait: wish.wait,
    }
}

pub(super) fn to_acquire(wish: &pb::LockAcquire) -> Result<Operation, Malformed> {
    let pb::LockAcquire { key, slots, session, value, wait } = wish;
    let session = to_session(session, "session")?.ok_or(Malformed::Missing("session"))?;
    Ok(Operation::LockAcquire(Box::new(LockAcquire { key: key[..].into(), slots: *slots, session, value: value[..].into(), wait: *wait })))
}
