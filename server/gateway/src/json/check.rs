//! Health checks.

use state::{Check, CheckDefinition, Str};

use super::Json;
use crate::duration::print_ms;

/// One check.
pub(crate) fn check(json: &mut Json, check: &Check) {
    let duration = |ms: Option<u64>| ms.map(print_ms).unwrap_or_default();
    json.object(|json| {
        json.name("Node").text(&check.node);
        json.name("CheckID").text(&check.id);
        json.name("Name").text(&check.name);
        json.name("Status").text(check.status.as_str());
        json.name("Notes").text(&check.notes);
        json.name("Output").text(&check.output);
        json.name("ServiceID").text(&check.service_id);
        json.name("ServiceName").text(&check.service_name);
        json.name("ServiceTags").texts(&check.service_tags);
        json.name("Type").text(&check.kind);
        json.name("Interval").text(&duration(check.interval_ms));
        json.name("Timeout").text(&duration(check.timeout_ms));
        json.name("ExposedPort").number(0);
        json.name("Definition");
        definition(json, &check.definition);
        json.name("CreateIndex").number(check.create_index.0);
        json.name("ModifyIndex").number(check.modify_index.0);
    });
}

/// The fields of a definition that are set.
fn definition(json: &mut Json, definition: &CheckDefinition) {
    let CheckDefinition {
        http,
        method,
        headers,
        body,
        disable_redirects,
        tls_server_name,
        tls_skip_verify,
        tcp,
        tcp_use_tls,
        udp,
        grpc,
        grpc_use_tls,
        h2ping,
        h2ping_use_tls,
        script_args,
        docker_container_id,
        shell,
        alias_node,
        alias_service,
        os_service,
        session_name,
        ttl_ms,
        interval_ms,
        timeout_ms,
        deregister_critical_after_ms,
        output_max_bytes,
        success_before_passing: _,
        failures_before_warning: _,
        failures_before_critical: _,
    } = definition;
    json.object(|json| {
        text(json, "HTTP", http);
        if !headers.is_empty() {
            json.name("Header").object(|json| {
                for (name, values) in headers {
                    json.key(name).texts(values);
                }
            });
        }
        text(json, "Method", method);
        text(json, "Body", body);
        flag(json, "DisableRedirects", *disable_redirects);
        text(json, "TLSServerName", tls_server_name);
        flag(json, "TLSSkipVerify", *tls_skip_verify);
        text(json, "TCP", tcp);
        flag(json, "TCPUseTLS", *tcp_use_tls);
        text(json, "UDP", udp);
        text(json, "GRPC", grpc);
        flag(json, "GRPCUseTLS", *grpc_use_tls);
        text(json, "H2PING", h2ping);
        flag(json, "H2PingUseTLS", *h2ping_use_tls);
        if !script_args.is_empty() {
            json.name("ScriptArgs").texts(script_args);
        }
        text(json, "DockerContainerID", docker_container_id);
        text(json, "Shell", shell);
        text(json, "AliasNode", alias_node);
        text(json, "AliasService", alias_service);
        text(json, "OSService", os_service);
        text(json, "SessionName", session_name);
        duration(json, "TTL", *ttl_ms);
        duration(json, "Interval", *interval_ms);
        duration(json, "Timeout", *timeout_ms);
        duration(json, "DeregisterCriticalServiceAfter", *deregister_critical_after_ms);
        if let Some(bytes) = output_max_bytes {
            json.name("OutputMaxSize").number((*bytes).into());
        }
    });
}

fn text(json: &mut Json, name: &'static str, value: &Option<Str>) {
    if let Some(value) = value {
        json.name(name).text(value);
    }
}

fn flag(json: &mut Json, name: &'static str, value: bool) {
    if value {
        json.name(name).flag(true);
    }
}

fn duration(json: &mut Json, name: &'static str, ms: Option<u64>) {
    if let Some(ms) = ms {
        json.name(name).text(&print_ms(ms));
    }
}
