//! What a handler reads on its standard input: the shape that handlers for Consul are written for.

use lictor_client::{Row, v1};
use serde_json::{Map, Value, json};

use crate::cli::json::{base64, status};
use crate::watches::Kind;

/// All rows of a watch as one value.
pub(crate) fn of<'a>(kind: Kind, rows: impl Iterator<Item = &'a Row>) -> Value {
    let mut values = rows.map(row);
    match kind {
        Kind::Key => values.next().unwrap_or(Value::Null),
        Kind::Services => values
            .filter_map(|service| match service {
                Value::Object(pair) => Some(pair),
                _ => None,
            })
            .flatten()
            .collect::<Map<String, Value>>()
            .into(),
        Kind::KeyPrefix | Kind::Nodes | Kind::Service | Kind::Checks | Kind::Event => values.collect::<Vec<_>>().into(),
    }
}

/// An event.
pub(crate) fn event(event: &v1::Event) -> Value {
    json!({
        "ID": event.id,
        "Name": event.name,
        "Payload": if event.payload.is_empty() { Value::Null } else { base64(&event.payload).into() },
        "NodeFilter": event.node_filter,
        "ServiceFilter": event.service_filter,
        "TagFilter": event.tag_filter,
        "Version": event.version,
        "LTime": event.lamport_time,
    })
}

fn row(row: &Row) -> Value {
    match row {
        Row::Entry(row) => entry(row),
        Row::Node(row) => node(row),
        Row::Service(row) => json!({&row.name: row.tags}),
        Row::Check(row) => check(row),
        Row::Instance(row) => json!({
            "Node": row.node.as_ref().map(node),
            "Service": row.service.as_ref().map(service),
            "Checks": row.checks.iter().map(check).collect::<Vec<_>>(),
        }),
    }
}

fn entry(entry: &v1::Entry) -> Value {
    let mut row = json!({
        "LockIndex": entry.lock_index,
        "Key": String::from_utf8_lossy(&entry.key),
        "Flags": entry.flags,
        "Value": if entry.value.is_empty() { Value::Null } else { base64(&entry.value).into() },
        "CreateIndex": entry.create_index,
        "ModifyIndex": entry.modify_index,
    });
    if !entry.session_id.is_empty() {
        row["Session"] = entry.session_id.as_str().into();
    }
    row
}

fn node(node: &v1::Node) -> Value {
    json!({
        "ID": node.id,
        "Node": node.name,
        "Address": node.address,
        "Datacenter": node.datacenter,
        "TaggedAddresses": node.tagged_addresses,
        "Meta": node.meta,
        "CreateIndex": node.create_index,
        "ModifyIndex": node.modify_index,
    })
}

fn service(service: &v1::Service) -> Value {
    let weights = service.weights.unwrap_or(v1::Weights { passing: 1, warning: 1 });
    let place = |(tag, place): (&String, &v1::ServiceAddress)| (tag.clone(), json!({"Address": place.address, "Port": place.port}));
    json!({
        "ID": service.id,
        "Service": service.name,
        "Tags": service.tags,
        "Address": service.address,
        "TaggedAddresses": service.tagged_addresses.iter().map(place).collect::<Map<String, Value>>(),
        "Meta": service.meta,
        "Port": service.port,
        "Weights": {"Passing": weights.passing, "Warning": weights.warning},
        "EnableTagOverride": service.enable_tag_override,
        "CreateIndex": service.create_index,
        "ModifyIndex": service.modify_index,
    })
}

fn check(check: &v1::Check) -> Value {
    json!({
        "Node": check.node,
        "CheckID": check.check_id,
        "Name": check.name,
        "Status": status(check.status()),
        "Notes": check.notes,
        "Output": check.output,
        "ServiceID": check.service_id,
        "ServiceName": check.service_name,
        "ServiceTags": check.service_tags,
        "Type": check.r#type,
        "CreateIndex": check.create_index,
        "ModifyIndex": check.modify_index,
    })
}
