//! Who is asked, who is asked next, and what is told when nobody answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::{FutureExt, ready};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};

use super::world::{Answering, Machine, World, says, waits};
use crate::{ANSWER, Body, Error, Forward, How, REASON, To, full};

fn read() -> How {
    How { patience: Some(ANSWER), again: Some(Bytes::from_static(b"question")), datacenter: None }
}

fn write() -> How {
    How { again: None, ..read() }
}

async fn ask(forward: &Forward, how: How) -> Result<Bytes, Error> {
    let request: Request<Body> = Request::post("/").body(full(Bytes::from_static(b"question"))).unwrap();
    Ok(forward.carry(To::Server, request, how).await?.into_body().collect().await.unwrap().to_bytes())
}

/// Dies of the first request that it gets, and answers nothing.
fn dying(world: &World) -> Machine {
    let own: Arc<parking_lot::Mutex<Option<Machine>>> = Arc::default();
    let known = own.clone();
    let machine = world.server(move |_| {
        if let Some(own) = &*known.lock() {
            own.die();
        }
        waits()
    });
    *own.lock() = Some(machine.clone());
    machine
}

fn no_leader() -> Answering {
    let refused = Response::builder().status(500).header(REASON.clone(), "NO_LEADER").body(full(Bytes::from_static(b"no leader"))).unwrap();
    ready(refused).boxed()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_from_the_start_has_the_next_one_asked_for_writes_too() {
    let world = World::default();
    let (hung, _sound) = (world.server(|_| waits()), world.server(|_| says("sound")));
    hung.stop();
    let (forward, start) = (world.forward(&hung), Instant::now());
    assert_eq!(ask(&forward, write()).await.unwrap(), "sound");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn where_all_hang_it_is_certain_that_nothing_was_done() {
    let world = World::default();
    let hung = world.server(|_| waits());
    hung.stop();
    let error = ask(&world.forward(&hung), write()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }) && !error.is_in_doubt(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_only_reads_is_asked_of_another_server_when_one_dies_and_a_write_is_in_doubt() {
    let world = World::default();
    let (mortal, _other) = (
        dying(&world),
        world.server(|request| async { Response::new(full(request.into_body().collect().await.unwrap().to_bytes())) }.boxed()),
    );
    assert_eq!(ask(&world.forward(&mortal), read()).await.unwrap(), "question");
    let lost = ask(&world.forward(&mortal), write()).await.unwrap_err();
    assert!(matches!(lost, Error::Broken { .. }) && lost.is_in_doubt(), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn what_only_reads_is_asked_of_another_server_when_one_is_stopped() {
    let world = World::default();
    let (stopped, _sound) = (world.server(|_| says("before")), world.server(|_| says("sound")));
    let forward = world.forward(&stopped);
    assert_eq!(ask(&forward, read()).await.unwrap(), "before");
    stopped.stop();
    let lost = ask(&forward, write()).await.unwrap_err();
    assert!(matches!(lost, Error::Silent { .. }), "{lost}");
    assert_eq!(ask(&world.forward(&stopped), read()).await.unwrap(), "sound");
}

#[tokio::test(start_paused = true)]
async fn a_server_without_a_leader_is_passed_over_and_not_asked_first_again() {
    let world = World::default();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let alone = world.server(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        no_leader()
    });
    let _led = world.server(|_| says("led"));
    let forward = world.forward(&alone);
    for _ in 0..3 {
        assert_eq!(ask(&forward, read()).await.unwrap(), "led");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    assert_eq!(ask(&world.forward(&alone), write()).await.unwrap(), "no leader", "a write is not sent twice");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_where_all_refuse_and_where_another_datacenter_does() {
    let world = World::default();
    let (asked, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let servers = [asked.clone(), counted].map(|count| {
        world.server(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            no_leader()
        })
    });
    let forward = world.forward(&servers[0]);
    assert_eq!(ask(&forward, read()).await.unwrap(), "no leader");
    let (forward, before) = (world.forward(&servers[0]), asked.load(Ordering::Relaxed));
    for _ in 0..3 {
        assert_eq!(ask(&forward, How { datacenter: Some("dc2".into()), ..read() }).await.unwrap(), "no leader");
    }
    assert_eq!(asked.load(Ordering::Relaxed), before + 3, "whoever brings it is not to blame");
}

#[tokio::test(start_paused = true)]
async fn one_patience_lasts_for_all_servers_that_are_asked() {
    let world = World::default();
    let (mortal, _slow) = (world.server(|_| waits()), world.server(|_| waits()));
    let (forward, start) = (world.forward(&mortal), Instant::now());
    let dying = async {
        sleep(Duration::from_secs(15)).await;
        mortal.die();
    };
    let (late, ()) = tokio::join!(ask(&forward, read()), dying);
    assert!(matches!(late, Err(Error::Late { .. })), "{late:?}");
    assert!(start.elapsed() < Duration::from_secs(25), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn servers_are_known_by_their_addresses() {
    let world = World::default();
    let server = world.server(|_| waits());
    let forward = world.forward(&server);
    for (host, is_server) in [("10.0.0.1", true), ("::ffff:10.0.0.1", true), ("10.0.0.2", false)] {
        assert_eq!(forward.is_server(host.parse().unwrap()), is_server, "{host}");
    }
}
