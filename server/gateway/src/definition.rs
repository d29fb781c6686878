//! The objects that register nodes, services and checks.

use std::collections::BTreeMap;

use service::agent::{CheckRegistration, ServiceDefinition};
use state::{CheckDefinition, CheckInput, LogIndex, NodeInput, Registration, ServiceAddress, ServiceInput, Status, Str, Weights};

use crate::decode::{self, Object};
use crate::status::{Fault, Outcome};

/// Fields of checks by the older names that are still accepted.
const CHECK_ALIASES: [(&str, &str); 12] = [
    ("args", "ScriptArgs"),
    ("script_args", "ScriptArgs"),
    ("deregister_critical_service_after", "DeregisterCriticalServiceAfter"),
    ("docker_container_id", "DockerContainerID"),
    ("tls_server_name", "TLSServerName"),
    ("tls_skip_verify", "TLSSkipVerify"),
    ("tcp_use_tls", "TCPUseTLS"),
    ("grpc_use_tls", "GRPCUseTLS"),
    ("h2ping_use_tls", "H2PingUseTLS"),
    ("service_id", "ServiceID"),
    ("disable_redirects", "DisableRedirects"),
    ("session_name", "SessionName"),
];

fn malformed(error: String) -> Fault {
    Fault::bad(format!("Request decode failed: {error}"))
}

/// The body of a catalog registration, and the datacenter that it names.
pub(crate) fn registration(body: &[u8]) -> Outcome<(Registration, Option<Str>)> {
    let mut fields = Object::parse(body).map_err(malformed)?;
    let (registration, owners) = read_registration(&mut fields).map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    let node = &registration.node.name;
    if let Some(owner) = owners.iter().find(|owner| !owner.is_empty() && !owner.eq_ignore_ascii_case(node)) {
        return Err(Fault::server(format!("check node \"{owner}\" does not match the node \"{node}\" of the request")));
    }
    let datacenter = Some(registration.node.datacenter.clone()).filter(|name| !name.is_empty());
    Ok((registration, datacenter))
}

/// The registration, and the nodes that its checks claim to belong to.
fn read_registration(fields: &mut Object) -> Result<(Registration, Vec<Str>), String> {
    let node = NodeInput {
        id: fields.text("ID")?,
        name: fields.text("Node")?,
        address: fields.text("Address")?,
        datacenter: fields.text("Datacenter")?,
        tagged_addresses: fields.pairs("TaggedAddresses")?,
        meta: fields.pairs("NodeMeta")?,
    };
    let service = fields.object("Service")?.map(service_row).transpose()?.map(|(service, _)| service);
    let mut checks = Vec::new();
    let mut owners = Vec::new();
    for check in fields.object("Check")?.into_iter().chain(fields.objects("Checks")?) {
        let (check, owner, _) = check_row(check)?;
        checks.push(check);
        owners.push(owner);
    }
    let skip_node_update = fields.flag("SkipNodeUpdate")?;
    fields.must_say_nothing("Locality")?;
    fields.must_say_nothing("PeerName")?;
    fields.no_enterprise()?;
    for indexed in ["CreateIndex", "ModifyIndex"] {
        fields.number(indexed)?;
    }
    Ok((Registration { node, skip_node_update, service, checks }, owners))
}

/// A node as its row is told, with the index that the row has there.
pub(crate) fn node_row(mut fields: Object) -> Result<(NodeInput, LogIndex), String> {
    let node = NodeInput {
        id: fields.text("ID")?,
        name: fields.text("Node")?,
        address: fields.text("Address")?,
        datacenter: fields.text("Datacenter")?,
        tagged_addresses: fields.pairs("TaggedAddresses")?,
        meta: fields.pairs("Meta")?,
    };
    for mesh in ["PeerName", "Locality"] {
        fields.must_say_nothing(mesh)?;
    }
    Ok((node, index(fields)?))
}

/// An instance as its row is told, with the index that the row has there.
pub(crate) fn service_row(mut fields: Object) -> Result<(ServiceInput, LogIndex), String> {
    let service = service_input(&mut fields, "Service")?;
    fields.text("Datacenter")?;
    Ok((service, index(fields)?))
}

/// The index of a row of which all else was read.
fn index(mut fields: Object) -> Result<LogIndex, String> {
    fields.number("CreateIndex")?;
    let index = fields.number("ModifyIndex")?;
    fields.no_enterprise()?;
    fields.finish()?;
    Ok(LogIndex(index))
}

