//! The flags of `lictor agent`.

use std::path::PathBuf;

use crate::config::raw::Raw;
use crate::config::read::Findings;
use crate::config::sections::set;

/// Flags of `lictor agent`. Each may be written with one dash or two, and `-flag=value` or
/// `-flag value`; boolean ones stand alone or with `=true`, `=false`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct AgentFlags {
    /// Run one server on throw-away storage, bound to loopback
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub dev: Option<bool>,
    /// Run a server, which holds the log and answers
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub server: Option<bool>,
    /// Begin a cluster alone; the same as `-bootstrap-expect=1`
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub bootstrap: Option<bool>,
    /// Begin a cluster once this many servers have found each other
    #[arg(long, value_name = "N")]
    pub bootstrap_expect: Option<i64>,
    /// Directory for everything durable
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Name of the datacenter [default: dc1]
    #[arg(long, value_name = "NAME")]
    pub datacenter: Option<String>,
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// UUID of this node [default: kept in the data directory]
    #[arg(long, value_name = "UUID")]
    pub node_id: Option<String>,
    /// A fact about this node; may be repeated
    #[arg(long, value_name = "KEY:VALUE")]
    pub node_meta: Vec<String>,
    /// Read this configuration file, or the .hcl and .json files of this directory; may be repeated
    #[arg(long = "config-file", visible_alias = "config-dir", value_name = "PATH")]
    pub config_paths: Vec<PathBuf>,
    /// Read configuration files of any name as `hcl` or `json`
    #[arg(long, value_name = "FORMAT")]
    pub config_format: Option<String>,
    /// A fragment of configuration, over all files; may be repeated
    #[arg(long, value_name = "TEXT")]
    pub hcl: Vec<String>,

    /// Address for servers and gossip [default: 0.0.0.0; 127.0.0.1 with -dev]
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub bind: Option<String>,
    /// Address at which other nodes reach this one [default: the bind address, or the private one]
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub advertise: Option<String>,
    /// Address at which agents of other datacenters reach this one [default: the advertised one]
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub advertise_wan: Option<String>,
    /// Address for gossip in the datacenter [default: the bind address]
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub serf_lan_bind: Option<String>,
    /// Address for gossip between datacenters [default: the bind address]
    #[arg(long, value_name = "ADDRESS", help_heading = "Network")]
    pub serf_wan_bind: Option<String>,
    /// Addresses for HTTP, gRPC and DNS, separated by blanks [default: 127.0.0.1]
    #[arg(long, value_name = "ADDRESSES", help_heading = "Network")]
    pub client: Option<String>,
    /// HTTP port; -1 is off, 0 lets the system choose [default: 8500]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub http_port: Option<i64>,
    /// gRPC port; -1 is off, 0 lets the system choose [default: 8502]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub grpc_port: Option<i64>,
    /// DNS port; -1 is off, 0 lets the system choose [default: 8600]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub dns_port: Option<i64>,
    /// Port of the servers' own protocol; -1 is off [default: 8300]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub server_port: Option<i64>,
    /// Port for gossip in the datacenter; -1 is off [default: 8301]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub serf_lan_port: Option<i64>,
    /// Port for gossip between datacenters; -1 is off [default: 8302]
    #[arg(long, value_name = "PORT", help_heading = "Network")]
    pub serf_wan_port: Option<i64>,

    /// Join the cluster by this member; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Cluster")]
    pub join: Vec<String>,
    /// Join the cluster by this member, trying until it works; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Cluster")]
    pub retry_join: Vec<String>,
    /// Longest pause between two attempts to join [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Cluster")]
    pub retry_interval: Option<std::time::Duration>,
    /// Attempts to join before the agent ends; 0 never ends it [default: 0]
    #[arg(long, value_name = "N", help_heading = "Cluster")]
    pub retry_max: Option<u32>,
    /// Join other datacenters by this server; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Cluster")]
    pub join_wan: Vec<String>,
    /// Join other datacenters by this server, trying until it works; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "Cluster")]
    pub retry_join_wan: Vec<String>,
    /// Longest pause between two such attempts [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Cluster")]
    pub retry_interval_wan: Option<std::time::Duration>,
    /// Such attempts before the agent ends; 0 never ends it [default: 0]
    #[arg(long, value_name = "N", help_heading = "Cluster")]
    pub retry_max_wan: Option<u32>,
    /// Seal gossip with this key, as `keygen` prints it
    #[arg(long, value_name = "KEY", help_heading = "Cluster")]
    pub encrypt: Option<String>,
    /// Go back to the cluster even after having left it in good order
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Cluster")]
    pub rejoin: Option<bool>,

    /// DNS domain that is answered for [default: consul]
    #[arg(long, value_name = "DOMAIN", help_heading = "DNS")]
    pub domain: Option<String>,
    /// A second DNS domain
    #[arg(long, value_name = "DOMAIN", help_heading = "DNS")]
    pub alt_domain: Option<String>,
    /// DNS server for all other names; may be repeated
    #[arg(long, value_name = "ADDRESS", help_heading = "DNS")]
    pub recursor: Vec<String>,

    /// Least grave lines of the log: trace, debug, info, warn, err [default: info]
    #[arg(long, value_name = "LEVEL", help_heading = "Process")]
    pub log_level: Option<String>,
    /// Log one JSON object a line
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Process")]
    pub log_json: Option<bool>,
    /// Append the log to this file as well
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub log_file: Option<String>,
    /// Begin a new log file when the present one has so many bytes; 0 never does [default: 0]
    #[arg(long, value_name = "BYTES", help_heading = "Process")]
    pub log_rotate_bytes: Option<u64>,
    /// Begin a new log file after this long; 0s never does [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Process")]
    pub log_rotate_duration: Option<std::time::Duration>,
    /// Old log files to keep; 0 keeps all, -1 none [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Process")]
    pub log_rotate_max_files: Option<i64>,
    /// Keep the process id in this file
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub pid_file: Option<String>,
    /// Let checks run programs, whoever registers them
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Process")]
    pub enable_script_checks: Option<bool>,
    /// Let checks of the configuration files run programs
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", help_heading = "Process")]
    pub enable_local_script_checks: Option<bool>,
    /// Wait of a blocking query that names none [default: 300s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Process")]
    pub default_query_time: Option<std::time::Duration>,
    /// Longest wait of a blocking query [default: 600s]
    #[arg(long, value_name = "DURATION", value_parser = duration, help_heading = "Process")]
    pub max_query_time: Option<std::time::Duration>,
    /// Accepted: the node id is never taken from the host
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL", hide = true)]
    pub disable_host_node_id: Option<bool>,
}

