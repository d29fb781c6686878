//! A lock for one: the key `PREFIX/.lock`, locked by the session.

use std::time::Duration;

use anyhow::bail;
use lictor_client::{Client, DeleteOptions, Error, ErrorReason, PutOptions, v1};

use crate::cli::lock::Held;
use crate::cli::lock::board::Board;

/// The flags by which all clients tell such a key.
const FLAGS: u64 = 0x2ddc_cbc0_58a5_0c18;

/// The name of the key under the prefix.
pub(super) const LOCK: &str = ".lock";

/// From an attempt that failed for a passing reason to the next.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// A lock for one.
pub(super) struct Slot {
    client: Client,
    key: String,
    session: String,
    datacenter: String,
}

impl Slot {
    pub(super) fn new(client: &Client, prefix: &str, session: &str, datacenter: &str) -> Self {
        let (session, datacenter) = (session.to_owned(), datacenter.to_owned());
        Slot { client: client.clone(), key: format!("{prefix}/{LOCK}"), session, datacenter }
    }

    /// Waits for the lock.
    pub(super) async fn acquire(&self, board: &mut Board) -> anyhow::Result<Held> {
        loop {
            board.change().await?;
            while board.get(LOCK).is_none_or(|entry| entry.session_id.is_empty() || entry.session_id == self.session) {
                if board.get(LOCK).is_some_and(|entry| entry.flags != FLAGS) {
                    bail!("the key `{}` exists and is no lock for one: its flags are not those of such a lock", self.key);
                }
                match self.take().await {
                    Ok(held) => return Ok(held),
                    Err(error) => match pause(&error) {
                        Some(pause) => tokio::time::sleep(pause).await,
                        None if error.reason() == Some(ErrorReason::LockHeld) => break,
                        None => return Err(error.into()),
                    },
                }
            }
        }
    }

    async fn take(&self) -> Result<Held, Error> {
        let options = PutOptions::new().datacenter(&self.datacenter).flags(FLAGS).acquire(&self.session);
        let written = self.client.kv().put_with(&self.key, "", options).await?;
        Ok(Held { revision: written.value.modify_index, fence: written.value.fence })
    }

    pub(super) fn is_held(&self, board: &Board) -> bool {
        board.get(LOCK).is_some_and(|entry| entry.session_id == self.session)
    }

    /// Gives the lock back, and removes its key unless somebody has taken it already.
    pub(super) async fn release(&self) -> anyhow::Result<()> {
        let options = PutOptions::new().datacenter(&self.datacenter).flags(FLAGS).release(&self.session);
        let written = match self.client.kv().put_with(&self.key, "", options).await {
            Ok(written) => written,
            Err(error) if matches!(error.reason(), Some(ErrorReason::LockNotHeld | ErrorReason::UnknownSession)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let options = DeleteOptions::new().datacenter(&self.datacenter).if_modify_index(written.value.modify_index);
        match self.client.kv().delete_with(&self.key, options).await {
            Err(error) if error.reason() != Some(ErrorReason::PreconditionFailed) => Err(error.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// How long to wait before the same is tried again; `None` when it is of no use.
pub(super) fn pause(error: &Error) -> Option<Duration> {
    match refused_for(error.reason(), error.detail("remaining_ms")) {
        Some(delay) => Some(delay),
        None if error.reason() == Some(ErrorReason::LockHeld) => None,
        None => error.is_transient().then_some(RETRY_INTERVAL),
    }
}

/// How long a lock delay lasts, if it is the reason.
fn refused_for(reason: Option<ErrorReason>, remaining_ms: Option<&str>) -> Option<Duration> {
    let remaining = remaining_ms.and_then(|text| text.parse().ok()).map_or(RETRY_INTERVAL, Duration::from_millis);
    (reason == Some(ErrorReason::LockDelay)).then(|| remaining + Duration::from_millis(20))
}

/// The same for a step of a transaction.
pub(super) fn delayed(refusal: &v1::Refusal) -> Option<Duration> {
    refused_for(Some(refusal.reason()), refusal.metadata.get("remaining_ms").map(String::as_str))
}