/// The fields that a service has on every face; `name` is what its name is called.
fn service_input(fields: &mut Object, name: &'static str) -> Result<ServiceInput, String> {
    fields.alias("enable_tag_override", "EnableTagOverride");
    fields.alias("tagged_addresses", "TaggedAddresses");
    let service = ServiceInput {
        id: fields.text("ID")?,
        name: fields.text(name)?,
        tags: fields.texts("Tags")?,
        address: fields.text("Address")?,
        port: fields.small_number("Port")?,
        socket_path: fields.text("SocketPath")?,
        meta: fields.pairs("Meta")?,
        tagged_addresses: tagged_addresses(fields)?,
        weights: weights(fields)?,
        enable_tag_override: fields.flag("EnableTagOverride")?,
        kind: fields.text("Kind")?,
    };
    for mesh in ["Proxy", "Connect", "PeerName", "Locality", "Ports"] {
        fields.must_say_nothing(mesh)?;
    }
    fields.no_enterprise()?;
    Ok(service)
}

fn tagged_addresses(fields: &mut Object) -> Result<BTreeMap<Str, ServiceAddress>, String> {
    let Some(tags) = fields.object("TaggedAddresses")? else { return Ok(BTreeMap::new()) };
    let address = |(tag, value)| {
        let mut fields = Object::from_value(value, "TaggedAddresses")?;
        let address = ServiceAddress { address: fields.text("Address")?, port: fields.small_number("Port")? };
        fields.finish()?;
        Ok((Str::from(tag), address))
    };
    tags.into_fields().map(address).collect()
}

/// Weights that are not given are 1, also when only one of the two is.
fn weights(fields: &mut Object) -> Result<Weights, String> {
    let Some(mut fields) = fields.object("Weights")? else { return Ok(Weights::default()) };
    let mut weight = |name: &str| match fields.take(name) {
        None => Ok(1),
        Some(value) => value
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .ok_or_else(|| format!("field {name} of Weights must be a number from 0 to 65535")),
    };
    let weights = Weights { passing: weight("Passing")?, warning: weight("Warning")? };
    fields.finish()?;
    Ok(weights)
}

/// A check as its row is told, with its node and the index that the row has there.
pub(crate) fn check_row(mut fields: Object) -> Result<(CheckInput, Str, LogIndex), String> {
    let owner = fields.text("Node")?;
    let mut check = CheckInput {
        id: fields.text("CheckID")?,
        name: fields.text("Name")?,
        status: status(&fields.text("Status")?)?.unwrap_or_default(),
        notes: fields.text("Notes")?,
        output: fields.text("Output")?,
        service_id: fields.text("ServiceID")?,
        kind: fields.text("Type")?,
        interval_ms: fields.duration_ms("Interval")?,
        timeout_ms: fields.duration_ms("Timeout")?,
        definition: CheckDefinition::default(),
    };
    if let Some(mut definition) = fields.object("Definition")? {
        check.definition = check_definition(&mut definition)?;
        definition.finish()?;
    }
    for derived in ["ServiceName", "PeerName"] {
        fields.text(derived)?;
    }
    fields.texts("ServiceTags")?;
    fields.number("ExposedPort")?;
    Ok((check, owner, index(fields)?))
}

fn status(name: &str) -> Result<Option<Status>, String> {
    match name {
        "" => Ok(None),
        name => Status::from_name(name).map(Some).ok_or_else(|| format!("status \"{name}\" is not 'passing', 'warning' or 'critical'")),
    }
}

