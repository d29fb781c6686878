//! What the configuration came to, as it is shown: by the keys of the files, and by the names that
//! Consul's tools know. Secrets are hidden in both.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use service::agent::{CheckRegistration, Scripts};
use state::Autopilot;

use crate::config::{Cluster, Config, Dns, Limits, Listen, Log, WatchHistory};

/// What stands in the place of a secret.
const HIDDEN: &str = "hidden";

/// Settings by their key in the files, such as `ports.http`.
pub(crate) type Keys = BTreeMap<String, String>;

impl Config {
    /// Every setting but the definitions of services and checks. What is not set is not there.
    ///
    /// Takes the configuration apart field by field, so that none can be forgotten.
    pub(crate) fn keys(&self) -> Keys {
        let Config {
            dev,
            server,
            bootstrap_expect,
            datacenter,
            node_name,
            node_id,
            node_meta,
            bind_addr,
            advertise_addr,
            advertise,
            listen,
            data_dir,
            pid_file,
            log,
            dns,
            http,
            limits,
            default_query_time,
            max_query_time,
            check_output_max_size,
            discard_check_output,
            check_update_interval,
            scripts,
            session_ttl_min,
            watch_history,
            cluster,
            autopilot,
            services: _,
            checks: _,
            watches: _,
            remote_exec,
            warnings: _,
        } = self;
        let mut keys = Keys::new();
        put(&mut keys, "dev", dev);
        put(&mut keys, "server", server);
        put(&mut keys, "bootstrap_expect", bootstrap_expect);
        put(&mut keys, "datacenter", datacenter);
        put(&mut keys, "node_name", node_name);
        put_some(&mut keys, "node_id", node_id.as_ref());
        put(&mut keys, "node_meta", pairs(node_meta));
        put(&mut keys, "bind_addr", bind_addr);
        put(&mut keys, "advertise_addr", advertise_addr);
        put(&mut keys, "advertise_addr_wan", advertise.wan);
        put_some(&mut keys, "advertise_addr_ipv4", advertise.lan_ipv4);
        put_some(&mut keys, "advertise_addr_ipv6", advertise.lan_ipv6);
        put_some(&mut keys, "advertise_addr_wan_ipv4", advertise.wan_ipv4);
        put_some(&mut keys, "advertise_addr_wan_ipv6", advertise.wan_ipv6);
        listen_keys(&mut keys, listen);
        put_some(&mut keys, "data_dir", data_dir.as_ref().map(|path| path.display()));
        put_some(&mut keys, "pid_file", pid_file.as_ref().map(|path| path.display()));
        log_keys(&mut keys, log);
        dns_keys(&mut keys, dns);
        put(&mut keys, "http_config.response_headers", pairs(&http.response_headers));
        put(&mut keys, "http_config.block_endpoints", http.block_endpoints.join(" "));
        let Limits { kv_max_value_size, txn_max_req_len, http_max_conns_per_client } = limits;
        put(&mut keys, "limits.kv_max_value_size", kv_max_value_size);
        put(&mut keys, "limits.txn_max_req_len", txn_max_req_len);
        put(&mut keys, "limits.http_max_conns_per_client", http_max_conns_per_client);
        put(&mut keys, "default_query_time", time(*default_query_time));
        put(&mut keys, "max_query_time", time(*max_query_time));
        put(&mut keys, "check_output_max_size", check_output_max_size);
        put(&mut keys, "discard_check_output", discard_check_output);
        put(&mut keys, "check_update_interval", time(*check_update_interval));
        put(&mut keys, "enable_script_checks", *scripts == Scripts::Enabled);
        put(&mut keys, "enable_local_script_checks", *scripts != Scripts::Disabled);
        put(&mut keys, "session_ttl_min", time(*session_ttl_min));
        put(&mut keys, "disable_remote_exec", !remote_exec);
        let WatchHistory { changes_max, bytes_max } = watch_history;
        put(&mut keys, "watch_history.changes_max", changes_max);
        put(&mut keys, "watch_history.bytes_max", bytes_max);
        cluster_keys(&mut keys, cluster);
        autopilot_keys(&mut keys, autopilot.as_ref());
        keys
    }

    /// The names of settings in which two configurations differ. A secret differs as well.
    pub(crate) fn differences(&self, other: &Config) -> Vec<String> {
        let (own, others) = (self.keys(), other.keys());
        let mut names: Vec<String> = own.keys().chain(others.keys()).filter(|key| own.get(*key) != others.get(*key)).cloned().collect();
        if self.cluster.encrypt != other.cluster.encrypt {
            names.push("encrypt".to_owned());
        }
        names.sort();
        names.dedup();
        names
    }

