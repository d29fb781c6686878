//! One UDP probe: a datagram is sent; only a port that is said to be closed (ICMP, RFC 1122 §4.1.3.1)
//! is critical. Silence passes, because most protocols do not answer what they do not understand.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::connect::{Peer, plain};

/// What is sent: no protocol takes it for a request.
const PAYLOAD: &[u8] = b"health";

/// Sends one datagram and waits for an answer, a refusal, or the deadline.
pub(crate) async fn probe(peer: &Peer, deadline: Instant) -> Result<(), String> {
    let found = timeout_at(deadline, peer.addresses()).await.map_err(|_| format!("can't resolve `{}` in time", peer.host))??;
    let address = *found.first().ok_or("the name has no address")?;
    let any: SocketAddr = if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let refused = |cause: std::io::Error| format!("{address}: {}", plain(&cause));
    let socket = UdpSocket::bind(any).await.map_err(refused)?;
    socket.connect(address).await.map_err(refused)?;
    socket.send(PAYLOAD).await.map_err(refused)?;
    let mut answer = [0; 1];
    match timeout_at(deadline, socket.recv(&mut answer)).await {
        Ok(Err(cause)) => Err(refused(cause)),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
