//! How gRPC is served.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use service::Limits;

/// What a request may need beside the values that it carries, in bytes.
const REQUEST_SLACK: usize = 1024 * 1024;

/// Bounds and intervals of the gRPC face.
#[derive(Clone)]
pub struct RpcOptions {
    /// Most connections at a time. One more is closed at once.
    pub max_connections: usize,
    /// Room for servers when there is none for others.
    pub reserve: Option<Reserve>,
    /// Largest request, in bytes.
    pub max_message_bytes: usize,
    /// Most calls and streams at a time on one connection; more wait at the client.
    pub max_concurrent_streams: u32,
    /// What may be under way unread on one stream, in bytes.
    pub stream_window_bytes: u32,
    /// What may be under way unread on one connection, in bytes.
    pub connection_window_bytes: u32,
    /// After this long without traffic a client is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// How long it may take to say so.
    pub keepalive_timeout: Duration,
    /// How long calls that are under way may take once the server is to stop.
    pub drain_timeout: Duration,
    /// Where this agent listens, for `AgentService.GetInfo`: `http`, `grpc`, `dns` and so on, each
    /// `host:port`.
    pub addresses: BTreeMap<String, String>,
    /// Where calls go that are for the leader or for another datacenter; `None` answers them here.
    pub forward: Option<forward::Forward>,
    /// The lines of the log; `None` when they are not handed out.
    pub monitor: Option<service::monitor::Feed>,
    /// The present metrics in Prometheus' text format; `None` when they are not collected.
    pub metrics: Option<MetricsText>,
    /// What is in force of the configuration, by the keys of its files; `None` is not told.
    pub config: Option<ConfigKeys>,
    /// Programs that are run for callers; shared by all ports of a server.
    pub runs: crate::exec::Runs,
}

/// Connections that are kept for servers: what they say to each other must not depend on how many agents there are.
#[derive(Clone)]
pub struct Reserve {
    /// How many, beyond [`RpcOptions::max_connections`].
    pub connections: usize,
    /// Whether a server lives at an address.
    pub is_server: Arc<dyn Fn(IpAddr) -> bool + Send + Sync>,
}

/// A source of metrics in Prometheus' text format.
pub type MetricsText = Arc<dyn Fn() -> String + Send + Sync>;

/// What is in force of the configuration, by the keys of its files, secrets hidden.
pub type ConfigKeys = Arc<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

impl RpcOptions {
    /// The usual bounds: every request that `limits` allow fits into a message.
    pub fn new(limits: &Limits) -> Self {
        RpcOptions {
            max_connections: 4096,
            reserve: None,
            max_message_bytes: limits.value_bytes_max.max(limits.txn_bytes_max) + REQUEST_SLACK,
            max_concurrent_streams: 1024,
            stream_window_bytes: 1024 * 1024,
            connection_window_bytes: 8 * 1024 * 1024,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(5),
            addresses: BTreeMap::new(),
            forward: None,
            monitor: None,
            runs: crate::exec::Runs::default(),
            metrics: None,
            config: None,
        }
    }
}
