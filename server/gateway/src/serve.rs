//! The listener: connections in, bounded; requests to the router; an end in time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::{Listener, Stream};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::Service;

use crate::request::Connection;

/// How long accepting pauses after it failed, for example because no file descriptor was left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Connections that are being told that they are too many; further ones are closed in silence.
const REFUSALS_MAX: usize = 32;

/// The bounds of a listener.
#[derive(Clone, Debug)]
pub struct ServeLimits {
    /// Most connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Most connections of one address at once; further ones are refused with 429. Programs on
    /// this machine share one address and are not counted.
    ///
    /// It may be changed meanwhile, and counts for the next connection.
    pub connections_per_client_max: Arc<AtomicUsize>,
    /// How long a client may take to send the head of a request. It counts from the end of the
    /// last one, so that an idle connection is closed as well.
    pub header_read_timeout: Duration,
    /// Largest head of a request, in bytes.
    pub head_bytes_max: usize,
    /// How long requests may go on once the listener is shut down.
    pub drain: Duration,
}

impl Default for ServeLimits {
    fn default() -> Self {
        ServeLimits {
            connections_max: 16_384,
            connections_per_client_max: Arc::new(AtomicUsize::new(200)),
            header_read_timeout: Duration::from_secs(120),
            head_bytes_max: 64 * 1024,
            drain: Duration::from_secs(3),
        }
    }
}

/// Serves `router` on `listener` until `stop`, and returns when the last connection is closed.
/// Requests that are still under way then are given a moment; those that wait for a change end at
/// once.
pub async fn serve(listener: Box<dyn Listener>, router: axum::Router, limits: ServeLimits, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    let clients = Arc::new(Clients { counts: Mutex::default(), most: limits.connections_per_client_max.clone() });
    let mut conversations = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&*listener, &slots) => accepted,
            Some(_) = conversations.join_next() => continue,
            () = stop.cancelled() => break,
        };
        let Some((stream, peer, slot)) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(seat) = clients.enter(peer.ip()) else {
            if let Ok(permit) = refusals.clone().try_acquire_owned() {
                conversations.spawn(async move {
                    refuse(stream).await;
                    drop((permit, slot));
                });
            }
            continue;
        };
        let connection = Connection { peer, stop: stop.clone() };
        let (router, limits) = (router.clone(), limits.clone());
        conversations.spawn(async move {
            converse(stream, router, connection, &limits).await;
            drop((seat, slot));
        });
    }
    drop(listener);
    let ended = async { while conversations.join_next().await.is_some() {} };
    if timeout(limits.drain, ended).await.is_err() {
        conversations.shutdown().await;
    }
}

type Accepted = (Stream, SocketAddr, tokio::sync::OwnedSemaphorePermit);

/// The next connection, once there is room for it; `None` when accepting failed.
async fn accept(listener: &dyn Listener, slots: &Arc<Semaphore>) -> Option<Accepted> {
    let slot = slots.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, slot)),
        Err(error) => {
            tracing::warn!(%error, "http: a connection could not be accepted");
            None
        }
    }
}

/// Answers the requests of one connection, one after another.
async fn converse(stream: Stream, router: axum::Router, connection: Connection, limits: &ServeLimits) {
    let stop = connection.stop.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connection.clone());
        router.clone().call(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_read_timeout);
    builder.title_case_headers(true).max_buf_size(limits.head_bytes_max.max(8 * 1024));
    let conversation = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(conversation);
    let ended = tokio::select! {
        biased;
        ended = conversation.as_mut() => ended,
        () = stop.cancelled() => {
            conversation.as_mut().graceful_shutdown();
            conversation.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "http: a connection ended early");
    }
}

/// Tells a client that it has too many connections.
async fn refuse(mut stream: Stream) {
    const ANSWER: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n\
        Your IP is issuing too many concurrent connections, please rate limit your calls\n";
    let told = async {
        stream.write_all(ANSWER).await?;
        stream.shutdown().await
    };
    if timeout(Duration::from_secs(1), told).await.is_err() {
        tracing::debug!("http: a client with too many connections does not even read");
    }
}

/// How many connections each client has.
struct Clients {
    counts: Mutex<HashMap<IpAddr, usize>>,
    most: Arc<AtomicUsize>,
}

impl Clients {
    fn enter(self: &Arc<Self>, client: IpAddr) -> Option<Seat> {
        if client.to_canonical().is_loopback() {
            return Some(Seat(None));
        }
        let most = match self.most.load(Ordering::Relaxed) {
            0 => usize::MAX,
            most => most,
        };
        let mut counts = self.counts.lock();
        let count = counts.get(&client).copied().unwrap_or(0);
        if count >= most {
            return None;
        }
        let count = counts.entry(client).or_insert(0);
        *count += 1;
        Some(Seat(Some((self.clone(), client))))
    }
}

/// A connection that is counted for as long as this lives.
struct Seat(Option<(Arc<Clients>, IpAddr)>);

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((clients, client)) = &self.0 else { return };
        let mut counts = clients.counts.lock();
        if let Some(count) = counts.get_mut(client) {
            *count -= 1;
            if *count == 0 {
                counts.remove(client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_client_and_local_programs_are_not() {
        let clients = Arc::new(Clients { counts: Mutex::default(), most: Arc::new(AtomicUsize::new(2)) });
        let enter = |address: &str| clients.enter(address.parse().unwrap());
        let held = [enter("10.0.0.1").unwrap(), enter("10.0.0.1").unwrap()];
        assert!(enter("10.0.0.1").is_none());
        assert!(enter("10.0.0.2").is_some());
        drop(held);
        assert!(enter("10.0.0.1").is_some());
        drop(enter("10.0.0.1"));
        assert!(clients.counts.lock().is_empty());
        clients.most.store(0, Ordering::Relaxed);
        let held: Vec<_> = (0..5).map(|_| enter("10.0.0.1")).collect();
        assert!(held.iter().all(Option::is_some), "0 is no limit");
        let local: Vec<_> = (0..5).map(|_| enter("127.0.0.1")).collect();
        assert!(local.iter().all(Option::is_some));
    }
}
