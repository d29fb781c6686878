//! Health checks as the catalog keeps them, and the definition of how one is run.

use std::collections::BTreeMap;

use crate::id::{LogIndex, Str};

/// The verdict of a health check. The order is by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// All is well.
    Passing,
    /// Degraded, still in use.
    Warning,
    /// Not to be used.
    #[default]
    Critical,
}

impl Status {
    /// The name on every face: `passing`, `warning` or `critical`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Passing => "passing",
            Status::Warning => "warning",
            Status::Critical => "critical",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Status> {
        match name {
            "passing" => Some(Status::Passing),
            "warning" => Some(Status::Warning),
            "critical" => Some(Status::Critical),
            _ => None,
        }
    }
}

/// One health check of a node or of a service instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Check {
    /// The node it belongs to.
    pub node: Str,
    /// Unique on its node.
    pub id: Str,
    /// A name for people.
    pub name: Str,
    /// The present verdict.
    pub status: Status,
    /// Free text by whoever defined it.
    pub notes: Str,
    /// What the last run printed.
    pub output: Str,
    /// The instance it belongs to; empty for a check of the whole node.
    pub service_id: Str,
    /// Copied from the instance.
    pub service_name: Str,
    /// Copied from the instance.
    pub service_tags: Vec<Str>,
    /// How it is run: `http`, `ttl`, `tcp` and so on; empty when nobody runs it.
    pub kind: Str,
    /// How often it is run, in milliseconds; `None` when it is not run on a schedule of its own.
    pub interval_ms: Option<u64>,
    /// How long a run may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// How it is run, when it was registered with its definition.
    pub definition: CheckDefinition,
    /// The index of the command that created it.
    pub create_index: LogIndex,
    /// The index of the last command that changed it.
    pub modify_index: LogIndex,
}

/// How a check is run. Which fields are set decides the kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckDefinition {
    /// URL to request.
    pub http: Option<Str>,
    /// HTTP method; `GET` when unset.
    pub method: Option<Str>,
    /// HTTP headers.
    pub headers: BTreeMap<Str, Vec<Str>>,
    /// HTTP body.
    pub body: Option<Str>,
    /// Do not follow HTTP redirects.
    pub disable_redirects: bool,
    /// Server name for TLS, when it differs from the host.
    pub tls_server_name: Option<Str>,
    /// Accept any certificate.
    pub tls_skip_verify: bool,
    /// `host:port` to connect to.
    pub tcp: Option<Str>,
    /// Speak TLS after the TCP connection.
    pub tcp_use_tls: bool,
    /// `host:port` to send a datagram to.
    pub udp: Option<Str>,
    /// `host:port[/service]` of a gRPC health service.
    pub grpc: Option<Str>,
    /// Speak TLS to it.
    pub grpc_use_tls: bool,
    /// `host:port` to send an HTTP/2 ping to.
    pub h2ping: Option<Str>,
    /// Speak TLS to it.
    pub h2ping_use_tls: bool,
    /// Command and arguments to run.
    pub script_args: Vec<Str>,
    /// Container to run them in.
    pub docker_container_id: Option<Str>,
    /// Shell for them.
    pub shell: Option<Str>,
    /// Node whose health is copied.
    pub alias_node: Option<Str>,
    /// Service id whose health is copied.
    pub alias_service: Option<Str>,
    /// Operating system service to look at.
    pub os_service: Option<Str>,
    /// Name of the session that a session check follows.
    pub session_name: Option<Str>,
    /// The status must be renewed within this many milliseconds.
    pub ttl_ms: Option<u64>,
    /// Milliseconds between runs.
    pub interval_ms: Option<u64>,
    /// Milliseconds a run may take.
    pub timeout_ms: Option<u64>,
    /// Deregister the service after this many critical milliseconds.
    pub deregister_critical_after_ms: Option<u64>,
    /// Largest output kept, in bytes.
    pub output_max_bytes: Option<u32>,
    /// Consecutive good runs before `passing`.
    pub success_before_passing: u32,
    /// Consecutive bad runs before `warning`; 0 means as `failures_before_critical`.
    pub failures_before_warning: u32,
    /// Consecutive bad runs before `critical`.
    pub failures_before_critical: u32,
}

impl CheckDefinition {
    /// The kind of check that the set fields ask for; the first of a fixed order wins when
    /// several are set, and an empty name means that nothing is to be run.
    pub fn kind(&self) -> &'static str {
        match self {
            d if d.ttl_ms.is_some() => "ttl",
            d if d.http.is_some() => "http",
            d if d.tcp.is_some() => "tcp",
            d if d.udp.is_some() => "udp",
            d if d.grpc.is_some() => "grpc",
            d if d.docker_container_id.is_some() => "docker",
            d if d.os_service.is_some() => "os_service",
            d if !d.script_args.is_empty() => "script",
            d if d.h2ping.is_some() => "h2ping",
            d if d.alias_node.is_some() || d.alias_service.is_some() => "alias",
            _ => "",
        }
    }
}
