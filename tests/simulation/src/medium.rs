//! The network of a simulated machine, as the product wants a network.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt, poll_fn};
use net::{Datagrams, Exchange, Listener, Medium, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::ether::{End, Ether, MachineId, address_of};

/// One machine's part of the network.
pub(crate) struct Simulated {
    pub(crate) ether: Ether,
    pub(crate) machine: MachineId,
    /// Who is known by which name.
    pub(crate) names: Arc<BTreeMap<String, MachineId>>,
}

impl Simulated {
    fn find(&self, address: &str) -> io::Result<SocketAddr> {
        if let Ok(address) = address.parse() {
            return Ok(address);
        }
        let found = address.rsplit_once(':').and_then(|(name, port)| Some((*self.names.get(name)?, port.parse().ok()?)));
        let (machine, port) = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no machine `{address}`")))?;
        Ok(SocketAddr::new(address_of(machine), port))
    }
}

impl Medium for Simulated {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        let (ether, machine, found) = (self.ether.clone(), self.machine, self.find(&address));
        async move {
            let end = ether.connect(machine, found?);
            let wire = Wire { ether, end };
            poll_fn(|cx| wire.ether.poll_connected(wire.end, cx.waker())).await?;
            Ok(Box::new(wire) as Stream)
        }
        .boxed()
    }

    fn connect_local(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Stream>> {
        let missing = format!("nothing but agents runs here, so that nobody listens at `{}`", path.display());
        std::future::ready(Err(io::Error::new(io::ErrorKind::NotFound, missing))).boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let ether = self.ether.clone();
        let listening = self.ether.listen(self.machine, address.port());
        std::future::ready(listening.map(|at| Box::new(Accepting { ether, at }) as Box<dyn Listener>)).boxed()
    }

    fn datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        let ether = self.ether.clone();
        let opened = self.ether.open_socket(self.machine, address.port());
        std::future::ready(opened.map(|at| Box::new(Socket { ether, at }) as Box<dyn Datagrams>)).boxed()
    }

    fn shared_datagrams(&self, address: SocketAddr, _count: usize) -> BoxFuture<'static, io::Result<Vec<Box<dyn Datagrams>>>> {
        self.datagrams(address).map(|opened| opened.map(|socket| vec![socket])).boxed()
    }

    fn exchange(&self, peer: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Exchange>>> {
        let ether = self.ether.clone();
        let opened = self.ether.open_socket(self.machine, 0);
        let opened = opened.map(|at| Box::new(Exchanging { socket: Socket { ether, at }, peer }) as Box<dyn Exchange>);
        std::future::ready(opened).boxed()
    }

    fn resolve(&self, address: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        std::future::ready(self.find(&address).map(|address| vec![address])).boxed()
    }
}

struct Accepting {
    ether: Ether,
    at: SocketAddr,
}

impl Listener for Accepting {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        poll_fn(|cx| self.ether.poll_accept(self.at, cx.waker()))
            .map(|accepted| accepted.map(|(end, from)| (Box::new(Wire { ether: self.ether.clone(), end }) as Stream, from)))
            .boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.ether.stop_listening(self.at);
    }
}

struct Socket {
    ether: Ether,
    at: SocketAddr,
}

impl Datagrams for Socket {
    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.ether.send(self.at, to, bytes);
        Ok(bytes.len())
    }

    fn send<'a>(&'a self, bytes: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        std::future::ready(self.try_send(bytes, to)).boxed()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ether.poll_readable(self.at, cx.waker())
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        let (bytes, from) = self.ether.try_receive(self.at)?;
        let length = bytes.len().min(buffer.len());
        buffer[..length].copy_from_slice(&bytes[..length]);
        Ok((length, from))
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        Ok(self.at)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.ether.close_socket(self.at);
    }
}

/// A socket that hears one peer only.
struct Exchanging {
    socket: Socket,
    peer: SocketAddr,
}

impl Exchange for Exchanging {
    fn send<'a>(&'a self, bytes: &'a [u8]) -> BoxFuture<'a, io::Result<usize>> {
        self.socket.send(bytes, self.peer)
    }

    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        async move {
            loop {
                let (length, from) = self.socket.receive(buffer).await?;
                if from == self.peer {
                    return Ok(length);
                }
            }
        }
        .boxed()
    }
}

/// One end of a connection.
struct Wire {
    ether: Ether,
    end: End,
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.ether.poll_read(self.end, buffer.remaining(), cx.waker()).map_ok(|bytes| buffer.put_slice(&bytes))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ether.poll_write(self.end, bytes, cx.waker())
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ether.finish(self.end);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.ether.close(self.end);
    }
}
