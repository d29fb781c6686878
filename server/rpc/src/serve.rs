//! The server as a whole: what is served, and until when.

use std::sync::Arc;
use std::time::SystemTime;

use forward::Forward;
use net::Listener;
use proto::v1::agent_service_server::AgentServiceServer;
use proto::v1::catalog_service_server::CatalogServiceServer;
use proto::v1::event_service_server::EventServiceServer;
use proto::v1::exec_service_server::ExecServiceServer;
use proto::v1::health_service_server::HealthServiceServer;
use proto::v1::kv_service_server::KvServiceServer;
use proto::v1::lock_service_server::LockServiceServer;
use proto::v1::operator_service_server::OperatorServiceServer;
use proto::v1::session_service_server::SessionServiceServer;
use proto::v1::status_service_server::StatusServiceServer;
use proto::v1::watch_service_server::WatchServiceServer;
use service::Service;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_reflection::server::Builder as Reflection;

use crate::options::RpcOptions;
use crate::{carry, elsewhere, listener, ready};

/// Why gRPC is not served any more.
#[derive(Debug)]
pub enum Error {
    /// The contract that is built in cannot be described.
    Reflection(tonic_reflection::server::Error),
    /// The listening socket failed.
    Transport(tonic::transport::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Reflection(_) => f.write_str("the built-in contract cannot be described to reflection"),
            Error::Transport(_) => f.write_str("gRPC cannot be served"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Reflection(source) => Some(source),
            Error::Transport(source) => Some(source),
        }
    }
}

/// What every service here works with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Face {
    pub(crate) service: Service,
    pub(crate) options: Arc<RpcOptions>,
    pub(crate) started_at: SystemTime,
    pub(crate) stop: CancellationToken,
}

/// The public API, its health and its description: to be served by [`serve_routes`], alone or beside
/// other services.
///
/// Also starts the task that keeps the health service up to date, until `stop`.
pub async fn routes(service: Service, options: &RpcOptions, stop: &CancellationToken) -> Result<Routes, Error> {
    let reflection = Reflection::configure().register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET);
    let reflection = reflection.build_v1().map_err(Error::Reflection)?;
    let reflection_alpha = Reflection::configure().register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET);
    let reflection_alpha = reflection_alpha.build_v1alpha().map_err(Error::Reflection)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    ready::not_serving(&reporter).await;

    let message = options.max_message_bytes;
    let face = Face { service, options: Arc::new(options.clone()), started_at: SystemTime::now(), stop: stop.clone() };
    let service = face.service.clone();
    let followed = service.clone();
    tokio::spawn(ready::follow(move || ready::is_ready(&followed), reporter, stop.clone()));
    let routes = Routes::new(KvServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(CatalogServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(HealthServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(WatchServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(AgentServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(StatusServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(OperatorServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(SessionServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(LockServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(ExecServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(EventServiceServer::new(face).max_decoding_message_size(message))
        .add_service(health)
        .add_service(reflection)
        .add_service(reflection_alpha);
    let Some(forward) = options.forward.clone() else { return Ok(routes) };
    let places = Arc::new(elsewhere::Places::of_the_contract());
    let layer = tower::layer::layer_fn(move |here| elsewhere::Elsewhere::around(here, &service, &forward, &places));
    Ok(routes.into_axum_router().layer(layer).into())
}

/// What an agent without a log serves: its own calls, and every other one carried to a server. It is well
/// while one is known.
pub async fn carrying_routes(service: Service, options: &RpcOptions, forward: Forward, stop: &CancellationToken) -> Result<Routes, Error> {
    let reflection = Reflection::configure().register_encoded_file_descriptor_set(proto::FILE_DESCRIPTOR_SET);
    let reflection = reflection.build_v1().map_err(Error::Reflection)?;
    let (reporter, health) = tonic_health::server::health_reporter();
    ready::not_serving(&reporter).await;
    let followed = forward.clone();
    tokio::spawn(ready::follow(move || followed.has_servers(), reporter, stop.clone()));
    let message = options.max_message_bytes;
    let node = service.identity().node_name.parse().ok();
    let face = Face { service: service.clone(), options: Arc::new(options.clone()), started_at: SystemTime::now(), stop: stop.clone() };
    let places = Arc::new(elsewhere::Places::of_the_contract());
    let (around, places_around) = (forward.clone(), places.clone());
    let layer = tower::layer::layer_fn(move |here| elsewhere::Elsewhere::around(here, &service, &around, &places_around));
    let own = Routes::new(AgentServiceServer::new(face.clone()).max_decoding_message_size(message))
        .add_service(EventServiceServer::new(face).max_decoding_message_size(message))
        .into_axum_router()
        .layer(layer);
    let routes = Routes::from(own).add_service(health).add_service(reflection);
    Ok(carry::everything_else(routes, forward, places, node))
}

/// Serves the public API on `listener` until `stop`, and then for as long as calls that are under
/// way need, up to [`RpcOptions::drain_timeout`]. Watches are told that the server stops.
pub async fn serve(service: Service, options: RpcOptions, listener: Box<dyn Listener>, stop: CancellationToken) -> Result<(), Error> {
    let routes = routes(service, &options, &stop).await?;
    serve_routes(routes, options, listener, stop).await
}

/// Serves `routes` on `listener` as [`serve`] does.
pub async fn serve_routes(routes: Routes, options: RpcOptions, listener: Box<dyn Listener>, stop: CancellationToken) -> Result<(), Error> {
    let incoming = listener::incoming(listener, options.max_connections, options.reserve.clone());
    let drain_timeout = options.drain_timeout;
    let server = builder(&options).add_routes(routes).serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(drain_timeout).await;
    };
    tokio::select! {
        served = server => served.map_err(Error::Transport),
        () = drained => {
            tracing::warn!(?drain_timeout, "gRPC calls were still under way at the end of the time they had to finish");
            Ok(())
        }
    }
}

fn builder(options: &RpcOptions) -> Server {
    Server::builder()
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_concurrent_streams(options.max_concurrent_streams)
        .http2_keepalive_interval(Some(options.keepalive_interval))
        .http2_keepalive_timeout(Some(options.keepalive_timeout))
}
