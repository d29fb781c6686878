//! One probe by the gRPC health checking protocol (`grpc.health.v1`): `SERVING` passes.

use std::io;

use hyper_util::rt::TokioIo;
use net::{Network, chain};
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::service_fn;

use crate::connect::Peer;

/// Most bytes of an answer: a health status has a handful.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Asks how `service` does; an empty one is the server as a whole.
pub(crate) async fn probe(network: &Network, peer: &Peer, service: &str, deadline: Instant) -> Result<(), String> {
    let host = if peer.host.contains(':') { format!("[{}]", peer.host) } else { peer.host.clone() };
    // The connection is made below: the scheme only says that tonic shall not add TLS of its own.
    let endpoint = Endpoint::from_shared(format!("http://{host}:{}", peer.port)).map_err(|cause| chain(&cause))?;
    let (network, dialled) = (network.clone(), peer.clone());
    let connector = service_fn(move |_| {
        let (network, peer) = (network.clone(), dialled.clone());
        async move { peer.connect(&network, deadline).await.map(TokioIo::new).map_err(io::Error::other) }
    });
    let channel = endpoint.connect_with_connector(connector).await.map_err(|cause| chain(&cause))?;
    let mut client = HealthClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX);
    let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
    let answer = answer.map_err(|status| format!("{:?}: {}", status.code(), status.message()))?;
    match answer.into_inner().status {
        status if status == ServingStatus::Serving as i32 => Ok(()),
        status if status == ServingStatus::NotServing as i32 => Err("the server answers NOT_SERVING".to_owned()),
        status => Err(format!("the server answers with status {status}, which is not SERVING")),
    }
}
