//! Locks: taking one, waiting for one, giving it back, looking on.
//!
//! What a lock is, who comes first and who is granted it is decided by [`state::lock`]. Here is what
//! surrounds that: validation, the stream that waits and holds ([`LockStream`]) and the one that
//! looks on ([`LockWatch`]).

mod stream;
mod watch;

use consensus::Proposed;
use state::lock::SLOTS_MAX;
use state::{Fence, KvEntry, LockAcquire, LockPlace, LogIndex, Operation, Outcome, Refusal, SessionId};

use crate::error::{Error, Reason};
use crate::{Caller, Right, Service};

pub use stream::{Holder, LockEvent, LockStream, Loss};
pub use watch::{LockSeen, LockWatch, SeenHolder};

/// A wish to hold a lock.
#[derive(Clone, Debug)]
pub struct LockWish {
    /// The key of the lock.
    pub key: Vec<u8>,
    /// How many may hold it at once; 0 is a lock without slots.
    pub slots: u32,
    /// Who wants it.
    pub session: SessionId,
    /// What is written to the key with the grant.
    pub value: Vec<u8>,
}

/// A lock that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The log index of the answer.
    pub index: LogIndex,
    /// The proof: the key that is held, which is that of the slot where there are slots, and the token.
    pub fence: Fence,
}

impl Grant {
    fn new(index: LogIndex, entry: &KvEntry) -> Self {
        Grant { index, fence: Fence { key: entry.key().into(), token: entry.fence() } }
    }
}

impl Service {
    /// Takes a lock if it is free. A session that holds it is given the same grant again. Refusals:
    /// `KEY_TOO_LONG`, `VALUE_TOO_LARGE`, `UNKNOWN_SESSION`, `LOCK_HELD`, `LOCK_DELAY`, `LOCK_SLOTS_DIFFER`.
    pub async fn lock_try_acquire(&self, caller: &Caller, datacenter: Option<&str>, wish: LockWish) -> Result<Grant, Error> {
        self.check_datacenter(datacenter)?;
        self.check_wish(caller, &wish)?;
        let key = wish.key.clone();
        match self.propose_wish(wish, false).await? {
            (index, LockPlace::Granted(entry)) => Ok(Grant::new(index, &entry)),
            (_, LockPlace::Queued { .. }) => {
                Err(Error::new(Reason::Internal, "a session was queued that did not want to wait")
                    .with("key", String::from_utf8_lossy(&key)))
            }
        }
    }

    /// Gives back what a session holds of a lock, or its place in the queue; with a token other than 0
    /// only that grant. Refusals: `UNKNOWN_SESSION`, `LOCK_NOT_HELD`, `STALE_FENCE`.
    pub async fn lock_release(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        key: &[u8],
        session: SessionId,
        token: LogIndex,
    ) -> Result<LogIndex, Error> {
        self.check_datacenter(datacenter)?;
        self.authorize(caller, Right::KeyWrite(key))?;
        self.check_key(key)?;
        let Proposed { index, outcome } = self.propose(Operation::LockRelease { key: key.into(), session, token }).await?;
        match outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Ok(index),
        }
    }

    /// Takes a lock or a place in its queue, and says which.
    async fn propose_wish(&self, wish: LockWish, wait: bool) -> Result<(LogIndex, LockPlace), Error> {
        let LockWish { key, slots, session, value } = wish;
        let (key, value) = (key.into_boxed_slice(), value.into_boxed_slice());
        let wish = LockAcquire { key, slots, session, value, wait };
        let Proposed { index, outcome } = self.propose(Operation::LockAcquire(Box::new(wish))).await?;
        match outcome {
            Outcome::Lock(place) => Ok((index, place)),
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Err(Refusal::UnknownSession { session }.into()),
        }
    }

    fn check_wish(&self, caller: &Caller, wish: &LockWish) -> Result<(), Error> {
        self.authorize(caller, Right::KeyWrite(&wish.key))?;
        self.check_key(&wish.key)?;
        if wish.slots > 0 {
            // The key of the last slot is the longest.
            self.check_key(&state::lock::slot_key(&wish.key, wish.slots - 1))?;
        }
        if wish.slots > SLOTS_MAX {
            let message = format!("`slots` is {}, and must not be above {SLOTS_MAX}; use several semaphores", wish.slots);
            return Err(Error::new(Reason::InvalidArgument, message).with("field", "slots").with("limit", SLOTS_MAX));
        }
        let (size, limit) = (wish.value.len(), self.limits().lock_value_bytes_max);
        if size > limit {
            let message = format!("the value has {size} bytes, the limit for that of a lock is {limit}; keep it elsewhere");
            return Err(Error::new(Reason::ValueTooLarge, message).with("size", size).with("limit", limit));
        }
        Ok(())
    }
}
