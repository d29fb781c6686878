//! The sockets of a pool.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UdpSocket};

use crate::options::Error;

/// The sockets of a pool: UDP and TCP on one port.
pub struct Sockets {
    pub(crate) datagrams: UdpSocket,
    pub(crate) listener: TcpListener,
}

impl Sockets {
    /// Opens both; port 0 lets the system choose one for both.
    pub async fn bind(address: SocketAddr) -> Result<Sockets, Error> {
        let failed = |source| Error::Socket { address, source };
        let listener = net::listen(address).await.map_err(failed)?;
        let chosen = listener.local_addr().map_err(failed)?;
        let datagrams = net::datagrams(chosen).await.map_err(failed)?;
        Ok(Sockets { datagrams, listener })
    }

    /// Where they are.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
