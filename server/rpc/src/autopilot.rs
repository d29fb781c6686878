//! How servers are looked after, over gRPC.

use prost_types::FieldMask;
use proto::v1;
use service::autopilot::{AutopilotState, ServerHealth};
use service::{Error, Service};
use state::{Autopilot, Compare, LogIndex};
use tonic::Request;

use crate::caller::open;
use crate::convert::common::{local_meta, meta, millis, read_options, wire_duration, wire_millis, write_meta, write_to};
use crate::convert::kv::condition;
use crate::operator::peer;
use crate::status::{invalid, not_implemented};

/// How the servers do.
pub(crate) fn state(service: &Service, request: Request<v1::GetAutopilotStateRequest>) -> Result<v1::GetAutopilotStateResponse, Error> {
    let (caller, v1::GetAutopilotStateRequest { datacenter }) = open(request)?;
    service.check_datacenter(Some(&datacenter))?;
    let AutopilotState { healthy, failure_tolerance, optimistic_failure_tolerance, servers } = service.autopilot_state(&caller)?;
    Ok(v1::GetAutopilotStateResponse {
        meta: Some(local_meta(service)),
        healthy,
        failure_tolerance,
        optimistic_failure_tolerance,
        servers: servers.iter().map(server).collect(),
    })
}

fn server(server: &ServerHealth) -> v1::ServerHealth {
    let ServerHealth { peer: found, leader, follower, member_status, version, healthy, stable_since } = server;
    v1::ServerHealth {
        server: Some(v1::RaftServer { peer: Some(peer(found)), leader: *leader, voter: found.voter, last_log_index: follower.last_index }),
        healthy: *healthy,
        last_contact: follower.last_contact.map(wire_duration),
        last_term: follower.last_term,
        version: version.clone(),
        stable_since: Some((*stable_since).into()),
        member_status: (*member_status).to_owned(),
    }
}

/// How they are looked after.
pub(crate) async fn configuration(
    service: &Service,
    request: Request<v1::GetAutopilotConfigurationRequest>,
) -> Result<v1::GetAutopilotConfigurationResponse, Error> {
    let (caller, v1::GetAutopilotConfigurationRequest { options }) = open(request)?;
    let answer = service.autopilot_configuration(&caller, &read_options(options)?).await?;
    Ok(v1::GetAutopilotConfigurationResponse { meta: Some(meta(answer.meta)), configuration: Some(wire(&answer.value)) })
}

/// Changes how they are looked after.
pub(crate) async fn set(
    service: &Service,
    request: Request<v1::SetAutopilotConfigurationRequest>,
) -> Result<v1::SetAutopilotConfigurationResponse, Error> {
    let (caller, v1::SetAutopilotConfigurationRequest { options, configuration, update_mask, precondition }) = open(request)?;
    let given = configuration.ok_or_else(|| invalid("configuration", "give the values to set"))?;
    let present = service.autopilot_configuration(&caller, &read_options(None)?).await?.value;
    let mask = update_mask.filter(|mask| !mask.paths.is_empty());
    // What is left out stays as it is, and must not be changed by somebody else in between.
    let between = mask.as_ref().map(|_| Compare::ModifyIndex(present.modify_index));
    let wanted = masked(present, &given, mask)?;
    let compare = match one_row(precondition)? {
        Compare::Any => between.unwrap_or(Compare::Any),
        compare => compare,
    };
    let set = service.set_autopilot(&caller, write_to(options).as_deref(), wanted, compare).await?;
    Ok(v1::SetAutopilotConfigurationResponse { meta: Some(write_meta(service, set.index)), configuration: Some(wire(&set.value)) })
}

/// What must hold of the configuration; it is changed without a lock.
fn one_row(precondition: Option<v1::Precondition>) -> Result<Compare, Error> {
    let condition = condition(precondition)?;
    match condition.fence {
        None => Ok(condition.compare),
        Some(_) => Err(not_implemented("fence")),
    }
}

fn masked(present: Autopilot, given: &v1::AutopilotConfiguration, mask: Option<FieldMask>) -> Result<Autopilot, Error> {
    let Some(mask) = mask else { return whole(given) };
    let mut wanted = present;
    let all = whole(given)?;
    for path in &mask.paths {
        match path.as_str() {
            "cleanup_dead_servers" => wanted.cleanup_dead_servers = all.cleanup_dead_servers,
            "last_contact_threshold" => wanted.last_contact_threshold_ms = all.last_contact_threshold_ms,
            "max_trailing_logs" => wanted.max_trailing_logs = all.max_trailing_logs,
            "min_quorum" => wanted.min_quorum = all.min_quorum,
            "server_stabilization_time" => wanted.server_stabilization_ms = all.server_stabilization_ms,
            other => return Err(invalid("update_mask", format_args!("there is no field `{other}` that can be set"))),
        }
    }
    Ok(wanted)
}

fn whole(given: &v1::AutopilotConfiguration) -> Result<Autopilot, Error> {
    let usual = Autopilot::default();
    Ok(Autopilot {
        cleanup_dead_servers: given.cleanup_dead_servers,
        last_contact_threshold_ms: millis("last_contact_threshold", given.last_contact_threshold)?
            .unwrap_or(usual.last_contact_threshold_ms),
        max_trailing_logs: given.max_trailing_logs,
        min_quorum: given.min_quorum,
        server_stabilization_ms: millis("server_stabilization_time", given.server_stabilization_time)?
            .unwrap_or(usual.server_stabilization_ms),
        create_index: LogIndex::ZERO,
        modify_index: LogIndex::ZERO,
    })
}

fn wire(autopilot: &Autopilot) -> v1::AutopilotConfiguration {
    v1::AutopilotConfiguration {
        cleanup_dead_servers: autopilot.cleanup_dead_servers,
        last_contact_threshold: Some(wire_millis(autopilot.last_contact_threshold_ms)),
        max_trailing_logs: autopilot.max_trailing_logs,
        min_quorum: autopilot.min_quorum,
        server_stabilization_time: Some(wire_millis(autopilot.server_stabilization_ms)),
        create_index: autopilot.create_index.0,
        modify_index: autopilot.modify_index.0,
    }
}

/// A length of time on the wire, for tests.
#[cfg(test)]
fn seconds(seconds: u64) -> prost_types::Duration {
    wire_duration(std::time::Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let given = v1::AutopilotConfiguration { min_quorum: 5, server_stabilization_time: Some(seconds(3)), ..Default::default() };
        let mask = |path: &str| Some(FieldMask { paths: vec![path.into()] });
        let present = Autopilot { max_trailing_logs: 77, ..Autopilot::default() };
        let wanted = masked(present, &given, mask("min_quorum")).unwrap();
        assert_eq!((wanted.min_quorum, wanted.max_trailing_logs, wanted.server_stabilization_ms), (5, 77, 10_000));
        let wanted = masked(present, &given, None).unwrap();
        assert_eq!((wanted.max_trailing_logs, wanted.server_stabilization_ms), (0, 3_000));
        assert!(masked(present, &given, mask("create_index")).unwrap_err().message.contains("create_index"));
    }
}
