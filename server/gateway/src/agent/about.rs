//! Who this agent is: itself, its version, its members, its metrics.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use service::filter::{Selectable, Selected, Value};
use state::Str;

use crate::Gateway;
use crate::catalog::chosen;
use crate::json::Json;
use crate::metrics as parse;
use crate::reply::{Content, Reply};
use crate::request::Ask;
use crate::status::{Fault, Outcome};

/// A member of the cluster's pool.
#[derive(Default)]
struct Member {
    name: Str,
    address: Str,
    port: u16,
    tags: BTreeMap<Str, Str>,
}

/// The number that stands for "alive".
const ALIVE: u64 = 1;

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
            json.name("Server").flag(true);
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
        member_shape(json, &this_member(gateway));
        json.name("Stats").object(|json| {
            json.name("consul").object(|json| {
                json.name("server").text("true");
                json.name("leader").text(if status.state == "leader" { "true" } else { "false" });
                json.name("leader_addr").text(&gateway.service.leader_address().unwrap_or_default());
                json.name("known_datacenters").text("1");
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

/// `GET /v1/agent/members`: this agent, as long as it is the only one.
pub(crate) fn members(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    if ask.params.has("wan") && ask.params.get("segment").is_some() {
        return Err(Fault::bad("Cannot provide a segment with wan=true"));
    }
    let filter = ask.filter::<Member>()?;
    let mut json = Json::new();
    json.array(|json| {
        let member = this_member(gateway);
        if chosen(&filter, &member) {
            member_shape(json, &member);
        }
    });
    Ok(gateway.json(ask, json))
}

fn this_member(gateway: &Gateway) -> Member {
    let identity = gateway.service.identity();
    let tag = |name: &str, value: &str| (Str::from(name), Str::from(value));
    let tags = BTreeMap::from([
        tag("role", "consul"),
        tag("dc", &identity.datacenter),
        tag("id", &identity.node_id),
        tag("port", &identity.server_port.to_string()),
        tag("build", identity.version),
        tag("vsn", "2"),
    ]);
    Member { name: identity.node_name.clone(), address: identity.address.clone(), port: identity.server_port, tags }
}

fn member_shape(json: &mut Json, member: &Member) {
    json.object(|json| {
        json.name("Name").text(&member.name);
        json.name("Addr").text(&member.address);
        json.name("Port").number(member.port.into());
        json.name("Tags").pairs(&member.tags);
        json.name("Status").number(ALIVE);
        for (name, number) in
            [("ProtocolMin", 1), ("ProtocolMax", 5), ("ProtocolCur", 2), ("DelegateMin", 2), ("DelegateMax", 5), ("DelegateCur", 4)]
        {
            json.name(name).number(number);
        }
    });
}

impl Selectable for Member {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        let value = match (head, rest) {
            ("Name", []) => Value::Text(&self.name),
            ("Addr", []) => Value::Text(&self.address),
            ("Port", []) => Value::Number(self.port.into()),
            ("Tags", []) => Value::Pairs(&self.tags),
            ("Tags", [tag]) => self.tags.get(&**tag).map_or(Value::Absent, |value| Value::Text(value)),
            ("Status", []) => Value::Number(ALIVE),
            _ => return None,
        };
        Some(Selected::One(value))
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        static EXAMPLE: LazyLock<Member> = LazyLock::new(Member::default);
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
