//! One UDP probe: a datagram is sent; only a port that is said to be closed (ICMP, RFC 1122 §4.1.3.1)
//! is critical. Silence passes, because most protocols do not answer what they do not understand.

use net::Network;
use tokio::time::{Instant, timeout_at};

use crate::connect::{Peer, plain};

/// What is sent: no protocol takes it for a request.
const PAYLOAD: &[u8] = b"health";

/// Sends one datagram and waits for an answer, a refusal, or the deadline.
pub(crate) async fn probe(network: &Network, peer: &Peer, deadline: Instant) -> Result<(), String> {
    let found = peer.addresses(network, deadline).await?;
    let address = *found.first().ok_or("the name has no address")?;
    let refused = |cause: std::io::Error| format!("{address}: {}", plain(&cause));
    let exchange = network.exchange(address).await.map_err(refused)?;
    exchange.send(PAYLOAD).await.map_err(refused)?;
    let mut answer = [0; 1];
    match timeout_at(deadline, exchange.receive(&mut answer)).await {
        Ok(Err(cause)) => Err(refused(cause)),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
