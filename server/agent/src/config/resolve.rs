//! From what was said to what holds: checks values, works out what was left open.

use std::path::PathBuf;

use service::agent::Scripts;

use crate::config::network::{self, Reading};
use crate::config::raw::Raw;
use crate::config::read::Findings;
use crate::config::sockaddr::Interface;
use crate::config::{Cluster, Config, Dns, Log};

/// The configuration on a machine with these interfaces; `None` only when an error is among the
/// findings.
pub(crate) fn resolve(raw: Raw, interfaces: &[Interface], findings: &Findings) -> Option<Config> {
    let reading = Reading::new(interfaces, findings);
    let bootstrap_expect = expect(&raw, findings);
    let cluster = cluster(&raw, &reading, findings);
    bounds(&raw, findings);
    if raw.autopilot.is_some() && !raw.server {
        findings.warn("`autopilot` says how servers are looked after, and counts on servers only");
    }
    node_meta(&raw, findings);
    let bind_addr = reading.address("bind_addr", &raw.bind_addr);
    let listen = bind_addr.map(|bind| network::listen(&raw, bind, &reading));
    let advertise_addr = match (&raw.advertise_addr, &raw.advertise.ipv4, &raw.advertise.ipv6) {
        (Some(text), ..) => reading.address("advertise_addr", text),
        (None, Some(text), _) if bind_addr.is_some_and(|bind| bind.is_ipv4()) => reading.address("advertise_addr_ipv4", text),
        (None, _, Some(text)) if bind_addr.is_some_and(|bind| bind.is_ipv6()) => reading.address("advertise_addr_ipv6", text),
        _ => bind_addr.and_then(|bind| network::advertise(bind, &reading)),
    };
    let advertise = advertise_addr.map(|lan| network::advertised(&raw, lan, &reading));
    if advertise_addr.is_some_and(|address| address.is_unspecified()) {
        findings.error("`advertise_addr` is where others reach this node, so it cannot be a wildcard address");
    }
    let data_dir = data_dir(&raw, findings);
    let level = raw.log_level.parse().map_err(|error: String| findings.error(error));
    let node_name = node_name(&raw, findings);
    let node_id = node_id(&raw, findings);
    let datacenter = datacenter(&raw, findings);
    let dns = dns(&raw, &reading, findings);
    Some(Config {
        dev: raw.dev,
        server: raw.server,
        bootstrap_expect,
        cluster,
        autopilot: raw.autopilot,
        datacenter,
        node_name: node_name?,
        node_id,
        node_meta: raw.node_meta,
        bind_addr: bind_addr?,
        advertise_addr: advertise_addr?,
        advertise: advertise?,
        listen: listen?,
        data_dir,
        pid_file: raw.pid_file.filter(|path| !path.is_empty()).map(PathBuf::from),
        log: Log {
            level: level.ok()?,
            json: raw.log_json,
            file: raw.log_file.filter(|path| !path.is_empty()).map(PathBuf::from),
            rotation: raw.log_rotation,
        },
        dns,
        http: raw.http,
        limits: raw.limits,
        default_query_time: raw.default_query_time,
        max_query_time: raw.max_query_time,
        check_output_max_size: raw.check_output_max_size,
        discard_check_output: raw.discard_check_output,
        check_update_interval: raw.check_update_interval,
        session_ttl_min: raw.session_ttl_min,
        scripts: match (raw.script_checks, raw.local_script_checks) {
            (true, _) => Scripts::Enabled,
            (false, true) => Scripts::Local,
            (false, false) => Scripts::Disabled,
        },
        remote_exec: raw.remote_exec,
        watch_history: raw.watch_history,
        services: raw.services.into_iter().map(|service| service.value).collect(),
        checks: raw.checks.into_iter().map(|check| check.value).collect(),
        watches: raw.watches,
        warnings: Vec::new(),
    })
}

/// How many servers begin the cluster together.
fn expect(raw: &Raw, findings: &Findings) -> u32 {
    let expect = raw.bootstrap_expect.unwrap_or(i64::from(raw.bootstrap));
    if raw.bootstrap && raw.bootstrap_expect.is_some_and(|expect| expect > 1) {
        findings.error("`bootstrap` begins a cluster alone and `bootstrap_expect` with others; give one of them");
    } else if expect > 0 && !raw.server {
        findings.error("`bootstrap` and `bootstrap_expect` are for servers; add `-server`, or leave them out");
    } else if expect == 2 {
        findings.warn("a cluster of two servers stops when either does; one or three serve better");
    } else if expect > 1 && expect % 2 == 0 {
        findings.warn(format!("a cluster of {expect} servers bears no more failures than one of {}", expect - 1));
    }
    u32::try_from(expect).unwrap_or_else(|_| {
        findings.error(format!("`bootstrap_expect` is a number of servers, not `{expect}`"));
        0
    })
}