    /// What `/v1/agent/self` shows as `DebugConfig`.
    pub(crate) fn shown(&self) -> Value {
        let parts = [self.shown_itself(), self.shown_dns(), self.shown_faces(), self.shown_cluster()];
        let fields = parts.into_iter().filter_map(|part| if let Value::Object(fields) = part { Some(fields) } else { None });
        Value::Object(fields.flatten().collect())
    }

    fn shown_itself(&self) -> Value {
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map_or(String::new(), |path| path.display().to_string());
        let named = |ids: Vec<String>| ids.into_iter().map(|id| json!({ "ID": id })).collect::<Vec<_>>();
        let check_id = |check: &CheckRegistration| if check.id.is_empty() { check.name.to_string() } else { check.id.to_string() };
        json!({
            "CheckOutputMaxSize": self.check_output_max_size,
            "CheckUpdateInterval": time(self.check_update_interval),
            "Checks": named(self.checks.iter().map(check_id).collect()),
            "DataDir": path(&self.data_dir),
            "Datacenter": self.datacenter,
            "DevMode": self.dev,
            "DiscardCheckOutput": self.discard_check_output,
            "EnableLocalScriptChecks": self.scripts != Scripts::Disabled,
            "EnableRemoteScriptChecks": self.scripts == Scripts::Enabled,
            "Logging": {
                "LogLevel": self.log.level.to_string().to_uppercase(),
                "LogJSON": self.log.json,
                "LogFilePath": path(&self.log.file),
                "LogRotateBytes": self.log.rotation.bytes,
                "LogRotateDuration": time(self.log.rotation.duration),
                "LogRotateMaxFiles": self.log.rotation.files_max,
            },
            "NodeID": self.node_id.clone().unwrap_or_default(),
            "NodeMeta": self.node_meta,
            "NodeName": self.node_name,
            "PidFile": path(&self.pid_file),
            "PrimaryDatacenter": self.datacenter,
            "ServerMode": self.server,
            "Services": named(self.services.iter().map(|service| service.id().to_string()).collect()),
            "Version": crate::VERSION,
        })
    }

    fn shown_dns(&self) -> Value {
        let service_ttl: BTreeMap<&String, String> = self.dns.service_ttl.iter().map(|(name, ttl)| (name, time(*ttl))).collect();
        json!({
            "DNSARecordLimit": self.dns.a_record_limit,
            "DNSAllowStale": self.dns.allow_stale,
            "DNSAltDomain": self.dns.alt_domain.as_ref().map_or(String::new(), |domain| format!("{domain}.")),
            "DNSDisableCompression": self.dns.disable_compression,
            "DNSDomain": format!("{}.", self.dns.domain),
            "DNSEnableTruncate": self.dns.enable_truncate,
            "DNSMaxStale": time(self.dns.max_stale),
            "DNSNodeMetaTXT": self.dns.enable_additional_node_meta_txt,
            "DNSNodeTTL": time(self.dns.node_ttl),
            "DNSOnlyPassing": self.dns.only_passing,
            "DNSRecursorTimeout": time(self.dns.recursor_timeout),
            "DNSRecursors": self.dns.recursors.iter().map(|place| place.to_string()).collect::<Vec<_>>(),
            "DNSSOA": {
                "Refresh": self.dns.soa_refresh.as_secs(),
                "Retry": self.dns.soa_retry.as_secs(),
                "Expire": self.dns.soa_expire.as_secs(),
                "Minttl": self.dns.soa_min_ttl.as_secs(),
            },
            "DNSServiceTTL": service_ttl,
            "DNSUDPAnswerLimit": self.dns.udp_answer_limit,
        })
    }

    fn shown_faces(&self) -> Value {
        let listen = &self.listen;
        let port = |places: &[SocketAddr]| places.first().map_or(-1, |place| i64::from(place.port()));
        let tcp = |places: &[SocketAddr]| places.iter().map(|place| format!("tcp://{place}")).collect::<Vec<_>>();
        let dns: Vec<String> = listen.dns.iter().flat_map(|place| [format!("tcp://{place}"), format!("udp://{place}")]).collect();
        json!({
            "ClientAddrs": listen.http.iter().map(|place| place.ip().to_string()).collect::<Vec<_>>(),
            "DNSAddrs": dns,
            "DNSPort": port(&listen.dns),
            "DefaultQueryTime": time(self.default_query_time),
            "GRPCAddrs": tcp(&listen.grpc),
            "GRPCPort": port(&listen.grpc),
            "GRPCTLSPort": -1,
            "HTTPAddrs": tcp(&listen.http),
            "HTTPBlockEndpoints": self.http.block_endpoints,
            "HTTPMaxConnsPerClient": self.limits.http_max_conns_per_client,
            "HTTPPort": port(&listen.http),
            "HTTPResponseHeaders": self.http.response_headers,
            "HTTPSPort": -1,
            "KVMaxValueSize": self.limits.kv_max_value_size,
            "MaxQueryTime": time(self.max_query_time),
            "TxnMaxReqLen": self.limits.txn_max_req_len,
        })
    }

