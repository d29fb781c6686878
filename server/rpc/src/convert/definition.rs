//! How a check is run: one message with a kind, one row in which the fields that are set decide.

use std::collections::BTreeMap;

use ::service::Error;
use proto::v1;
use proto::v1::check_definition::Kind;
use state::{CheckDefinition, Str};

use super::common::{millis, strs, wire_millis, wire_strs};
use crate::status::invalid;

/// The kind of check in one word; empty if nothing is to be run.
pub(crate) fn kind(definition: &CheckDefinition) -> &'static str {
    match definition.kind() {
        "" if definition.session_name.is_some() => "session",
        kind => kind,
    }
}

/// A definition as it is stored.
pub(crate) fn stored(definition: v1::CheckDefinition) -> Result<CheckDefinition, Error> {
    let v1::CheckDefinition {
        kind,
        interval,
        timeout,
        deregister_critical_service_after,
        output_max_size,
        success_before_passing,
        failures_before_warning,
        failures_before_critical,
        tls,
    } = definition;
    let v1::CheckTls { server_name, skip_verify } = tls.unwrap_or_default();
    let mut row = CheckDefinition {
        interval_ms: millis("interval", interval)?,
        timeout_ms: millis("timeout", timeout)?,
        deregister_critical_after_ms: millis("deregister_critical_service_after", deregister_critical_service_after)?,
        output_max_bytes: Some(output_max_size).filter(|size| *size > 0),
        success_before_passing,
        failures_before_warning,
        failures_before_critical,
        tls_server_name: set(server_name),
        tls_skip_verify: skip_verify,
        ..CheckDefinition::default()
    };
    match kind {
        Some(kind) => take_kind(&mut row, kind)?,
        None => return Err(invalid("definition", "it has no kind; say how the check is run")),
    }
    Ok(row)
}

fn take_kind(row: &mut CheckDefinition, kind: Kind) -> Result<(), Error> {
    match kind {
        Kind::Http(http) => take_http(row, http)?,
        Kind::Tcp(v1::TcpCheck { address, use_tls }) => (row.tcp, row.tcp_use_tls) = (required("address", address)?, use_tls),
        Kind::Udp(v1::UdpCheck { address }) => row.udp = required("address", address)?,
        Kind::Grpc(v1::GrpcCheck { target, use_tls }) => (row.grpc, row.grpc_use_tls) = (required("target", target)?, use_tls),
        Kind::H2ping(v1::H2PingCheck { address, use_tls }) => {
            (row.h2ping, row.h2ping_use_tls) = (required("address", address)?, use_tls.unwrap_or(true));
        }
        Kind::Ttl(v1::TtlCheck { ttl }) => {
            let ttl_ms = millis("ttl", ttl)?.filter(|ttl| *ttl > 0);
            row.ttl_ms = Some(ttl_ms.ok_or_else(|| invalid("ttl", "it has to be more than 0"))?);
        }
        Kind::Script(v1::ScriptCheck { args }) => row.script_args = arguments(args)?,
        Kind::Docker(v1::DockerCheck { container_id, shell, args }) => {
            row.docker_container_id = required("container_id", container_id)?;
            (row.shell, row.script_args) = (set(shell), arguments(args)?);
        }
        Kind::Alias(v1::AliasCheck { node, service_id }) => {
            // Without an instance, the node itself is followed: an alias has to name something.
            if node.is_empty() && service_id.is_empty() {
                return Err(invalid("alias", "it names neither a node nor a service to follow"));
            }
            (row.alias_node, row.alias_service) = (set(node), set(service_id));
        }
        Kind::OsService(v1::OsServiceCheck { name }) => row.os_service = required("name", name)?,
        Kind::Session(v1::SessionCheck { name }) => row.session_name = required("name", name)?,
    }
    Ok(())
}

fn take_http(row: &mut CheckDefinition, http: v1::HttpCheck) -> Result<(), Error> {
    let v1::HttpCheck { url, method, headers, body, disable_redirects } = http;
    let mut stored: BTreeMap<Str, Vec<Str>> = BTreeMap::new();
    for v1::Header { name, values } in headers {
        stored.entry(name.into()).or_default().extend(strs(values));
    }
    row.http = required("url", url)?;
    (row.method, row.headers, row.body, row.disable_redirects) = (set(method), stored, set(body), disable_redirects);
    Ok(())
}

/// A definition for the wire; `None` for a check that is not run from it. The intervals of the row
/// stand in where the definition has none.
pub(crate) fn wire(row: &CheckDefinition, interval_ms: Option<u64>, timeout_ms: Option<u64>) -> Option<v1::CheckDefinition> {
    if *row == CheckDefinition::default() {
        return None;
    }
    let tls = v1::CheckTls { server_name: text(&row.tls_server_name), skip_verify: row.tls_skip_verify };
    Some(v1::CheckDefinition {
        kind: wire_kind(row),
        interval: row.interval_ms.or(interval_ms).map(wire_millis),
        timeout: row.timeout_ms.or(timeout_ms).map(wire_millis),
        deregister_critical_service_after: row.deregister_critical_after_ms.map(wire_millis),
        output_max_size: row.output_max_bytes.unwrap_or_default(),
        success_before_passing: row.success_before_passing,
        failures_before_warning: row.failures_before_warning,
        failures_before_critical: row.failures_before_critical,
        tls: (tls != v1::CheckTls::default()).then_some(tls),
    })
}

