//! Steps through gRPC.

use base64::Engine;
use lictor_client::{CatalogQuery, Client, DeleteOptions, Error, HealthQuery, PutOptions, ReadOptions, v1};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::scenarios::Step::{self, *};
use super::{Face, Seen};

/// The gRPC face.
pub(super) struct Grpc {
    pub(super) runtime: Runtime,
    pub(super) client: Client,
    pub(super) seen: Seen,
}

impl Face for Grpc {
    fn play(&mut self, step: Step) -> Value {
        let Grpc { runtime, client, seen } = self;
        let answer = runtime.block_on(Self::ask(client, seen, step));
        answer.unwrap_or_else(|error| refused(&error))
    }
}

impl Grpc {
    async fn ask(client: &Client, seen: &mut Seen, step: Step) -> Result<Value, Error> {
        let (kv, catalog) = (client.kv(), client.catalog());
        Ok(match step {
            Put(key, value, flags) => kv.put_with(key, value, PutOptions::new().flags(flags)).await.map(|_| json!(true))?,
            PutIfRead(key, value, more) => {
                let options = PutOptions::new().if_modify_index(seen.index(key, more));
                kv.put_with(key, value, options).await.map(|_| json!(true))?
            }
            PutIfAbsent(key, value) => kv.put_with(key, value, PutOptions::new().if_absent()).await.map(|_| json!(true))?,
            Get(key) => {
                let entry = kv.get(key).await?.value;
                if let Some(entry) = &entry {
                    seen.0.insert(key.into(), entry.modify_index);
                }
                entry.as_ref().map_or(Value::Null, grpc_entry)
            }
            List(prefix) => kv.list(prefix).await?.value.iter().map(grpc_entry).collect(),
            Keys(prefix, separator) => {
                let keys = kv.keys(prefix, separator).await?.value;
                keys.iter().map(|key| String::from_utf8_lossy(key).into_owned()).collect()
            }
            Delete(key) => kv.delete(key).await.map(|_| json!(true))?,
            DeleteIfRead(key, more) => {
                let options = DeleteOptions::new().if_modify_index(seen.index(key, more));
                kv.delete_with(key, options).await.map(|_| json!(true))?
            }
            DeletePrefix(prefix) => kv.delete_prefix(prefix).await.map(|_| json!(true))?,
            PutTooLarge(key) => kv.put(key, vec![b'x'; 600_000]).await.map(|_| json!(true))?,
            Register(..) => catalog.register(grpc_registration(step)).await.map(|_| json!(true))?,
            Deregister(node, id) => {
                use v1::deregister_request::Part;
                let part = (!id.is_empty()).then(|| Part::ServiceId(id.into()));
                let request = v1::DeregisterRequest { node: node.into(), part, ..v1::DeregisterRequest::default() };
                catalog.deregister(request).await.map(|_| json!(true))?
            }
            Instances(name) => catalog.instances(name, CatalogQuery::default()).await?.value.iter().map(grpc_instance).collect(),
            Tagged(name, tag) => {
                let query = CatalogQuery { tags: vec![tag.into()], ..CatalogQuery::default() };
                catalog.instances(name, query).await?.value.iter().map(grpc_instance).collect()
            }
            Passing(name) => client.health().passing(name).await?.value.iter().map(grpc_instance).collect(),
            Services => {
                let services = catalog.services(CatalogQuery::default()).await?.value;
                services.into_iter().filter(|service| service.name != "consul").map(|service| json!([service.name, service.tags])).collect()
            }
            Nodes => {
                let nodes = catalog.nodes(CatalogQuery::default()).await?.value;
                nodes.iter().filter(|node| node.name != "here").map(|node| json!([node.name, node.address, node.modify_index])).collect()
            }
            Checks(name) => {
                let selection = v1::checks_target::Selection::Service(name.into());
                let checks = client.health().checks(selection, HealthQuery::default()).await?.value;
                checks.iter().map(|check| json!([check.node, check.check_id, status_name(check.status()), check.service_name])).collect()
            }
            Filtered(name, filter) => {
                let query = HealthQuery { filter: filter.into(), ..HealthQuery::default() };
                client.health().instances(name, query).await?.value.iter().map(grpc_instance).collect()
            }
            Datacenter(name) => {
                let read = ReadOptions::default().datacenter(name);
                kv.get_with("k", &read).await.map(|_| json!(true))?
            }
        })
    }
}

/// What a caller sees of a refusal on any face: that it was one.
fn refused(error: &Error) -> Value {
    if error.reason() == Some(v1::ErrorReason::PreconditionFailed) {
        return json!(false);
    }
    json!({"refused": true})
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn grpc_entry(entry: &v1::Entry) -> Value {
    let value = if entry.value.is_empty() { Value::Null } else { base64(&entry.value).into() };
    let key = String::from_utf8_lossy(&entry.key).into_owned();
    json!({"key": key, "value": value, "flags": entry.flags, "created": entry.create_index, "modified": entry.modify_index})
}

fn grpc_instance(instance: &v1::Instance) -> Value {
    let (node, service) = (instance.node.as_ref().unwrap(), instance.service.as_ref().unwrap());
    json!({
        "node": node.name, "id": service.id, "name": service.name, "port": service.port, "tags": service.tags,
        "created": service.create_index, "modified": service.modify_index,
    })
}

fn status_name(status: v1::HealthStatus) -> &'static str {
    match status {
        v1::HealthStatus::Passing => "passing",
        v1::HealthStatus::Warning => "warning",
        v1::HealthStatus::Critical => "critical",
        _ => "unspecified",
    }
}

fn grpc_registration(step: Step) -> v1::RegisterRequest {
    let Register(node, name, id, port, tag, status) = step else { panic!("{step:?}") };
    let tags = if tag.is_empty() { vec![] } else { vec![tag.into()] };
    let service = v1::Service { id: id.into(), name: name.into(), port: port.into(), tags, ..v1::Service::default() };
    let check = v1::Check {
        check_id: format!("of-{id}"),
        name: "c".into(),
        service_id: id.into(),
        status: match status {
            "passing" => v1::HealthStatus::Passing,
            "warning" => v1::HealthStatus::Warning,
            _ => v1::HealthStatus::Critical,
        }
        .into(),
        ..v1::Check::default()
    };
    let node = v1::Node { name: node.into(), address: "10.0.0.1".into(), ..v1::Node::default() };
    let checks = if status.is_empty() { vec![] } else { vec![check] };
    v1::RegisterRequest { node: Some(node), service: Some(service), checks, ..v1::RegisterRequest::default() }
}