    fn shown_cluster(&self) -> Value {
        let place = |place: Option<SocketAddr>| place.map_or(String::new(), |place| place.to_string());
        let port = |place: Option<SocketAddr>| place.map_or(-1, |place| i64::from(place.port()));
        let (listen, cluster, autopilot) = (&self.listen, &self.cluster, self.autopilot.unwrap_or_default());
        json!({
            "AdvertiseAddrLAN": self.advertise_addr,
            "AdvertiseAddrWAN": self.advertise.wan,
            "AutopilotCleanupDeadServers": autopilot.cleanup_dead_servers,
            "AutopilotLastContactThreshold": time(Duration::from_millis(autopilot.last_contact_threshold_ms)),
            "AutopilotMaxTrailingLogs": autopilot.max_trailing_logs,
            "AutopilotMinQuorum": autopilot.min_quorum,
            "AutopilotServerStabilizationTime": time(Duration::from_millis(autopilot.server_stabilization_ms)),
            "BindAddr": self.bind_addr,
            "Bootstrap": self.bootstrap_expect == 1,
            "BootstrapExpect": self.bootstrap_expect,
            "EncryptKey": cluster.encrypt.as_ref().map_or("", |_| HIDDEN),
            "LeaveOnTerm": cluster.leave_on_terminate.unwrap_or(!self.server),
            "RejoinAfterLeave": cluster.rejoin_after_leave,
            "RetryJoinIntervalLAN": time(cluster.retry_interval),
            "RetryJoinIntervalWAN": time(cluster.retry_interval_wan),
            "RetryJoinLAN": cluster.retry_join,
            "RetryJoinMaxAttemptsLAN": cluster.retry_max,
            "RetryJoinMaxAttemptsWAN": cluster.retry_max_wan,
            "RetryJoinWAN": cluster.retry_join_wan,
            "SerfBindAddrLAN": place(listen.serf_lan),
            "SerfBindAddrWAN": place(listen.serf_wan),
            "SerfPortLAN": port(listen.serf_lan),
            "SerfPortWAN": port(listen.serf_wan),
            "ServerPort": port(listen.server),
            "SkipLeaveOnInt": cluster.skip_leave_on_interrupt.unwrap_or(self.server),
        })
    }
}

fn autopilot_keys(keys: &mut Keys, autopilot: Option<&Autopilot>) {
    let Some(wanted) = autopilot else { return };
    put(keys, "autopilot.cleanup_dead_servers", wanted.cleanup_dead_servers);
    put(keys, "autopilot.last_contact_threshold", time(Duration::from_millis(wanted.last_contact_threshold_ms)));
    put(keys, "autopilot.max_trailing_logs", wanted.max_trailing_logs);
    put(keys, "autopilot.min_quorum", wanted.min_quorum);
    put(keys, "autopilot.server_stabilization_time", time(Duration::from_millis(wanted.server_stabilization_ms)));
}

fn put(keys: &mut Keys, name: &str, value: impl Display) {
    keys.insert(name.to_owned(), value.to_string());
}

fn put_some(keys: &mut Keys, name: &str, value: Option<impl Display>) {
    if let Some(value) = value {
        put(keys, name, value);
    }
}

