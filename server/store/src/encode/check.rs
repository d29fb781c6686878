//! Checks and how they are run.

use proto::storage::v1 as pb;
use state::{Check, CheckDefinition, LogIndex, Status};

use crate::encode::{Malformed, from_option, from_strs, to_option, to_strs};

pub(super) fn from_check(check: &Check) -> pb::Check {
    pb::Check {
        node: check.node.to_string(),
        id: check.id.to_string(),
        name: check.name.to_string(),
        status: from_status(check.status).into(),
        notes: check.notes.to_string(),
        output: check.output.to_string(),
        service_id: check.service_id.to_string(),
        service_name: check.service_name.to_string(),
        service_tags: from_strs(&check.service_tags),
        kind: check.kind.to_string(),
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        definition: from_definition(&check.definition),
        create_index: check.create_index.0,
        modify_index: check.modify_index.0,
    }
}

pub(super) fn to_check(check: pb::Check) -> Result<Check, Malformed> {
    Ok(Check {
        status: to_status(check.status())?,
        node: check.node.into(),
        id: check.id.into(),
        name: check.name.into(),
        notes: check.notes.into(),
        output: check.output.into(),
        service_id: check.service_id.into(),
        service_name: check.service_name.into(),
        service_tags: to_strs(check.service_tags),
        kind: check.kind.into(),
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        definition: check.definition.map(to_definition).unwrap_or_default(),
        create_index: LogIndex(check.create_index),
        modify_index: LogIndex(check.modify_index),
    })
}

pub(super) fn from_status(status: Status) -> pb::Status {
    match status {
        Status::Passing => pb::Status::Passing,
        Status::Warning => pb::Status::Warning,
        Status::Critical => pb::Status::Critical,
    }
}

/// A number that is not one of the enum reads as unspecified, which is never written.
pub(super) fn to_status(status: pb::Status) -> Result<Status, Malformed> {
    match status {
        pb::Status::Unspecified => Err(Malformed::Unknown("status")),
        pb::Status::Passing => Ok(Status::Passing),
        pb::Status::Warning => Ok(Status::Warning),
        pb::Status::Critical => Ok(Status::Critical),
    }
}

/// Most checks come without a definition; then nothing is written.
pub(super) fn from_definition(definition: &CheckDefinition) -> Option<pb::CheckDefinition> {
    if *definition == CheckDefinition::default() {
        return None;
    }
    let headers = definition.headers.iter();
    Some(pb::CheckDefinition {
        http: from_option(&definition.http),
        method: from_option(&definition.method),
        headers: headers.map(|(name, values)| pb::Header { name: name.to_string(), values: from_strs(values) }).collect(),
        body: from_option(&definition.body),
        disable_redirects: definition.disable_redirects,
        tls_server_name: from_option(&definition.tls_server_name),
        tls_skip_verify: definition.tls_skip_verify,
        tcp: from_option(&definition.tcp),
        tcp_use_tls: definition.tcp_use_tls,
        udp: from_option(&definition.udp),
        grpc: from_option(&definition.grpc),
        grpc_use_tls: definition.grpc_use_tls,
        h2ping: from_option(&definition.h2ping),
        h2ping_use_tls: definition.h2ping_use_tls,
        script_args: from_strs(&definition.script_args),
        docker_container_id: from_option(&definition.docker_container_id),
        shell: from_option(&definition.shell),
        alias_node: from_option(&definition.alias_node),
        alias_service: from_option(&definition.alias_service),
        os_service: from_option(&definition.os_service),
        session_name: from_option(&definition.session_name),
        ttl_ms: definition.ttl_ms,
        interval_ms: definition.interval_ms,
        timeout_ms: definition.timeout_ms,
        deregister_critical_after_ms: definition.deregister_critical_after_ms,
        output_max_bytes: definition.output_max_bytes,
        success_before_passing: definition.success_before_passing,
        failures_before_warning: definition.failures_before_warning,
        failures_before_critical: definition.failures_before_critical,
    })
}

pub(super) fn to_definition(definition: pb::CheckDefinition) -> CheckDefinition {
    let headers = definition.headers.into_iter();
    CheckDefinition {
        http: to_option(definition.http),
        method: to_option(definition.method),
        headers: headers.map(|header| (header.name.into(), to_strs(header.values))).collect(),
        body: to_option(definition.body),
        disable_redirects: definition.disable_redirects,
        tls_server_name: to_option(definition.tls_server_name),
        tls_skip_verify: definition.tls_skip_verify,
        tcp: to_option(definition.tcp),
        tcp_use_tls: definition.tcp_use_tls,
        udp: to_option(definition.udp),
        grpc: to_option(definition.grpc),
        grpc_use_tls: definition.grpc_use_tls,
        h2ping: to_option(definition.h2ping),
        h2ping_use_tls: definition.h2ping_use_tls,
        script_args: to_strs(definition.script_args),
        docker_container_id: to_option(definition.docker_container_id),
        shell: to_option(definition.shell),
        alias_node: to_option(definition.alias_node),
        alias_service: to_option(definition.alias_service),
        os_service: to_option(definition.os_service),
        session_name: to_option(definition.session_name),
        ttl_ms: definition.ttl_ms,
        interval_ms: definition.interval_ms,
        timeout_ms: definition.timeout_ms,
        deregister_critical_after_ms: definition.deregister_critical_after_ms,
        output_max_bytes: definition.output_max_bytes,
        success_before_passing: definition.success_before_passing,
        failures_before_warning: definition.failures_before_warning,
        failures_before_critical: definition.failures_before_critical,
    }
}
