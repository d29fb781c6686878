//! One TCP probe: a connection that opens passes; with TLS, one whose handshake ends well.

use net::Network;
use tokio::time::Instant;

use crate::connect::Peer;

/// Connects and hangs up.
pub(crate) async fn probe(network: &Network, peer: &Peer, deadline: Instant) -> Result<(), String> {
    peer.connect(network, deadline).await.map(drop)
}
