//! The Rust client of Lictor.
//!
//! A [`Client`] holds a few connections to the servers and is cheap to clone. Each service of the
//! contract has a handle: [`Client::kv`], [`Client::catalog`], [`Client::health`],
//! [`Client::agent`], [`Client::status`], [`Client::operator`]; and [`Client::watch`] tells of
//! changes as they happen, across lost connections, each once and in order. [`Client::sessions`],
//! [`Client::lock`], [`Client::semaphore`] and [`Client::election`] are about who may act: what they
//! hold is given up by the client's own clock before the servers may grant it to somebody else.
//!
//! Messages are those of the contract, under [`v1`]; this crate adds what a caller would
//! otherwise write again and again: connections and fail-over, pages, typed errors with a stable
//! reason, and the resuming watch.
//!
//! ```no_run
//! # async fn run() -> Result<(), lictor_client::Error> {
//! use lictor_client::{Client, Target, WatchEvent};
//!
//! let client = Client::connect("127.0.0.1:8502").await?;
//! client.kv().put("config/colour", "green").await?;
//!
//! let mut watch = client.watch(Target::prefix("config/"));
//! while let Some(event) = watch.next().await? {
//!     if let WatchEvent::Changes { changes, .. } = event {
//!         println!("{changes:?}");
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod agent;
mod catalog;
mod client;
mod clock;
mod dial;
mod endpoints;
mod error;
mod event;
mod exec;
mod health;
mod kv;
mod lease;
mod lock;
mod operator;
mod options;
mod pages;
mod pool;
mod read;
mod session;
mod snapshot;
mod status;
mod txn;
mod watch;

pub use agent::{Agent, LogStream};
pub use catalog::{Catalog, CatalogQuery};
pub use client::Client;
pub use clock::{Clock, SystemClock};
pub use dial::Dial;
pub use endpoints::{DEFAULT_ADDRESS, Endpoints};
pub use error::{Error, Refused};
pub use event::{EventStream, Events};
pub use exec::{Exec, ExecStream};
pub use health::{Health, HealthQuery};
pub use kv::{DeleteOptions, Kv, KvPage, KvPages, ListOptions, PutOptions};
pub use lease::Lost;
pub use lock::{Election, Lock, LockObserver, LockOptions, Semaphore};
pub use operator::Operator;
pub use options::Options;
/// The messages of the contract, generated from its `.proto` files.
pub use proto::v1;
/// The reasons of a refusal.
pub use proto::v1::ErrorReason;
pub use read::{Answer, Consistency, ReadOptions};
pub use session::{Renewed, Session, SessionOptions, Sessions};
pub use snapshot::{SnapshotRestore, SnapshotStream};
pub use status::Status;
pub use txn::Txn;
pub use watch::{Change, Cursor, Gone, ResetReason, Row, Target, WatchEvent, WatchHandle, WatchOptions};
