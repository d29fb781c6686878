//! One HTTP/2 PING (RFC 9113, §6.7): a peer that answers it passes.

use h2::Ping;
use net::{Network, chain};
use tokio::time::Instant;

use crate::connect::Peer;

/// Opens a connection, sends a PING and waits for its echo.
pub(crate) async fn probe(network: &Network, peer: &Peer, deadline: Instant) -> Result<(), String> {
    let stream = peer.connect(network, deadline).await?;
    let handshake = h2::client::handshake(stream).await;
    let (_requests, mut connection) = handshake.map_err(|cause| format!("no HTTP/2 connection: {}", chain(&cause)))?;
    let mut pings = connection.ping_pong().ok_or("no HTTP/2 PING can be sent")?;
    tokio::select! {
        answer = pings.ping(Ping::opaque()) => answer.map(drop).map_err(|cause| format!("no answer to the PING: {}", chain(&cause))),
        ended = connection => Err(match ended {
            Ok(()) => "the connection was closed before the PING was answered".to_owned(),
            Err(cause) => format!("the connection broke before the PING was answered: {}", chain(&cause)),
        }),
    }
}
