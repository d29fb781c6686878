//! What a registration must look like, and what is filled in where it says nothing.
//!
//! Texts and their order are those that programs written for Consul know; each refusal names the
//! value at fault.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use state::anti_entropy::SERVER_SERVICE;
use state::catalog::register::SERF_HEALTH;
use state::{Check, CheckDefinition, Service, ServiceAddress, ServiceInput, Status, Str};
use tokio::time::Instant;

use super::model::{AgentOptions, CheckRegistration, LocalService, Scripts, ServiceDefinition, Source};
use crate::error::{Error, Reason};

/// Shortest time between two runs of a check, in milliseconds.
const INTERVAL_MS_MIN: u64 = 1000;

/// Shortest time after which a critical check takes its instance away, in milliseconds.
const DEREGISTER_MS_MIN: u64 = 1000;

/// Longest key of a meta pair, in characters.
const META_KEY_CHARS_MAX: usize = 128;

/// Longest value of a meta pair, in characters.
const META_VALUE_CHARS_MAX: usize = 512;

/// Longest DNS label, in bytes.
const DNS_LABEL_BYTES_MAX: usize = 63;

/// A check that passed, ready to be registered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NewCheck {
    /// The check. Its status and output are only used where nothing better is known.
    pub(super) row: Check,
    /// The status that was asked for.
    pub(super) status: Option<Status>,
    /// The secret with which it is written to the catalog.
    pub(super) token: Option<Arc<str>>,
    /// Who registered it.
    pub(super) source: Source,
    /// Since when it was critical before the agent was started; known for what was stored only.
    pub(super) critical_since: Option<Instant>,
}

/// Checks an instance with its checks, and fills in what is left out.
pub(super) fn service(
    options: &AgentOptions,
    definition: &ServiceDefinition,
    source: Source,
) -> Result<(LocalService, Vec<NewCheck>), Error> {
    let input = &definition.service;
    let id = definition.id().clone();
    if input.name.is_empty() {
        return Err(Error::invalid("Missing service name"));
    }
    if is_unspecified(&input.address) {
        return Err(Error::invalid("Invalid service address").with("address", &input.address));
    }
    if &*id == SERVER_SERVICE {
        let message = format!("service ID `{SERVER_SERVICE}` is kept for the servers themselves; choose another");
        return Err(Error::invalid(message).with("service_id", id));
    }
    check_port(input.port, "port")?;
    check_weights(input)?;
    check_meta(options, input)?;
    warn_about_names(input);
    let tagged_addresses = tagged_addresses(input)?;
    let checks = service_checks(options, definition, source)?;
    let row = Service {
        node: options.node.name.clone(),
        id,
        name: input.name.clone(),
        tags: input.tags.clone(),
        address: input.address.clone(),
        port: input.port,
        socket_path: input.socket_path.clone(),
        meta: input.meta.clone(),
        tagged_addresses,
        weights: input.weights,
        enable_tag_override: input.enable_tag_override,
        kind: input.kind.clone(),
        ..Default::default()
    };
    Ok((LocalService { row: Arc::new(row), token: definition.token.clone(), source }, checks))
}

/// Checks a check that is registered by itself, and fills in what is left out.
pub(super) fn check(options: &AgentOptions, registration: &CheckRegistration, source: Source) -> Result<NewCheck, Error> {
    if registration.name.is_empty() {
        return Err(Error::invalid("Missing check name"));
    }
    let id = if registration.id.is_empty() { &registration.name } else { &registration.id };
    new_check(options, registration, id.clone(), registration.name.clone(), registration.service_id.clone(), source)
}

