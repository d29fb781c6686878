//! The network, and every socket of an agent.
//!
//! Whatever an agent listens on, connects to or sends datagrams from is opened by a [`Network`]: the
//! faces that programs talk to, the servers' own port, gossip, the probes of checks, recursors of DNS.
//! It is the host's in an agent. A test that wants another one, such as a whole cluster on a network
//! that is made up, brings its own [`Medium`].
//!
//! Sockets are objects behind a pointer; what that costs beside a system call can't be measured. Where
//! many datagrams come at once they are taken without waiting ([`Datagrams::try_receive`]), a system
//! call each, until there are no more.

mod host;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// What a network offers. Whoever implements it need not bound the time that anything takes.
pub trait Medium: Send + Sync + 'static {
    /// Opens a connection to `host:port`, trying each address that the name has.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>>;
    /// Opens a connection to a program of this machine that listens at a path.
    fn connect_local(&self, path: PathBuf) -> BoxFuture<'static, io::Result<Stream>>;
    /// Listens for connections; port 0 lets the network choose one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
    /// Opens a socket for datagrams.
    fn datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>>;
    /// Opens up to `count` sockets, at least one, that share the datagrams to one address.
    fn shared_datagrams(&self, address: SocketAddr, count: usize) -> BoxFuture<'static, io::Result<Vec<Box<dyn Datagrams>>>>;
    /// Opens a socket for datagrams to and from `peer` alone, on a port that nobody can guess.
    fn exchange(&self, peer: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Exchange>>>;
    /// The addresses of `host:port`.
    fn resolve(&self, address: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

/// Bytes in order, both ways.
pub trait Connection: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Connection for T {}

/// A connection, whatever carries it.
pub type Stream = Box<dyn Connection>;

/// Where connections come in.
pub trait Listener: Send + Sync {
    /// The next connection, and where it comes from. Nothing is lost when it is dropped before.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;
    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A socket for datagrams.
pub trait Datagrams: Send + Sync {
    /// Sends one, or fails with [`io::ErrorKind::WouldBlock`] while there is no room for it.
    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize>;
    /// Sends one, once there is room for it.
    fn send<'a>(&'a self, bytes: &'a [u8], to: SocketAddr) -> BoxFuture<'a, io::Result<usize>>;
    /// Waits until there may be one to receive. Only the task that asked last is woken.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Receives the next one: its length, and where it comes from. Fails with
    /// [`io::ErrorKind::WouldBlock`] while there is none.
    fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)>;
    /// Where it receives.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Receives the next one, once it is there.
    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>> {
        async move {
            loop {
                poll_fn(|cx| self.poll_readable(cx)).await?;
                match self.try_receive(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    received => return received,
                }
            }
        }
        .boxed()
    }
}

/// A socket for datagrams to and from one address.
pub trait Exchange: Send + Sync {
    /// Sends one.
    fn send<'a>(&'a self, bytes: &'a [u8]) -> BoxFuture<'a, io::Result<usize>>;
    /// Receives the next one: its length. Fails with [`io::ErrorKind::ConnectionRefused`] when it is
    /// known that nobody is there.
    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<usize>>;
}

/// A network. Clones are the same one.
#[derive(Clone)]
pub struct Network {
    medium: Arc<dyn Medium>,
}

impl Network {
    /// The network of this machine.
    pub fn host() -> Self {
        Network::new(host::Host)
    }

    /// A network of one's own.
    pub fn new(medium: impl Medium) -> Self {
        Network { medium: Arc::new(medium) }
    }

    /// Opens a connection to `host:port` within `limit`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when `limit` has passed, else the error of the last address tried.
    pub async fn connect(&self, address: &str, limit: Duration) -> io::Result<Stream> {
        let late = || format!("`{address}` did not take the connection within {limit:?}");
        within(limit, self.medium.connect(address.to_owned()), late).await
    }

    /// Opens a connection to a program of this machine that listens at a path, within `limit`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when `limit` has passed; nobody listens there; this process may not.
    pub async fn connect_local(&self, path: &Path, limit: Duration) -> io::Result<Stream> {
        let late = || format!("`{}` did not take the connection within {limit:?}", path.display());
        within(limit, self.medium.connect_local(path.to_owned()), late).await
    }

    /// Listens for connections.
    ///
    /// # Errors
    ///
    /// The address is taken, or not of this host.
    pub async fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        self.medium.listen(address).await
    }

    /// Opens a socket for datagrams.
    ///
    /// # Errors
    ///
    /// The address is taken, or not of this host.
    pub async fn datagrams(&self, address: SocketAddr) -> io::Result<Box<dyn Datagrams>> {
        self.medium.datagrams(address).await
    }

    /// Opens up to `count` sockets that share the datagrams to `address`, so that as many processors
    /// receive at once. There is one at least. Nobody else can share the address.
    ///
    /// # Errors
    ///
    /// The address is taken, or not of this host.
    pub async fn shared_datagrams(&self, address: SocketAddr, count: usize) -> io::Result<Vec<Box<dyn Datagrams>>> {
        self.medium.shared_datagrams(address, count).await
    }

    /// Opens a socket for datagrams to and from `peer` alone.
    ///
    /// # Errors
    ///
    /// There is no way to that address.
    pub async fn exchange(&self, peer: SocketAddr) -> io::Result<Box<dyn Exchange>> {
        self.medium.exchange(peer).await
    }

    /// The addresses of `host:port`, within `limit`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::TimedOut`] when `limit` has passed, else what the resolver says.
    pub async fn resolve(&self, address: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
        within(limit, self.medium.resolve(address.to_owned()), || format!("`{address}` was not resolved within {limit:?}")).await
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

async fn within<T>(limit: Duration, work: BoxFuture<'static, io::Result<T>>, late: impl Fn() -> String) -> io::Result<T> {
    timeout(limit, work).await.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, late()))?
}

/// An error with its causes in one line: why a connection failed mostly stands in them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
