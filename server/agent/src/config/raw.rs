//! What the sources say, before it is checked: later sources write over earlier ones.

use std::collections::BTreeMap;
use std::time::Duration;

use service::agent::{CheckRegistration, ServiceDefinition};
use state::Autopilot;

use crate::config::definition::Defined;
use crate::config::read::{Findings, Reader};
use crate::config::sections::{
    AUTOPILOT_LATER, Cluster, DNS_LATER, Dns, HTTP_LATER, Http, LIMITS_LATER, Limits, PORTS_LATER, TELEMETRY_LATER, TOP_LATER,
    WatchHistory, read_autopilot, read_telemetry, set,
};
use crate::config::text::Field;
use crate::config::{definition, watches};
use crate::log_file::Rotation;
use crate::watches::Watch;

/// A file, or a fragment of the command line, that could be read.
pub(crate) struct Source {
    /// Its name in messages.
    pub(crate) name: String,
    /// What it holds.
    pub(crate) fields: Vec<Field>,
}

/// A port: -1 is off.
pub(crate) type Port = i64;

/// Ports by face.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) http: Port,
    pub(crate) grpc: Port,
    pub(crate) dns: Port,
    pub(crate) server: Port,
    pub(crate) serf_lan: Port,
    pub(crate) serf_wan: Port,
    pub(crate) https: Port,
    pub(crate) grpc_tls: Port,
}

/// Addresses by face, in place of `client_addr`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Addresses {
    pub(crate) http: Option<String>,
    pub(crate) grpc: Option<String>,
    pub(crate) dns: Option<String>,
    pub(crate) https: Option<String>,
    pub(crate) grpc_tls: Option<String>,
}

/// Where others reach this node, beside `advertise_addr`.
#[derive(Clone, Debug, Default)]
pub(crate) struct AdvertiseTexts {
    pub(crate) ipv4: Option<String>,
    pub(crate) ipv6: Option<String>,
    pub(crate) wan: Option<String>,
    pub(crate) wan_ipv4: Option<String>,
    pub(crate) wan_ipv6: Option<String>,
}

/// The sum of the sources so far.
#[derive(Clone, Debug)]
pub(crate) struct Raw {
    pub(crate) dev: bool,
    pub(crate) server: bool,
    pub(crate) bootstrap: bool,
    pub(crate) bootstrap_expect: Option<i64>,
    pub(crate) datacenter: String,
    pub(crate) node_name: Option<String>,
    pub(crate) node_id: Option<String>,
    pub(crate) node_meta: BTreeMap<String, String>,
    pub(crate) bind_addr: String,
    pub(crate) advertise_addr: Option<String>,
    pub(crate) advertise: AdvertiseTexts,
    pub(crate) serf_lan: Option<String>,
    pub(crate) serf_wan: Option<String>,
    pub(crate) client_addr: Vec<String>,
    pub(crate) addresses: Addresses,
    pub(crate) ports: Ports,
    pub(crate) data_dir: Option<String>,
    pub(crate) pid_file: Option<String>,
    pub(crate) log_level: String,
    pub(crate) log_json: bool,
    pub(crate) log_file: Option<String>,
    pub(crate) log_rotation: Rotation,
    pub(crate) domain: String,
    pub(crate) alt_domain: Option<String>,
    pub(crate) recursors: Vec<String>,
    pub(crate) dns: Dns,
    pub(crate) http: Http,
    pub(crate) limits: Limits,
    pub(crate) default_query_time: Duration,
    pub(crate) max_query_time: Duration,
    pub(crate) check_output_max_size: usize,
    pub(crate) discard_check_output: bool,
    pub(crate) check_update_interval: Duration,
    pub(crate) session_ttl_min: Duration,
    pub(crate) script_checks: bool,
    pub(crate) local_script_checks: bool,
    pub(crate) remote_exec: bool,
    pub(crate) watch_history: WatchHistory,
    pub(crate) cluster: Cluster,
    pub(crate) autopilot: Option<Autopilot>,
    pub(crate) services: Vec<Defined<ServiceDefinition>>,
    pub(crate) checks: Vec<Defined<CheckRegistration>>,
    pub(crate) watches: Vec<Watch>,
}

