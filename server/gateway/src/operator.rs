//! `/v1/operator/autopilot/`: how the servers do, and how they are to be looked after.

use axum::body::Body;
use http::StatusCode;
use service::autopilot::{AutopilotState, ServerHealth, at_index};
use state::{Autopilot, LogIndex};

use crate::Gateway;
use crate::duration::{parse, print_ms};
use crate::json::Json;
use crate::reply::Reply;
use crate::request::{self, Ask};
use crate::status::{Fault, Outcome};

/// Far more than a configuration needs.
const BODY_BYTES_MAX: usize = 64 << 10;

/// `GET /v1/operator/autopilot/health`: 429 when some server is not well.
pub(crate) fn health(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let state = gateway.service.autopilot_state(&ask.caller)?;
    let mut json = Json::new();
    json.object(|json| {
        json.name("Healthy").flag(state.healthy);
        json.name("FailureTolerance").number(state.failure_tolerance.into());
        json.name("Servers").array(|json| {
            for server in &state.servers {
                json.object(|json| {
                    about(json, server);
                    json.name("SerfStatus").text(server.member_status);
                    json.name("Leader").flag(server.leader);
                    json.name("Voter").flag(server.peer.voter);
                });
            }
        });
    });
    let reply = gateway.json(ask, json);
    Ok(if state.healthy { reply } else { reply.status(StatusCode::TOO_MANY_REQUESTS) })
}

/// `GET /v1/operator/autopilot/state`
pub(crate) fn state(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let AutopilotState { healthy, failure_tolerance, optimistic_failure_tolerance, servers } =
        gateway.service.autopilot_state(&ask.caller)?;
    let mut json = Json::new();
    json.object(|json| {
        json.name("Healthy").flag(healthy);
        json.name("FailureTolerance").number(failure_tolerance.into());
        json.name("OptimisticFailureTolerance").number(optimistic_failure_tolerance.into());
        json.name("Servers").object(|json| {
            for server in &servers {
                json.key(&server.peer.id.to_string()).object(|json| {
                    about(json, server);
                    json.name("NodeStatus").text(server.member_status);
                    let status = match (server.leader, server.peer.voter) {
                        (true, _) => "leader",
                        (_, true) => "voter",
                        _ => "non-voter",
                    };
                    json.name("Status").text(status);
                    json.name("NodeType").text("voter");
                    json.name("Meta").object(|_| {});
                });
            }
        });
        let leader = servers.iter().find(|server| server.leader).map(|server| server.peer.id.to_string());
        json.name("Leader").text(&leader.unwrap_or_default());
        json.name("Voters").array(|json| {
            for server in servers.iter().filter(|server| server.peer.voter) {
                json.text(&server.peer.id.to_string());
            }
        });
    });
    Ok(gateway.json(ask, json))
}

/// What both lists say of a server.
fn about(json: &mut Json, server: &ServerHealth) {
    let contact = server.follower.last_contact.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    json.name("ID").text(&server.peer.id.to_string());
    json.name("Name").text(&server.peer.name);
    json.name("Address").text(&server.peer.address);
    json.name("Version").text(&server.version);
    json.name("LastContact").text(&contact.map_or_else(|| "never".into(), print_ms));
    json.name("LastTerm").number(server.follower.last_term);
    json.name("LastIndex").number(server.follower.last_index);
    json.name("Healthy").flag(server.healthy);
    json.name("StableSince").text(&humantime::format_rfc3339_seconds(server.stable_since).to_string());
}

/// `GET /v1/operator/autopilot/configuration`
pub(crate) async fn configuration(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (options, _) = ask.reading()?;
    let found = gateway.service.autopilot_configuration(&ask.caller, &options).await?;
    let (wanted, mut json) = (found.value, Json::new());
    json.object(|json| {
        json.name("CleanupDeadServers").flag(wanted.cleanup_dead_servers);
        json.name("LastContactThreshold").text(&print_ms(wanted.last_contact_threshold_ms));
        json.name("MaxTrailingLogs").number(wanted.max_trailing_logs);
        json.name("MinQuorum").number(wanted.min_quorum.into());
        json.name("ServerStabilizationTime").text(&print_ms(wanted.server_stabilization_ms));
        json.name("RedundancyZoneTag").text("");
        json.name("DisableUpgradeMigration").flag(false);
        json.name("UpgradeVersionTag").text("");
        json.name("CreateIndex").number(wanted.create_index.0);
        json.name("ModifyIndex").number(wanted.modify_index.0);
    });
    Ok(gateway.json(ask, json))
}

