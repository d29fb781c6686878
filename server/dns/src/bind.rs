//! Sockets: one TCP listener and several UDP sockets on one port.
//!
//! Several UDP sockets share the port so that each core receives on its own. Sharing has a danger:
//! two servers of one user that both ask for it would share the port with each other, and each lose
//! half its questions. The first UDP socket is therefore bound without sharing, which fails if
//! anybody else has the port, and is opened for sharing only once it is bound.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// What the kernel keeps for each UDP socket, in bytes, as far as the system's limits allow: a
/// burst of some thousand questions.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// TCP connections that wait to be accepted.
const TCP_BACKLOG: i32 = 1024;

/// How often a free port is looked for that is free for UDP as well as for TCP.
const FREE_PORT_ATTEMPTS: usize = 16;

/// Bound sockets, ready to serve.
#[derive(Debug)]
pub struct Sockets {
    /// UDP sockets, not blocking; several of them may share an address.
    pub udp: Vec<UdpSocket>,
    /// TCP listeners, not blocking.
    pub tcp: Vec<TcpListener>,
}

impl Sockets {
    /// Where the first listener is reached.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.first()?.local_addr().ok()
    }

    /// These and `others` together, to serve several addresses.
    pub fn merge(mut self, others: Sockets) -> Sockets {
        self.udp.extend(others.udp);
        self.tcp.extend(others.tcp);
        self
    }
}

/// Binds `addr` for TCP and, `udp_sockets` times (at least once), for UDP. Port 0 takes a port that
/// is free for both.
///
/// Fails with [`io::ErrorKind::AddrInUse`] if any other socket has the port on either transport.
pub fn bind(addr: SocketAddr, udp_sockets: usize) -> io::Result<Sockets> {
    let mut attempts = if addr.port() == 0 { FREE_PORT_ATTEMPTS } else { 1 };
    loop {
        attempts -= 1;
        let tcp = bind_tcp(addr)?;
        let addr = tcp.local_addr()?;
        match bind_udp(addr, udp_sockets) {
            Ok(udp) => return Ok(Sockets { udp, tcp: vec![tcp] }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && attempts > 0 => {}
            Err(error) => return Err(explain("udp", addr, error)),
        }
    }
}

fn bind_tcp(addr: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        // Connections of a predecessor that still linger do not hold the port; a listener does.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        bind_socket(&socket, addr)?;
        socket.listen(TCP_BACKLOG)?;
        Ok(TcpListener::from(socket))
    };
    open().map_err(|error| explain("tcp", addr, error))
}

fn bind_udp(addr: SocketAddr, count: usize) -> io::Result<Vec<UdpSocket>> {
    let first = open_udp(addr)?;
    bind_socket(&first, addr)?;
    first.set_reuse_port(true)?;
    let mut sockets = vec![UdpSocket::from(first)];
    for _ in 1..count {
        let socket = open_udp(addr)?;
        socket.set_reuse_port(true)?;
        bind_socket(&socket, addr)?;
        sockets.push(UdpSocket::from(socket));
    }
    Ok(sockets)
}

fn open_udp(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // The system may allow less; what it gives is used.
    _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    Ok(socket)
}

fn bind_socket(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv6() {
        socket.set_only_v6(!addr.ip().is_unspecified())?;
    }
    socket.bind(&addr.into())
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

    #[test]
    fn all_sockets_have_the_same_port() {
        let sockets = bind(ANY, 3).unwrap();
        let addr = sockets.local_addr().unwrap();
        assert_ne!(addr.port(), 0);
        assert_eq!(sockets.udp.iter().map(|socket| socket.local_addr().unwrap()).collect::<Vec<_>>(), vec![addr; 3]);
    }

    #[test]
    fn every_socket_gets_its_share() {
        let sockets = bind(ANY, 2).unwrap();
        let clients: Vec<UdpSocket> = (0..128).map(|_| UdpSocket::bind(ANY).unwrap()).collect();
        for client in &clients {
            client.send_to(b"hello", sockets.local_addr().unwrap()).unwrap();
        }
        let received = |socket: &UdpSocket| std::iter::from_fn(|| socket.recv(&mut [0; 8]).ok()).count();
        let counts: Vec<usize> = sockets.udp.iter().map(received).collect();
        assert_eq!(counts.iter().sum::<usize>(), clients.len());
        // All 128 ports on one side has a chance of 2^-127.
        assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    }

    #[test]
    fn a_port_that_another_server_has_is_refused() {
        let first = bind(ANY, 2).unwrap();
        let error = bind(first.local_addr().unwrap(), 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("tcp"), "{error}");
    }

    #[test]
    fn a_udp_port_that_is_shared_by_others_is_refused() {
        let mut first = bind(ANY, 2).unwrap();
        let addr = first.local_addr().unwrap();
        first.tcp.clear();
        let error = bind(addr, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains("udp"), "{error}");
    }
}
