//! Locks, semaphores and elections.
//!
//! A [`Lock`] is held by a [`Session`]. It is lost when the session is, which the client's own clock
//! decides before the servers may grant the lock to somebody else; or when it is taken away, of
//! which the server tells. Between looking at the clock and acting on it a program may be stopped
//! for any time, so that what must not happen twice is to carry the lock's fence: see
//! [`Lock::fence`].

mod observe;
mod wait;

use std::sync::Arc;

use bytes::Bytes;
use proto::v1;
use proto::v1::lock_service_client::LockServiceClient;
use tokio::task::AbortHandle;

use crate::error::Error;
use crate::lease::{Lease, Lost};
use crate::pool::Pool;
use crate::session::{Session, SessionOptions, Sessions};

pub use observe::LockObserver;

/// Which lock, and what is written to it.
///
/// ```
/// use lictor_client::LockOptions;
/// let lock = LockOptions::new("jobs/nightly").value("host-7");
/// let slot = LockOptions::new("restart").slots(3);
/// # let _ = (lock, slot);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockOptions {
    key: Bytes,
    slots: u32,
    value: Bytes,
}

impl LockOptions {
    /// The lock on a key.
    pub fn new(key: impl Into<Bytes>) -> Self {
        LockOptions { key: key.into(), slots: 0, value: Bytes::new() }
    }

    /// Lets so many hold it at once. All who use it at the same time have to give the same number.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// What is written to the key with the grant, such as the address of the holder.
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = value.into();
        self
    }
}

impl From<&str> for LockOptions {
    fn from(key: &str) -> Self {
        LockOptions::new(key.to_owned())
    }
}

/// A lock, or a slot of a semaphore, that is held. Dropping it gives it back.
#[must_use = "the lock is given back when this is dropped"]
pub struct Lock {
    session: Session,
    fence: v1::Fence,
    /// Ends when the lock is taken away; the session has a lease of its own.
    taken: Lease,
    follower: AbortHandle,
}

impl Lock {
    /// The proof of holding the lock, to be given with each write that it protects: the servers refuse
    /// the write once somebody else has been granted the lock, however late it arrives.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::PutOptions;
    /// let lock = client.lock("jobs/nightly").await?;
    /// client.kv().put_with("jobs/progress", "42", PutOptions::new().fence(lock.fence()?)).await?;
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fence(&self) -> Result<v1::Fence, Lost> {
        self.check().map(|()| self.fence.clone())
    }

    /// The number of the grant: each one of a lock is larger than those before.
    pub fn token(&self) -> u64 {
        self.fence.token
    }

    /// The key that is held: that of the lock, or of the slot.
    pub fn key(&self) -> &Bytes {
        &self.fence.key
    }

    /// The session that holds it.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Whether it is held for certain, by a look at the clock.
    pub fn check(&self) -> Result<(), Lost> {
        self.taken.check().and_then(|()| self.session.check())
    }

    /// Completes once it is not held any more, and says why.
    pub async fn lost(&self) -> Lost {
        tokio::select! {
            taken = self.taken.lost() => taken,
            lost = self.session.lost() => lost,
        }
    }

    /// Gives it back. That it was lost before is no error.
    pub async fn release(self) -> Result<(), Error> {
        self.follower.abort();
        let lost = self.check().is_err();
        self.taken.lose(Lost::GivenBack);
        if lost { Ok(()) } else { release(&self.session, &self.fence).await }
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("fence", &self.fence).field("session", &self.session).finish_non_exhaustive()
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.follower.abort();
        if self.check().is_err() {
            return;
        }
        self.taken.lose(Lost::GivenBack);
        // Without a runtime the end of the session gives it back.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (session, fence) = (self.session.clone(), self.fence.clone());
            runtime.spawn(async move { release(&session, &fence).await });
        }
    }
}

async fn release(session: &Session, fence: &v1::Fence) -> Result<(), Error> {
    use v1::ErrorReason::{LockNotHeld, StaleFence, UnknownSession};
    let request = v1::LockServiceReleaseRequest {
        options: session.write_options(),
        key: fence.key.clone(),
        session_id: session.id().to_owned(),
        fencing_token: fence.token,
    };
    let send = |channel, request| async move { LockServiceClient::new(channel).release(request).await };
    match session.pool().call(request, send).await {
        Err(error) if !matches!(error.reason(), Some(LockNotHeld | StaleFence | UnknownSession)) => Err(error),
        _ => Ok(()),
    }
}

