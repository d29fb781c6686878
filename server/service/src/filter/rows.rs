//! The rows that filters look into, by the field names of the JSON answers.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use state::{Check, Instance, Node, Service, ServiceAddress, Str, Weights};

use super::select::{Selectable, Selected, Value};

static EXAMPLE: LazyLock<Instance> = LazyLock::new(|| Instance::new(Arc::default(), Arc::default(), vec![Arc::default()]));

/// An instance as the catalog lists it: node and service in one flat row.
pub struct ServiceNode<'r>(pub &'r Instance);

impl Selectable for Node {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        node(self, head, rest).map(Selected::One)
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        EXAMPLE.node.select(head, rest)
    }
}

impl Selectable for Service {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        service(self, head, rest).map(Selected::One)
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        EXAMPLE.service.select(head, rest)
    }
}

impl Selectable for Check {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        check(self, head, rest).map(Selected::One)
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        EXAMPLE.checks[0].select(head, rest)
    }
}

impl Selectable for Instance {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        match (head, rest) {
            ("Node", [head, rest @ ..]) => self.node.select(head, rest),
            ("Service", [head, rest @ ..]) => self.service.select(head, rest),
            ("Checks", []) => Some(Selected::One(Value::Length(self.checks.len()))),
            ("Checks", [head, rest @ ..]) => {
                check(&EXAMPLE.checks[0], head, rest)?;
                Some(Selected::Any(self.checks.iter().filter_map(|row| check(row, head, rest)).collect()))
            }
            _ => None,
        }
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        EXAMPLE.select(head, rest)
    }
}

impl Selectable for ServiceNode<'_> {
    fn select<'a>(&'a self, head: &str, rest: &[Box<str>]) -> Option<Selected<'a>> {
        service_node(self.0, head, rest).map(Selected::One)
    }

    fn example(head: &str, rest: &[Box<str>]) -> Option<Selected<'static>> {
        service_node(&EXAMPLE, head, rest).map(Selected::One)
    }
}

fn node<'a>(row: &'a Node, head: &str, rest: &[Box<str>]) -> Option<Value<'a>> {
    match (head, rest) {
        ("ID", []) => Some(Value::Text(&row.id)),
        ("Node", []) => Some(Value::Text(&row.name)),
        ("Address", []) => Some(Value::Text(&row.address)),
        ("Datacenter", []) => Some(Value::Text(&row.datacenter)),
        ("PeerName", []) => Some(Value::Text("")),
        ("TaggedAddresses", _) => pairs(&row.tagged_addresses, rest),
        ("Meta", _) => pairs(&row.meta, rest),
        ("CreateIndex", []) => Some(Value::Number(row.create_index.0)),
        ("ModifyIndex", []) => Some(Value::Number(row.modify_index.0)),
        _ => None,
    }
}

fn service<'a>(row: &'a Service, head: &str, rest: &[Box<str>]) -> Option<Value<'a>> {
    match (head, rest) {
        ("Kind", []) => Some(Value::Text(&row.kind)),
        ("ID", []) => Some(Value::Text(&row.id)),
        ("Service", []) => Some(Value::Text(&row.name)),
        ("Tags", []) => Some(Value::Texts(&row.tags)),
        ("Address", []) => Some(Value::Text(&row.address)),
        ("TaggedAddresses", _) => addresses(&row.tagged_addresses, rest),
        ("Meta", _) => pairs(&row.meta, rest),
        ("Port", []) => Some(Value::Number(row.port.into())),
        ("SocketPath", []) => Some(Value::Text(&row.socket_path)),
        ("Weights", _) => weights(&row.weights, rest),
        ("EnableTagOverride", []) => Some(Value::Flag(row.enable_tag_override)),
        ("PeerName", []) => Some(Value::Text("")),
        ("CreateIndex", []) => Some(Value::Number(row.create_index.0)),
        ("ModifyIndex", []) => Some(Value::Number(row.modify_index.0)),
        _ => None,
    }
}

fn service_node<'a>(row: &'a Instance, head: &str, rest: &[Box<str>]) -> Option<Value<'a>> {
    let Instance { node: on, service: row, .. } = row;
    match head {
        "ID" | "Node" | "Address" | "Datacenter" | "TaggedAddresses" | "PeerName" => node(on, head, rest),
        "NodeMeta" => node(on, "Meta", rest),
        "ServiceName" => service(row, "Service", rest),
        "CreateIndex" | "ModifyIndex" => service(row, head, rest),
        _ => match head.strip_prefix("Service")? {
            field @ ("Kind" | "ID" | "Tags" | "Address" | "TaggedAddresses" | "Weights" | "Meta" | "Port" | "SocketPath"
            | "EnableTagOverride") => service(row, field, rest),
            _ => None,
        },
    }
}

fn check<'a>(row: &'a Check, head: &str, rest: &[Box<str>]) -> Option<Value<'a>> {
    match (head, rest) {
        ("Node", []) => Some(Value::Text(&row.node)),
        ("CheckID", []) => Some(Value::Text(&row.id)),
        ("Name", []) => Some(Value::Text(&row.name)),
        ("Status", []) => Some(Value::Text(row.status.as_str())),
        ("Notes", []) => Some(Value::Text(&row.notes)),
        ("Output", []) => Some(Value::Text(&row.output)),
        ("ServiceID", []) => Some(Value::Text(&row.service_id)),
        ("ServiceName", []) => Some(Value::Text(&row.service_name)),
        ("ServiceTags", []) => Some(Value::Texts(&row.service_tags)),
        ("Type", []) => Some(Value::Text(&row.kind)),
        ("PeerName", []) => Some(Value::Text("")),
        ("CreateIndex", []) => Some(Value::Number(row.create_index.0)),
        ("ModifyIndex", []) => Some(Value::Number(row.modify_index.0)),
        _ => None,
    }
}

fn weights<'a>(row: &Weights, rest: &[Box<str>]) -> Option<Value<'a>> {
    match rest {
        [field] if **field == *"Passing" => Some(Value::Number(row.passing.into())),
        [field] if **field == *"Warning" => Some(Value::Number(row.warning.into())),
        _ => None,
    }
}

fn pairs<'a>(map: &'a BTreeMap<Str, Str>, rest: &[Box<str>]) -> Option<Value<'a>> {
    match rest {
        [] => Some(Value::Pairs(map)),
        [key] => Some(map.get(&**key).map_or(Value::Absent, |value| Value::Text(value))),
        _ => None,
    }
}

fn addresses<'a>(map: &'a BTreeMap<Str, ServiceAddress>, rest: &[Box<str>]) -> Option<Value<'a>> {
    match rest {
        [] => Some(Value::Addresses(map)),
        [key, field] => match &**field {
            "Address" => Some(map.get(&**key).map_or(Value::Absent, |found| Value::Text(&found.address))),
            "Port" => Some(map.get(&**key).map_or(Value::Absent, |found| Value::Number(found.port.into()))),
            _ => None,
        },
        _ => None,
    }
}
