//! Keeps the session of a lock alive, and knows until when it lives for certain.
//!
//! A server counts the TTL from when a renewal is taken, this counts it from when the renewal was
//! sent: whatever the network does in between, the session lives at least as long as is told here.

use std::time::Duration;

use lictor_client::{Client, ErrorReason, v1};
use nix::time::{ClockId, clock_gettime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The TTL of the session.
pub(super) const TTL: Duration = Duration::from_secs(15);

/// From one renewal to the next.
const RENEW_INTERVAL: Duration = Duration::from_millis(2500);

/// From a renewal that failed to the next one.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What is taken off the end, for the time between deciding and a signal that has arrived.
const MARGIN: Duration = Duration::from_millis(500);

/// A moment of the machine's monotonic clock, which all its processes share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn now() -> Self {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("every Linux has a monotonic clock");
        Moment(now.into())
    }

    /// How long it is until then; zero when it is over.
    pub(super) fn left(self) -> Duration {
        self.0.saturating_sub(Moment::now().0)
    }

    pub(super) fn micros(self) -> u128 {
        self.0.as_micros()
    }

    pub(super) fn from_micros(micros: u64) -> Self {
        Moment(Duration::from_micros(micros))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Moment;

    fn add(self, length: Duration) -> Moment {
        Moment(self.0 + length)
    }
}

/// A session that is kept alive until this is ended.
pub(super) struct Keeper {
    client: Client,
    id: String,
    datacenter: String,
    until: watch::Receiver<Moment>,
    lost: watch::Receiver<Option<String>>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Begins a session. It is given up after `retries` renewals have failed in a row.
    pub(super) async fn begin(
        client: &Client,
        asked: v1::SessionServiceCreateRequest,
        datacenter: &str,
        retries: u32,
    ) -> anyhow::Result<Self> {
        let sent = Moment::now();
        let session = client.sessions().create(asked).await?;
        let (until_sender, until) = watch::channel(end(sent));
        let (lost_sender, lost) = watch::channel(None);
        let (id, datacenter) = (session.id, datacenter.to_owned());
        let task = {
            let (client, id, datacenter) = (client.clone(), id.clone(), datacenter.clone());
            tokio::spawn(async move {
                let why = renew(&client, &id, &datacenter, retries, &until_sender).await;
                lost_sender.send_replace(Some(why));
            })
        };
        Ok(Keeper { client: client.clone(), id, datacenter, until, lost, task })
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Until when the session lives for certain, as known now.
    pub(super) fn until(&self) -> Moment {
        *self.until.borrow()
    }

    /// Follows how long the session lives.
    pub(super) fn follow(&self) -> watch::Receiver<Moment> {
        self.until.clone()
    }

    /// Waits until the session is lost, or must be taken for lost, and tells why.
    pub(super) async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "it is not renewed any more".into(),
        }
    }

    /// Ends the session.
    pub(super) async fn end(self) {
        self.task.abort();
        let sessions = self.client.sessions();
        let destroyed = timeout(ANSWER_TIMEOUT, sessions.destroy(&self.id, &self.datacenter)).await;
        if !matches!(destroyed, Ok(Ok(_))) {
            complain!("session {} could not be ended; it expires after {TTL:?}", self.id);
        }
    }
}

/// The end of a session that was created or renewed by a request of that moment.
fn end(sent: Moment) -> Moment {
    sent + (TTL - MARGIN)
}

/// Renews until that fails for good, and says why.
async fn renew(client: &Client, id: &str, datacenter: &str, retries: u32, until: &watch::Sender<Moment>) -> String {
    let mut failures = 0;
    let mut pause = RENEW_INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let sent = Moment::now();
        let why = match timeout(ANSWER_TIMEOUT, client.sessions().renew(id, datacenter)).await {
            Ok(Ok(_)) => {
                until.send_replace(end(sent));
                (failures, pause) = (0, RENEW_INTERVAL);
                continue;
            }
            Ok(Err(error)) if error.reason() == Some(ErrorReason::UnknownSession) => return error.message(),
            Ok(Err(error)) => error.message(),
            Err(_) => format!("renewing the session was not answered within {ANSWER_TIMEOUT:?}"),
        };
        failures += 1;
        pause = RETRY_INTERVAL;
        if failures > retries {
            return why;
        }
    }
}