fn service_checks(options: &AgentOptions, definition: &ServiceDefinition, source: Source) -> Result<Vec<NewCheck>, Error> {
    let mut seen = BTreeSet::new();
    let mut checks = Vec::with_capacity(definition.checks.len());
    for (registration, id) in definition.checks.iter().zip(definition.check_ids()) {
        if !seen.insert(id.clone()) {
            let message = format!("Invalid check: id `{id}` is given to two checks of one service");
            return Err(Error::invalid(message).with("check_id", id));
        }
        let name = match &*registration.name {
            "" => format!("Service '{}' check", definition.service.name).into(),
            _ => registration.name.clone(),
        };
        let mut check = new_check(options, registration, id, name, definition.id().clone(), source)?;
        check.row.service_name = definition.service.name.clone();
        check.row.service_tags = definition.service.tags.clone();
        check.token = check.token.or_else(|| definition.token.clone());
        checks.push(check);
    }
    Ok(checks)
}

fn new_check(
    options: &AgentOptions,
    registration: &CheckRegistration,
    id: Str,
    name: Str,
    service_id: Str,
    source: Source,
) -> Result<NewCheck, Error> {
    if &*id == SERF_HEALTH {
        let message = format!("check ID `{SERF_HEALTH}` is kept for the health of the node itself; choose another");
        return Err(Error::invalid(message).with("check_id", id));
    }
    let definition = definition(options, &registration.definition, &id, source)?;
    let row = Check {
        node: options.node.name.clone(),
        id,
        name,
        status: registration.status.unwrap_or_default(),
        notes: registration.notes.clone(),
        service_id,
        kind: definition.kind().into(),
        interval_ms: definition.interval_ms,
        timeout_ms: definition.timeout_ms,
        definition,
        ..Default::default()
    };
    Ok(NewCheck { row, status: registration.status, token: registration.token.clone(), source, critical_since: None })
}

/// Checks how a check is to be run. Zero durations count as absent.
fn definition(options: &AgentOptions, given: &CheckDefinition, id: &str, source: Source) -> Result<CheckDefinition, Error> {
    let positive = |ms: Option<u64>| ms.filter(|ms| *ms > 0);
    let mut definition = CheckDefinition {
        ttl_ms: positive(given.ttl_ms),
        interval_ms: positive(given.interval_ms),
        timeout_ms: positive(given.timeout_ms),
        deregister_critical_after_ms: positive(given.deregister_critical_after_ms),
        ..given.clone()
    };
    check_consistency(&definition).map_err(|what| Error::invalid(format!("Invalid check: {what}")).with("check_id", id))?;
    check_one_kind(&definition).map_err(|what| Error::invalid(format!("Invalid check: {what}")).with("check_id", id))?;
    check_kind(options, &definition, source).map_err(|error| error.with("check_id", id))?;
    raise(&mut definition.interval_ms, INTERVAL_MS_MIN, id, "interval");
    raise(&mut definition.deregister_critical_after_ms, DEREGISTER_MS_MIN, id, "deregister_critical_service_after");
    Ok(definition)
}

/// The rules between the fields of a definition, in the order in which they are tested.
fn check_consistency(definition: &CheckDefinition) -> Result<(), &'static str> {
    let d = definition;
    let scheduled =
        !d.script_args.is_empty() || [&d.http, &d.tcp, &d.udp, &d.grpc, &d.h2ping, &d.os_service].iter().any(|kind| kind.is_some());
    let alias = d.alias_node.is_some() || d.alias_service.is_some();
    let rules = [
        (d.interval_ms.is_some() && d.ttl_ms.is_some(), "Interval and TTL cannot both be specified"),
        (scheduled && d.interval_ms.is_none(), "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"),
        (alias && d.interval_ms.is_some(), "Interval cannot be set for Alias checks"),
        (alias && d.ttl_ms.is_some(), "TTL must be not be set for Alias checks"),
        (!scheduled && !alias && d.ttl_ms.is_none(), "TTL must be > 0 for TTL checks"),
        (d.failures_before_warning > d.failures_before_critical, "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"),
    ];
    rules.iter().find(|(broken, _)| *broken).map_or(Ok(()), |(_, what)| Err(*what))
}

