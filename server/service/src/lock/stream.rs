//! Waiting for a lock and holding it, as one stream of events.
//!
//! The stream asks once for a place in the queue. From then on it looks at this server's tables
//! whenever its session is granted something or ends, which nobody else's grant wakes it for, and
//! every few seconds, to tell how far it has come.
//!
//! A stream may bring its own session, which begins with it. It renews the session for as long as it is
//! polled, that is while its connection lives. How long the lock is certain to be held is counted
//! from before each renewal was proposed.

use std::pin::Pin;
use std::time::Duration;

use state::{Fence, KvEntry, LockPlace, LogIndex, SessionEnd, SessionId, Tables};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{Grant, LockWish};
use crate::error::{Error, Reason};
use crate::session::NewSession;
use crate::watch::{Target, Waiter};
use crate::{Caller, Service};

/// The TTL of a stream's session that names none.
const TTL: Duration = Duration::from_secs(15);

/// What is taken off the time for which a lock is certain to be held, for the way to the client.
const MARGIN: Duration = Duration::from_secs(1);

/// The shortest time between two looks at the place in the queue. A long queue is looked at less often,
/// by as many milliseconds as it is long.
const LOOK: Duration = Duration::from_secs(2);

/// The pause before a renewal that failed is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How often it is tried to give up what an ended stream leaves behind, and the pause in between. After
/// that its session's end does it.
const LEAVE_TRIES: usize = 10;
const LEAVE_PAUSE: Duration = Duration::from_secs(1);

/// Whose session is to hold the lock.
#[derive(Clone, Debug)]
pub enum Holder {
    /// The caller's, who keeps it alive.
    Session(SessionId),
    /// One that begins and ends with the stream.
    Stream(Box<NewSession>),
}

/// What happens to who wants a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockEvent {
    /// Others come first.
    Queued {
        /// How many wait before this one.
        position: u64,
        /// A session that holds the lock; `None` while its lock delay runs.
        holder: Option<SessionId>,
        /// The session that waits.
        session: SessionId,
    },
    /// The lock is held.
    Granted {
        /// The grant.
        grant: Grant,
        /// The session that holds it.
        session: SessionId,
        /// For how long it is certain to be held, with a session of the stream's.
        valid_for: Option<Duration>,
    },
    /// The lock is held for longer.
    Extended {
        /// For how long it is certain to be held.
        valid_for: Duration,
    },
    /// The lock is not held any more, or will not be. Nothing follows.
    Lost {
        /// Why.
        cause: Loss,
        /// The index at which that was seen, or at which it happened if that is known.
        index: LogIndex,
    },
}

/// Why a lock was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It was released, or the place in its queue given up.
    Released,
    /// Its session ended; why, if that is still known.
    SessionEnded(Option<SessionEnd>),
    /// Its key was deleted.
    KeyDeleted,
}

enum State {
    /// Nothing was asked for yet.
    New,
    /// A place was asked for, and perhaps is taken.
    Asked {
        told: Option<(u64, Option<SessionId>)>,
    },
    Held {
        fence: Fence,
        watch: Waiter,
    },
    Over,
}

type Renewal = Pin<Box<dyn Future<Output = (Instant, Result<(), Error>)> + Send>>;

/// A session that lives as long as the stream.
struct Own {
    ttl: Duration,
    /// The lock is certain to be held until then, if it is.
    until: Instant,
    /// When it is renewed next.
    next: Instant,
    renewing: Option<Renewal>,
}

/// Waits for one lock and holds it.
pub struct LockStream {
    service: Service,
    caller: Caller,
    datacenter: Option<String>,
    wish: LockWish,
    own: Option<Own>,
    /// Woken when the session is granted something, or ends.
    waiter: Waiter,
    state: State,
    /// What is left behind is found again.
    kept: bool,
}

