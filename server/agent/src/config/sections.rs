//! The sections of the configuration, each with its defaults and its keys.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use service::autopilot::LENGTH_MAX_MS;
use state::Autopilot;

use crate::config::later;
use crate::config::read::{Findings, Reader};

/// Puts a value that was given in the place of the one before it.
pub(crate) fn set<T>(place: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *place = value;
    }
}

/// How grave a line of the log is, by Consul's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Every step.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What an operator may want to know.
    #[default]
    Info,
    /// What may become a fault.
    Warn,
    /// What a person should look at.
    Error,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.to_ascii_lowercase().as_str() {
            "trace" => LogLevel::Trace,
            "debug" => LogLevel::Debug,
            "info" => LogLevel::Info,
            "warn" | "warning" => LogLevel::Warn,
            "err" | "error" => LogLevel::Error,
            _ => return Err(format!("unknown log level `{text}`; use `trace`, `debug`, `info`, `warn` or `err`")),
        })
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLevel::Trace => "trace",
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        })
    }
}

/// The DNS face: `dns_config`, `domain`, `alt_domain` and `recursors`.
#[derive(Clone, Debug, PartialEq)]
pub struct Dns {
    /// The domain that is answered for, lower case, without a dot at its end.
    pub domain: String,
    /// A second one, in the same form.
    pub alt_domain: Option<String>,
    /// Servers for all other names, in the order they are asked.
    pub recursors: Vec<SocketAddr>,
    /// Answer from this server even when it is not the leader.
    pub allow_stale: bool,
    /// Oldest such answer.
    pub max_stale: Duration,
    /// TTL of node answers.
    pub node_ttl: Duration,
    /// TTL of service answers by name; `*` is for the rest, and `prefix*` for names that begin so.
    pub service_ttl: BTreeMap<String, Duration>,
    /// Leave out instances that warn, not only those that are critical.
    pub only_passing: bool,
    /// Set the TC bit when a UDP answer was cut.
    pub enable_truncate: bool,
    /// Most service records in a UDP answer without EDNS.
    pub udp_answer_limit: u32,
    /// Most A or AAAA records in any answer; 0 is no limit.
    pub a_record_limit: u32,
    /// Write names in full.
    pub disable_compression: bool,
    /// How long a recursor may take.
    pub recursor_timeout: Duration,
    /// Ask recursors in random order, instead of the given one.
    pub recursor_random: bool,
    /// The SOA record's refresh time.
    pub soa_refresh: Duration,
    /// The SOA record's retry time.
    pub soa_retry: Duration,
    /// The SOA record's expiry.
    pub soa_expire: Duration,
    /// The SOA record's minimum TTL, which is that of negative answers.
    pub soa_min_ttl: Duration,
    /// Add TXT records with the node's meta to node answers.
    pub enable_additional_node_meta_txt: bool,
}

impl Default for Dns {
    fn default() -> Self {
        Dns {
            domain: "consul".into(),
            alt_domain: Some("lictor".into()),
            recursors: Vec::new(),
            allow_stale: true,
            max_stale: Duration::from_secs(87_600 * 3600),
            node_ttl: Duration::ZERO,
            service_ttl: BTreeMap::new(),
            only_passing: false,
            enable_truncate: true,
            udp_answer_limit: 3,
            a_record_limit: 0,
            disable_compression: false,
            recursor_timeout: Duration::from_secs(2),
            recursor_random: false,
            soa_refresh: Duration::from_secs(3600),
            soa_retry: Duration::from_secs(600),
            soa_expire: Duration::from_secs(86_400),
            soa_min_ttl: Duration::ZERO,
            enable_additional_node_meta_txt: true,
        }
    }
}

impl Dns {
    pub(crate) fn read(&mut self, keys: &mut Reader<'_>, findings: &Findings) {
        set(&mut self.allow_stale, keys.flag("allow_stale"));
        set(&mut self.max_stale, keys.duration("max_stale"));
        set(&mut self.node_ttl, keys.duration("node_ttl"));
        self.service_ttl.extend(keys.durations("service_ttl"));
        set(&mut self.only_passing, keys.flag("only_passing"));
        set(&mut self.enable_truncate, keys.flag("enable_truncate"));
        set(&mut self.udp_answer_limit, keys.number("udp_answer_limit"));
        set(&mut self.a_record_limit, keys.number("a_record_limit"));
        set(&mut self.disable_compression, keys.flag("disable_compression"));
        set(&mut self.recursor_timeout, keys.duration("recursor_timeout"));
        match keys.text("recursor_strategy").as_deref() {
            None => {}
            Some("random") => self.recursor_random = true,
            Some("" | "sequential") => self.recursor_random = false,
            Some(other) => findings.error(format!("`dns_config.recursor_strategy` is `sequential` or `random`, not `{other}`")),
        }
        set(&mut self.enable_additional_node_meta_txt, keys.flag("enable_additional_node_meta_txt"));
        keys.sections("soa", &[], |soa| {
            let mut seconds = |key, place: &mut Duration| set(place, soa.number::<u32>(key).map(|n| Duration::from_secs(n.into())));
            seconds("refresh", &mut self.soa_refresh);
            seconds("retry", &mut self.soa_retry);
            seconds("expire", &mut self.soa_expire);
            seconds("min_ttl", &mut self.soa_min_ttl);
        });
    }
}

/// The HTTP face: `http_config`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Headers that every answer carries.
    pub response_headers: BTreeMap<String, String>,
    /// Paths that begin with one of these are refused.
    pub block_endpoints: Vec<String>,
}