/// How a check is run.
fn check_definition(fields: &mut Object) -> Result<CheckDefinition, String> {
    let h2ping = fields.some_text("H2PING")?;
    let h2ping_use_tls = fields.some_flag("H2PingUseTLS")?.unwrap_or(h2ping.is_some());
    let definition = CheckDefinition {
        http: fields.some_text("HTTP")?,
        method: fields.some_text("Method")?,
        headers: headers(fields)?,
        body: fields.some_text("Body")?,
        disable_redirects: fields.flag("DisableRedirects")?,
        tls_server_name: fields.some_text("TLSServerName")?,
        tls_skip_verify: fields.flag("TLSSkipVerify")?,
        tcp: fields.some_text("TCP")?,
        tcp_use_tls: fields.flag("TCPUseTLS")?,
        udp: fields.some_text("UDP")?,
        grpc: fields.some_text("GRPC")?,
        grpc_use_tls: fields.flag("GRPCUseTLS")?,
        h2ping,
        h2ping_use_tls,
        script_args: fields.texts("ScriptArgs")?,
        docker_container_id: fields.some_text("DockerContainerID")?,
        shell: fields.some_text("Shell")?,
        alias_node: fields.some_text("AliasNode")?,
        alias_service: fields.some_text("AliasService")?,
        os_service: fields.some_text("OSService")?,
        session_name: fields.some_text("SessionName")?,
        ttl_ms: fields.duration_ms("TTL")?,
        interval_ms: fields.duration_ms("Interval")?,
        timeout_ms: fields.duration_ms("Timeout")?,
        deregister_critical_after_ms: fields.duration_ms("DeregisterCriticalServiceAfter")?,
        output_max_bytes: Some(fields.small_number("OutputMaxSize")?).filter(|bytes| *bytes > 0),
        success_before_passing: fields.small_number("SuccessBeforePassing")?,
        failures_before_warning: fields.small_number("FailuresBeforeWarning")?,
        failures_before_critical: fields.small_number("FailuresBeforeCritical")?,
    };
    for mesh in ["ProxyHTTP", "ProxyGRPC"] {
        fields.must_say_nothing(mesh)?;
    }
    Ok(definition)
}

fn headers(fields: &mut Object) -> Result<BTreeMap<Str, Vec<Str>>, String> {
    let Some(headers) = fields.object("Header")? else { return Ok(BTreeMap::new()) };
    headers.into_fields().map(|(name, values)| Ok((name.into(), decode::texts(values, "Header")?))).collect()
}

/// The body of a service registration with the agent.
pub(crate) fn service(body: &[u8]) -> Outcome<ServiceDefinition> {
    let mut fields = Object::parse(body).map_err(malformed)?;
    let definition = read_service(&mut fields).map_err(malformed)?;
    fields.finish().map_err(malformed)?;
    if definition.service.name.is_empty() {
        return Err(Fault::bad("Missing service name"));
    }
    Ok(definition)
}

fn read_service(fields: &mut Object) -> Result<ServiceDefinition, String> {
    let checks = fields.object("Check")?.into_iter().chain(fields.objects("Checks")?);
    let checks = checks.map(|check| agent_check(check, "CheckID", true)).collect::<Result<_, String>>()?;
    let token = fields.some_text("Token")?;
    Ok(ServiceDefinition { service: service_input(fields, "Name")?, checks, token })
}

/// The body of a check registration with the agent.
pub(crate) fn check(body: &[u8]) -> Outcome<CheckRegistration> {
    let fields = Object::parse(body).map_err(malformed)?;
    let check = agent_check(fields, "ID", false).map_err(|error| match error.starts_with("status") {
        true => Fault::bad("Bad check status"),
        false => malformed(error),
    })?;
    if check.name.is_empty() {
        return Err(Fault::bad("Missing check name"));
    }
    Ok(check)
}

/// A check; one that comes with a service does not choose its instance or its token.
fn agent_check(mut fields: Object, id: &'static str, in_service: bool) -> Result<CheckRegistration, String> {
    for (old, name) in CHECK_ALIASES {
        fields.alias(old, name);
    }
    let service_id = fields.text("ServiceID")?;
    let check = CheckRegistration {
        id: fields.text(id)?,
        name: fields.text("Name")?,
        notes: fields.text("Notes")?,
        service_id: if in_service { "".into() } else { service_id },
        status: status(&fields.text("Status")?)?,
        token: if in_service { None } else { fields.some_text("Token")? },
        definition: check_definition(&mut fields)?,
    };
    fields.no_enterprise()?;
    fields.finish()?;
    Ok(check)
}