impl Service {
    /// A stream that waits for a lock and holds it; `wish.session` is replaced by that of `holder`.
    /// Refusals: those of [`Service::lock_try_acquire`] and [`Service::session_create`] but for the lock being held, and
    /// `LOCK_QUEUE_FULL`.
    pub async fn lock_stream(
        &self,
        caller: &Caller,
        datacenter: Option<String>,
        mut wish: LockWish,
        holder: Holder,
    ) -> Result<LockStream, Error> {
        self.check_datacenter(datacenter.as_deref())?;
        self.check_wish(caller, &wish)?;
        let own = match holder {
            Holder::Session(id) => {
                wish.session = id;
                None
            }
            Holder::Stream(new) => {
                let (ttl, asked) = (new.ttl.unwrap_or(TTL), Instant::now());
                let new = NewSession { ttl: Some(ttl), node_checks: self.node_checks(caller), ..*new };
                wish.session = self.session_create(caller, datacenter.as_deref(), new).await?.session.id;
                Some(Own { ttl, until: asked + ttl, next: asked + ttl / 3, renewing: None })
            }
        };
        let waiter = self.hub().wait_on(Target::Holder(wish.session));
        let mut stream =
            LockStream { service: self.clone(), caller: caller.clone(), datacenter, wish, own, waiter, state: State::New, kept: false };
        // A refusal is the answer of the call, not the end of a stream.
        stream.ask().await?;
        Ok(stream)
    }

    /// The check that says whether the machine is alive, where it has one.
    fn node_checks(&self, caller: &Caller) -> Option<Vec<state::Str>> {
        let node = caller.agent.as_deref().unwrap_or(&self.identity().node_name);
        let tables = self.consensus().tables();
        let checked = tables.node(node).is_some_and(|view| view.checks.contains_key(state::catalog::register::SERF_HEALTH));
        if checked { None } else { Some(Vec::new()) }
    }
}

impl LockStream {
    /// The next event; `None` after the lock was lost. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Option<LockEvent> {
        loop {
            if matches!(self.state, State::Over) {
                return None;
            }
            let tables = self.service.consensus().tables();
            if let Some(event) = self.look(&tables) {
                return Some(event);
            }
            if let Some(event) = self.wait(&tables).await {
                return Some(event);
            }
        }
    }

    /// Leaves everything as it is when the stream ends: whoever asked comes back to another server.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    async fn ask(&mut self) -> Result<(), Error> {
        self.state = State::Asked { told: None };
        let asked = self.service.propose_wish(self.wish.clone(), true).await;
        if let Err(error) = asked {
            // What is certain not to have happened need not be undone.
            if error.reason != Reason::Deadline {
                self.state = State::New;
            }
            return Err(error);
        }
        Ok(())
    }

    /// What the tables say that was not told yet.
    fn look(&mut self, tables: &Tables) -> Option<LockEvent> {
        let LockWish { key, slots, session, .. } = &self.wish;
        let session = *session;
        let place = tables.lock_place(key, *slots, session);
        match (&mut self.state, place) {
            (State::Over, _) => None,
            (State::Held { fence, .. }, Some(LockPlace::Granted(entry))) if is_under(&entry, fence) => None,
            (State::Held { .. }, _) | (State::New | State::Asked { .. }, None) => Some(self.lost(tables)),
            (_, Some(LockPlace::Granted(entry))) => {
                let grant = Grant::new(tables.applied(), &entry);
                let watch = self.service.hub().wait_on(Target::KvKey(entry.key().into()));
                self.state = State::Held { fence: grant.fence.clone(), watch };
                Some(LockEvent::Granted { grant, session, valid_for: self.own.as_ref().map(Own::valid_for) })
            }
            (State::New, Some(LockPlace::Queued { .. })) => None,
            (State::Asked { told }, Some(LockPlace::Queued { ticket })) => {
                let position = tables.lock_waiters_before(key, ticket) as u64;
                let holder = tables.lock_holders(key, *slots).find_map(KvEntry::session);
                let news = (position, holder);
                (told.replace(news) != Some(news)).then_some(LockEvent::Queued { position, holder, session })
            }
        }
    }

    /// Waits until another look may show something; answers what comes of a renewal.
    async fn wait(&mut self, tables: &Tables) -> Option<LockEvent> {
        let waiting = matches!(self.state, State::Asked { .. });
        let look = LOOK + Duration::from_millis(tables.lock_queue(&self.wish.key).map_or(0, |queue| queue.waiters.len()) as u64);
        let waiter = &self.waiter;
        let woken = async {
            match &self.state {
                State::Held { watch, .. } => tokio::select! { () = waiter.changed() => {}, () = watch.changed() => {} },
                _ => drop(timeout(look, waiter.changed()).await),
            }
        };
        let Some(own) = &mut self.own else {
            woken.await;
            return None;
        };
        let renew = (&self.service, &self.caller, self.datacenter.as_deref(), self.wish.session);
        tokio::select! {
            () = woken => None,
            extended = own.renew(renew) => extended.filter(|_| !waiting).map(|valid_for| LockEvent::Extended { valid_for }),
        }
    }

    fn lost(&mut self, tables: &Tables) -> LockEvent {
        let held = match std::mem::replace(&mut self.state, State::Over) {
            State::Held { fence, .. } => Some(fence),
            _ => None,
        };
        let session = self.wish.session;
        if tables.session(session).value.is_none() {
            let end = self.service.session_end(session);
            let index = end.map_or(tables.applied(), |(_, index)| index);
            return LockEvent::Lost { cause: Loss::SessionEnded(end.map(|(end, _)| end)), index };
        }
        let gone = held.is_some_and(|fence| tables.kv_get(&fence.key).value.is_none());
        LockEvent::Lost { cause: if gone { Loss::KeyDeleted } else { Loss::Released }, index: tables.applied() }
    }
}

