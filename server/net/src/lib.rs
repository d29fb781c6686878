//! Where servers and agents open the sockets that they speak to each other through.
//!
//! One place, so that what holds for all of them is written once, and a test that wants another
//! network has one thing to replace.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

/// Opens a connection to `host:port`, trying each address that the name has, within `limit`.
///
/// Small messages leave at once: the protocols here answer each other.
///
/// # Errors
///
/// [`io::ErrorKind::TimedOut`] when `limit` has passed, else the error of the last address tried.
pub async fn connect(address: &str, limit: Duration) -> io::Result<TcpStream> {
    let stream = timeout(limit, TcpStream::connect(address)).await.map_err(|_| {
        let message = format!("`{address}` did not take the connection within {limit:?}");
        io::Error::new(io::ErrorKind::TimedOut, message)
    })??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Listens for connections.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Opens a socket for datagrams.
pub async fn datagrams(address: SocketAddr) -> io::Result<UdpSocket> {
    UdpSocket::bind(address).await
}

/// The addresses of `host:port`, within `limit`.
pub async fn resolve(address: &str, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(limit, lookup_host(address)).await;
    let found = found.map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("`{address}` was not resolved within {limit:?}")))??;
    Ok(found.collect())
}