fn duration(text: &str) -> Result<std::time::Duration, String> {
    crate::config::duration::parse(text).ok_or_else(|| "a duration is written like `10s` or `1h30m`".to_owned())
}

impl AgentFlags {
    /// Puts in what files append to.
    pub(crate) fn lists_into(&self, raw: &mut Raw) {
        raw.recursors.extend(self.recursor.iter().cloned());
        raw.cluster.join.extend(self.join.iter().cloned());
        raw.cluster.retry_join.extend(self.retry_join.iter().cloned());
        raw.cluster.join_wan.extend(self.join_wan.iter().cloned());
        raw.cluster.retry_join_wan.extend(self.retry_join_wan.iter().cloned());
    }

    /// Puts in what counts over files.
    pub(crate) fn scalars_into(&self, raw: &mut Raw, findings: &Findings) {
        self.identity_into(raw, findings);
        self.network_into(raw);
        self.cluster_into(raw);
        set(&mut raw.data_dir, self.data_dir.clone().map(Some));
        set(&mut raw.domain, self.domain.clone());
        set(&mut raw.alt_domain, self.alt_domain.clone().map(Some));
        set(&mut raw.log_level, self.log_level.clone());
        set(&mut raw.log_json, self.log_json);
        set(&mut raw.log_file, self.log_file.clone().map(Some));
        set(&mut raw.log_rotation.bytes, self.log_rotate_bytes);
        set(&mut raw.log_rotation.duration, self.log_rotate_duration);
        set(&mut raw.log_rotation.files_max, self.log_rotate_max_files);
        set(&mut raw.pid_file, self.pid_file.clone().map(Some));
        set(&mut raw.script_checks, self.enable_script_checks);
        set(&mut raw.local_script_checks, self.enable_local_script_checks);
        set(&mut raw.default_query_time, self.default_query_time);
        set(&mut raw.max_query_time, self.max_query_time);
    }

    fn cluster_into(&self, raw: &mut Raw) {
        let cluster = &mut raw.cluster;
        set(&mut cluster.retry_interval, self.retry_interval);
        set(&mut cluster.retry_interval_wan, self.retry_interval_wan);
        set(&mut cluster.retry_max, self.retry_max);
        set(&mut cluster.retry_max_wan, self.retry_max_wan);
        set(&mut cluster.encrypt, self.encrypt.clone().map(Some));
        set(&mut cluster.rejoin_after_leave, self.rejoin);
    }

    fn identity_into(&self, raw: &mut Raw, findings: &Findings) {
        set(&mut raw.server, self.server);
        set(&mut raw.bootstrap, self.bootstrap);
        set(&mut raw.bootstrap_expect, self.bootstrap_expect.map(Some));
        set(&mut raw.datacenter, self.datacenter.clone());
        set(&mut raw.node_name, self.node.clone().map(Some));
        set(&mut raw.node_id, self.node_id.clone().map(Some));
        for pair in &self.node_meta {
            match pair.split_once(':') {
                Some((key, value)) if !key.is_empty() => {
                    raw.node_meta.insert(key.into(), value.into());
                }
                _ => findings.error(format!("`-node-meta` is written `key:value`, not `{pair}`")),
            }
        }
    }

    fn network_into(&self, raw: &mut Raw) {
        set(&mut raw.bind_addr, self.bind.clone());
        set(&mut raw.advertise_addr, self.advertise.clone().map(Some));
        set(&mut raw.advertise.wan, self.advertise_wan.clone().map(Some));
        set(&mut raw.serf_lan, self.serf_lan_bind.clone().map(Some));
        set(&mut raw.serf_wan, self.serf_wan_bind.clone().map(Some));
        set(&mut raw.client_addr, self.client.clone().map(|address| vec![address]));
        set(&mut raw.ports.http, self.http_port);
        set(&mut raw.ports.grpc, self.grpc_port);
        set(&mut raw.ports.dns, self.dns_port);
        set(&mut raw.ports.server, self.server_port);
        set(&mut raw.ports.serf_lan, self.serf_lan_port);
        set(&mut raw.ports.serf_wan, self.serf_wan_port);
    }
}
