//! Connections, and how many of them there may be.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use metrics::counter;
use net::{Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::gather::Gather;
use crate::options::Reserve;

/// Pause after an error of the listening socket, such as too many open files: trying again at once
/// would only burn time.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A connection that counts while it lives.
pub(crate) struct Connection {
    stream: Gather<Stream>,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

/// How often it is told, at most, that connections are closed because there are too many.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// The connections that arrive at `listener`. One above `max` is closed at once, so that its client
/// learns it instead of waiting; servers have their `reserve`.
pub(crate) fn incoming(
    listener: Box<dyn Listener>,
    max: usize,
    reserve: Option<Reserve>,
) -> impl futures::Stream<Item = io::Result<Connection>> {
    let places = Places::new(max, reserve);
    futures::stream::unfold((listener, places), move |(listener, mut places)| async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "gRPC connections cannot be accepted");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let Some(permit) = places.take(peer.ip()) else {
                places.refused(&*listener, peer);
                continue;
            };
            return Some((Ok(Connection { stream: Gather::new(stream), peer, _permit: permit }), (listener, places)));
        }
    })
}

/// How many connections there may yet be.
struct Places {
    max: usize,
    all: Arc<Semaphore>,
    reserve: Option<(Arc<Semaphore>, Reserve)>,
    /// Connections that were closed since it was told last, and when that was.
    untold: u64,
    told: Option<Instant>,
}

impl Places {
    fn new(max: usize, reserve: Option<Reserve>) -> Self {
        let reserve = reserve.map(|reserve| (Arc::new(Semaphore::new(reserve.connections)), reserve));
        Places { max, all: Arc::new(Semaphore::new(max)), reserve, untold: 0, told: None }
    }

    /// A place for a connection from `host`.
    fn take(&self, host: IpAddr) -> Option<OwnedSemaphorePermit> {
        let reserved = || {
            let (places, _) = self.reserve.as_ref().filter(|(_, reserve)| (reserve.is_server)(host))?;
            places.clone().try_acquire_owned().ok()
        };
        self.all.clone().try_acquire_owned().ok().or_else(reserved)
    }

    fn refused(&mut self, listener: &dyn Listener, peer: SocketAddr) {
        counter!("consul_rpc_connections_refused").increment(1);
        self.untold += 1;
        if self.told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
            self.told = Some(Instant::now());
            let (refused, max) = (std::mem::take(&mut self.untold), self.max);
            let at = listener.local_address().map_or_else(|_| String::new(), |at| at.to_string());
            tracing::warn!(%peer, at, max, refused, "too many connections; further ones are closed until there is room");
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: None, remote_addr: Some(self.peer) }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_by_the_thousand_leave_room_for_servers() {
        let (server, agent) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let places = Places::new(2, Some(Reserve { connections: 1, is_server: Arc::new(move |host| host == server) }));
        let agents = [places.take(agent).unwrap(), places.take(agent).unwrap()];
        assert!(places.take(agent).is_none());
        let reserved = places.take(server).expect("a server has its reserve");
        assert!(places.take(server).is_none(), "which is bounded too");
        drop(agents);
        assert!(places.take(agent).is_some());
        drop(reserved);
    }
}
