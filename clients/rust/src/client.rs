//! The client: where everything begins.

use std::sync::Arc;

use bytes::Bytes;
use tonic::transport::Channel;

use crate::agent::Agent;
use crate::catalog::Catalog;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::event::Events;
use crate::exec::Exec;
use crate::health::Health;
use crate::kv::Kv;
use crate::lock::{Election, Lock, LockObserver, LockOptions, Semaphore};
use crate::operator::Operator;
use crate::options::Options;
use crate::pool::Pool;
use crate::session::{SessionOptions, Sessions};
use crate::status::Status;
use crate::watch::{Target, WatchHandle, WatchOptions};

/// A client of the servers of one datacenter. Cheap to clone; clones share the connections.
///
/// ```no_run
/// # async fn run() -> Result<(), lictor_client::Error> {
/// let client = lictor_client::Client::connect("10.0.0.1:8502, 10.0.0.2:8502").await?;
/// println!("{:?}", client.status().leader().await?.value);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
}

impl Client {
    /// Connects to the first of the endpoints that can be reached.
    ///
    /// Errors: [`Error::Unreachable`] if there is none.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), lictor_client::Error> {
    /// use lictor_client::{Client, Endpoints};
    /// let client = Client::connect(Endpoints::from_env()).await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(endpoints: impl Into<Endpoints>) -> Result<Self, Error> {
        Self::connect_with(endpoints, Options::default()).await
    }

    /// As [`Client::connect`], with options.
    ///
    /// ```no_run
    /// # async fn run() -> Result<(), lictor_client::Error> {
    /// use lictor_client::{Client, Options};
    /// let options = Options { token: Some("secret".into()), ..Options::default() };
    /// let client = Client::connect_with("127.0.0.1:8502", options).await?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect_with(endpoints: impl Into<Endpoints>, options: Options) -> Result<Self, Error> {
        let client = Self::lazy(endpoints, options)?;
        client.pool.connect().await?;
        Ok(client)
    }

    /// A client that connects when it is first used, so that it can be made while no server runs.
    ///
    /// Must be used within a tokio runtime. Errors: [`Error::InvalidEndpoint`],
    /// [`Error::InvalidOption`].
    ///
    /// ```no_run
    /// # fn run() -> Result<(), lictor_client::Error> {
    /// use lictor_client::{Client, Options};
    /// let client = Client::lazy("127.0.0.1:8502", Options::default())?;
    /// # drop(client);
    /// # Ok(())
    /// # }
    /// ```
    pub fn lazy(endpoints: impl Into<Endpoints>, options: Options) -> Result<Self, Error> {
        Ok(Client { pool: Arc::new(Pool::new(&endpoints.into(), &options)?) })
    }

    /// Keys and values, and transactions over them.
    pub fn kv(&self) -> Kv<'_> {
        Kv::new(&self.pool)
    }

    /// What runs where.
    pub fn catalog(&self) -> Catalog<'_> {
        Catalog::new(&self.pool)
    }

    /// Who is fit for work.
    pub fn health(&self) -> Health<'_> {
        Health::new(&self.pool)
    }

    /// The asked agent itself, and the services and checks of its machine.
    pub fn agent(&self) -> Agent<'_> {
        Agent::new(&self.pool)
    }

    /// Leader, peers, limits, version.
    pub fn status(&self) -> Status<'_> {
        Status::new(&self.pool)
    }

    /// Sessions, on which locks rest.
    pub fn sessions(&self) -> Sessions<'_> {
        Sessions::new(&self.pool)
    }

    /// Care of the servers themselves.
    pub fn operator(&self) -> Operator<'_> {
        Operator::new(&self.pool)
    }

    /// Events to every agent.
    pub fn events(&self) -> Events<'_> {
        Events::new(&self.pool)
    }

    /// Waits for a lock, with a session of its own that is kept alive in the background and ends with
    /// the lock. With [`Session::lock`](crate::Session::lock) several locks share one session.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::PutOptions;
    ///
    /// let lock = client.lock("jobs/nightly").await?;
    /// client.kv().put_with("jobs/last", "42", PutOptions::new().fence(lock.fence()?)).await?;
    /// lock.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn lock(&self, lock: impl Into<LockOptions>) -> Result<Lock, Error> {
        self.lock_with(lock, SessionOptions::default()).await
    }

    /// As [`Client::lock`], with a session as the options say.
    pub async fn lock_with(&self, lock: impl Into<LockOptions>, session: SessionOptions) -> Result<Lock, Error> {
        crate::lock::acquire(&self.pool, session, lock.into()).await
    }

    /// A lock that `slots` may hold at once.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// let slot = client.semaphore("restart/web", 3).acquire().await?;
    /// // at most three of us are here
    /// slot.release().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn semaphore(&self, key: impl Into<Bytes>, slots: u32) -> Semaphore {
        Semaphore::new(self.pool.clone(), key.into(), slots)
    }

    /// An election: one of many leads, and everybody can see who.
    pub fn election(&self, key: impl Into<Bytes>) -> Election {
        Election::new(self.pool.clone(), key.into())
    }

    /// Follows who holds a lock: who does now, then each change.
    pub fn observe_lock(&self, key: impl Into<Bytes>) -> LockObserver {
        LockObserver::new(self.pool.clone(), key.into(), false)
    }

    /// Programs run on many machines.
    pub fn exec(&self) -> Exec<'_> {
        Exec::new(&self.pool)
    }

    /// Watches `target`: what is there, then each change, in order, once.
    ///
    /// The watch begins at once, in the background, and goes on across lost connections until the
    /// handle is dropped. Must be called within a tokio runtime.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::{Target, WatchEvent};
    ///
    /// let mut watch = client.watch(Target::service("web").passing_only());
    /// while let Some(event) = watch.next().await? {
    ///     match event {
    ///         WatchEvent::Snapshot { rows, .. } => println!("{} instances", rows.len()),
    ///         WatchEvent::Changes { changes, revision, .. } => println!("{revision}: {changes:?}"),
    ///         WatchEvent::Reset { message, .. } => println!("starting over: {message}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self, target: Target) -> WatchHandle {
        self.watch_with(target, WatchOptions::default())
    }

    /// As [`Client::watch`], with options: where to resume, how current the snapshot has to be.
    pub fn watch_with(&self, target: Target, options: WatchOptions) -> WatchHandle {
        WatchHandle::start(self.pool.clone(), target, options)
    }

    /// A connection to the preferred server, for the generated clients in [`v1`](crate::v1). Calls
    /// on it carry no token.
    pub fn channel(&self) -> Channel {
        self.pool.channel()
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}
