//! The network of the machine that this process runs on.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, FutureExt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixStream, lookup_host};

use crate::{Datagrams, Exchange, Listener, Medium, Stream};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// What the kernel keeps for each of the sockets that share an address, in bytes, as far as the
/// system's limits allow: a burst of some thousand datagrams.
const SHARED_BUFFER_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Host;

impl Medium for Host {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        async move { Ok(unbuffered(TcpStream::connect(address).await?)) }.boxed()
    }

    fn connect_local(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Stream>> {
        async move { Ok(Box::new(UnixStream::connect(path).await?) as Stream) }.boxed()
    }

    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        async move { Ok(Box::new(listen(address)?) as Box<dyn Listener>) }.boxed()
    }

    fn datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        async move { Ok(Box::new(UdpSocket::bind(address).await?) as Box<dyn Datagrams>) }.boxed()
    }

    fn shared_datagrams(&self, address: SocketAddr, count: usize) -> BoxFuture<'static, io::Result<Vec<Box<dyn Datagrams>>>> {
        async move {
            let sockets = share(address, count)?.into_iter();
            sockets.map(|socket| Ok(Box::new(UdpSocket::from_std(socket.into())?) as Box<dyn Datagrams>)).collect()
        }
        .boxed()
    }

    fn exchange(&self, peer: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Exchange>>> {
        async move {
            let any: SocketAddr = if peer.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
            let socket = UdpSocket::bind(any).await?;
            // Connected, it takes datagrams of that address alone, and hears that nobody is there.
            socket.connect(peer).await?;
            Ok(Box::new(Connected(socket)) as Box<dyn Exchange>)
        }
        .boxed()
    }

    fn resolve(&self, address: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        async move { Ok(lookup_host(address).await?.collect()) }.boxed()
    }
}

/// Small messages leave at once: the protocols here answer each other. A connection that is gone by
/// now is found out by whoever uses it.
fn unbuffered(stream: TcpStream) -> Stream {
    let _ = stream.set_nodelay(true);
    Box::new(stream)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a predecessor that still linger do not hold the port; a listener does.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    bind(&socket, address)?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sharing has a danger: two servers of one user that both ask for it would share the port with each
/// other, and each lose half its datagrams. The first socket is therefore bound without sharing, which
/// fails if anybody else has the port, and is opened for sharing only once it is bound.
fn share(address: SocketAddr, count: usize) -> io::Result<Vec<Socket>> {
    let first = shared_socket(address)?;
    bind(&first, address)?;
    first.set_reuse_port(true)?;
    // Port 0 has become another one.
    let address = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..count {
        let socket = shared_socket(address)?;
        socket.set_reuse_port(true)?;
        bind(&socket, address)?;
        sockets.push(socket);
    }
    Ok(sockets)
}

fn shared_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The system may allow less; what it gives is used.
    let _ = socket.set_recv_buffer_size(SHARED_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SHARED_BUFFER_BYTES);
    Ok(socket)
}

/// Binds. All addresses of the sixth version are all addresses, whatever the system's default is.
fn bind(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())
}

impl Listener for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>> {
        async move {
            let (stream, from) = TcpListener::accept(self).await?;
            Ok((unbuffered(stream), from))
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

    fn send<'a>(&'a self, bytes: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>> {
        self.send_to(bytes, to).boxed()
    }

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_recv_ready(cx)
    }

    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.try_recv_from(buffer)
    }

    fn local_address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }
}

/// A socket that knows one address only.
struct Connected(UdpSocket);

impl Exchange for Connected {
    fn send<'a>(&'a self, bytes: &'a [u8]) -> BoxFuture<'a, io::Result<usize>> {
        self.0.send(bytes).boxed()
    }

    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>> {
        self.0.recv(buffer).boxed()
    }
}

#[cfg(test)]
mod tests;