/// `PUT /v1/operator/autopilot/configuration`
pub(crate) async fn configure(gateway: &Gateway, ask: &Ask, body: Body) -> Outcome<Reply> {
    let cas = ask.params.first("cas").map(|text| text.parse().map_err(|_| Fault::bad("Error parsing cas value"))).transpose()?;
    let body = request::read(&ask.headers, body, BODY_BYTES_MAX).await?;
    let given: serde_json::Value = serde_json::from_slice(&body).map_err(|error| decoding(&error.to_string()))?;
    let wanted = wanted(&given)?;
    let set = gateway.service.set_autopilot(&ask.caller, ask.datacenter(), wanted, at_index(cas.map(LogIndex))).await;
    match set {
        Ok(_) => Ok(gateway.verdict(ask, true)),
        Err(error) if error.reason == service::Reason::PreconditionFailed => Ok(gateway.verdict(ask, false)),
        Err(error) => Err(error.into()),
    }
}

fn decoding(why: &str) -> Fault {
    Fault::bad(format!("Error parsing autopilot config: {why}"))
}

/// The values of a body; what it leaves out is as it comes.
fn wanted(given: &serde_json::Value) -> Outcome<Autopilot> {
    let fields = given.as_object().ok_or_else(|| decoding("a JSON object is expected"))?;
    let mut wanted = Autopilot::default();
    for (name, value) in fields {
        let number = || value.as_u64().ok_or_else(|| decoding(&format!("`{name}` is not a number from 0 up")));
        let time = || match (value.as_str(), value.as_u64()) {
            (Some(text), _) => parse(text).ok_or_else(|| decoding(&format!("`{name}`: `{text}` is not a duration"))),
            (_, Some(nanos)) => Ok(std::time::Duration::from_nanos(nanos)),
            _ => Err(decoding(&format!("`{name}` is not a duration"))),
        };
        let millis = || time().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        match name.as_str() {
            "CleanupDeadServers" => {
                wanted.cleanup_dead_servers = value.as_bool().ok_or_else(|| decoding("`CleanupDeadServers` is neither true nor false"))?;
            }
            "LastContactThreshold" => wanted.last_contact_threshold_ms = millis()?,
            "MaxTrailingLogs" => wanted.max_trailing_logs = number()?,
            "MinQuorum" => wanted.min_quorum = u32::try_from(number()?).map_err(|_| decoding("`MinQuorum` is too large"))?,
            "ServerStabilizationTime" => wanted.server_stabilization_ms = millis()?,
            "RedundancyZoneTag" | "UpgradeVersionTag" if value.as_str().is_some_and(str::is_empty) => {}
            "DisableUpgradeMigration" if value == false => {}
            // An answer may be sent back as it came.
            "CreateIndex" | "ModifyIndex" => {}
            other => return Err(decoding(&format!("`{other}` is not a part of this version's configuration"))),
        }
    }
    Ok(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_as_it_is_printed() {
        let body = serde_json::json!({"CleanupDeadServers": false, "LastContactThreshold": "1.5s", "MaxTrailingLogs": 9, "MinQuorum": 3, "ServerStabilizationTime": 2_000_000_000u64, "UpgradeVersionTag": "", "ModifyIndex": 7});
        let read = wanted(&body).unwrap();
        assert_eq!((read.cleanup_dead_servers, read.last_contact_threshold_ms, read.server_stabilization_ms), (false, 1500, 2000));
        assert_eq!((read.max_trailing_logs, read.min_quorum), (9, 3));
        for body in [
            serde_json::json!([]),
            serde_json::json!({"MinQuorum": -1}),
            serde_json::json!({"LastContactThreshold": "x"}),
            serde_json::json!({"UpgradeVersionTag": "v"}),
            serde_json::json!({"Typo": 1}),
        ] {
            assert_eq!(wanted(&body).unwrap_err().status, StatusCode::BAD_REQUEST, "{body}");
        }
    }
}
