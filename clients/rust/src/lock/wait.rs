//! Waiting for a lock, and following it while it is held, across lost connections.

use std::time::Duration;

use proto::v1;
use proto::v1::lock_service_acquire_request::Holder;
use proto::v1::lock_service_acquire_response::State;
use proto::v1::lock_service_client::LockServiceClient;
use tokio::time::sleep;
use tonic::Streaming;

use super::{Lock, LockOptions, release};
use crate::clock::SystemClock;
use crate::error::Error;
use crate::lease::{Lease, Lost};
use crate::session::Session;

type Told = Streaming<v1::LockServiceAcquireResponse>;

/// The pause before a lock is asked for again, after the connection was lost; twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// Waits until the session holds the lock.
pub(super) async fn acquire(session: &Session, lock: LockOptions) -> Result<Lock, Error> {
    tokio::select! {
        granted = granted(session, &lock) => {
            let (fence, told) = granted?;
            Ok(held(session, lock, fence, Some(told)))
        }
        lost = session.lost() => Err(Error::Lost(lost)),
    }
}

/// A lock that is held, followed in the background.
pub(super) fn held(session: &Session, lock: LockOptions, fence: v1::Fence, told: Option<Told>) -> Lock {
    let taken = Lease::new(SystemClock::shared(), Duration::ZERO, Duration::ZERO, None);
    // The follower must not keep the session alive that the lock has let go of.
    let follower = Follower { session: session.clone(), lock, fence: fence.clone(), taken: taken.clone() };
    let follower = tokio::spawn(follower.run(told)).abort_handle();
    Lock { session: session.clone(), fence, taken, follower }
}

/// Asks until the lock is granted, again where the connection was lost.
async fn granted(session: &Session, lock: &LockOptions) -> Result<(v1::Fence, Told), Error> {
    let mut pause = PAUSE_MIN;
    loop {
        let error = match ask(session, lock).await {
            Ok(mut told) => match until_granted(&mut told).await {
                Ok(fence) => return Ok((fence, told)),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !error.is_transient() {
            return Err(error);
        }
        sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn ask(session: &Session, lock: &LockOptions) -> Result<Told, Error> {
    let request = v1::LockServiceAcquireRequest {
        options: session.write_options(),
        key: lock.key.clone(),
        holder: Some(Holder::SessionId(session.id().to_owned())),
        value: lock.value.clone(),
        slots: lock.slots,
    };
    let send = |channel, request| async move { LockServiceClient::new(channel).acquire(request).await };
    session.pool().stream(request, send).await
}

async fn until_granted(told: &mut Told) -> Result<v1::Fence, Error> {
    loop {
        match next(told).await? {
            State::Queued(_) | State::Extended(_) => {}
            State::Granted(granted) => return granted.fence.ok_or_else(|| Error::Contract("a grant has no fence".into())),
            State::Lost(lost) => return Err(Error::Lost(cause(lost))),
        }
    }
}

async fn next(told: &mut Told) -> Result<State, Error> {
    let message = told.message().await.map_err(|status| Error::from_status(&status, "the server", Duration::ZERO))?;
    let message = message.ok_or_else(|| Error::Interrupted("the server ended the stream".into()))?;
    message.state.ok_or_else(|| Error::Contract("a message about a lock says nothing".into()))
}

fn cause(lost: v1::LockLost) -> Lost {
    match lost.cause() {
        v1::LockLoss::SessionEnded => Lost::Ended(lost.message),
        _ => Lost::TakenAway(lost.message),
    }
}

/// Follows a lock that is held.
struct Follower {
    session: Session,
    lock: LockOptions,
    fence: v1::Fence,
    taken: Lease,
}

impl Follower {
    async fn run(self, mut told: Option<Told>) {
        let session = self.session.clone();
        tokio::select! {
            lost = self.follow(&mut told) => drop(self.taken.lose(lost)),
            _ = session.lost() => {}
        }
    }

    async fn follow(&self, told: &mut Option<Told>) -> Lost {
        let mut pause = PAUSE_MIN;
        loop {
            if let Some(told) = told {
                match self.listen(told).await {
                    Ok(lost) => return lost,
                    Err(error) if error.is_transient() => {}
                    Err(error) => return Lost::TakenAway(error.message()),
                }
            }
            *told = match ask(&self.session, &self.lock).await {
                Ok(told) => Some(told),
                Err(error) if error.is_transient() => None,
                Err(error) => return Lost::TakenAway(error.message()),
            };
            sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            pause = if told.is_some() { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
        }
    }

    /// Listens until the lock is lost or the connection is.
    async fn listen(&self, told: &mut Told) -> Result<Lost, Error> {
        loop {
            match next(told).await? {
                State::Lost(lost) => return Ok(cause(lost)),
                State::Granted(granted) => match granted.fence {
                    Some(fence) if fence == self.fence => {}
                    // It was lost meanwhile, and granted anew to nobody who waits for it.
                    Some(fence) => {
                        let _ = release(&self.session, &fence).await;
                        return Ok(Lost::TakenAway("it was lost while the connection was".into()));
                    }
                    None => return Err(Error::Contract("a grant has no fence".into())),
                },
                // Ending the stream gives up the place again.
                State::Queued(_) => return Ok(Lost::TakenAway("it was lost while the connection was, and somebody else holds it".into())),
                State::Extended(_) => {}
            }
        }
    }
}
