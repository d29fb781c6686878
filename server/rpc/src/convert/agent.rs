//! Registrations with the local agent.

use ::service::Error;
use ::service::agent::{Aggregate, CheckRegistration, InstanceHealth, LocalService, ServiceDefinition};
use ::service::cluster::{Coordinate, Member, Status};
use ::service::host::{Host, Memory, Processor};
use ::service::monitor::{Level, Told};
use proto::v1;
use std::sync::Arc;

use super::check::given_status;
use super::{definition, service};
use crate::status::invalid;

/// How an instance here does.
pub(crate) fn instance_health(instance: &InstanceHealth) -> v1::LocalInstanceHealth {
    v1::LocalInstanceHealth {
        service: Some(local_service(&instance.service)),
        status: aggregate(instance.status).into(),
        checks: instance.checks.iter().map(|row| super::check::check(row)).collect(),
    }
}

/// What several checks come to.
pub(crate) fn aggregate(status: Aggregate) -> v1::HealthStatus {
    match status {
        Aggregate::Passing => v1::HealthStatus::Passing,
        Aggregate::Warning => v1::HealthStatus::Warning,
        Aggregate::Critical => v1::HealthStatus::Critical,
        Aggregate::Maintenance => v1::HealthStatus::Maintenance,
    }
}

/// The machine.
pub(crate) fn host(host: Host) -> v1::GetHostResponse {
    let used = host.memory.used();
    let Memory { total, available, free, buffers, cached, swap_total, swap_free, .. } = host.memory;
    let processor = |one: Processor| v1::HostProcessor { number: one.number, vendor: one.vendor, model: one.model, mhz: one.mhz };
    let seconds = |seconds: u64| prost_types::Timestamp { seconds: i64::try_from(seconds).unwrap_or(i64::MAX), nanos: 0 };
    let system = host.system;
    let nanos = (host.collected_ns % 1_000_000_000) as i32;
    v1::GetHostResponse {
        memory: Some(v1::HostMemory { total, available, used, free, buffers, cached, swap_total, swap_free }),
        processors: host.processors.into_iter().map(processor).collect(),
        system: Some(v1::HostSystem {
            host_name: system.host_name,
            booted_at: Some(seconds(system.boot_time_s)),
            processes: system.processes,
            platform: system.platform,
            platform_version: system.platform_version,
            kernel_version: system.kernel_version,
            architecture: system.architecture,
        }),
        disk: Some(v1::HostDisk { path: host.disk.path, total: host.disk.total, free: host.disk.free, used: host.disk.used }),
        collected_at: Some(prost_types::Timestamp { nanos, ..seconds(host.collected_ns / 1_000_000_000) }),
        errors: host.errors,
    }
}

/// An instance to be registered, and whether it replaces the checks that were there before.
pub(crate) fn register_service(request: v1::RegisterServiceRequest, token: Option<Arc<str>>) -> Result<(ServiceDefinition, bool), Error> {
    let v1::RegisterServiceRequest { service: instance, checks, replace_existing_checks } = request;
    let instance = instance.ok_or_else(|| invalid("service", "it is missing"))?;
    let checks: Result<Vec<CheckRegistration>, Error> =
        checks.into_iter().map(|given| check(given, String::new(), token.clone())).collect();
    Ok((ServiceDefinition { service: service::input(instance), checks: checks?, token }, replace_existing_checks))
}

/// A check to be registered.
pub(crate) fn register_check(request: v1::RegisterCheckRequest, token: Option<Arc<str>>) -> Result<CheckRegistration, Error> {
    let v1::RegisterCheckRequest { check: given, service_id } = request;
    check(given.ok_or_else(|| invalid("check", "it is missing"))?, service_id, token)
}

fn check(given: v1::CheckRegistration, service_id: String, token: Option<Arc<str>>) -> Result<CheckRegistration, Error> {
    let v1::CheckRegistration { check_id, name, notes, status, definition } = given;
    let definition = definition.ok_or_else(|| invalid("definition", "it is missing; say how the check is run"))?;
    Ok(CheckRegistration {
        id: check_id.into(),
        name: name.into(),
        notes: notes.into(),
        service_id: service_id.into(),
        status: given_status("status", status)?,
        definition: definition::stored(definition)?,
        token,
    })
}

/// An instance that is registered here, for the wire; its token stays here.
pub(crate) fn local_service(local: &LocalService) -> v1::Service {
    let LocalService { row, token: _, source: _ } = local;
    service::service(row)
}

/// A member of a pool.
pub(crate) fn member(member: Member) -> v1::Member {
    let Member { name, node_id: _, address, port, tags, status } = member;
    let status = match status {
        Status::Alive => v1::MemberStatus::Alive,
        Status::Leaving => v1::MemberStatus::Leaving,
        Status::Left => v1::MemberStatus::Left,
        Status::Failed => v1::MemberStatus::Failed,
    };
    v1::Member {
        name,
        address: address.to_string(),
        port: port.into(),
        tags: tags.into_iter().collect(),
        status: status.into(),
        incarnation: 0,
    }
}

/// A member's place in the network.
pub(crate) fn coordinate(node: String, at: &Coordinate) -> v1::Coordinate {
    v1::Coordinate { node, vec: at.vec.to_vec(), error: at.error, adjustment: at.adjustment, height: at.height }
}

/// The least grave lines that are wanted; unset is `info`.
pub(crate) fn log_level(level: i32) -> Result<Level, Error> {
    Ok(match v1::LogLevel::try_from(level) {
        Ok(v1::LogLevel::Trace) => Level::Trace,
        Ok(v1::LogLevel::Debug) => Level::Debug,
        Ok(v1::LogLevel::Unspecified | v1::LogLevel::Info) => Level::Info,
        Ok(v1::LogLevel::Warn) => Level::Warn,
        Ok(v1::LogLevel::Error) => Level::Error,
        Err(_) => return Err(invalid("level", format_args!("`{level}` is not known"))),
    })
}

/// A line of the log.
pub(crate) fn log_line(Told { line, dropped }: Told) -> v1::MonitorResponse {
    let level = match line.level {
        Level::Trace => v1::LogLevel::Trace,
        Level::Debug => v1::LogLevel::Debug,
        Level::Info => v1::LogLevel::Info,
        Level::Warn => v1::LogLevel::Warn,
        Level::Error => v1::LogLevel::Error,
    };
    v1::MonitorResponse {
        time: Some(line.time.into()),
        level: level.into(),
        target: line.target.clone(),
        message: line.message.clone(),
        fields: line.fields.iter().cloned().collect(),
        dropped,
    }
}
