//! Who this agent is: itself, its version, its members, its metrics.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::SystemTime;

use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Value, json};
use service::cluster::{Member, PoolKind, Status};
use service::filter::{self, Selectable, Selected};

use crate::Gateway;
use crate::catalog::chosen;
use crate::cluster;
use crate::coordinate;
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
        json.name("DebugConfig").raw(&debug_config(gateway).to_string());
        json.name("Coord");
        match gateway.service.own_coordinate() {
            Some(at) => coordinate::coordinate(json, &at),
            None => _ = json.raw("null"),
        }
        json.name("Member");
        member_shape(json, &gateway.service.this_member(PoolKind::Lan));
        json.name("Stats").object(|json| stats(json, gateway, ask));
        json.name("Meta").pairs(&gateway.service.agent().node().meta);
        json.name("xDS");
        ports(json, gateway.options.grpc_port);
    });
    Ok(gateway.json(ask, json))
}

/// The configuration, with what is only known since the agent runs.
fn debug_config(gateway: &Gateway) -> Value {
    let identity = gateway.service.identity();
    let mut config = gateway.options.config.as_ref().map_or_else(|| json!({}), |config| config());
    config["DevMode"] = gateway.options.dev.into();
    config["Datacenter"] = (*identity.datacenter).into();
    config["NodeID"] = (*identity.node_id).into();
    config["NodeName"] = (*identity.node_name).into();
    config["AdvertiseAddrLAN"] = (*identity.address).into();
    config["ServerPort"] = identity.server_port.into();
    config["TaggedAddresses"] =
        gateway.service.agent().node().tagged_addresses.iter().map(|(tag, address)| (tag.to_string(), Value::from(&**address))).collect();
    config
}

/// Figures for people, as text, by section.
fn stats(json: &mut Json, gateway: &Gateway, ask: &Ask) {
    let service = &gateway.service;
    let (identity, status) = (service.identity(), service.consensus_status());
    let agent = service.agent();
    let checks = agent.checks(&ask.caller);
    let of_kind = |wanted: &dyn Fn(&str) -> bool| checks.values().filter(|check| wanted(&check.kind)).count();
    let ttls = of_kind(&|kind| kind == "ttl");
    let idle = of_kind(&|kind| matches!(kind, "ttl" | "alias" | "maintenance"));
    section(
        json,
        "agent",
        [
            ("check_monitors", (checks.len() - idle).to_string()),
            ("check_ttls", ttls.to_string()),
            ("checks", checks.len().to_string()),
            ("services", agent.services(&ask.caller).len().to_string()),
        ],
    );
    section(
        json,
        "build",
        [
            ("prerelease", String::new()),
            ("revision", String::new()),
            ("version", identity.version.to_owned()),
            ("version_metadata", String::new()),
        ],
    );
    section(
        json,
        "consul",
        [
            ("acl", "disabled".to_owned()),
            ("bootstrap", (identity.expect == 1).to_string()),
            ("known_datacenters", service.datacenters().len().to_string()),
            ("known_servers", service.known_servers().to_string()),
            ("leader", (status.state == "leader").to_string()),
            ("leader_addr", service.leader_address().unwrap_or_default()),
            ("server", identity.server.to_string()),
        ],
    );
    if identity.server {
        section(
            json,
            "raft",
            [
                ("applied_index", status.applied.to_string()),
                ("commit_index", status.applied.to_string()),
                ("last_contact", status.last_contact.map_or_else(|| "never".to_owned(), |ago| format!("{}ms", ago.as_millis()))),
                ("last_log_index", status.last_index.to_string()),
                ("last_log_term", status.term.to_string()),
                ("num_peers", status.peers.len().saturating_sub(1).to_string()),
                ("protocol_version", "3".to_owned()),
                ("state", title_case(status.state)),
                ("term", status.term.to_string()),
            ],
        );
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from).to_string();
    section(
        json,
        "runtime",
        [
            ("arch", std::env::consts::ARCH.to_owned()),
            ("cpu_count", processors.clone()),
            ("goroutines", threads()),
            ("max_procs", processors),
            ("os", std::env::consts::OS.to_owned()),
            ("version", format!("rust {}", env!("CARGO_PKG_RUST_VERSION"))),
        ],
    );
    for (name, kind) in [("serf_lan", PoolKind::Lan), ("serf_wan", PoolKind::Wan)] {
        if kind == PoolKind::Lan || identity.server {
            let members = service.members(&ask.caller, kind).unwrap_or_default();
            let in_state = |state: Status| members.iter().filter(|member| member.status == state).count().to_string();
            section(
                json,
                name,
                [
                    ("encrypted", service.is_sealed(kind).to_string()),
                    ("failed", in_state(Status::Failed)),
                    ("left", in_state(Status::Left)),
                    ("members", members.len().to_string()),
                ],
            );
        }
    }
}

fn section<const N: usize>(json: &mut Json, name: &'static str, figures: [(&'static str, String); N]) {
    json.name(name).object(|json| {
        for (name, figure) in figures {
            json.name(name).text(&figure);
        }
    });
}

/// The state of a server as Consul writes it: `Leader`.
fn title_case(state: &str) -> String {
    let mut chars = state.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

/// What runs side by side in this process.
fn threads() -> String {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count()).to_string()
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
            ("Name", []) => filter::Value::Text(&member.name),
            ("Port", []) => filter::Value::Number(member.port.into()),
            ("Tags", [tag]) => member.tags.get(&**tag).map_or(filter::Value::Absent, |value| filter::Value::Text(value)),
            ("Status", []) => filter::Value::Number(number(member.status)),
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
