//! Services and checks as files define them: `service { … }`, `services = [ … ]`, `check`, `checks`.
//!
//! The same definitions feed the agent's configuration and `services register`. Their keys may be
//! written as in the HTTP API too (`EnableTagOverride`), because many files are copied from there.

use std::collections::BTreeMap;
use std::time::Duration;

use service::agent::{AgentOptions, CheckRegistration, ServiceDefinition};
use state::{CheckDefinition, ServiceAddress, ServiceInput, Status, Str, Weights};

use crate::config::findings::Place;
use crate::config::later::{CHECK_LATER, SERVICE_LATER};
use crate::config::read::{Findings, Reader};
use crate::config::sections::set;

/// A definition and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Defined<T> {
    /// Where its first key is.
    pub(crate) place: Place,
    /// What is defined.
    pub(crate) value: T,
}

/// Takes all services and checks of a file.
pub(crate) fn read(keys: &mut Reader<'_>, services: &mut Vec<Defined<ServiceDefinition>>, checks: &mut Vec<Defined<CheckRegistration>>) {
    for key in ["service", "services"] {
        keys.sections(key, SERVICE_LATER, |keys| {
            services.extend(service(keys).map(|value| Defined { place: keys.place(), value }));
        });
    }
    for key in ["check", "checks"] {
        keys.sections(key, CHECK_LATER, |keys| {
            let check = check(keys);
            if check.name.is_empty() && check.id.is_empty() {
                keys.refuse("a check of the node needs a `name`");
            } else {
                checks.push(Defined { place: keys.place(), value: check });
            }
        });
    }
}

/// Refuses what the agent could not register, and what is defined twice, each with its place.
pub(crate) fn verify(
    options: &AgentOptions,
    services: &[Defined<ServiceDefinition>],
    checks: &[Defined<CheckRegistration>],
    findings: &Findings,
) {
    let mut seen: BTreeMap<(&str, Str), &Place> = BTreeMap::new();
    let mut once = |kind: &'static str, id: Str, place| match seen.get(&(kind, id.clone())) {
        Some(first) => {
            let text = format!("the {kind} id `{id}` is taken: it is defined in {first} already; give each an id of its own");
            findings.error_at(Place::clone(place), None, text);
        }
        None => drop(seen.insert((kind, id), place)),
    };
    for Defined { place, value } in services {
        once("service", value.id().clone(), place);
        value.check_ids().into_iter().for_each(|id| once("check", id, place));
        if let Err(error) = service::agent::verify_service(options, value) {
            findings.error_at(place.clone(), None, format!("service `{}`: {error}", value.id()));
        }
    }
    for Defined { place, value } in checks {
        once("check", if value.id.is_empty() { value.name.clone() } else { value.id.clone() }, place);
        if let Err(error) = service::agent::verify_check(options, value) {
            findings.error_at(place.clone(), None, format!("check `{}`: {error}", value.name));
        }
    }
}

/// One instance with its checks; `None` when it is unusable, which has been said then.
fn service(keys: &mut Reader<'_>) -> Option<ServiceDefinition> {
    keys.accept_camel_case();
    let mut input = ServiceInput {
        id: text(keys, "id"),
        name: text(keys, "name"),
        tags: keys.texts("tags").into_iter().map(Str::from).collect(),
        address: text(keys, "address"),
        port: keys.number::<u16>("port").unwrap_or(0).into(),
        socket_path: text(keys, "socket_path"),
        meta: keys.pairs("meta").into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
        enable_tag_override: keys.flag("enable_tag_override").unwrap_or(false),
        ..ServiceInput::default()
    };
    keys.named_sections("tagged_addresses", |tag, keys| {
        let address = ServiceAddress { address: text(keys, "address"), port: keys.number::<u16>("port").unwrap_or(0).into() };
        input.tagged_addresses.insert(tag.into(), address);
    });
    keys.sections("weights", &[], |keys| {
        let mut weights = Weights::default();
        set(&mut weights.passing, keys.number::<u16>("passing").map(u32::from));
        set(&mut weights.warning, keys.number::<u16>("warning").map(u32::from));
        input.weights = weights;
    });
    let token = keys.text("token").map(Into::into);
    let mut checks = Vec::new();
    for key in ["check", "checks"] {
        keys.sections(key, CHECK_LATER, |keys| checks.push(check(keys)));
    }
    if input.name.is_empty() {
        keys.refuse("a service needs a `name`");
        return None;
    }
    Some(ServiceDefinition { service: input, checks, token })
}

/// One check. Whether its parts go together is for the service layer to say.
fn check(keys: &mut Reader<'_>) -> CheckRegistration {
    keys.accept_camel_case();
    let id = keys.text("id").or(keys.text("check_id")).unwrap_or_default();
    CheckRegistration {
        id: id.into(),
        name: text(keys, "name"),
        notes: text(keys, "notes"),
        service_id: text(keys, "service_id"),
        status: status(keys),
        token: keys.text("token").map(Into::into),
        definition: check_definition(keys),
    }
}

