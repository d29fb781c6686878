//! The network of the machine that this process runs on.

use std::io;
use std::net::SocketAddr;

use futures::future::{BoxFuture, FutureExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};

use crate::{Datagrams, Listener, Medium, Stream};

pub(crate) struct Host;

impl Medium for Host {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        async move { unbuffered(TcpStream::connect(address).await?) }.boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(TcpListener::bind(address).await?) as Box<dyn Listener>) }.boxed()
    }

    fn datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        async move { Ok(Box::new(UdpSocket::bind(address).await?) as Box<dyn Datagrams>) }.boxed()
    }

    fn resolve(&self, address: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        async move { Ok(lookup_host(address).await?.collect()) }.boxed()
    }
}

/// Small messages leave at once: the protocols here answer each other.
fn unbuffered(stream: TcpStream) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

impl Listener for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let (stream, from) = TcpListener::accept(self).await?;
            Ok((unbuffered(stream)?, from))
        }
        .boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

impl Datagrams for UdpSocket {
    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.try_send_to(bytes, to)
    }

    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        self.recv_from(buffer).boxed()
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}
