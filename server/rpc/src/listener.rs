//! Connections, and how many of them there may be.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use net::{Listener, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::gather::Gather;

/// Pause after an error of the listening socket, such as too many open files: trying again at once
/// would only burn time.
const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// A connection that counts while it lives.
pub(crate) struct Connection {
    stream: Gather<Stream>,
    peer: SocketAddr,
    _permit: OwnedSemaphorePermit,
}

/// The connections that arrive at `listener`. One above `max` is closed at once, so that its client
/// learns it instead of waiting.
pub(crate) fn incoming(listener: Box<dyn Listener>, max: usize) -> impl futures::Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(max));
    futures::stream::unfold((listener, permits, false), move |(listener, permits, mut full)| async move {
        loop {
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "gRPC connections cannot be accepted");
                    tokio::time::sleep(ERROR_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                if !std::mem::replace(&mut full, true) {
                    tracing::warn!(%peer, max, "too many gRPC connections; further ones are closed until there is room");
                }
                continue;
            };
            full = false;
            return Some((Ok(Connection { stream: Gather::new(stream), peer, _permit: permit }), (listener, permits, full)));
        }
    })
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
