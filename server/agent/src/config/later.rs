//! Keys and flags of Consul that this version does not act on.
//!
//! What protects or changes the meaning of the cluster is fatal, because leaving it out in silence
//! is dangerous; what only tunes or adds is ignored with a warning.

use crate::config::read::Later;

const fn fatal(key: &'static str) -> Later {
    Later { key, fatal: true }
}

const fn harmless(key: &'static str) -> Later {
    Later { key, fatal: false }
}

/// Keys at the top of a file.
pub(crate) const TOP_LATER: &[Later] = &[
    // who may do what
    fatal("acl"),
    fatal("acl_datacenter"),
    fatal("acl_default_policy"),
    fatal("acl_down_policy"),
    fatal("acl_master_token"),
    fatal("acl_token"),
    fatal("acl_ttl"),
    fatal("primary_datacenter"),
    fatal("primary_gateways"),
    // secrecy
    fatal("tls"),
    fatal("ca_file"),
    fatal("ca_path"),
    fatal("cert_file"),
    fatal("key_file"),
    fatal("tls_min_version"),
    fatal("tls_cipher_suites"),
    fatal("verify_incoming"),
    fatal("verify_incoming_https"),
    fatal("verify_incoming_rpc"),
    fatal("verify_outgoing"),
    fatal("verify_server_hostname"),
    fatal("auto_encrypt"),
    fatal("auto_config"),
    harmless("encrypt_verify_incoming"),
    harmless("encrypt_verify_outgoing"),
    harmless("disable_keyring_file"),
    fatal("enable_agent_tls_for_checks"),
    // other servers
    fatal("serf_lan_allowed_cidrs"),
    fatal("serf_wan_allowed_cidrs"),
    fatal("read_replica"),
    fatal("non_voting_server"),
    fatal("segment"),
    fatal("segments"),
    fatal("partition"),
    fatal("translate_wan_addrs"),
    harmless("reconnect_timeout"),
    harmless("reconnect_timeout_wan"),
    harmless("advertise_reconnect_timeout"),
    harmless("gossip_lan"),
    harmless("gossip_wan"),
    harmless("server_rejoin_age_max"),
    harmless("disable_coordinates"),
    // what the agent runs
    fatal("unix_sockets"),
    fatal("connect"),
    fatal("config_entries"),
    fatal("cloud"),
    fatal("audit"),
    harmless("discovery_max_stale"),
    harmless("peering"),
    harmless("xds"),
    harmless("cache"),
    harmless("rpc"),
    harmless("performance"),
    harmless("raft_snapshot_threshold"),
    harmless("raft_snapshot_interval"),
    harmless("raft_trailing_logs"),
    harmless("raft_protocol"),
    harmless("raft_logstore"),
    harmless("raft_boltdb"),
    harmless("protocol"),
    harmless("use_streaming_backend"),
    harmless("experiments"),
    harmless("license_path"),
    harmless("reporting"),
    harmless("auto_reload_config"),
    harmless("enable_central_service_config"),
    harmless("disable_http_unprintable_char_filter"),
    // around it
    harmless("ui"),
    harmless("ui_dir"),
    harmless("ui_config"),
    harmless("ui_content_path"),
    harmless("enable_debug"),
    harmless("enable_syslog"),
    harmless("syslog_facility"),
];

/// Keys of a service.
pub(crate) const SERVICE_LATER: &[Later] =
    &[fatal("kind"), fatal("proxy"), fatal("connect"), fatal("namespace"), fatal("partition"), fatal("locality"), fatal("ports")];

/// Keys of a check.
pub(crate) const CHECK_LATER: &[Later] = &[fatal("namespace"), fatal("partition"), fatal("script")];

/// Keys of `autopilot`.
pub(crate) const AUTOPILOT_LATER: &[Later] =
    &[harmless("redundancy_zone_tag"), harmless("disable_upgrade_migration"), harmless("upgrade_version_tag")];

/// Keys of `dns_config`.
pub(crate) const DNS_LATER: &[Later] = &[harmless("use_cache"), harmless("cache_max_age"), harmless("prefer_namespace")];

/// Keys of `http_config`.
pub(crate) const HTTP_LATER: &[Later] = &[fatal("allow_write_http_from"), harmless("use_cache"), harmless("max_header_bytes")];

/// Keys of `limits`.
pub(crate) const LIMITS_LATER: &[Later] = &[
    fatal("request_limits"),
    fatal("rpc_rate"),
    harmless("rpc_max_burst"),
    harmless("https_handshake_timeout"),
    harmless("rpc_handshake_timeout"),
    harmless("rpc_client_timeout"),
    harmless("rpc_max_conns_per_client"),
];

/// Keys of `ports`; each is a port that would have to be open.
pub(crate) const PORTS_LATER: &[Later] =
    &[harmless("sidecar_min_port"), harmless("sidecar_max_port"), harmless("expose_min_port"), harmless("expose_max_port")];

/// Keys of `telemetry`.
pub(crate) const TELEMETRY_LATER: &[Later] = &[
    // Figures are always there for Prometheus, and never expire.
    harmless("prometheus_retention_time"),
    harmless("disable_hostname"),
    harmless("prefix_filter"),
    harmless("filter_default"),
    harmless("statsd_address"),
    harmless("statsite_address"),
    harmless("dogstatsd_addr"),
    harmless("dogstatsd_tags"),
    harmless("enable_host_metrics"),
    harmless("disable_per_tenancy_usage_metrics"),
    harmless("retry_failed_connection"),
    harmless("circonus_api_token"),
    harmless("circonus_api_app"),
    harmless("circonus_api_url"),
    harmless("circonus_submission_interval"),
    harmless("circonus_submission_url"),
    harmless("circonus_check_id"),
    harmless("circonus_check_tags"),
    harmless("circonus_broker_id"),
];

/// A flag of `agent` that this version does not act on.
pub(crate) struct LaterFlag {
    /// Its name, without dashes.
    pub(crate) name: &'static str,
    /// Whether it takes a value.
    pub(crate) value: bool,
    /// Refuses to start; otherwise it is ignored with a warning.
    pub(crate) fatal: bool,
}

const fn flag(name: &'static str, value: bool, fatal: bool) -> LaterFlag {
    LaterFlag { name, value, fatal }
}

/// The flags of `agent` that this version does not act on.
pub(crate) const FLAGS_LATER: &[LaterFlag] = &[
    flag("allow-write-http-from", true, true),
    flag("grpc-tls-port", true, true),
    flag("https-port", true, true),
    flag("primary-gateway", true, true),
    flag("read-replica", false, true),
    flag("serf-lan-allowed-cidrs", true, true),
    flag("serf-wan-allowed-cidrs", true, true),
    flag("auto-reload-config", false, false),
    flag("disable-keyring-file", false, false),
    flag("protocol", true, false),
    flag("raft-protocol", true, false),
    flag("syslog", false, false),
    flag("ui", false, false),
    flag("ui-content-path", true, false),
    flag("ui-dir", true, false),
];
