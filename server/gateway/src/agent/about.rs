//! Who this agent is: itself, its version, its members, its metrics.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use service::cluster::{Member, PoolKind, Status};
use service::filter::{Selectable, Selected, Value};

use crate::Gateway;
use crate::catalog::chosen;
use crate::cluster;
use crate::json::Json;
use crate::metrics as parse;
use crate::reply::{Content, Reply};
use crate::request::Ask;
use crate::status::{Fault, Outcome};

/// A member of a pool, as filters see it.
struct Listed(Member);

/// The number of a state.
fn number(status: Status) -> u64 {
    match status {
        Status::Alive => 1,
        Status::Leaving => 2,
        Status::Left => 3,
        Status::Failed => 4,
    }
}

/// `GET /v1/agent/self`
pub(crate) fn about(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let identity = gateway.service.identity();
    let status = gateway.service.consensus_status();
    let mut json = Json::new();
    json.object(|json| {
        json.name("Config").object(|json| {
            json.name("Datacenter").text(&identity.datacenter);
            json.name("PrimaryDatacenter").text(&identity.datacenter);
            json.name("NodeName").text(&identity.node_name);
            json.name("NodeID").text(&identity.node_id);
            json.name("Revision").text("");
            json.name("Server").flag(identity.server);
            json.name("Version").text(identity.version);
            json.name("BuildDate").text("");
        });
        json.name("DebugConfig").object(|json| {
            json.name("DevMode").flag(gateway.options.dev);
            json.name("Datacenter").text(&identity.datacenter);
            json.name("NodeName").text(&identity.node_name);
            json.name("AdvertiseAddrLAN").text(&identity.address);
            json.name("ServerPort").number(identity.server_port.into());
        });
        json.name("Coord").raw("null");
        json.name("Member");
        member_shape(json, &gateway.service.this_member(PoolKind::Lan));
        json.name("Stats").object(|json| {
            json.name("consul").object(|json| {
                json.name("server").text(if identity.server { "true" } else { "false" });
                json.name("leader").text(if status.state == "leader" { "true" } else { "false" });
                json.name("leader_addr").text(&gateway.service.leader_address().unwrap_or_default());
                json.name("known_datacenters").text(&gateway.service.datacenters().len().to_string());
            });
            json.name("raft").object(|json| {
                json.name("state").text(status.state);
                for (name, number) in [("term", status.term), ("last_log_index", status.last_index), ("applied_index", status.applied)] {
                    json.name(name).text(&number.to_string());
                }
                json.name("num_peers").text(&status.peers.len().saturating_sub(1).to_string());
            });
        });
        json.name("Meta").nothing();
        json.name("xDS");
        ports(json, gateway.options.grpc_port);
    });
    Ok(gateway.json(ask, json))
}

/// Where gRPC is, under the name that tools look for.
fn ports(json: &mut Json, grpc: Option<u16>) {
    let Some(port) = grpc.map(u64::from) else {
        json.raw("null");
        return;
    };
    json.object(|json| {
        json.name("SupportedProxies").object(|_| {});
        json.name("Port").number(port);
        json.name("Ports").object(|json| {
            json.name("Plaintext").number(port).name("TLS").raw("-1");
        });
    });
}

/// `GET /v1/agent/version`
pub(crate) fn version(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let mut json = Json::new();
    json.object(|json| {
        json.name("SHA").text("");
        json.name("BuildDate").text("");
        json.name("HumanVersion").text(gateway.service.identity().version);
        json.name("FIPS").text("");
    });
    Ok(gateway.json(ask, json))
}

/// `GET /v1/agent/members`
pub(crate) fn members(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    if ask.params.has("wan") && ask.params.get("segment").is_some() {
        return Err(Fault::bad("Cannot provide a segment with wan=true"));
    }
    let filter = ask.filter::<Listed>()?;
    let members = gateway.service.members(&ask.caller, cluster::pool(ask))?;
    let mut json = Json::new();
    json.array(|json| {
        for member in members.into_iter().map(Listed).filter(|member| chosen(&filter, member)) {
            member_shape(json, &member.0);
        }
    });
    Ok(gateway.json(ask, json))
}

fn member_shape(json: &mut Json, member: &Member) {
    json.object(|json| {
        json.name("Name").text(&member.name);
        json.name("Addr").text(&member.address.to_string());
        json.name("Port").number(member.port.into());
        json.name("Tags").object(|json| {
            for (tag, value) in &member.tags {
                json.key(tag).text(value);
            }
        });
        json.name("Status").number(number(member.status));
        for (name, number) in
            [("ProtocolMin", 1), ("ProtocolMax", 5), ("ProtocolCur", 2), ("DelegateMin", 2), ("DelegateMax", 5), ("DelegateCur", 4)]
        {
            json.name(name).number(number);
        }
    });
}

impl Selectable for Listed {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        let member = &self.0;
        let value = match (head, rest) {
            ("Name", []) => Value::Text(&member.name),
            ("Port", []) => Value::Number(member.port.into()),
            ("Tags", [tag]) => member.tags.get(&**tag).map_or(Value::Absent, |value| Value::Text(value)),
            ("Status", []) => Value::Number(number(member.status)),
            _ => return None,
        };
        Some(Selected::One(value))
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        static EXAMPLE: LazyLock<Listed> = LazyLock::new(|| {
            Listed(Member {
                name: String::new(),
                node_id: String::new(),
                address: std::net::Ipv4Addr::UNSPECIFIED.into(),
                port: 0,
                tags: BTreeMap::new(),
                status: Status::Alive,
            })
        });
        EXAMPLE.select(head, rest)
    }
}

/// `GET /v1/agent/metrics`
pub(crate) fn metrics(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let accept = ask.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let as_text = ask.params.get("format") == Some("prometheus")
        || accept.contains("version=0.4.0")
        || accept.contains("application/openmetrics-text");
    let text = gateway.options.metrics.as_ref().map(|metrics| metrics());
    if !as_text {
        return Ok(gateway.json(ask, parse::json(&text.unwrap_or_default(), SystemTime::now())));
    }
    let Some(text) = text else {
        let text = "Prometheus is not enabled since its retention time is not positive";
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    };
    let kind = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(Reply { content: Content::Bytes(text.into()), ..Reply::empty() }.with(CONTENT_TYPE, kind))
}