impl Raw {
    /// The defaults, or what `-dev` makes of them.
    pub(crate) fn new(dev: bool) -> Self {
        Raw {
            dev,
            server: dev,
            bootstrap: dev,
            bootstrap_expect: None,
            datacenter: "dc1".into(),
            node_name: None,
            node_id: None,
            node_meta: BTreeMap::new(),
            bind_addr: if dev { "127.0.0.1" } else { "0.0.0.0" }.into(),
            advertise_addr: None,
            advertise: AdvertiseTexts::default(),
            serf_lan: None,
            serf_wan: None,
            client_addr: Vec::new(),
            addresses: Addresses::default(),
            ports: Ports { http: 8500, grpc: 8502, dns: 8600, server: 8300, serf_lan: 8301, serf_wan: 8302, https: -1, grpc_tls: -1 },
            data_dir: None,
            pid_file: None,
            log_level: "info".into(),
            log_json: false,
            log_file: None,
            log_rotation: Rotation::default(),
            domain: "consul".into(),
            alt_domain: Some("lictor".into()),
            recursors: Vec::new(),
            dns: Dns::default(),
            http: Http::default(),
            limits: Limits::default(),
            default_query_time: Duration::from_secs(300),
            max_query_time: Duration::from_secs(600),
            check_output_max_size: 4096,
            discard_check_output: false,
            check_update_interval: Duration::from_secs(300),
            session_ttl_min: Duration::from_secs(10),
            script_checks: false,
            local_script_checks: false,
            remote_exec: false,
            watch_history: WatchHistory::default(),
            cluster: Cluster::default(),
            autopilot: None,
            services: Vec::new(),
            checks: Vec::new(),
            watches: Vec::new(),
        }
    }

    /// Adds what a source says.
    pub(crate) fn read(&mut self, source: &Source, findings: &Findings) {
        let mut keys = Reader::new(&source.name, &source.fields, findings);
        self.read_identity(&mut keys);
        self.read_network(&mut keys);
        self.cluster.read(&mut keys);
        self.read_process(&mut keys);
        self.read_sections(&mut keys, findings);
        definition::read(&mut keys, &mut self.services, &mut self.checks);
        watches::read(&mut keys, &mut self.watches);
        keys.finish(TOP_LATER);
    }

    fn read_identity(&mut self, keys: &mut Reader<'_>) {
        set(&mut self.server, keys.flag("server"));
        set(&mut self.bootstrap, keys.flag("bootstrap"));
        set(&mut self.bootstrap_expect, keys.number("bootstrap_expect").map(Some));
        set(&mut self.datacenter, keys.text("datacenter"));
        set(&mut self.node_name, keys.text("node_name").map(Some));
        set(&mut self.node_id, keys.text("node_id").map(Some));
        self.node_meta.extend(keys.pairs("node_meta"));
        keys.flag("disable_host_node_id");
    }

