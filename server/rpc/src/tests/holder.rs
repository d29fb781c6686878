//! The product's client as a holder: it lets go by its own clock, tells of what it lost, and gives back.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lictor_client::{Clock, Error, ErrorReason, LockOptions, Lost, PutOptions, SessionOptions, SystemClock};

use super::{Server, soon};

/// The clock of the machine, which a test sets forward: as if the program had been stopped meanwhile.
#[derive(Default)]
struct Forward(Mutex<Duration>);

impl Clock for Forward {
    fn now(&self) -> Duration {
        SystemClock.now() + *self.0.lock().unwrap()
    }

    fn sleep_until(&self, until: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async move {
            while self.now() < until {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    }
}

fn options() -> SessionOptions {
    SessionOptions { lock_delay: Some(Duration::ZERO), ignore_node_failure: true, ..SessionOptions::default() }
}

#[tokio::test]
async fn a_lock_is_handed_on_when_it_is_given_back_or_dropped() {
    let server = Server::start().await;
    let client = server.client().await;
    let first = soon(client.lock_with("lock", options())).await.unwrap();
    let session = soon(client.sessions().keep(options())).await.unwrap();
    let error = soon(session.try_lock("lock")).await.unwrap_err();
    assert_eq!((error.reason(), error.detail("holder")), (Some(ErrorReason::LockHeld), Some(first.session().id())));
    let (waiting, _) = tokio::join!(soon(session.lock(LockOptions::new("lock").value("second"))), soon(first.release()));
    let second = waiting.unwrap();
    let fence = second.fence().unwrap();
    soon(client.kv().put_with("data", "second", PutOptions::new().fence(fence.clone()))).await.unwrap();
    drop(second);
    let third = soon(client.lock_with("lock", options())).await.unwrap();
    assert!(third.token() > fence.token);
    let error = soon(client.kv().put_with("data", "late", PutOptions::new().fence(fence))).await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::StaleFence));
}

#[tokio::test]
async fn a_holder_that_was_stopped_knows_at_once_that_it_may_have_lost_the_lock() {
    let server = Server::start().await;
    let client = server.client().await;
    let clock = Arc::new(Forward::default());
    let lock = soon(client.lock_with("lock", SessionOptions { clock: clock.clone(), ..options() })).await.unwrap();
    assert_eq!(lock.check(), Ok(()));
    let lost = lock.lost();
    // 13.5 s: a TTL of 15 s less its tenth. Nothing is awaited in between, so that nothing is renewed.
    *clock.0.lock().unwrap() += Duration::from_millis(13_501);
    assert_eq!(lock.check(), Err(Lost::NotRenewed));
    assert_eq!(lock.fence(), Err(Lost::NotRenewed), "nothing can be written in its name");
    assert_eq!(soon(lost).await, Lost::NotRenewed);
    let alive = soon(client.sessions().get(lock.session().id(), &Default::default())).await.unwrap();
    assert!(alive.is_some(), "the servers have not ended the session yet");
    *clock.0.lock().unwrap() = Duration::ZERO;
    assert_eq!(lock.check(), Err(Lost::NotRenewed), "what was given up is not taken back");
}

#[tokio::test]
async fn a_session_is_renewed_for_as_long_as_somebody_answers() {
    let server = Server::start().await;
    let client = server.client().await;
    let clock = Arc::new(Forward::default());
    let session = soon(client.sessions().keep(SessionOptions { clock: clock.clone(), ..options() })).await.unwrap();
    for _ in 0..6 {
        // A third of the TTL, after which it is renewed.
        *clock.0.lock().unwrap() += Duration::from_secs(6);
        let renewed = async {
            while session.remaining() < Duration::from_secs(13) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        soon(renewed).await;
    }
    assert_eq!(session.check(), Ok(()), "after 36 s of its clock");
    server.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    *clock.0.lock().unwrap() += Duration::from_secs(14);
    assert_eq!(soon(session.lost()).await, Lost::NotRenewed, "nobody answers");
}

#[tokio::test]
async fn what_is_taken_away_is_told() {
    let server = Server::start().await;
    let client = server.client().await;
    let lock = soon(client.lock_with("lock", options())).await.unwrap();
    soon(client.kv().delete("lock")).await.unwrap();
    assert!(matches!(soon(lock.lost()).await, Lost::TakenAway(why) if why.contains("deleted")));
    let session = soon(client.sessions().keep(options())).await.unwrap();
    soon(client.sessions().destroy(session.id(), "")).await.unwrap();
    assert!(matches!(soon(session.lost()).await, Lost::Ended(why) if why.contains("destroyed")));
    assert!(matches!(soon(session.lock("other")).await, Err(Error::Lost(Lost::Ended(_)))));
}

#[tokio::test]
async fn one_of_many_leads_and_everybody_sees_who() {
    let server = Server::start().await;
    let client = server.client().await;
    let election = client.election("leader").session(options());
    let mut observed = election.observe();
    assert!(soon(observed.next()).await.unwrap().is_empty());
    assert!(soon(election.leader()).await.unwrap().is_none());
    let a = soon(election.campaign("a")).await.unwrap();
    assert_eq!(soon(observed.next()).await.unwrap()[0].value, "a");
    let other = election.clone();
    let b = tokio::spawn(async move { other.campaign("b").await });
    soon(a.release()).await.unwrap();
    let b = soon(b).await.unwrap().unwrap();
    loop {
        let holders = soon(observed.next()).await.unwrap();
        if holders.first().is_some_and(|holder| holder.value == "b" && holder.fencing_token == b.token()) {
            break;
        }
    }
}

#[tokio::test]
async fn a_semaphore_lets_so_many_in() {
    let server = Server::start().await;
    let client = server.client().await;
    let semaphore = client.semaphore("sem", 2).session(options());
    let (a, b) = (soon(semaphore.acquire()).await.unwrap(), soon(semaphore.acquire()).await.unwrap());
    assert_eq!((&a.key()[..], &b.key()[..]), (&b"sem/0"[..], &b"sem/1"[..]));
    assert!(tokio::time::timeout(Duration::from_millis(200), semaphore.acquire()).await.is_err(), "both are taken");
    drop(a);
    let c = soon(semaphore.acquire()).await.unwrap();
    assert_eq!(&c.key()[..], b"sem/0");
}
