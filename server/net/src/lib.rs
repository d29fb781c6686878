//! The network that servers and agents speak to each other through.
//!
//! Every connection between them, and every datagram, goes through a [`Network`]. It is the host's in an
//! agent. A test that wants another one, such as a whole cluster on a network that is made up, brings its
//! own [`Medium`].

mod host;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

/// What a network offers. Whoever implements it need not bound the time that anything takes.
pub trait Medium: Send + Sync + 'static {
    /// Opens a connection to `host:port`, trying each address that the name has.
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>>;
    /// Listens for connections; port 0 lets the network choose one.
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
    /// Opens a socket for datagrams.
    fn datagrams(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>>;
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
    /// The next connection, and where it comes from.
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, SocketAddr)>>;
    /// Where it listens.
    fn local_address(&self) -> io::Result<SocketAddr>;
}

/// A socket for datagrams.
pub trait Datagrams: Send + Sync {
    /// Sends one, or fails with [`io::ErrorKind::WouldBlock`] while there is no room for it.
    fn try_send(&self, bytes: &[u8], to: SocketAddr) -> io::Result<usize>;
    /// Receives the next one: its length, and where it comes from.
    fn receive<'a>(&'a self, buffer: &'a mut [u8]) -> BoxFuture<'a, io::Result<(usize, SocketAddr)>>;
    /// Where it receives.
    fn local_address(&self) -> io::Result<SocketAddr>;
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