/// A check of two kinds would be run as one of them, and nobody would know as which.
fn check_one_kind(definition: &CheckDefinition) -> Result<(), String> {
    let d = definition;
    let kinds = [
        ("ttl", d.ttl_ms.is_some()),
        ("http", d.http.is_some()),
        ("tcp", d.tcp.is_some()),
        ("udp", d.udp.is_some()),
        ("grpc", d.grpc.is_some()),
        // A container is where the program runs.
        ("args", !d.script_args.is_empty()),
        ("h2ping", d.h2ping.is_some()),
        ("alias", d.alias_node.is_some() || d.alias_service.is_some()),
        ("os_service", d.os_service.is_some()),
    ];
    let given: Vec<String> = kinds.into_iter().filter(|(_, given)| *given).map(|(name, _)| format!("`{name}`")).collect();
    match given.as_slice() {
        [_, _, ..] => Err(format!("it is of several kinds at once ({}); register one check for each", given.join(", "))),
        _ => Ok(()),
    }
}

/// Whether this agent can run a check of this kind.
fn check_kind(options: &AgentOptions, definition: &CheckDefinition, source: Source) -> Result<(), Error> {
    let kind = definition.kind();
    match kind {
        "ttl" | "alias" => Ok(()),
        "tcp" => check_peer("tcp", definition.tcp.as_deref().unwrap_or_default()),
        "udp" => check_peer("udp", definition.udp.as_deref().unwrap_or_default()),
        "h2ping" => check_peer("h2ping", definition.h2ping.as_deref().unwrap_or_default()),
        "grpc" => {
            let target = definition.grpc.as_deref().unwrap_or_default();
            check_peer("grpc", target.split('/').next().unwrap_or_default())
        }
        "http" => check_url(definition.http.as_deref().unwrap_or_default()),
        "script" | "docker" if options.scripts == Scripts::Disabled => {
            let message = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or \
                           'enable_local_script_checks' to true";
            Err(Error::new(Reason::ScriptsDisabled, message))
        }
        "script" | "docker" if options.scripts == Scripts::Local && source != Source::Config => {
            let message = "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true";
            Err(Error::new(Reason::ScriptsDisabled, message))
        }
        "script" | "docker" => Ok(()),
        _ => {
            let message = format!("checks of kind `{kind}` can't be run on this operating system; use another kind, such as a script");
            Err(Error::new(Reason::NotImplemented, message).with("kind", kind))
        }
    }
}

/// Whether this can be a target: a host, a colon and a port.
fn check_peer(field: &'static str, target: &str) -> Result<(), Error> {
    let parts = target.rsplit_once(':').filter(|(host, port)| {
        !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c.is_control()) && port.parse::<u16>().is_ok()
    });
    match parts {
        Some(_) => Ok(()),
        None => Err(Error::invalid(format!("Invalid check: `{target}` is not of the form `host:port`")).with(field, target)),
    }
}

fn check_url(url: &str) -> Result<(), Error> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (head, rest) = url.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let message = format!("Invalid check: `{url}` is not a URL of the form `http://host:port/path` or `https://…`");
        return Err(Error::invalid(message).with("http", url));
    }
    Ok(())
}

fn raise(value: &mut Option<u64>, least: u64, id: &str, what: &str) {
    if let Some(ms) = value.filter(|ms| *ms < least) {
        tracing::warn!(check_id = id, "{what} of {ms} ms is too short; {least} ms is taken");
        *value = Some(least);
    }
}

fn is_unspecified(address: &str) -> bool {
    address.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}

fn check_port(port: u32, what: &'static str) -> Result<(), Error> {
    match u16::try_from(port) {
        Ok(_) => Ok(()),
        Err(_) => Err(Error::invalid(format!("Invalid service {what}: `{port}` is above 65535")).with("port", port)),
    }
}

fn check_weights(input: &ServiceInput) -> Result<(), Error> {
    let weights = input.weights;
    let fault = match (weights.passing, weights.warning) {
        (0, _) => "the weight while passing must be at least 1",
        (passing, warning) if passing.max(warning) > u32::from(u16::MAX) => "a weight must not be above 65535",
        _ => return Ok(()),
    };
    let message = format!("Invalid Weights: {fault}; given are {} while passing and {} while warning", weights.passing, weights.warning);
    Err(Error::invalid(message))
}