fn wire_kind(row: &CheckDefinition) -> Option<Kind> {
    Some(match kind(row) {
        "ttl" => Kind::Ttl(v1::TtlCheck { ttl: row.ttl_ms.map(wire_millis) }),
        "http" => Kind::Http(v1::HttpCheck {
            url: text(&row.http),
            method: text(&row.method),
            headers: row.headers.iter().map(|(name, values)| header(name, values)).collect(),
            body: text(&row.body),
            disable_redirects: row.disable_redirects,
        }),
        "tcp" => Kind::Tcp(v1::TcpCheck { address: text(&row.tcp), use_tls: row.tcp_use_tls }),
        "udp" => Kind::Udp(v1::UdpCheck { address: text(&row.udp) }),
        "grpc" => Kind::Grpc(v1::GrpcCheck { target: text(&row.grpc), use_tls: row.grpc_use_tls }),
        "docker" => Kind::Docker(v1::DockerCheck {
            container_id: text(&row.docker_container_id),
            shell: text(&row.shell),
            args: wire_strs(&row.script_args),
        }),
        "os_service" => Kind::OsService(v1::OsServiceCheck { name: text(&row.os_service) }),
        "script" => Kind::Script(v1::ScriptCheck { args: wire_strs(&row.script_args) }),
        "h2ping" => Kind::H2ping(v1::H2PingCheck { address: text(&row.h2ping), use_tls: Some(row.h2ping_use_tls) }),
        "alias" => Kind::Alias(v1::AliasCheck { node: text(&row.alias_node), service_id: text(&row.alias_service) }),
        "session" => Kind::Session(v1::SessionCheck { name: text(&row.session_name) }),
        _ => return None,
    })
}

fn header(name: &str, values: &[Str]) -> v1::Header {
    v1::Header { name: name.to_owned(), values: wire_strs(values) }
}

fn arguments(args: Vec<String>) -> Result<Vec<Str>, Error> {
    if args.is_empty() { Err(invalid("args", "there is no program to run")) } else { Ok(strs(args)) }
}

fn required(field: &'static str, text: String) -> Result<Option<Str>, Error> {
    if text.is_empty() { Err(invalid(field, "it is missing")) } else { Ok(Some(text.into())) }
}

fn set(text: String) -> Option<Str> {
    Some(text).filter(|text| !text.is_empty()).map(Into::into)
}

fn text(text: &Option<Str>) -> String {
    text.as_deref().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second() -> Option<prost_types::Duration> {
        Some(prost_types::Duration { seconds: 1, nanos: 0 })
    }

    fn kinds() -> Vec<Kind> {
        let headers = vec![v1::Header { name: "x".into(), values: vec!["1".into(), "2".into()] }];
        let (url, body) = ("http://a/".into(), "b".into());
        vec![
            Kind::Http(v1::HttpCheck { url, method: "PUT".into(), headers, body, disable_redirects: true }),
            Kind::Tcp(v1::TcpCheck { address: "a:1".into(), use_tls: true }),
            Kind::Udp(v1::UdpCheck { address: "a:1".into() }),
            Kind::Grpc(v1::GrpcCheck { target: "a:1/s".into(), use_tls: true }),
            Kind::H2ping(v1::H2PingCheck { address: "a:1".into(), use_tls: Some(false) }),
            Kind::Ttl(v1::TtlCheck { ttl: second() }),
            Kind::Script(v1::ScriptCheck { args: vec!["true".into()] }),
            Kind::Docker(v1::DockerCheck { container_id: "c".into(), shell: "sh".into(), args: vec!["true".into()] }),
            Kind::Alias(v1::AliasCheck { node: "n".into(), service_id: "s".into() }),
            Kind::OsService(v1::OsServiceCheck { name: "sshd".into() }),
            Kind::Session(v1::SessionCheck { name: "s".into() }),
        ]
    }

    #[test]
    fn every_kind_of_check_is_told_as_it_was_given() {
        for kind in kinds() {
            let given = v1::CheckDefinition {
                kind: Some(kind),
                interval: second(),
                timeout: second(),
                deregister_critical_service_after: second(),
                output_max_size: 7,
                success_before_passing: 1,
                failures_before_warning: 2,
                failures_before_critical: 3,
                tls: Some(v1::CheckTls { server_name: "a".into(), skip_verify: true }),
            };
            let row = stored(given.clone()).unwrap();
            assert_eq!(wire(&row, None, None), Some(given));
        }
    }

    #[test]
    fn a_definition_that_runs_nothing_is_refused() {
        let empty = [
            None,
            Some(Kind::Http(v1::HttpCheck::default())),
            Some(Kind::Script(v1::ScriptCheck::default())),
            Some(Kind::Ttl(v1::TtlCheck { ttl: Some(prost_types::Duration::default()) })),
            Some(Kind::Alias(v1::AliasCheck::default())),
        ];
        for kind in empty {
            let definition = v1::CheckDefinition { kind, ..Default::default() };
            assert!(stored(definition.clone()).is_err(), "{definition:?}");
        }
    }

    #[test]
    fn a_check_that_is_not_run_has_no_definition() {
        assert_eq!(wire(&CheckDefinition::default(), Some(1), None), None);
    }
}
