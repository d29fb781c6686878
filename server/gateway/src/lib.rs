//! The HTTP face: Consul's v1 API over JSON.
//!
//! ```text
//!   serve ──▶ dispatch ──▶ route ──▶ kv, catalog, health, agent, txn, cluster, watch ──▶ service
//!                │                                      │
//!                ◀── reply (headers, gzip) ◀── json ◀───┘        status: service errors → codes
//! ```
//!
//! Handlers parse, call, and print; no rule about keys, services or consistency lives here. What a
//! tool written for Consul may rely on is kept: paths, parameters, field names, status codes,
//! headers, and the texts of errors.

mod agent;
mod cache;
mod carry;
mod catalog;
mod cluster;
mod coordinate;
mod decode;
mod definition;
mod dispatch;
mod duration;
mod event;
mod health;
mod json;
mod keyring;
mod kv;
mod metrics;
mod near;
mod operator;
mod percent;
mod reply;
mod request;
mod route;
mod serve;
mod session;
mod snapshot;
mod status;
mod txn;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use service::Service;

pub use serve::{ServeLimits, serve};

/// What the face answers beside the service's data, and its bounds.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Indent JSON even when a request does not ask for it.
    pub pretty: bool,
    /// Whether this agent runs in development mode; shown by `/v1/agent/self`.
    pub dev: bool,
    /// What `/` answers while there is no web interface.
    pub ui_disabled_text: String,
    /// What may be changed while the face answers.
    pub live: Arc<ArcSwap<LiveOptions>>,
    /// Allow control characters in paths. They are refused by default, because they let keys be
    /// created that look alike.
    pub allow_unprintable: bool,
    /// The present metrics in Prometheus' text format; `None` when they are not collected.
    pub metrics: Option<MetricsText>,
    /// What `/v1/agent/self` shows of the configuration; `None` shows next to nothing of it.
    pub config: Option<ConfigShown>,
    /// The lines of the log; `None` when they are not handed out.
    pub monitor: Option<service::monitor::Feed>,
    /// Largest request body but for keys and transactions, whose bounds are the service's, in bytes.
    pub body_bytes_max: usize,
    /// The port of the gRPC face, so that who knows the HTTP address finds it; `None` when it is off.
    pub grpc_port: Option<u16>,
    /// Carries requests to other servers; `None` when this agent is alone.
    pub forward: Option<forward::Forward>,
    /// Memory for encoded answers that several clients ask for, in bytes.
    pub cache_bytes_max: usize,
}

/// What may be changed while the face answers: each request sees what is there when it comes in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LiveOptions {
    /// Headers added to every answer, for example for CORS.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Paths that start with one of these are refused.
    pub block_endpoints: Vec<String>,
}

/// What the agent was told to be, by the names that Consul's tools know; secrets are hidden.
pub type ConfigShown = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// A source of metrics in Prometheus' text format.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

impl Default for GatewayOptions {
    fn default() -> Self {
        GatewayOptions {
            pretty: false,
            dev: false,
            ui_disabled_text: "Lictor is running; the web interface is disabled. The API is under /v1/.\n".into(),
            live: Arc::default(),
            allow_unprintable: false,
            metrics: None,
            config: None,
            monitor: None,
            body_bytes_max: 4 * 1024 * 1024,
            grpc_port: None,
            forward: None,
            cache_bytes_max: 64 * 1024 * 1024,
        }
    }
}

/// What all requests share.
pub(crate) struct Gateway {
    pub(crate) service: Service,
    pub(crate) options: GatewayOptions,
    pub(crate) cache: cache::Cache,
    pub(crate) coordinates: coordinate::Board,
}

/// The routes of the whole face.
///
/// Paths are matched by this crate and not by axum's router, whose rules about slashes, escapes and
/// methods differ from those that Consul's clients know.
pub fn router(service: Service, options: GatewayOptions) -> axum::Router {
    let cache = cache::Cache::new(options.cache_bytes_max);
    let gateway = Arc::new(Gateway { service, options, cache, coordinates: coordinate::Board::default() });
    axum::Router::new().fallback_service(tower::service_fn(move |request| dispatch::dispatch(gateway.clone(), request)))
}