/// Whether an entry is locked by the grant of `fence`.
fn is_under(entry: &KvEntry, fence: &Fence) -> bool {
    entry.key() == &*fence.key && entry.fence() == fence.token
}

impl Own {
    fn valid_for(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now()).saturating_sub(MARGIN)
    }

    /// Renews the session when it is time, and answers for how long it is certain to live then. May be
    /// dropped and called again.
    async fn renew(&mut self, with: (&Service, &Caller, Option<&str>, SessionId)) -> Option<Duration> {
        let renewing = match &mut self.renewing {
            Some(renewing) => renewing,
            None => {
                sleep_until(self.next).await;
                self.renewing.insert(renewal(with))
            }
        };
        let (asked, renewed) = renewing.await;
        self.renewing = None;
        match renewed {
            Ok(()) => {
                (self.until, self.next) = (asked + self.ttl, asked + self.ttl / 3);
                Some(self.valid_for())
            }
            // That the session has ended is seen in the tables.
            Err(error) => {
                tracing::debug!(%error, "the session of a lock stream was not renewed; trying again");
                self.next = Instant::now() + RETRY;
                None
            }
        }
    }
}

fn renewal((service, caller, datacenter, session): (&Service, &Caller, Option<&str>, SessionId)) -> Renewal {
    let (service, caller, datacenter) = (service.clone(), caller.clone(), datacenter.map(str::to_owned));
    Box::pin(async move {
        let asked = Instant::now();
        (asked, service.session_renew(&caller, datacenter.as_deref(), session).await.map(drop))
    })
}

impl Drop for LockStream {
    /// Gives up a place in the queue, and ends a session of the stream's.
    fn drop(&mut self) {
        let waits = matches!(self.state, State::Asked { .. });
        if self.kept || (self.own.is_none() && !waits) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (service, caller, datacenter) = (self.service.clone(), self.caller.clone(), self.datacenter.take());
        let (key, session, own) = (std::mem::take(&mut self.wish.key), self.wish.session, self.own.is_some());
        runtime.spawn(async move {
            for _ in 0..LEAVE_TRIES {
                let left = if own {
                    service.session_destroy(&caller, datacenter.as_deref(), session, true).await.map(drop)
                } else {
                    service.lock_release(&caller, datacenter.as_deref(), &key, session, LogIndex::ZERO).await.map(drop)
                };
                match left {
                    Err(error) if matches!(error.reason, Reason::NoLeader | Reason::Deadline | Reason::Overloaded | Reason::NotReady) => {
                        sleep(LEAVE_PAUSE).await;
                    }
                    _ => return,
                }
            }
            tracing::warn!(%session, "a lock stream has ended, and what it left could not be given up; the end of its session will");
        });
    }
}
