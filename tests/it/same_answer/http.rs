//! Steps through HTTP.

use harness::Response;
use serde_json::{Value, json};

use super::scenarios::Step::{self, *};
use super::{Face, Seen};

/// The HTTP face.
pub(super) struct Http {
    pub(super) node: harness::Http,
    pub(super) seen: Seen,
}

impl Face for Http {
    fn play(&mut self, step: Step) -> Value {
        let node = self.node;
        let done = |response: Response| http_status(response, Value::Null);
        match step {
            Put(key, value, flags) => done(node.put(&format!("/v1/kv/{key}?flags={flags}"), value)),
            PutIfRead(key, value, more) => done(node.put(&format!("/v1/kv/{key}?cas={}", self.seen.index(key, more)), value)),
            PutIfAbsent(key, value) => done(node.put(&format!("/v1/kv/{key}?cas=0"), value)),
            Get(key) => {
                let entry = http_status(node.get(&format!("/v1/kv/{key}")), Value::Null);
                let Some(index) = entry[0]["ModifyIndex"].as_u64() else { return entry };
                self.seen.0.insert(key.into(), index);
                http_entry(&entry[0])
            }
            List(prefix) => self.rows(&format!("/v1/kv/{prefix}?recurse"), http_entry),
            Keys(prefix, separator) => self.rows(&format!("/v1/kv/{prefix}?keys&separator={separator}"), Value::clone),
            Delete(key) => done(node.delete(&format!("/v1/kv/{key}"))),
            DeleteIfRead(key, more) => done(node.delete(&format!("/v1/kv/{key}?cas={}", self.seen.index(key, more)))),
            DeletePrefix(prefix) => done(node.delete(&format!("/v1/kv/{prefix}?recurse"))),
            PutTooLarge(key) => done(node.put(&format!("/v1/kv/{key}"), vec![b'x'; 600_000])),
            Register(..) => done(node.put("/v1/catalog/register", http_registration(step).to_string())),
            Deregister(name, id) => done(node.put("/v1/catalog/deregister", json!({"Node": name, "ServiceID": id}).to_string())),
            Instances(name) => self.rows(&format!("/v1/health/service/{name}"), http_instance),
            Tagged(name, tag) => self.rows(&format!("/v1/health/service/{name}?tag={tag}"), http_instance),
            Passing(name) => self.rows(&format!("/v1/health/service/{name}?passing"), http_instance),
            Services => {
                let services = http_status(node.get("/v1/catalog/services"), Value::Null);
                services.as_object().unwrap().iter().filter(|(name, _)| *name != "consul").map(|(name, tags)| json!([name, tags])).collect()
            }
            Nodes => {
                let nodes = http_status(node.get("/v1/catalog/nodes"), Value::Null);
                let mut rows = nodes.as_array().unwrap().clone();
                rows.retain(|row| row["Node"] != "here");
                rows.iter().map(|row| json!([row["Node"], row["Address"], row["ModifyIndex"]])).collect()
            }
            Checks(name) => self.rows(&format!("/v1/health/checks/{name}"), |check| {
                json!([check["Node"], check["CheckID"], check["Status"], check["ServiceName"]])
            }),
            Filtered(name, filter) => {
                let filter = filter.replace(' ', "%20").replace('=', "%3D");
                self.rows(&format!("/v1/health/service/{name}?filter={filter}"), http_instance)
            }
            Datacenter(name) => match node.get(&format!("/v1/kv/k?dc={name}")).status {
                200 | 404 => json!(true),
                _ => json!({"refused": true}),
            },
        }
    }
}

impl Http {
    fn rows(&self, path: &str, row: impl Fn(&Value) -> Value) -> Value {
        match http_status(self.node.get(path), json!([])) {
            Value::Array(rows) => rows.iter().map(row).collect(),
            refused => refused,
        }
    }
}

fn http_status(response: Response, empty: Value) -> Value {
    match response.status {
        200 => response.json(),
        404 => empty,
        _ => json!({"refused": true}),
    }
}

fn http_entry(entry: &Value) -> Value {
    json!({
        "key": entry["Key"], "value": entry["Value"], "flags": entry["Flags"],
        "created": entry["CreateIndex"], "modified": entry["ModifyIndex"],
    })
}

fn http_instance(row: &Value) -> Value {
    let service = &row["Service"];
    json!({
        "node": row["Node"]["Node"], "id": service["ID"], "name": service["Service"], "port": service["Port"], "tags": service["Tags"],
        "created": service["CreateIndex"], "modified": service["ModifyIndex"],
    })
}

fn http_registration(step: Step) -> Value {
    let Register(node, name, id, port, tag, status) = step else { panic!("{step:?}") };
    let tags = if tag.is_empty() { json!([]) } else { json!([tag]) };
    let check = json!({"CheckID": format!("of-{id}"), "Name": "c", "ServiceID": id, "Status": status});
    let checks = if status.is_empty() { json!([]) } else { json!([check]) };
    let service = json!({"ID": id, "Service": name, "Port": port, "Tags": tags});
    json!({"Node": node, "Address": "10.0.0.1", "Service": service, "Checks": checks})
}