fn check_definition(keys: &mut Reader<'_>) -> CheckDefinition {
    let mut args = keys.texts("args");
    args.extend(keys.texts("script_args"));
    let headers = keys.lists("header").into_iter();
    CheckDefinition {
        http: given(keys, "http"),
        method: given(keys, "method"),
        headers: headers.map(|(name, values)| (name.into(), values.into_iter().map(Str::from).collect())).collect(),
        body: given(keys, "body"),
        disable_redirects: keys.flag("disable_redirects").unwrap_or(false),
        tls_server_name: given(keys, "tls_server_name"),
        tls_skip_verify: keys.flag("tls_skip_verify").unwrap_or(false),
        tcp: given(keys, "tcp"),
        tcp_use_tls: keys.flag("tcp_use_tls").unwrap_or(false),
        udp: given(keys, "udp"),
        grpc: given(keys, "grpc"),
        grpc_use_tls: keys.flag("grpc_use_tls").unwrap_or(false),
        h2ping: given(keys, "h2ping"),
        h2ping_use_tls: keys.flag("h2ping_use_tls").unwrap_or(true),
        script_args: args.into_iter().map(Str::from).collect(),
        docker_container_id: given(keys, "docker_container_id"),
        shell: given(keys, "shell"),
        alias_node: given(keys, "alias_node"),
        alias_service: given(keys, "alias_service"),
        os_service: given(keys, "os_service"),
        session_name: None,
        ttl_ms: millis(keys, "ttl"),
        interval_ms: millis(keys, "interval"),
        timeout_ms: millis(keys, "timeout"),
        deregister_critical_after_ms: millis(keys, "deregister_critical_service_after"),
        output_max_bytes: keys.number("output_max_size"),
        success_before_passing: keys.number("success_before_passing").unwrap_or(0),
        failures_before_warning: keys.number("failures_before_warning").unwrap_or(0),
        failures_before_critical: keys.number("failures_before_critical").unwrap_or(0),
    }
}

fn status(keys: &mut Reader<'_>) -> Option<Status> {
    let name = keys.text("status").filter(|name| !name.is_empty())?;
    let status = Status::from_name(&name);
    if status.is_none() {
        keys.refuse(&format!("the status of a check is `passing`, `warning` or `critical`, not `{name}`"));
    }
    status
}

fn text(keys: &mut Reader<'_>, key: &'static str) -> Str {
    keys.text(key).unwrap_or_default().into()
}

fn given(keys: &mut Reader<'_>, key: &'static str) -> Option<Str> {
    keys.text(key).filter(|text| !text.is_empty()).map(Into::into)
}

fn millis(keys: &mut Reader<'_>, key: &'static str) -> Option<u64> {
    keys.duration(key).filter(|duration| *duration != Duration::ZERO).map(|duration| duration.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::text;

    fn definitions(file: &str) -> (Vec<ServiceDefinition>, Vec<CheckRegistration>, Vec<String>) {
        let fields = text::parse(file).unwrap();
        let findings = Findings::default();
        let (mut services, mut checks) = (Vec::new(), Vec::new());
        let mut keys = Reader::new("web.json", &fields, &findings);
        read(&mut keys, &mut services, &mut checks);
        keys.finish(&[]);
        let values = services.into_iter().map(|service| service.value).collect();
        (values, checks.into_iter().map(|check| check.value).collect(), findings.into_errors())
    }

    #[test]
    fn a_definition_reads_the_same_in_both_spellings() {
        let hcl = r#"service {
            id = "web1"  name = "web"  tags = ["a"]  port = 80  enable_tag_override = true
            meta { v = 2 }  tagged_addresses { lan { address = "10.0.0.1"  port = 81 } }
            weights { passing = 10 }
            check { http = "http://localhost/"  interval = "10s"  header { Accept = ["x"] }  deregister_critical_service_after = "1h" }
            checks = [{ ttl = "30s" }]
        }"#;
        let json = r#"{"Service": {"ID": "web1", "Name": "web", "Tags": ["a"], "Port": 80, "EnableTagOverride": true,
            "Meta": {"v": "2"}, "TaggedAddresses": {"lan": {"Address": "10.0.0.1", "Port": 81}}, "Weights": {"Passing": 10},
            "Check": {"HTTP": "http://localhost/", "Interval": "10s", "Header": {"Accept": ["x"]}, "DeregisterCriticalServiceAfter": "1h"},
            "Checks": [{"TTL": "30s"}]}}"#;
        let (services, _, errors) = definitions(hcl);
        assert_eq!(errors, [] as [&str; 0]);
        assert_eq!((services.clone(), vec![], vec![]), definitions(json));
        let web = &services[0];
        assert_eq!((&*web.service.id, web.service.port, web.service.weights), ("web1", 80, Weights { passing: 10, warning: 1 }));
        assert_eq!(web.checks[0].definition.deregister_critical_after_ms, Some(3_600_000));
        assert_eq!((web.checks[0].definition.kind(), web.checks[1].definition.kind()), ("http", "ttl"));
    }

    #[test]
    fn a_wrong_definition_says_where() {
        let cases = [
            ("service {\n  nmae = \"web\"\n}", "web.json:2: unknown key `service.nmae`; did you mean `service.name`?"),
            ("service {\n  name = \"web\"\n  proxy { x = 1 }\n}", "web.json:3: `service.proxy` is not part of this version"),
            (
                "service {\n  name = \"web\"\n  port = 99999\n}",
                "web.json:3: `service.port` needs a whole number in its range, found `99999`",
            ),
            ("service {\n  name = \"web\"\n  check {\n    status = \"fine\"\n  }\n}", "web.json:4: the status of a check"),
            ("check { ttl = \"1s\" }", "web.json:1: a check of the node needs a `name`"),
        ];
        for (file, part) in cases {
            let (.., errors) = definitions(file);
            assert!(errors.iter().any(|error| error.starts_with(part)), "{file}: {errors:?}");
        }
    }

    #[test]
    fn checks_of_the_node_are_read() {
        let (_, checks, errors) =
            definitions("check { name = \"disk\" ttl = \"1m\" }\nchecks = [{ id = \"mem\", tcp = \"localhost:1\", interval = \"5s\" }]");
        assert_eq!(errors, [] as [&str; 0]);
        assert_eq!((&*checks[0].name, checks[0].definition.ttl_ms, &*checks[1].id), ("disk", Some(60_000), "mem"));
    }
}