fn time(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    map.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

fn listen_keys(keys: &mut Keys, listen: &Listen) {
    let Listen { http, grpc, dns, server, serf_lan, serf_wan } = listen;
    for (name, places) in [("http", http), ("grpc", grpc), ("dns", dns)] {
        let ips: Vec<String> = places.iter().map(|place| place.ip().to_string()).collect();
        put(keys, &format!("ports.{name}"), places.first().map_or(-1, |place| i64::from(place.port())));
        put(keys, &format!("addresses.{name}"), ips.join(" "));
    }
    for (name, place) in [("server", server), ("serf_lan", serf_lan), ("serf_wan", serf_wan)] {
        put(keys, &format!("ports.{name}"), place.map_or(-1, |place| i64::from(place.port())));
    }
    put_some(keys, "serf_lan", serf_lan.map(|place| place.ip()));
    put_some(keys, "serf_wan", serf_wan.map(|place| place.ip()));
}

fn log_keys(keys: &mut Keys, log: &Log) {
    let Log { level, json, file, rotation } = log;
    put(keys, "log_level", level);
    put(keys, "log_json", json);
    put_some(keys, "log_file", file.as_ref().map(|path| path.display()));
    put(keys, "log_rotate_bytes", rotation.bytes);
    put(keys, "log_rotate_duration", time(rotation.duration));
    put(keys, "log_rotate_max_files", rotation.files_max);
}

fn dns_keys(keys: &mut Keys, dns: &Dns) {
    let Dns {
        domain,
        alt_domain,
        recursors,
        allow_stale,
        max_stale,
        node_ttl,
        service_ttl,
        only_passing,
        enable_truncate,
        udp_answer_limit,
        a_record_limit,
        disable_compression,
        recursor_timeout,
        recursor_random,
        soa_refresh,
        soa_retry,
        soa_expire,
        soa_min_ttl,
        enable_additional_node_meta_txt,
    } = dns;
    let recursors: Vec<String> = recursors.iter().map(ToString::to_string).collect();
    let service_ttl: Vec<String> = service_ttl.iter().map(|(name, ttl)| format!("{name}={}", time(*ttl))).collect();
    put(keys, "domain", domain);
    put_some(keys, "alt_domain", alt_domain.as_ref());
    put(keys, "recursors", recursors.join(" "));
    put(keys, "dns_config.allow_stale", allow_stale);
    put(keys, "dns_config.max_stale", time(*max_stale));
    put(keys, "dns_config.node_ttl", time(*node_ttl));
    put(keys, "dns_config.service_ttl", service_ttl.join(" "));
    put(keys, "dns_config.only_passing", only_passing);
    put(keys, "dns_config.enable_truncate", enable_truncate);
    put(keys, "dns_config.udp_answer_limit", udp_answer_limit);
    put(keys, "dns_config.a_record_limit", a_record_limit);
    put(keys, "dns_config.disable_compression", disable_compression);
    put(keys, "dns_config.recursor_timeout", time(*recursor_timeout));
    put(keys, "dns_config.recursor_strategy", if *recursor_random { "random" } else { "sequential" });
    put(keys, "dns_config.soa.refresh", soa_refresh.as_secs());
    put(keys, "dns_config.soa.retry", soa_retry.as_secs());
    put(keys, "dns_config.soa.expire", soa_expire.as_secs());
    put(keys, "dns_config.soa.min_ttl", soa_min_ttl.as_secs());
    put(keys, "dns_config.enable_additional_node_meta_txt", enable_additional_node_meta_txt);
}

fn cluster_keys(keys: &mut Keys, cluster: &Cluster) {
    let Cluster {
        join,
        retry_join,
        retry_interval,
        retry_max,
        join_wan,
        retry_join_wan,
        retry_interval_wan,
        retry_max_wan,
        encrypt,
        rejoin_after_leave,
        leave_on_terminate,
        skip_leave_on_interrupt,
    } = cluster;
    put(keys, "start_join", join.join(" "));
    put(keys, "retry_join", retry_join.join(" "));
    put(keys, "retry_interval", time(*retry_interval));
    put(keys, "retry_max", retry_max);
    put(keys, "start_join_wan", join_wan.join(" "));
    put(keys, "retry_join_wan", retry_join_wan.join(" "));
    put(keys, "retry_interval_wan", time(*retry_interval_wan));
    put(keys, "retry_max_wan", retry_max_wan);
    put_some(keys, "encrypt", encrypt.as_ref().map(|_| HIDDEN));
    put(keys, "rejoin_after_leave", rejoin_after_leave);
    put_some(keys, "leave_on_terminate", *leave_on_terminate);
    put_some(keys, "skip_leave_on_interrupt", *skip_leave_on_interrupt);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AgentFlags;

    fn config(hcl: &str) -> Config {
        let flags = AgentFlags { dev: Some(true), node: Some("n1".into()), hcl: vec![hcl.into()], ..AgentFlags::default() };
        Config::load(&flags).unwrap()
    }

    #[test]
    fn what_differs_is_named_by_its_key_and_secrets_are_not_shown() {
        let key = |letter: &str| format!("encrypt = \"{}=\"", letter.repeat(43));
        let (old, new) = (config(&key("A")), config(&format!("{}\nports {{ http = 1 }}\ndns_config {{ node_ttl = \"5s\" }}", key("E"))));
        assert_eq!(old.differences(&new), ["dns_config.node_ttl", "encrypt", "ports.http"]);
        assert_eq!(old.differences(&old), [] as [&str; 0]);
        let shown = format!("{:?} {}", new.keys(), new.shown());
        assert!(shown.contains("hidden") && !shown.contains("EEEE"), "{shown}");
    }
}