impl Session {
    /// Waits for a lock and holds it. Dropping the future gives up the place in the queue.
    ///
    /// Errors: a refusal such as `LOCK_SLOTS_DIFFER`, and [`Error::Lost`] when the session is lost first.
    pub async fn lock(&self, lock: impl Into<LockOptions>) -> Result<Lock, Error> {
        wait::acquire(self, lock.into()).await
    }

    /// Takes a lock if it is free. A refusal with [`LockHeld`](v1::ErrorReason::LockHeld) or
    /// [`LockDelay`](v1::ErrorReason::LockDelay) says that it is not.
    pub async fn try_lock(&self, lock: impl Into<LockOptions>) -> Result<Lock, Error> {
        let lock = lock.into();
        let request = v1::LockServiceTryAcquireRequest {
            options: self.write_options(),
            key: lock.key.clone(),
            session_id: self.id().to_owned(),
            value: lock.value.clone(),
            slots: lock.slots,
        };
        let send = |channel, request| async move { LockServiceClient::new(channel).try_acquire(request).await };
        let v1::LockServiceTryAcquireResponse { fence, .. } = self.pool().call(request, send).await?;
        let fence = fence.ok_or_else(|| Error::Contract("a grant has no fence".into()))?;
        Ok(wait::held(self, lock, fence, None))
    }
}

/// An election: one of many leads, and everybody can see who.
///
/// ```no_run
/// # async fn serve() {}
/// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
/// let election = client.election("service/billing/leader");
/// loop {
///     let leading = election.campaign("10.0.0.7:9000").await?;
///     tokio::select! {
///         why = leading.lost() => eprintln!("leading no more: {why}"),
///         () = serve() => return leading.release().await,
///     }
/// }
/// # }
/// ```
#[derive(Clone)]
pub struct Election {
    pool: Arc<Pool>,
    key: Bytes,
    session: SessionOptions,
}

impl Election {
    pub(crate) fn new(pool: Arc<Pool>, key: Bytes) -> Self {
        Election { pool, key, session: SessionOptions::default() }
    }

    /// Makes the session of a candidate as these options say.
    pub fn session(mut self, options: SessionOptions) -> Self {
        self.session = options;
        self
    }

    /// Waits until this candidate leads, and leads until the lock is dropped or lost. `value` says who
    /// it is to those who observe.
    pub async fn campaign(&self, value: impl Into<Bytes>) -> Result<Lock, Error> {
        let lock = LockOptions::new(self.key.clone()).value(value);
        acquire(&self.pool, self.session.clone(), lock).await
    }

    /// Follows who leads: who does now, then each change.
    pub fn observe(&self) -> LockObserver {
        LockObserver::new(self.pool.clone(), self.key.clone(), false)
    }

    /// Who leads now, if anybody does.
    pub async fn leader(&self) -> Result<Option<v1::LockHolder>, Error> {
        Ok(self.observe().next().await?.into_iter().next())
    }
}

/// A lock that several may hold at once, each in a slot of their own.
#[derive(Clone)]
pub struct Semaphore {
    pool: Arc<Pool>,
    key: Bytes,
    slots: u32,
    session: SessionOptions,
}

impl Semaphore {
    pub(crate) fn new(pool: Arc<Pool>, key: Bytes, slots: u32) -> Self {
        Semaphore { pool, key, slots, session: SessionOptions::default() }
    }

    /// Makes the session of each holder as these options say.
    pub fn session(mut self, options: SessionOptions) -> Self {
        self.session = options;
        self
    }

    /// Waits for a slot and holds it.
    pub async fn acquire(&self) -> Result<Lock, Error> {
        let slot = LockOptions::new(self.key.clone()).slots(self.slots);
        acquire(&self.pool, self.session.clone(), slot).await
    }

    /// Follows who holds the slots: who does now, then each change.
    pub fn observe(&self) -> LockObserver {
        LockObserver::new(self.pool.clone(), self.key.clone(), true)
    }
}

/// Waits for a lock with a session of its own.
pub(crate) async fn acquire(pool: &Arc<Pool>, session: SessionOptions, lock: LockOptions) -> Result<Lock, Error> {
    Sessions::new(pool).keep(session).await?.lock(lock).await
}
