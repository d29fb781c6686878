//! The sockets of a pool.

use std::io;
use std::net::SocketAddr;

use net::{Datagrams, Listener, Network};

use crate::options::Error;

/// The sockets of a pool: UDP and TCP on one port.
pub struct Sockets {
    pub(crate) network: Network,
    pub(crate) datagrams: Box<dyn Datagrams>,
    pub(crate) listener: Box<dyn Listener>,
}

impl Sockets {
    /// Opens both; port 0 lets the system choose one for both.
    pub async fn bind(network: &Network, address: SocketAddr) -> Result<Sockets, Error> {
        let failed = |source| Error::Socket { address, source };
        let listener = network.listen(address).await.map_err(failed)?;
        let chosen = listener.local_address().map_err(failed)?;
        let datagrams = network.datagrams(chosen).await.map_err(failed)?;
        Ok(Sockets { network: network.clone(), datagrams, listener })
    }

    /// Where they are.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.listener.local_address()
    }
}
