//! A session that is kept alive, and given up in time.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use tokio::task::AbortHandle;

use super::{Sessions, destroy, keeper};
use crate::clock::{Clock, SystemClock};
use crate::error::Error;
use crate::lease::{Lease, Lost};
use crate::pool::Pool;
use crate::read::write_options;

/// How a session is made that the client keeps alive.
///
/// ```
/// use lictor_client::SessionOptions;
/// use std::time::Duration;
///
/// let options = SessionOptions { name: "billing".into(), ttl: Duration::from_secs(20), ..SessionOptions::default() };
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct SessionOptions {
    /// A name for people.
    pub name: String,
    /// Node to tie it to; empty is that of the asked agent.
    pub node: String,
    /// What is held outlives the client for this long at most; 10 s to 24 h.
    pub ttl: Duration,
    /// How long what was held stays free when the session ends without a release; `None` is 15 s.
    pub lock_delay: Option<Duration>,
    /// What happens to the keys of its locks when it ends.
    pub behavior: v1::SessionBehavior,
    /// Checks of the node to tie it to.
    pub node_checks: Vec<String>,
    /// Checks of instances on the node to tie it to.
    pub service_checks: Vec<String>,
    /// Lets it outlive a failure of its node.
    pub ignore_node_failure: bool,
    /// How long before the servers may end the session it is given up; `None` is a tenth of the TTL. It
    /// has to cover how differently clocks run, and what a program does between looking at the lock and
    /// acting on it.
    pub margin: Option<Duration>,
    /// Writes to another datacenter.
    pub datacenter: String,
    /// The clock that decides.
    pub clock: Arc<dyn Clock>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions {
            name: String::new(),
            node: String::new(),
            ttl: Duration::from_secs(15),
            lock_delay: None,
            behavior: v1::SessionBehavior::Release,
            node_checks: Vec::new(),
            service_checks: Vec::new(),
            ignore_node_failure: false,
            margin: None,
            datacenter: String::new(),
            clock: SystemClock::shared(),
        }
    }
}

impl std::fmt::Debug for SessionOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SessionOptions").field("name", &self.name).field("node", &self.node).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// A session that is renewed in the background for as long as it, or a lock of it, lives. Dropping the
/// last clone ends it.
///
/// It is given up by the client's own clock before the servers may end it; what holds by it must
/// stop then. [`Session::lost`] tells when, and [`Session::check`] whether.
#[derive(Clone)]
pub struct Session {
    inner: Arc<Inner>,
}

struct Inner {
    pool: Arc<Pool>,
    id: String,
    datacenter: String,
    lease: Lease,
    keeper: AbortHandle,
}

impl Sessions<'_> {
    /// Makes a session that is kept alive in the background. Must be called within a tokio runtime.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let session = client.sessions().keep(Default::default()).await?;
    /// tokio::select! {
    ///     why = session.lost() => eprintln!("stopping: {why}"),
    ///     () = tokio::time::sleep(std::time::Duration::from_secs(60)) => session.end().await?,
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn keep(&self, options: SessionOptions) -> Result<Session, Error> {
        let (clock, sent) = (options.clock.clone(), options.clock.now());
        let session = self.create(request(&options)).await?;
        let ttl = session.ttl.and_then(|ttl| ttl.try_into().ok()).unwrap_or(options.ttl);
        let lease = Lease::new(clock, options.margin.unwrap_or(ttl / 10), sent, Some(ttl));
        let datacenter = options.datacenter;
        let keeper =
            keeper::Keeper { pool: self.pool.clone(), id: session.id.clone(), datacenter: datacenter.clone(), lease: lease.clone(), ttl };
        let keeper = tokio::spawn(keeper.run()).abort_handle();
        Ok(Session { inner: Arc::new(Inner { pool: self.pool.clone(), id: session.id, datacenter, lease, keeper }) })
    }
}

impl Session {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// Whether it lives for certain, by a look at the clock.
    pub fn check(&self) -> Result<(), Lost> {
        self.inner.lease.check()
    }

    /// How long it lives for certain unless it is renewed.
    pub fn remaining(&self) -> Duration {
        self.inner.lease.remaining().unwrap_or(Duration::MAX)
    }

    /// Completes once it is given up, and says why.
    pub async fn lost(&self) -> Lost {
        self.inner.lease.lost().await
    }

    /// Ends it, and with it everything that is held by it, without lock delay.
    pub async fn end(self) -> Result<(), Error> {
        self.inner.keeper.abort();
        self.inner.lease.lose(Lost::GivenBack);
        destroy(&self.inner.pool, &self.inner.id, &self.inner.datacenter).await.map(drop)
    }

    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.inner.pool
    }

    pub(crate) fn write_options(&self) -> Option<v1::WriteOptions> {
        write_options(&self.inner.datacenter)
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("id", &self.inner.id).field("remaining", &self.remaining()).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.keeper.abort();
        if matches!(self.lease.check(), Err(Lost::GivenBack | Lost::Ended(_))) {
            return;
        }
        self.lease.lose(Lost::GivenBack);
        // Without a runtime the TTL ends it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (pool, id, datacenter) = (self.pool.clone(), std::mem::take(&mut self.id), std::mem::take(&mut self.datacenter));
            runtime.spawn(async move { destroy(&pool, &id, &datacenter).await.map(drop) });
        }
    }
}

fn request(options: &SessionOptions) -> v1::SessionServiceCreateRequest {
    v1::SessionServiceCreateRequest {
        options: write_options(&options.datacenter),
        name: options.name.clone(),
        node: options.node.clone(),
        behavior: options.behavior.into(),
        ttl: wire(options.ttl),
        lock_delay: options.lock_delay.and_then(wire),
        node_checks: options.node_checks.clone(),
        service_checks: options.service_checks.clone(),
        ignore_node_failure: options.ignore_node_failure,
    }
}

fn wire(length: Duration) -> Option<prost_types::Duration> {
    length.try_into().ok()
}