    fn read_network(&mut self, keys: &mut Reader<'_>) {
        set(&mut self.bind_addr, keys.text("bind_addr"));
        set(&mut self.advertise_addr, keys.text("advertise_addr").map(Some));
        let advertise = &mut self.advertise;
        set(&mut advertise.ipv4, keys.text("advertise_addr_ipv4").map(Some));
        set(&mut advertise.ipv6, keys.text("advertise_addr_ipv6").map(Some));
        set(&mut advertise.wan, keys.text("advertise_addr_wan").map(Some));
        set(&mut advertise.wan_ipv4, keys.text("advertise_addr_wan_ipv4").map(Some));
        set(&mut advertise.wan_ipv6, keys.text("advertise_addr_wan_ipv6").map(Some));
        set(&mut self.serf_lan, keys.text("serf_lan").map(Some));
        set(&mut self.serf_wan, keys.text("serf_wan").map(Some));
        self.client_addr.extend(keys.texts("client_addr"));
        let addresses = &mut self.addresses;
        keys.sections("addresses", &[], |keys| {
            set(&mut addresses.http, keys.text("http").map(Some));
            set(&mut addresses.grpc, keys.text("grpc").map(Some));
            set(&mut addresses.dns, keys.text("dns").map(Some));
            set(&mut addresses.https, keys.text("https").map(Some));
            set(&mut addresses.grpc_tls, keys.text("grpc_tls").map(Some));
        });
        let ports = &mut self.ports;
        keys.sections("ports", PORTS_LATER, |keys| {
            set(&mut ports.http, keys.number("http"));
            set(&mut ports.grpc, keys.number("grpc"));
            set(&mut ports.dns, keys.number("dns"));
            set(&mut ports.server, keys.number("server"));
            set(&mut ports.serf_lan, keys.number("serf_lan"));
            set(&mut ports.serf_wan, keys.number("serf_wan"));
            set(&mut ports.https, keys.number("https"));
            set(&mut ports.grpc_tls, keys.number("grpc_tls"));
        });
    }

    fn read_process(&mut self, keys: &mut Reader<'_>) {
        set(&mut self.data_dir, keys.text("data_dir").map(Some));
        set(&mut self.pid_file, keys.text("pid_file").map(Some));
        set(&mut self.log_level, keys.text("log_level"));
        set(&mut self.log_json, keys.flag("log_json"));
        set(&mut self.log_file, keys.text("log_file").map(Some));
        set(&mut self.log_rotation.bytes, keys.number::<i64>("log_rotate_bytes").map(|bytes| bytes.max(0) as u64));
        set(&mut self.log_rotation.duration, keys.duration("log_rotate_duration"));
        set(&mut self.log_rotation.files_max, keys.number("log_rotate_max_files"));
        for nothing_to_disable in ["disable_update_check", "disable_anonymous_signature"] {
            keys.flag(nothing_to_disable);
        }
    }

    fn read_sections(&mut self, keys: &mut Reader<'_>, findings: &Findings) {
        set(&mut self.domain, keys.text("domain"));
        set(&mut self.alt_domain, keys.text("alt_domain").map(Some));
        self.recursors.extend(keys.texts("recursors"));
        keys.sections("dns_config", DNS_LATER, |keys| self.dns.read(keys, findings));
        keys.sections("http_config", HTTP_LATER, |keys| {
            self.http.response_headers.extend(keys.pairs("response_headers"));
            self.http.block_endpoints.extend(keys.texts("block_endpoints"));
        });
        keys.sections("limits", LIMITS_LATER, |keys| self.limits.read(keys));
        keys.sections("autopilot", AUTOPILOT_LATER, |keys| read_autopilot(&mut self.autopilot, keys));
        keys.sections("telemetry", TELEMETRY_LATER, |keys| read_telemetry(keys, findings));
        set(&mut self.default_query_time, keys.duration("default_query_time"));
        set(&mut self.max_query_time, keys.duration("max_query_time"));
        set(&mut self.check_output_max_size, keys.number::<u32>("check_output_max_size").map(|size| size as usize));
        set(&mut self.discard_check_output, keys.flag("discard_check_output"));
        set(&mut self.check_update_interval, keys.duration("check_update_interval"));
        set(&mut self.session_ttl_min, keys.duration("session_ttl_min"));
        set(&mut self.script_checks, keys.flag("enable_script_checks"));
        set(&mut self.local_script_checks, keys.flag("enable_local_script_checks"));
        set(&mut self.remote_exec, keys.flag("disable_remote_exec").map(|disabled| !disabled));
        let history = &mut self.watch_history;
        keys.sections("watch_history", &[], |keys| {
            set(&mut history.changes_max, keys.number::<u32>("changes_max").map(|n| n as usize));
            set(&mut history.bytes_max, keys.number::<i64>("bytes_max").and_then(|n| usize::try_from(n).ok()));
        });
    }
}
