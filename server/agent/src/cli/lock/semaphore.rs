//! A lock for several: each contender locks a key of its own, `PREFIX/SESSION`, and who holds a slot
//! stands in `PREFIX/.lock`, which is only ever changed by comparing.
//!
//! A holder whose own key is not locked any more has lost its slot. The slot is taken over only once
//! the lock delay of that key is over, so that a holder who does not know yet has ended by then.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use lictor_client::{Client, ErrorReason, PutOptions, ReadOptions, Txn, v1};
use serde_json::{Value, json};

use crate::cli::lock::Held;
use crate::cli::lock::board::Board;
use crate::cli::lock::slot::{LOCK, delayed, pause};

/// The flags by which all clients tell such keys.
const FLAGS: u64 = 0xe0f6_9a2b_aa41_4de0;

/// Attempts to take oneself off the list of holders, against others who change it.
const RELEASE_ATTEMPTS: u32 = 50;

/// A lock for several.
pub(super) struct Semaphore {
    client: Client,
    prefix: String,
    session: String,
    slots: u32,
    datacenter: String,
}

/// Who holds a slot, as it is written down.
#[derive(Clone, Debug, PartialEq)]
struct Holders {
    limit: u64,
    sessions: BTreeMap<String, Value>,
}

impl Holders {
    fn read(text: &[u8]) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_slice(text).context("it is no JSON")?;
        let limit = value["Limit"].as_u64().context("it names no limit")?;
        let sessions = value["Holders"].as_object().map(|holders| holders.clone().into_iter().collect()).unwrap_or_default();
        Ok(Holders { limit, sessions })
    }

    fn write(&self) -> Vec<u8> {
        json!({"Limit": self.limit, "Holders": self.sessions}).to_string().into_bytes()
    }
}

impl Semaphore {
    pub(super) fn new(client: &Client, prefix: &str, session: &str, slots: u32, datacenter: &str) -> Self {
        let (prefix, session, datacenter) = (prefix.to_owned(), session.to_owned(), datacenter.to_owned());
        Semaphore { client: client.clone(), prefix, session, slots, datacenter }
    }

    fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Waits for a slot.
    pub(super) async fn acquire(&self, board: &mut Board) -> anyhow::Result<Held> {
        self.contend().await?;
        loop {
            board.change().await?;
            if let Some(held) = self.attempt(board).await? {
                return Ok(held);
            }
        }
    }

    /// Takes a slot if one is free, as the board shows it.
    async fn attempt(&self, board: &Board) -> anyhow::Result<Option<Held>> {
        let dead = self.dead(board)?;
        for holder in &dead {
            self.outlast(holder).await?;
        }
        loop {
            match self.take(board, &dead).await? {
                Ok(held) => return Ok(held),
                Err(error) => tokio::time::sleep(pause(&error).ok_or(error)?).await,
            }
        }
    }

    /// Locks the key of one's own.
    async fn contend(&self) -> anyhow::Result<()> {
        loop {
            let options = PutOptions::new().datacenter(&self.datacenter).flags(FLAGS).acquire(&self.session);
            match self.client.kv().put_with(self.key(&self.session), "", options).await {
                Ok(_) => return Ok(()),
                Err(error) => tokio::time::sleep(pause(&error).ok_or(error)?).await,
            }
        }
    }

    fn holders(&self, entry: Option<&v1::Entry>) -> anyhow::Result<Holders> {
        let Some(entry) = entry else { return Ok(Holders { limit: self.slots.into(), sessions: BTreeMap::new() }) };
        let key = self.key(LOCK);
        if entry.flags != FLAGS {
            bail!("the key `{key}` exists and is no lock for several: its flags are not those of such a lock");
        }
        let holders = Holders::read(&entry.value).with_context(|| format!("the key `{key}` cannot be read"))?;
        if holders.limit != u64::from(self.slots) {
            bail!("the lock `{}` has {} slots, and `-n={}` was given; all who share it must agree", self.prefix, holders.limit, self.slots);
        }
        Ok(holders)
    }

    /// Holders whose own keys are not locked any more.
    fn dead(&self, board: &Board) -> anyhow::Result<Vec<String>> {
        let mut holders = self.holders(board.get(LOCK))?.sessions.into_keys().collect::<Vec<_>>();
        holders.retain(|session| board.get(session).is_none_or(|entry| entry.session_id.is_empty()));
        Ok(holders)
    }

