//! A process that holds locks, for tests that pause it, kill it, and look at what it did.
//!
//! `lictor-holder ENDPOINTS NAME LOCKS TTL_MS` takes each of so many locks in turn, for ever. Under
//! each grant it writes a few times, with the fence and *without looking at the clock*: what a
//! program does that was paused between its look and its write. For as long as its client says
//! that the lock is held it believes so, and it prints from when to when it believed it:
//!
//! ```text
//! held LOCK TOKEN FROM_NS UNTIL_NS      refused LOCK TOKEN
//! ```
//!
//! Times are those of the machine since its start, which all processes share.
#![allow(clippy::unwrap_used, reason = "all of it is test: a panic is the message")]

use std::time::Duration;

use lictor_client::{Client, Clock, ErrorReason, LockOptions, Options, PutOptions, Session, SessionOptions, SystemClock};

/// Writes under one grant.
const WRITES: usize = 3;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, endpoints, name, locks, ttl_ms] = &arguments[..] else { panic!("usage: lictor-holder ENDPOINTS NAME LOCKS TTL_MS") };
    let options = Options { request_timeout: Duration::from_secs(5), ..Options::default() };
    let client = Client::lazy(endpoints.as_str(), options).unwrap();
    let (locks, ttl) = (locks.parse::<usize>().unwrap(), Duration::from_millis(ttl_ms.parse().unwrap()));
    loop {
        let session = SessionOptions {
            name: name.clone(),
            ttl,
            lock_delay: Some(Duration::ZERO),
            ignore_node_failure: true,
            ..SessionOptions::default()
        };
        let Ok(session) = client.sessions().keep(session).await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let turns = (0..locks).map(|lock| tokio::spawn(turns(client.clone(), session.clone(), lock, name.clone())));
        let turns: Vec<_> = turns.collect();
        // What was begun is not called off when the session is lost: the servers have to refuse it.
        for turn in turns {
            turn.await.unwrap();
        }
    }
}

/// Takes one lock again and again, until the session is lost.
async fn turns(client: Client, session: Session, number: usize, name: String) {
    let lock = LockOptions::new(format!("safe/lock/{number}")).value(name);
    while session.check().is_ok() {
        let Ok(held) = session.lock(lock.clone()).await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let clock = SystemClock;
        let from = clock.now();
        let Ok(fence) = held.fence() else { continue };
        let mut until = from;
        for n in 0..WRITES {
            // The clock is read before the look: what is believed at the look was believed then.
            let now = clock.now();
            if held.check().is_ok() {
                until = now;
            }
            let write = PutOptions::new().fence(fence.clone());
            let written = client.kv().put_with(format!("safe/data/{number}"), format!("{} {n}", fence.token), write).await;
            if written.is_err_and(|error| error.reason() == Some(ErrorReason::StaleFence)) {
                println!("refused {number} {}", fence.token);
                break;
            }
        }
        println!("held {number} {} {} {}", fence.token, from.as_nanos(), until.as_nanos());
        // One that cannot be released goes with its session.
        let _ = held.release().await;
    }
}
