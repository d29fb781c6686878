//! Rows as JSON for programs, under the names that the contract gives them.
//!
//! Values are in base64, because they may hold any bytes. So are keys that are not text, under
//! `key_base64` in place of `key`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lictor_client::v1;
use serde_json::{Map, Value, json};

/// Bytes in base64.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The name and value under which a key is told.
pub(crate) fn key(key: &[u8]) -> (&'static str, Value) {
    match std::str::from_utf8(key) {
        Ok(text) => ("key", text.into()),
        Err(_) => ("key_base64", base64(key).into()),
    }
}

pub(crate) fn entry(entry: &v1::Entry) -> Value {
    let (name, key) = key(&entry.key);
    let mut row = Map::from_iter([(name.to_owned(), key)]);
    row.insert("value".into(), base64(&entry.value).into());
    row.insert("flags".into(), entry.flags.into());
    row.insert("create_index".into(), entry.create_index.into());
    row.insert("modify_index".into(), entry.modify_index.into());
    row.insert("lock_index".into(), entry.lock_index.into());
    if !entry.session_id.is_empty() {
        row.insert("session_id".into(), entry.session_id.as_str().into());
        row.insert("fencing_token".into(), entry.fencing_token.into());
    }
    row.into()
}

pub(crate) fn node(node: &v1::Node) -> Value {
    json!({
        "id": node.id,
        "name": node.name,
        "address": node.address,
        "datacenter": node.datacenter,
        "tagged_addresses": node.tagged_addresses,
        "meta": node.meta,
        "create_index": node.create_index,
        "modify_index": node.modify_index,
    })
}

pub(crate) fn service(service: &v1::Service) -> Value {
    let address = |place: &v1::ServiceAddress| json!({"address": place.address, "port": place.port});
    let tagged: Map<String, Value> = service.tagged_addresses.iter().map(|(tag, place)| (tag.clone(), address(place))).collect();
    let weights = service.weights.unwrap_or(v1::Weights { passing: 1, warning: 1 });
    json!({
        "id": service.id,
        "name": service.name,
        "tags": service.tags,
        "address": service.address,
        "port": service.port,
        "socket_path": service.socket_path,
        "tagged_addresses": tagged,
        "meta": service.meta,
        "weights": {"passing": weights.passing, "warning": weights.warning},
        "enable_tag_override": service.enable_tag_override,
        "create_index": service.create_index,
        "modify_index": service.modify_index,
    })
}

pub(crate) fn check(check: &v1::Check) -> Value {
    json!({
        "node": check.node,
        "check_id": check.check_id,
        "name": check.name,
        "status": status(check.status()),
        "notes": check.notes,
        "output": check.output,
        "service_id": check.service_id,
        "service_name": check.service_name,
        "service_tags": check.service_tags,
        "type": check.r#type,
        "create_index": check.create_index,
        "modify_index": check.modify_index,
    })
}

pub(crate) fn instance(instance: &v1::Instance) -> Value {
    json!({
        "node": instance.node.as_ref().map(node),
        "service": instance.service.as_ref().map(service),
        "checks": instance.checks.iter().map(check).collect::<Vec<_>>(),
        "status": status(instance.status()),
    })
}

pub(crate) fn summary(summary: &v1::ServiceSummary) -> Value {
    let mut row = json!({"name": summary.name, "tags": summary.tags});
    // Watches tell of names and tags only.
    if let Some(instances) = summary.instances {
        row["instances"] = instances.into();
    }
    row
}

/// The name of a status.
pub(crate) fn status(status: v1::HealthStatus) -> &'static str {
    match status {
        v1::HealthStatus::Unspecified => "",
        v1::HealthStatus::Passing => "passing",
        v1::HealthStatus::Warning => "warning",
        v1::HealthStatus::Critical => "critical",
        v1::HealthStatus::Maintenance => "maintenance",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_not_text_are_not_mangled() {
        assert_eq!(key(b"a/b"), ("key", "a/b".into()));
        assert_eq!(key(b"\xff"), ("key_base64", "/w==".into()));
    }

    #[test]
    fn an_entry_without_a_lock_does_not_mention_one() {
        let free = v1::Entry { key: "k".into(), value: "v".into(), flags: 7, modify_index: 3, ..v1::Entry::default() };
        assert_eq!(entry(&free), json!({"key": "k", "value": "dg==", "flags": 7, "create_index": 0, "modify_index": 3, "lock_index": 0}));
        let held = v1::Entry { session_id: "s".into(), fencing_token: 9, ..free };
        assert_eq!((&entry(&held)["session_id"], &entry(&held)["fencing_token"]), (&json!("s"), &json!(9)));
    }
}