/// The body of a TTL report: the status and what is to be shown with it.
pub(crate) fn report(body: &[u8]) -> Outcome<(Status, Str)> {
    let read = || {
        let mut fields = Object::parse(body)?;
        let found = (fields.text("Status")?, fields.text("Output")?);
        fields.finish()?;
        Ok(found)
    };
    let (name, output) = read().map_err(malformed)?;
    let status = Status::from_name(&name).ok_or_else(|| Fault::bad(format!("Invalid check status: '{name}'")))?;
    Ok((status, output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_registration_is_read_field_by_field() {
        let body = br#"{"Node":"n","Address":"10.0.0.1","Datacenter":"dc1","TaggedAddresses":{"lan":"10.0.0.1"},
            "NodeMeta":{"k":"v"},"Service":{"ID":"w1","Service":"web","Tags":["a"],"Port":80,"Weights":{"Passing":10},
            "TaggedAddresses":{"lan":{"Address":"10.0.0.2","Port":81}},"Proxy":{"Mode":""},"Connect":{}},
            "Check":{"CheckID":"c","Status":"passing","ServiceID":"w1","Definition":{"HTTP":"http://x","Interval":"10s"}},
            "Checks":[{"Node":"N","Name":"d","Interval":"5s"}]}"#;
        let (registration, datacenter) = registration(body).unwrap();
        assert_eq!(datacenter.as_deref(), Some("dc1"));
        let service = registration.service.unwrap();
        assert_eq!((&*service.name, service.port, service.weights), ("web", 80, Weights { passing: 10, warning: 1 }));
        assert_eq!(service.tagged_addresses["lan"].port, 81);
        assert_eq!(registration.checks.len(), 2);
        assert_eq!(registration.checks[0].status, Status::Passing);
        assert_eq!(registration.checks[0].definition.interval_ms, Some(10_000));
        assert_eq!(registration.checks[1].status, Status::Critical);
        assert_eq!(registration.checks[1].interval_ms, Some(5_000));
    }

    #[test]
    fn what_is_wrong_with_a_registration_is_named() {
        let refused = |body: &str| {
            let fault = registration(body.as_bytes()).unwrap_err();
            (fault.status.as_u16(), fault.text)
        };
        assert_eq!(refused(r#"{"Foo":1}"#), (400, "Request decode failed: json: unknown field \"Foo\"".into()));
        assert_eq!(refused(r#"{"Service":{"Nme":"x"}}"#), (400, "Request decode failed: json: unknown field \"Nme\"".into()));
        assert_eq!(refused(""), (400, "Request decode failed: EOF".into()));
        assert_eq!(refused(r#"{"Node":"a","Check":{"Node":"b","Name":"c"}}"#).0, 500);
        assert_eq!(refused(r#"{"Node":"a","Namespace":"x"}"#).0, 400);
    }

    #[test]
    fn agent_definitions_take_the_older_names() {
        let body = br#"{"name":"web","enable_tag_override":true,"tagged_addresses":{"lan":{"address":"1.2.3.4","port":1}},
            "check":{"args":["true"],"Interval":"10s","service_id":"ignored","deregister_critical_service_after":"2m"}}"#;
        let definition = service(body).unwrap();
        assert!(definition.service.enable_tag_override);
        let check = &definition.checks[0];
        assert_eq!((check.definition.script_args.len(), &*check.service_id), (1, ""));
        assert_eq!(check.definition.deregister_critical_after_ms, Some(120_000));
        let text = |fault: Fault| fault.text;
        assert_eq!(text(service(b"{}").unwrap_err()), "Missing service name");
        assert_eq!(text(check_error(r#"{"Name":"x","CheckID":"y"}"#)), "Request decode failed: json: unknown field \"CheckID\"");
        assert_eq!(text(check_error(r#"{"TTL":"1s"}"#)), "Missing check name");
        assert_eq!(text(check_error(r#"{"Name":"x","Status":"great","TTL":"1s"}"#)), "Bad check status");
    }

    fn check_error(body: &str) -> Fault {
        check(body.as_bytes()).unwrap_err()
    }

    #[test]
    fn an_http2_ping_speaks_tls_unless_told_otherwise() {
        let tls = |extra: &str| {
            check(format!(r#"{{"Name":"x","H2PING":"a:1","Interval":"1s"{extra}}}"#).as_bytes()).unwrap().definition.h2ping_use_tls
        };
        assert!(tls(""));
        assert!(!tls(r#","H2PingUseTLS":false"#));
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_or_refused(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = (registration(&body), service(&body), check(&body), report(&body));
        }

        #[test]
        fn any_values_in_known_fields_are_read_or_refused(
            name in proptest::sample::select(vec!["Node", "Service", "Check", "Checks", "Tags", "Port", "Weights", "Meta", "TTL", "Name", "TaggedAddresses"]),
            value in proptest::sample::select(vec!["null", "1", "-1", "1e400", "\"x\"", "[]", "[null]", "[1]", "{}", "{\"a\":null}", "{\"a\":1}", "true", "18446744073709551616"]),
        ) {
            let body = format!("{{\"{name}\":{value}}}");
            let _ = (registration(body.as_bytes()), service(body.as_bytes()), check(body.as_bytes()), report(body.as_bytes()));
        }
    }
}
