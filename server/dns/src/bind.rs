//! Sockets: one TCP listener and several UDP sockets on one port, so that each core receives on one of
//! its own.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use net::{Datagrams, Listener, Network};

/// How often a free port is looked for that is free for UDP as well as for TCP.
const FREE_PORT_ATTEMPTS: usize = 16;

/// Bound sockets, ready to serve.
pub struct Sockets {
    /// UDP sockets; several of them may share an address.
    pub udp: Vec<Box<dyn Datagrams>>,
    /// TCP listeners.
    pub tcp: Vec<Box<dyn Listener>>,
}

impl Sockets {
    /// Where the first listener is reached.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.first()?.local_address().ok()
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("address", &self.local_addr()).finish_non_exhaustive()
    }
}

/// Binds `address` for TCP and, `udp_sockets` times (at least once), for UDP. Port 0 takes a port that
/// is free for both.
///
/// Fails with [`io::ErrorKind::AddrInUse`] if any other socket has the port on either transport.
pub async fn bind(network: &Network, address: SocketAddr, udp_sockets: usize) -> io::Result<Sockets> {
    let mut attempts = if address.port() == 0 { FREE_PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp = network.listen(address).await.map_err(|error| explain("tcp", address, error))?;
        let mut address = address;
        address.set_port(tcp.local_address()?.port());
        match network.shared_datagrams(address, udp_sockets).await {
            Ok(udp) => return Ok(Sockets { udp, tcp: vec![tcp] }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(explain("udp", address, error)),
        }
    }
}

fn explain(transport: &str, addr: SocketAddr, error: io::Error) -> io::Error {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => "; another process has the port: stop it, or choose another with `-dns-port`",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; no interface of this machine has the address",
        _ => "",
    };
    io::Error::new(error.kind(), format!("dns can't listen on {transport} `{addr}`: {error}{remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[tokio::test]
    async fn all_sockets_have_the_same_port() {
        let sockets = bind(&Network::host(), ANY, 3).await.unwrap();
        let addr = sockets.local_addr().unwrap();
        assert_ne!(addr.port(), 0);
        assert_eq!(sockets.udp.iter().map(|socket| socket.local_address().unwrap()).collect::<Vec<_>>(), vec![addr; 3]);
    }

    #[tokio::test]
    async fn a_port_that_another_server_has_is_refused() {
        let network = Network::host();
        let first = bind(&network, ANY, 2).await.unwrap();
        let error = bind(&network, first.local_addr().unwrap(), 2).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("tcp"), "{error}");
    }

    #[tokio::test]
    async fn a_udp_port_that_is_shared_by_others_is_refused() {
        let network = Network::host();
        let mut first = bind(&network, ANY, 2).await.unwrap();
        let addr = first.local_addr().unwrap();
        first.tcp.clear();
        let error = bind(&network, addr, 2).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("udp"), "{error}");
    }
}
