//! The resuming watch: a snapshot, then each later change, in order, once, across lost
//! connections.
//!
//! ```text
//!   server ──▶ driver (task: connect, read, back off) ──▶ progress (what it means) ──▶ handle
//! ```
//!
//! [`Progress`](progress::Progress) knows where the watch stands and decides what each message
//! means; it does no IO. The driver owns connection and time.

mod driver;
mod event;
mod progress;
mod target;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::Stream;

pub use event::{Change, Gone, ResetReason, Row, WatchEvent};
pub use target::Target;

use crate::error::Error;
use crate::pool::Pool;
use crate::read::ReadOptions;

/// Events that may wait for the handle to be read. When they do, the connection is not read any
/// more, and the server learns by flow control that this reader is slow.
const EVENTS_WAITING_MAX: usize = 16;

/// Where a watch stands, to be kept by a program that wants to go on after a restart. Opaque;
/// valid on every server of the datacenter, for the same target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cursor(Bytes);

impl Cursor {
    /// The cursor whose bytes were kept.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Cursor(bytes.into())
    }

    /// The bytes to keep.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn wire(&self) -> Bytes {
        self.0.clone()
    }
}

/// How a watch begins and when it is given up for lost.
///
/// ```
/// use lictor_client::{Cursor, WatchOptions};
/// let kept = Cursor::from_bytes(vec![1, 2, 3]);
/// let go_on = WatchOptions { resume_from: Some(kept), ..WatchOptions::default() };
/// # let _ = go_on;
/// ```
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// How current the snapshot has to be, and which datacenter is meant.
    pub read: ReadOptions,
    /// Goes on after this cursor instead of beginning with a snapshot.
    pub resume_from: Option<Cursor>,
    /// Begins with the next change instead of a snapshot.
    pub skip_snapshot: bool,
    /// After this long without a sign of life the connection is given up. A server sends one every
    /// 5 s unless configured, so that the default, 12 s, is two of them missed.
    pub silence_max: Duration,
    /// Pause before the first attempt to reconnect; doubles with each that fails.
    pub backoff_min: Duration,
    /// Longest pause between two attempts.
    pub backoff_max: Duration,
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions {
            read: ReadOptions::default(),
            resume_from: None,
            skip_snapshot: false,
            silence_max: Duration::from_secs(12),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(5),
        }
    }
}

/// A watch that goes on until it is dropped or refused for good.
///
/// Read it with [`WatchHandle::next`], or as a [`Stream`]. A handle that is not read holds a few
/// events and no more; the server sets a reader that is too slow back to a snapshot
/// ([`WatchEvent::Reset`]).
#[derive(Debug)]
pub struct WatchHandle {
    events: mpsc::Receiver<Result<WatchEvent, Error>>,
}

impl WatchHandle {
    pub(crate) fn start(pool: Arc<Pool>, target: Target, options: WatchOptions) -> Self {
        let (sender, events) = mpsc::channel(EVENTS_WAITING_MAX);
        tokio::spawn(driver::run(pool, target, options, sender));
        WatchHandle { events }
    }

    /// The next event; `None` once the watch has ended. May be dropped and called again at any
    /// time; nothing is lost.
    ///
    /// Errors: a refusal that no retry can help, such as `PERMISSION_DENIED` or `KEY_TOO_LONG`;
    /// the watch has ended then.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), lictor_client::Error> {
    /// use lictor_client::{Change, Row, Target, WatchEvent};
    ///
    /// let mut watch = client.watch(Target::key("config/colour"));
    /// while let Some(event) = watch.next().await? {
    ///     let WatchEvent::Changes { changes, .. } = event else { continue };
    ///     for change in changes {
    ///         match change {
    ///             Change::Put(Row::Entry(entry)) => println!("now {:?}", entry.value),
    ///             Change::Delete(gone) => println!("gone: {gone:?}"),
    ///             _ => {}
    ///         }
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, Error> {
        self.events.recv().await.transpose()
    }
}

impl Stream for WatchHandle {
    type Item = Result<WatchEvent, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.events.poll_recv(cx)
    }
}
