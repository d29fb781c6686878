//! What the agent is told to be: one struct, put together once, checked once.
//!
//! Sources in the order in which they count, later ones over earlier ones: defaults, what `-dev`
//! changes, list flags, files (`-config-file`, `-config-dir`, in the order of the command line),
//! scalar flags, `-hcl` fragments. Scalars replace, lists append, maps merge.
//!
//! Nothing is dropped in silence: an unknown key is an error with its line and the nearest known
//! key; a key that Consul has and this version does not is refused, or, where leaving it out does
//! no harm, named in a warning.

pub(crate) mod definition;
pub(crate) mod duration;
pub mod findings;
pub mod flags;
mod later;
mod load;
mod network;
mod raw;
pub(crate) mod read;
mod resolve;
pub mod sections;
mod shown;
pub(crate) mod sockaddr;
pub(crate) mod text;
mod watches;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use service::Identity;
use service::agent::{AgentOptions, CheckRegistration, Scripts, ServiceDefinition};
use state::{Autopilot, NodeInput};

pub use findings::{Mistake, Place};
pub use flags::AgentFlags;
pub(crate) use later::FLAGS_LATER;
pub use sections::{Cluster, Dns, Http, Limits, LogLevel, WatchHistory};

use crate::log_file::Rotation;
use crate::watches::Watch;

/// Everything that the agent is told, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Throw-away storage in memory: nothing survives the process.
    pub dev: bool,
    /// Whether this agent holds the log; otherwise it asks those that do.
    pub server: bool,
    /// How many servers begin the cluster together; 0 waits to be taken into one.
    pub bootstrap_expect: u32,
    /// Lower case, of `[a-z0-9_-]`.
    pub datacenter: String,
    /// Name of this node, case kept.
    pub node_name: String,
    /// The node's UUID in lower case; unset takes the one in `data_dir`, or a new one.
    pub node_id: Option<String>,
    /// Free pairs about this node.
    pub node_meta: BTreeMap<String, String>,
    /// Where servers and gossip listen.
    pub bind_addr: IpAddr,
    /// Where other nodes reach this one.
    pub advertise_addr: IpAddr,
    /// Where other nodes reach this one, by pool and family.
    pub advertise: Advertise,
    /// Where the faces listen.
    pub listen: Listen,
    /// Where everything durable lies; unset only with `dev`.
    pub data_dir: Option<PathBuf>,
    /// File that holds the process id while the agent runs.
    pub pid_file: Option<PathBuf>,
    /// How the agent logs.
    pub log: Log,
    /// The DNS face.
    pub dns: Dns,
    /// The HTTP face.
    pub http: Http,
    /// Bounds on requests.
    pub limits: Limits,
    /// Wait of a blocking query that names none.
    pub default_query_time: Duration,
    /// Longest wait of a blocking query.
    pub max_query_time: Duration,
    /// Bytes of output kept of a check run.
    pub check_output_max_size: usize,
    /// Whether the outputs of checks are dropped.
    pub discard_check_output: bool,
    /// How checks write their output: at once when the status changes, else at most this often.
    pub check_update_interval: Duration,
    /// Shortest TTL of a session.
    pub session_ttl_min: Duration,
    /// Whether checks may run programs, and who may ask for it.
    pub scripts: Scripts,
    /// Whether this agent runs programs on request.
    pub remote_exec: bool,
    /// How much of the past is kept for watches that resume.
    pub watch_history: WatchHistory,
    /// How this agent finds the others.
    pub cluster: Cluster,
    /// How the servers are looked after, as long as nobody has set it.
    pub autopilot: Option<Autopilot>,
    /// Instances that this machine runs, as its files say.
    pub services: Vec<ServiceDefinition>,
    /// Checks of this node, or of an instance named by id, as its files say.
    pub checks: Vec<CheckRegistration>,
    /// Watches with handlers, as its files say.
    pub watches: Vec<Watch>,
    /// What the operator should know; said once the log is open.
    pub warnings: Vec<String>,
}

