//! What connections carry, how many there are, and how long they stay.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{FutureExt, join_all, ready};
use http::{Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use tokio::time::{Instant, sleep};

use super::world::{World, says, waits};
use crate::body::{Answer, Progress};
use crate::connection::{CONNECTIONS, Connections, Failed, REQUESTS, Why};
use crate::{ANSWER, Body, full};

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://10.0.0.1:8300{path}")).body(full(Bytes::new())).unwrap()
}

async fn send(connections: &Connections, request: Request<Body>, patience: Option<Duration>) -> Result<Response<Answer>, Failed> {
    connections.send("10.0.0.1:8300", request, patience, &Progress::since(Instant::now())).await
}

async fn text(response: Response<Answer>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_an_answer_is_in_nobodys_way() {
    let world = World::default();
    let large = Bytes::from(vec![7; 2 << 20]);
    let server = world.server(move |request| match request.uri().path() {
        "/large" => ready(Response::new(full(large.clone()))).boxed(),
        _ => says("small"),
    });
    let connections = Connections::new(world.network());
    let unread: Vec<_> = join_all((0..REQUESTS - 1).map(|_| send(&connections, get("/large"), None))).await;
    assert!(unread.iter().all(Result::is_ok));
    // Until nothing more goes.
    sleep(Duration::from_secs(5)).await;
    let small = send(&connections, get("/small"), Some(ANSWER)).await.unwrap();
    assert_eq!((text(small).await, server.connections()), (Bytes::from_static(b"small"), 1));
}

#[tokio::test(start_paused = true)]
async fn requests_that_wait_get_further_connections_and_then_a_refusal_that_leaves_no_doubt() {
    let world = World::default();
    let server = world.server(|request| if request.uri().path() == "/waits" { waits() } else { says("small") });
    let connections = Connections::new(world.network());
    let wait = || {
        let connections = connections.clone();
        tokio::spawn(async move { send(&connections, get("/waits"), None).await })
    };
    let mut waiting: Vec<_> = (0..REQUESTS).map(|_| wait()).collect();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(send(&connections, get("/"), Some(ANSWER)).await.unwrap()).await, "small");
    assert_eq!(server.connections(), 2, "one that is full has a second one opened");
    waiting.extend((REQUESTS..REQUESTS * CONNECTIONS).map(|_| wait()));
    sleep(Duration::from_secs(1)).await;
    let refused = send(&connections, get("/"), Some(ANSWER)).await;
    assert!(matches!(refused, Err(Failed::Unsent(_, Why::Full))), "{refused:?}");
    assert_eq!(server.connections(), CONNECTIONS);
    waiting.pop().unwrap().abort();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(text(send(&connections, get("/"), Some(ANSWER)).await.unwrap()).await, "small");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_says_nothing_and_is_closed_after_a_while() {
    let world = World::default();
    let server = world.server(|_| says("small"));
    let connections = Connections::new(world.network());
    for opened in 1..=2 {
        assert_eq!(text(send(&connections, get("/"), Some(ANSWER)).await.unwrap()).await, "small");
        sleep(Duration::from_secs(10)).await;
        let heard = server.heard();
        sleep(Duration::from_secs(40)).await;
        assert_eq!((server.heard(), connections.open_to("10.0.0.1:8300")), (heard, 1));
        sleep(Duration::from_secs(60)).await;
        assert_eq!((connections.open_to("10.0.0.1:8300"), server.connections()), (0, opened));
    }
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_long_notices_a_server_that_is_stopped() {
    let world = World::default();
    let server = world.server(|request| if request.uri().path() == "/waits" { waits() } else { says("small") });
    let connections = Connections::new(world.network());
    text(send(&connections, get("/"), None).await.unwrap()).await;
    let stopping = async {
        sleep(Duration::from_secs(100)).await;
        server.stop();
        Instant::now()
    };
    let (lost, stopped) = tokio::join!(send(&connections, get("/waits"), None), stopping);
    assert!(matches!(lost, Err(Failed::Silent)), "{lost:?}");
    assert!(stopped.elapsed() < Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_time_that_an_upload_takes_is_not_the_servers() {
    let world = World::default();
    world.server(|request| {
        async move {
            let (head, body) = request.into_parts();
            let all = body.collect().await.unwrap().to_bytes();
            if head.uri.path() == "/waits" { waits().await } else { Response::new(full(all)) }
        }
        .boxed()
    });
    let connections = Connections::new(world.network());
    let slow = |path| {
        let pieces = futures::stream::iter(0..3).then(|_| async {
            sleep(Duration::from_secs(30)).await;
            Ok(Frame::data(Bytes::from_static(b"piece ")))
        });
        get(path).map(|_| StreamBody::new(pieces).boxed_unsync())
    };
    let answered = send(&connections, slow("/"), Some(ANSWER)).await.unwrap();
    assert_eq!(text(answered).await, "piece piece piece ");
    let start = Instant::now();
    let late = send(&connections, slow("/waits"), Some(ANSWER)).await;
    assert!(matches!(late, Err(Failed::Late(ANSWER))), "{late:?}");
    assert!((Duration::from_secs(105)..Duration::from_secs(120)).contains(&start.elapsed()), "{:?}", start.elapsed());
}