/// Bounds on requests: `limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest value of a key, in bytes.
    pub kv_max_value_size: usize,
    /// Largest transaction, in bytes.
    pub txn_max_req_len: usize,
    /// Most HTTP connections from one address; 0 is no limit.
    pub http_max_conns_per_client: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { kv_max_value_size: 512 * 1024, txn_max_req_len: 512 * 1024, http_max_conns_per_client: 200 }
    }
}

impl Limits {
    pub(crate) fn read(&mut self, keys: &mut Reader<'_>) {
        let size = |number: u32| number as usize;
        set(&mut self.kv_max_value_size, keys.number("kv_max_value_size").map(size));
        set(&mut self.txn_max_req_len, keys.number("txn_max_req_len").map(size));
        set(&mut self.http_max_conns_per_client, keys.number("http_max_conns_per_client").map(size));
    }
}

/// How much of the past is kept for watches that resume: `watch_history`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchHistory {
    /// Most changes.
    pub changes_max: usize,
    /// Most bytes.
    pub bytes_max: usize,
}

impl Default for WatchHistory {
    fn default() -> Self {
        WatchHistory { changes_max: 65_536, bytes_max: 16 * 1024 * 1024 }
    }
}

/// Reads `autopilot`, which is unset unless some file has it.
pub(crate) fn read_autopilot(place: &mut Option<Autopilot>, keys: &mut Reader<'_>) {
    let wanted = place.get_or_insert_default();
    set(&mut wanted.cleanup_dead_servers, keys.flag("cleanup_dead_servers"));
    set(&mut wanted.last_contact_threshold_ms, keys.millis("last_contact_threshold", LENGTH_MAX_MS));
    set(&mut wanted.max_trailing_logs, keys.number("max_trailing_logs"));
    set(&mut wanted.min_quorum, keys.number("min_quorum"));
    set(&mut wanted.server_stabilization_ms, keys.millis("server_stabilization_time", LENGTH_MAX_MS));
}

/// Reads `telemetry`, of which this version has nothing to choose.
pub(crate) fn read_telemetry(keys: &mut Reader<'_>, findings: &Findings) {
    match keys.text("metrics_prefix").as_deref() {
        None | Some("consul") => {}
        Some(other) => findings.warn(format!("`telemetry.metrics_prefix` is always `consul` in this version, not `{other}`")),
    }
}

/// The keys of `limits`, `performance` and so on that are read elsewhere, or not in this version.
pub(crate) use later::{AUTOPILOT_LATER, DNS_LATER, HTTP_LATER, LIMITS_LATER, PORTS_LATER, TELEMETRY_LATER, TOP_LATER};

/// How this agent finds the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Members of the datacenter to join at the start: all must be wrong for the start to fail.
    pub join: Vec<String>,
    /// Members of the datacenter to join, tried again until one lets this agent in.
    pub retry_join: Vec<String>,
    /// Longest pause between two attempts.
    pub retry_interval: Duration,
    /// Attempts before the agent gives up and ends; 0 never does.
    pub retry_max: u32,
    /// Servers of other datacenters to join at the start.
    pub join_wan: Vec<String>,
    /// Servers of other datacenters to join, tried again until one lets this one in.
    pub retry_join_wan: Vec<String>,
    /// Longest pause between two attempts there.
    pub retry_interval_wan: Duration,
    /// Attempts there before the agent gives up and ends; 0 never does.
    pub retry_max_wan: u32,
    /// The key that gossip is sealed with, in base64.
    pub encrypt: Option<String>,
    /// Go back after a restart even if this agent had left in good order.
    pub rejoin_after_leave: bool,
    /// Whether SIGTERM leaves the cluster; unset leaves on a client agent and not on a server.
    pub leave_on_terminate: Option<bool>,
    /// Whether SIGINT does not leave the cluster; unset leaves on a client agent and not on a server.
    pub skip_leave_on_interrupt: Option<bool>,
}

impl Default for Cluster {
    fn default() -> Self {
        Cluster {
            join: Vec::new(),
            retry_join: Vec::new(),
            retry_interval: Duration::from_secs(30),
            retry_max: 0,
            join_wan: Vec::new(),
            retry_join_wan: Vec::new(),
            retry_interval_wan: Duration::from_secs(30),
            retry_max_wan: 0,
            encrypt: None,
            rejoin_after_leave: false,
            leave_on_terminate: None,
            skip_leave_on_interrupt: None,
        }
    }
}

impl Cluster {
    /// Reads the keys; lists append.
    pub(crate) fn read(&mut self, keys: &mut Reader<'_>) {
        self.join.extend(keys.texts("start_join"));
        self.retry_join.extend(keys.texts("retry_join"));
        self.join_wan.extend(keys.texts("start_join_wan"));
        self.retry_join_wan.extend(keys.texts("retry_join_wan"));
        set(&mut self.retry_interval, keys.duration("retry_interval"));
        set(&mut self.retry_interval_wan, keys.duration("retry_interval_wan"));
        set(&mut self.retry_max, keys.number("retry_max"));
        set(&mut self.retry_max_wan, keys.number("retry_max_wan"));
        set(&mut self.encrypt, keys.text("encrypt").map(Some));
        set(&mut self.rejoin_after_leave, keys.flag("rejoin_after_leave"));
        set(&mut self.leave_on_terminate, keys.flag("leave_on_terminate").map(Some));
        set(&mut self.skip_leave_on_interrupt, keys.flag("skip_leave_on_interrupt").map(Some));
    }
}