/// Where other nodes reach this one, by pool and family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// From other datacenters.
    pub wan: IpAddr,
    /// In the datacenter by IPv4, if it can be reached so.
    pub lan_ipv4: Option<IpAddr>,
    /// In the datacenter by IPv6, if it can be reached so.
    pub lan_ipv6: Option<IpAddr>,
    /// From other datacenters by IPv4, if it can be reached so.
    pub wan_ipv4: Option<IpAddr>,
    /// From other datacenters by IPv6, if it can be reached so.
    pub wan_ipv6: Option<IpAddr>,
}

/// Where the agent listens. Each face on no, one or several addresses; port 0 lets the system
/// choose one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// HTTP API.
    pub http: Vec<SocketAddr>,
    /// gRPC API.
    pub grpc: Vec<SocketAddr>,
    /// DNS, UDP and TCP.
    pub dns: Vec<SocketAddr>,
    /// The servers' own protocol; unset when it is switched off.
    pub server: Option<SocketAddr>,
    /// Gossip of the datacenter; unset when it is switched off.
    pub serf_lan: Option<SocketAddr>,
    /// Gossip between datacenters; unset when it is switched off.
    pub serf_wan: Option<SocketAddr>,
}

/// How the agent logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The least grave lines that are written.
    pub level: LogLevel,
    /// One JSON object a line.
    pub json: bool,
    /// File that lines are appended to, besides standard error.
    pub file: Option<PathBuf>,
    /// When a new file is begun.
    pub rotation: Rotation,
}

/// Everything that is wrong with a configuration, one line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Mistake>);

impl Config {
    /// Puts the configuration together from the flags and the files they name.
    ///
    /// Reads files and the machine's host name and addresses; opens no port and writes nothing.
    pub fn load(flags: &AgentFlags) -> Result<Config, ConfigError> {
        let findings = read::Findings::default();
        let mut raw = raw::Raw::new(flags.dev.unwrap_or(false));
        flags.lists_into(&mut raw);
        for source in load::sources(flags, &findings) {
            raw.read(&source, &findings);
        }
        flags.scalars_into(&mut raw, &findings);
        for (number, fragment) in flags.hcl.iter().enumerate() {
            load::fragment(number, fragment, &mut raw, &findings);
        }
        let (services, checks) = (raw.services.clone(), raw.checks.clone());
        let config = resolve::resolve(raw, &sockaddr::of_this_machine(), &findings);
        if let Some(config) = &config {
            definition::verify(&config.agent_options(), &services, &checks, &findings);
        }
        let (errors, warnings) = findings.into_parts();
        match config {
            Some(mut config) if errors.is_empty() => {
                config.warnings = warnings;
                Ok(config)
            }
            _ => Err(ConfigError(errors)),
        }
    }
}

impl Config {
    /// How the local agent is to be set up, but for who it is.
    pub(crate) fn agent_options(&self) -> AgentOptions {
        let identity = Identity {
            node_name: self.node_name.as_str().into(),
            node_id: self.node_id.as_deref().unwrap_or_default().into(),
            datacenter: self.datacenter.as_str().into(),
            address: self.advertise_addr.to_string().into(),
            server: self.server,
            server_port: 0,
            wan_port: 0,
            raft_id: 0,
            expect: self.bootstrap_expect,
            version: crate::VERSION,
        };
        let node = NodeInput { name: identity.node_name.clone(), ..NodeInput::default() };
        AgentOptions {
            data_dir: self.data_dir.clone(),
            output_interval: self.check_update_interval,
            output_bytes_max: self.check_output_max_size,
            discard_output: self.discard_check_output,
            scripts: self.scripts,
            ..AgentOptions::new(identity, node)
        }
    }
}

/// The services that files define, as `services register` reads them. What is wrong with them is
/// among the findings.
pub(crate) fn read_definitions(files: &[PathBuf], findings: &read::Findings) -> Vec<ServiceDefinition> {
    let mut services = Vec::new();
    for source in load::read_all(files, None, findings) {
        let mut keys = read::Reader::new(&source.name, &source.fields, findings);
        definition::read(&mut keys, &mut services, &mut Vec::new());
        keys.finish(&[]);
    }
    services.into_iter().map(|service| service.value).collect()
}

#[cfg(test)]
mod tests;