fn cluster(raw: &Raw, reading: &Reading<'_>, findings: &Findings) -> Cluster {
    let mut cluster = raw.cluster.clone();
    for (key, list) in [
        ("start_join", &mut cluster.join),
        ("retry_join", &mut cluster.retry_join),
        ("start_join_wan", &mut cluster.join_wan),
        ("retry_join_wan", &mut cluster.retry_join_wan),
    ] {
        *list = list.iter().filter_map(|text| if text.contains("{{") { reading.expand(key, text) } else { Some(text.clone()) }).collect();
    }
    if let Some(key) = &cluster.encrypt
        && let Err(error) = gossip::Key::from_base64(key)
    {
        findings.error(format!("`encrypt`: {error}"));
    }
    let told_of_others = !cluster.join_wan.is_empty() || !cluster.retry_join_wan.is_empty();
    if told_of_others && !raw.server {
        findings.error(
            "only servers take part in the pool between datacenters; remove `retry_join_wan` and `start_join_wan`, or add `-server`",
        );
    }
    for address in cluster.join.iter().chain(&cluster.retry_join).chain(&cluster.join_wan).chain(&cluster.retry_join_wan) {
        if address.contains('=') || address.trim().is_empty() {
            findings.error(format!(
                "`{address}` is no address to join; cloud discovery is not part of this version: write `host` or `host:port`"
            ));
        }
    }
    cluster
}

fn bounds(raw: &Raw, findings: &Findings) {
    let refuse = |wrong: bool, text: &str| {
        if wrong {
            findings.error(text);
        }
    };
    refuse(raw.session_ttl_min.is_zero(), "`session_ttl_min` is a length of time above 0, such as `10s`");
    refuse(raw.limits.kv_max_value_size == 0, "`limits.kv_max_value_size` is a number of bytes, at least 1");
    refuse(raw.limits.txn_max_req_len == 0, "`limits.txn_max_req_len` is a number of bytes, at least 1");
    refuse(raw.default_query_time.is_zero(), "`default_query_time` must be longer than 0");
    refuse(raw.max_query_time < raw.default_query_time, "`max_query_time` must not be shorter than `default_query_time`");
    refuse(raw.watch_history.changes_max == 0, "`watch_history.changes_max` is a number of changes, at least 1");
    refuse(raw.watch_history.bytes_max == 0, "`watch_history.bytes_max` is a number of bytes, at least 1");
    refuse(raw.check_output_max_size == 0, "`check_output_max_size` is a number of bytes, at least 1");
}

fn node_meta(raw: &Raw, findings: &Findings) {
    if raw.node_meta.len() > 64 {
        findings.error(format!("`node_meta` holds at most 64 pairs, not {}", raw.node_meta.len()));
    }
    for (key, value) in &raw.node_meta {
        let letters = key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if key.is_empty() || key.len() > 128 || !letters {
            findings.error(format!("`node_meta` key `{key}` must be 1 to 128 characters of `[a-zA-Z0-9_-]`"));
        } else if key.starts_with("consul-") {
            findings.error(format!("`node_meta` key `{key}`: keys that begin with `consul-` are kept for the system"));
        }
        if value.len() > 512 {
            findings.error(format!("`node_meta` value of `{key}` has {} bytes; at most 512 are kept", value.len()));
        }
    }
}

fn data_dir(raw: &Raw, findings: &Findings) -> Option<PathBuf> {
    let given = raw.data_dir.as_deref().filter(|path| !path.is_empty());
    match given {
        Some(path) if raw.dev => {
            findings.warn(format!("`-dev` keeps nothing: the data directory `{path}` is not used"));
            None
        }
        None if !raw.dev => {
            findings.error("an agent needs a data directory; add `-data-dir=DIR`, or use `-dev` for throw-away storage");
            None
        }
        given => given.map(PathBuf::from),
    }
}

fn node_name(raw: &Raw, findings: &Findings) -> Option<String> {
    let name = match &raw.node_name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default(),
    };
    if name.is_empty() || name.len() > 253 || name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
        findings.error(format!("the node name `{name}` must be 1 to 253 characters without blanks and `/`; set it with `-node`"));
        return None;
    }
    if name.len() > 63 || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
        findings.warn(format!("the node name `{name}` is not a DNS name (letters, digits and `-`, at most 63), so DNS may not find the node; `-node` sets another"));
    }
    Some(name)
}

fn node_id(raw: &Raw, findings: &Findings) -> Option<String> {
    let text = raw.node_id.as_deref().filter(|text| !text.is_empty())?;
    match uuid::Uuid::try_parse(text) {
        Ok(id) if text.len() == 36 => Some(id.hyphenated().to_string()),
        _ => {
            findings.error(format!("`node_id` is a UUID such as `8f5a7c0e-2d3b-4c1a-9e6f-0123456789ab`, not `{text}`"));
            None
        }
    }
}

fn datacenter(raw: &Raw, findings: &Findings) -> String {
    let name = raw.datacenter.to_lowercase();
    if name.is_empty() || name.len() > 63 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
        findings.error(format!("`datacenter` must be 1 to 63 letters, digits, `-` and `_`, not `{}`", raw.datacenter));
    }
    name
}

fn dns(raw: &Raw, reading: &Reading<'_>, findings: &Findings) -> Dns {
    let alt_domain = raw.alt_domain.as_deref().filter(|text| !text.is_empty());
    Dns {
        domain: domain("domain", &raw.domain, findings),
        alt_domain: alt_domain.map(|text| domain("alt_domain", text, findings)),
        recursors: raw.recursors.iter().filter_map(|text| network::recursor(text, reading)).collect(),
        ..raw.dns.clone()
    }
}

fn domain(key: &str, text: &str, findings: &Findings) -> String {
    let name = text.strip_suffix('.').unwrap_or(text).to_lowercase();
    let label =
        |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if name.len() > 200 || !name.split('.').all(label) {
        findings.error(format!("`{key}` is a DNS name such as `consul`, not `{text}`"));
    }
    name
}
