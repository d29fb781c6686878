//! Sessions: whether somebody is still there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use consensus::Proposed;
use state::catalog::register::SERF_HEALTH;
use state::{Behavior, Change, Indexed, LogIndex, Millis, Operation, Outcome, Session, SessionEnd, SessionId, Str, Tables};

use crate::answer::{Answer, Blocking, ReadOptions};
use crate::error::{Error, Reason};
use crate::watch::{Target, Waiter};
use crate::{Caller, Right, Service};

/// The lock delay of a session that names none, in milliseconds.
pub const LOCK_DELAY_MS_DEFAULT: u64 = 15_000;

/// A session to begin.
#[derive(Clone, Debug, Default)]
pub struct NewSession {
    /// A name for people.
    pub name: Str,
    /// The node to tie it to; empty is that of this agent.
    pub node: Str,
    /// What happens to its keys when it ends.
    pub behavior: Behavior,
    /// It may end when it was not renewed for this long; `None` never expires.
    pub ttl: Option<Duration>,
    /// How long its keys stay free after it ended without a release; `None` is the default.
    pub lock_delay_ms: Option<u64>,
    /// Checks of the node to tie it to; `None` is the one that says whether the node is alive.
    pub node_checks: Option<Vec<Str>>,
    /// Checks of instances on the node to tie it to.
    pub service_checks: Vec<Str>,
}

/// A session as a write left it.
#[derive(Clone, Debug)]
pub struct SessionWritten {
    /// The log index of the write.
    pub index: LogIndex,
    /// The session.
    pub session: Arc<Session>,
}

/// Follows how sessions end, as this server learns of it.
pub struct SessionEnds {
    waiter: Waiter,
    service: Service,
}

impl SessionEnds {
    /// Waits until one of `sessions` has ended; returns at once if one has already.
    pub async fn next(&self, sessions: &BTreeSet<SessionId>) -> SessionId {
        loop {
            let woken = self.waiter.changed();
            let tables = self.service.consensus().tables();
            if let Some(id) = sessions.iter().find(|id| tables.session(**id).value.is_none()) {
                return *id;
            }
            woken.await;
        }
    }
}

impl Service {
    /// Begins a session. Refusals: `INVALID_ARGUMENT` for a TTL out of bounds, `UNKNOWN_NODE`,
    /// `CHECK_NOT_PASSING`.
    pub async fn session_create(&self, caller: &Caller, datacenter: Option<&str>, new: NewSession) -> Result<SessionWritten, Error> {
        self.check_datacenter(datacenter)?;
        let asked = || caller.agent.as_deref().map_or_else(|| self.identity().node_name.clone(), Str::from);
        let node = if new.node.is_empty() { asked() } else { new.node };
        self.authorize(caller, Right::SessionWrite(&node))?;
        self.check_ttl(new.ttl)?;
        let session = Session {
            id: SessionId(uuid::Builder::from_random_bytes(rand::random()).into_uuid().into_bytes()),
            name: new.name,
            node,
            behavior: new.behavior,
            ttl_ms: new.ttl.map(|ttl| ttl.as_millis() as u64),
            lock_delay_ms: new.lock_delay_ms.unwrap_or(LOCK_DELAY_MS_DEFAULT),
            node_checks: new.node_checks.unwrap_or_else(|| vec![SERF_HEALTH.into()]),
            service_checks: new.service_checks,
            renewed: Millis(0),
            create_index: LogIndex::ZERO,
            modify_index: LogIndex::ZERO,
        };
        let (id, Proposed { index, outcome }) = (session.id, self.propose(Operation::SessionCreate(Box::new(session))).await?);
        written(id, index, outcome)
    }

    /// Renews a session. Refusals: `UNKNOWN_SESSION`.
    pub async fn session_renew(&self, caller: &Caller, datacenter: Option<&str>, id: SessionId) -> Result<SessionWritten, Error> {
        self.check_datacenter(datacenter)?;
        self.authorize_session(caller, id)?;
        let Proposed { index, outcome } = self.propose(Operation::SessionRenew(id)).await?;
        written(id, index, outcome)
    }

    /// Ends a session and says whether it existed. With `delays` its keys are kept free for its lock
    /// delay, as if it had ended by itself.
    pub async fn session_destroy(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        id: SessionId,
        delays: bool,
    ) -> Result<(LogIndex, bool), Error> {
        self.check_datacenter(datacenter)?;
        self.authorize_session(caller, id)?;
        let end = Operation::SessionEnd { id, cause: SessionEnd::Destroyed, term: 0, delays };
        let Proposed { index, outcome } = self.propose(end).await?;
        match outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            outcome => Ok((index, matches!(outcome, Outcome::Session(Some(_))))),
        }
    }

    /// Reads one session.
    pub async fn session_get(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        id: SessionId,
    ) -> Result<Answer<Option<Arc<Session>>>, Error> {
        let mut answer = self.read(options, blocking, || Target::Sessions, |tables| tables.session(id)).await?;
        answer.value = answer.value.filter(|session| self.authorize(caller, Right::SessionRead(&session.node)).is_ok());
        Ok(answer)
    }

    /// Lists sessions by id, of one node or of all.
    pub async fn session_list(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        node: Option<&str>,
    ) -> Result<Answer<Vec<Arc<Session>>>, Error> {
        let query = |tables: &Arc<Tables>| {
            let wanted = tables.sessions().filter(|session| node.is_none_or(|node| session.node.eq_ignore_ascii_case(node)));
            let readable = wanted.filter(|session| self.authorize(caller, Right::SessionRead(&session.node)).is_ok());
            Indexed::exact(readable.cloned().collect(), tables.sessions_index())
        };
        self.read(options, blocking, || Target::Sessions, query).await
    }

    /// Follows how sessions end.
    pub fn session_ends(&self) -> SessionEnds {
        SessionEnds { waiter: self.hub().wait_on(Target::Sessions), service: self.clone() }
    }

    /// Why and at which index a session ended, as long as the history knows.
    pub fn session_end(&self, id: SessionId) -> Option<(SessionEnd, LogIndex)> {
        self.hub().find_back(|batch| {
            batch.changes.iter().find_map(|change| match change {
                Change::Session { before: Some(session), after: None, end: Some(end) } if session.id == id => Some((*end, batch.index)),
                _ => None,
            })
        })
    }

    /// A session belongs to its node; one that does not exist belongs to nobody.
    fn authorize_session(&self, caller: &Caller, id: SessionId) -> Result<(), Error> {
        match self.consensus().tables().session(id).value {
            Some(session) => self.authorize(caller, Right::SessionWrite(&session.node)),
            None => Ok(()),
        }
    }

    fn check_ttl(&self, ttl: Option<Duration>) -> Result<(), Error> {
        let limits = self.limits();
        let (min, max) = (limits.session_ttl_min, limits.session_ttl_max);
        match ttl {
            Some(ttl) if ttl < min || ttl > max => {
                let message =
                    format!("`ttl` is {ttl:?}, and must be between {min:?} and {max:?}; leave it out for a session that never expires");
                Err(Error::new(Reason::InvalidArgument, message).with("field", "ttl"))
            }
            _ => Ok(()),
        }
    }
}

fn written(id: SessionId, index: LogIndex, outcome: Outcome) -> Result<SessionWritten, Error> {
    match outcome {
        Outcome::Session(Some(session)) => Ok(SessionWritten { index, session }),
        Outcome::Refused(refusal) => Err(refusal.into()),
        _ => Err(state::Refusal::UnknownSession { session: id }.into()),
    }
}