fn check_meta(options: &AgentOptions, input: &ServiceInput) -> Result<(), Error> {
    let invalid = |what: String| Err(Error::invalid(format!("Invalid Service Meta: {what}")).with("field", "meta"));
    let most = options.meta_pairs_max;
    if input.meta.len() > most {
        return invalid(format!("{} pairs are more than the {most} allowed", input.meta.len()));
    }
    for (key, value) in &input.meta {
        if let Some(fault) = meta_fault(key, value) {
            return invalid(format!("pair `{key}`: {fault}"));
        }
    }
    Ok(())
}

fn meta_fault(key: &str, value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let faults = [
        (key.is_empty(), "the key is empty".to_owned()),
        (!key.chars().all(plain), "the key may contain letters, digits, `-` and `_` only".to_owned()),
        (key.chars().count() > META_KEY_CHARS_MAX, format!("the key is longer than {META_KEY_CHARS_MAX} characters")),
        (key.to_ascii_lowercase().starts_with("consul-"), "keys that begin with `consul-` are reserved".to_owned()),
        (value.chars().count() > META_VALUE_CHARS_MAX, format!("the value is longer than {META_VALUE_CHARS_MAX} characters")),
    ];
    faults.into_iter().find(|(broken, _)| *broken).map(|(_, what)| what)
}

/// The tagged addresses given, with those that follow from a literal address of the service.
fn tagged_addresses(input: &ServiceInput) -> Result<std::collections::BTreeMap<Str, ServiceAddress>, Error> {
    let mut addresses = input.tagged_addresses.clone();
    for (tag, address) in &addresses {
        check_port(address.port, "tagged address port")?;
        check_family(tag, &address.address)?;
        if is_unspecified(&address.address) {
            return Err(Error::invalid(format!("Service tagged address {tag:?} must not be an unspecified address")).with("tag", tag));
        }
    }
    let own = ServiceAddress { address: input.address.clone(), port: input.port };
    let tags = match input.address.parse() {
        Ok(IpAddr::V4(_)) => ["lan_ipv4", "wan_ipv4"],
        Ok(IpAddr::V6(_)) => ["lan_ipv6", "wan_ipv6"],
        Err(_) => return Ok(addresses),
    };
    for tag in tags {
        addresses.entry(tag.into()).or_insert_with(|| own.clone());
    }
    Ok(addresses)
}

fn check_family(tag: &str, address: &str) -> Result<(), Error> {
    let parsed = address.parse::<IpAddr>();
    let (right, family) = match tag {
        "lan_ipv4" | "wan_ipv4" => (matches!(parsed, Ok(IpAddr::V4(_))), "ipv4"),
        "lan_ipv6" | "wan_ipv6" => (matches!(parsed, Ok(IpAddr::V6(_))), "ipv6"),
        _ => return Ok(()),
    };
    if right {
        return Ok(());
    }
    Err(Error::invalid(format!("Service tagged address {tag:?} must be a valid {family} address"))
        .with("tag", tag)
        .with("address", address))
}

/// Names that DNS can't ask for are taken, with a word in the log.
fn warn_about_names(input: &ServiceInput) {
    let label = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let name = &*input.name;
    if !label(name) {
        tracing::warn!(
            service = name,
            "the service can't be found through DNS: its name has characters other than letters, digits and `-`"
        );
    } else if name.len() > DNS_LABEL_BYTES_MAX {
        tracing::warn!(service = name, "the service can't be found through DNS: its name is longer than {DNS_LABEL_BYTES_MAX} bytes");
    }
    for tag in input.tags.iter().filter(|tag| !label(tag)) {
        tracing::debug!(service = name, tag = &**tag, "the tag can't be asked for through DNS");
    }
}