    /// Waits until nobody is kept from the key of a dead holder, and removes it.
    async fn outlast(&self, holder: &str) -> anyhow::Result<()> {
        loop {
            let lock = v1::TxnKvPut {
                key: self.key(holder).into(),
                flags: FLAGS,
                lock: Some(v1::txn_kv_put::Lock::Acquire(self.session.clone())),
                ..Default::default()
            };
            let lock = v1::TxnOperation { precondition: None, operation: Some(v1::txn_operation::Operation::KvPut(lock)) };
            let txn = Txn::new().datacenter(&self.datacenter).operation(lock).delete(self.key(holder));
            let failure = match self.client.kv().txn(txn).await {
                Ok(answer) if answer.value.committed => return Ok(()),
                Ok(answer) => answer.value.failures.into_iter().find_map(|failure| failure.refusal),
                Err(error) => {
                    tokio::time::sleep(pause(&error).ok_or(error)?).await;
                    continue;
                }
            };
            let refusal = failure.ok_or_else(|| anyhow!("a transaction failed without a reason"))?;
            match delayed(&refusal) {
                Some(delay) => tokio::time::sleep(delay).await,
                // It lives after all: whoever looks again will see it.
                None if refusal.reason() == ErrorReason::LockHeld => return Ok(()),
                None => bail!(refusal.message),
            }
        }
    }

    /// Enters oneself where a slot is free, as the board shows it; `None` when none is, or when it
    /// has changed meanwhile.
    async fn take(&self, board: &Board, dead: &[String]) -> anyhow::Result<Result<Option<Held>, lictor_client::Error>> {
        let entry = board.get(LOCK);
        let mut holders = self.holders(entry)?;
        holders.sessions.retain(|session, _| !dead.contains(session));
        if !holders.sessions.contains_key(&self.session) && holders.sessions.len() >= self.slots as usize {
            return Ok(Ok(None));
        }
        holders.sessions.insert(self.session.clone(), true.into());
        Ok(match self.write(&holders, entry.map_or(0, |entry| entry.modify_index)).await {
            Ok(revision) => Ok(Some(Held { revision, fence: None })),
            Err(error) if error.reason() == Some(ErrorReason::PreconditionFailed) => Ok(None),
            Err(error) => Err(error),
        })
    }

    async fn write(&self, holders: &Holders, modify_index: u64) -> Result<u64, lictor_client::Error> {
        let options = PutOptions::new().datacenter(&self.datacenter).flags(FLAGS);
        let options = if modify_index == 0 { options.if_absent() } else { options.if_modify_index(modify_index) };
        Ok(self.client.kv().put_with(self.key(LOCK), holders.write(), options).await?.value.modify_index)
    }

    pub(super) fn is_held(&self, board: &Board) -> bool {
        let listed = self.holders(board.get(LOCK)).is_ok_and(|holders| holders.sessions.contains_key(&self.session));
        listed && board.get(&self.session).is_some_and(|entry| entry.session_id == self.session)
    }

    /// Takes oneself off the list, and removes what nobody needs any more.
    pub(super) async fn release(&self) -> anyhow::Result<()> {
        let kv = self.client.kv();
        let read = ReadOptions::default().datacenter(&self.datacenter);
        for attempt in 0..RELEASE_ATTEMPTS {
            let entry = kv.get_with(self.key(LOCK), &read).await?.value;
            let mut holders = self.holders(entry.as_ref())?;
            let txn = Txn::new().datacenter(&self.datacenter).delete(self.key(&self.session));
            let listed = holders.sessions.remove(&self.session).is_some();
            let txn = match &entry {
                Some(entry) if listed && holders.sessions.is_empty() => txn.delete_if(self.key(LOCK), entry.modify_index),
                Some(entry) if listed => {
                    let put = v1::TxnKvPut { key: self.key(LOCK).into(), value: holders.write().into(), flags: FLAGS, lock: None };
                    let row = Some(v1::precondition::Row::ModifyIndex(entry.modify_index));
                    let precondition = Some(v1::Precondition { row, fence: None });
                    let operation = Some(v1::txn_operation::Operation::KvPut(put));
                    txn.operation(v1::TxnOperation { precondition, operation })
                }
                _ => txn,
            };
            if kv.txn(txn).await?.value.committed {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(u64::from(attempt.min(20)) * 5)).await;
        }
        bail!("others changed the key `{}` again and again", self.key(LOCK))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holders_are_written_as_other_clients_read_them() {
        let holders = Holders::read(br#"{"Limit":2,"Holders":{"a":true}}"#).unwrap();
        assert_eq!((holders.limit, holders.sessions.len()), (2, 1));
        assert_eq!(Holders::read(&holders.write()).unwrap(), holders);
        assert_eq!(Holders::read(br#"{"Limit":2,"Holders":null}"#).unwrap().sessions.len(), 0);
        assert!(Holders::read(b"").is_err());
        assert!(Holders::read(b"{}").unwrap_err().to_string().contains("no limit"));
    }
}
