//! One TCP probe: a connection that opens passes; with TLS, one whose handshake ends well.

use tokio::time::Instant;

use crate::connect::Peer;

/// Connects and hangs up.
pub(crate) async fn probe(peer: &Peer, deadline: Instant) -> Result<(), String> {
    peer.connect(deadline).await.map(drop)
}
