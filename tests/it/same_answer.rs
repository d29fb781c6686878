//! Whatever can be asked on two faces gets the same answer: scenarios, each played once through
//! gRPC and once through HTTP, on two fresh nodes, and compared step by step.
//!
//! Indexes differ from run to run, so a transcript numbers them in the order of their first
//! appearance: it tells what changed and what did not, not when.

use base64::Engine;
use harness::{Node, Response};
use lictor_client::{CatalogQuery, Client, DeleteOptions, Error, HealthQuery, PutOptions, ReadOptions, v1};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// One step of a scenario.
#[derive(Clone, Copy, Debug)]
enum Step {
    Put(&'static str, &'static str, u64),
    /// With the index that the key had when it was last read, plus this.
    PutIfRead(&'static str, &'static str, i64),
    PutIfAbsent(&'static str, &'static str),
    Get(&'static str),
    List(&'static str),
    Keys(&'static str, &'static str),
    Delete(&'static str),
    DeleteIfRead(&'static str, i64),
    DeletePrefix(&'static str),
    PutTooLarge(&'static str),
    /// Node, service, id, port, tag, status of its check.
    Register(&'static str, &'static str, &'static str, u16, &'static str, &'static str),
    /// Node, id of a service, or nothing for the whole node.
    Deregister(&'static str, &'static str),
    Instances(&'static str),
    Tagged(&'static str, &'static str),
    Passing(&'static str),
    Services,
    Nodes,
    Checks(&'static str),
    Filtered(&'static str, &'static str),
    Datacenter(&'static str),
}
use Step::*;

const SCENARIOS: [(&str, &[Step]); 6] = [
    (
        "a key lives and dies",
        &[
            Get("k"),
            Put("k", "one", 7),
            Get("k"),
            Put("k", "one", 7),
            Get("k"),
            Put("k", "two", 0),
            Get("k"),
            Delete("k"),
            Get("k"),
            Delete("k"),
            Put("k", "again", 0),
            Get("k"),
            Put("empty", "", 0),
            Get("empty"),
        ],
    ),
    (
        "comparisons decide",
        &[
            PutIfAbsent("k", "one"),
            PutIfAbsent("k", "two"),
            Get("k"),
            PutIfRead("k", "three", 1),
            PutIfRead("k", "three", 0),
            Get("k"),
            DeleteIfRead("k", 1),
            Get("k"),
            DeleteIfRead("k", 0),
            Get("k"),
            DeleteIfRead("k", 0),
        ],
    ),
    (
        "lists and folders",
        &[
            Keys("", ""),
            Put("a", "", 0),
            Put("a/b", "x", 1),
            Put("a/b/c", "y", 2),
            Put("ab", "z", 3),
            Put("B", "w", 4),
            List(""),
            List("a"),
            List("a/"),
            List("none"),
            Keys("", "/"),
            Keys("a/", "/"),
            Keys("a", "b"),
            DeletePrefix("a/"),
            List(""),
            DeletePrefix(""),
            List(""),
        ],
    ),
    (
        "the catalog",
        &[
            Instances("web"),
            Register("n1", "web", "w1", 81, "blue", ""),
            Register("n1", "web", "w2", 82, "green", ""),
            Register("n2", "Web", "w3", 83, "blue", ""),
            Register("n2", "db", "db", 5432, "", ""),
            Instances("web"),
            Instances("WEB"),
            Tagged("web", "blue"),
            Tagged("web", "BLUE"),
            Tagged("web", "red"),
            Services,
            Nodes,
            Register("n1", "web", "w1", 91, "blue", ""),
            Instances("web"),
            Deregister("n1", "w1"),
            Instances("web"),
            Deregister("n2", ""),
            Services,
            Nodes,
            Deregister("n9", ""),
        ],
    ),
    (
        "health",
        &[
            Passing("web"),
            Register("n1", "web", "w1", 81, "", "passing"),
            Register("n1", "web", "w2", 82, "", "warning"),
            Register("n2", "web", "w3", 83, "", "critical"),
            Register("n2", "web", "w4", 84, "", ""),
            Passing("web"),
            Instances("web"),
            Checks("web"),
            Register("n2", "web", "w3", 83, "", "passing"),
            Passing("web"),
            Checks("web"),
            Checks("none"),
        ],
    ),
    (
        "refusals",
        &[
            PutTooLarge("k"),
            Get("k"),
            Put("", "x", 0),
            Register("", "web", "w", 1, "", ""),
            Instances(""),
            Register("n1", "web", "w1", 81, "t", ""),
            Filtered("web", "Service.Port == 81"),
            Filtered("web", "Service.Port == 82"),
            Filtered("web", "Colour == red"),
            Filtered("web", "Service.Port =="),
            Datacenter("mars"),
            Datacenter("DC1"),
        ],
    ),
];

/// A face, driven by steps.
trait Face {
    /// Plays a step and tells what came of it. What was read of a key is in `read`.
    fn play(&mut self, step: Step) -> Value;
}

/// The state of a key as it was last read.
#[derive(Default)]
struct Seen(std::collections::HashMap<String, u64>);

impl Seen {
    fn index(&self, key: &str, more: i64) -> u64 {
        self.0.get(key).copied().unwrap_or(1).checked_add_signed(more).unwrap()
    }
}

struct Grpc {
    runtime: Runtime,
    client: Client,
    seen: Seen,
}

struct Http {
    node: harness::Http,
    seen: Seen,
}

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// What a caller sees of a refusal on any face: that it was one.
fn refused(error: &Error) -> Value {
    if error.reason() == Some(v1::ErrorReason::PreconditionFailed) {
        return json!(false);
    }
    json!({"refused": true})
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

fn http_status(response: Response, empty: Value) -> Value {
    match response.status {
        200 => response.json(),
        404 => empty,
        _ => json!({"refused": true}),
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

fn http_registration(step: Step) -> Value {
    let Register(node, name, id, port, tag, status) = step else { panic!("{step:?}") };
    let tags = if tag.is_empty() { json!([]) } else { json!([tag]) };
    let check = json!({"CheckID": format!("of-{id}"), "Name": "c", "ServiceID": id, "Status": status});
    let checks = if status.is_empty() { json!([]) } else { json!([check]) };
    let service = json!({"ID": id, "Service": name, "Port": port, "Tags": tags});
    json!({"Node": node, "Address": "10.0.0.1", "Service": service, "Checks": checks})
}

/// Replaces each index by the number of those that appeared before it.
fn renumber(value: &mut Value, known: &mut Vec<u64>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| renumber(item, known)),
        Value::Object(fields) => {
            for name in ["created", "modified"] {
                if let Some(index) = fields.get(name).and_then(Value::as_u64) {
                    fields[name] = number(index, known).into();
                }
            }
        }
        _ => {}
    }
}

fn number(index: u64, known: &mut Vec<u64>) -> usize {
    known.iter().position(|seen| *seen == index).unwrap_or_else(|| {
        known.push(index);
        known.len() - 1
    })
}

fn transcript(face: &mut dyn Face, steps: &[Step]) -> Vec<Value> {
    let mut known = Vec::new();
    let told = |step: &Step| {
        let mut answer = face.play(*step);
        if matches!(step, Nodes) {
            // Rows of nodes carry their index last; only their order of appearance is compared.
            answer.as_array_mut().unwrap().iter_mut().for_each(|row| row[2] = number(row[2].as_u64().unwrap(), &mut known).into());
        }
        renumber(&mut answer, &mut known);
        answer
    };
    steps.iter().map(told).collect()
}

#[test]
fn both_faces_give_the_same_answers() {
    let mut differences = Vec::new();
    for (name, steps) in SCENARIOS {
        let fresh = || harness::Setup::dev().flag("-node=here").start();
        let (one, other) = (fresh(), fresh());
        let runtime = Runtime::new().unwrap();
        let client = runtime.block_on(one.client());
        let grpc = transcript(&mut Grpc { runtime, client, seen: Seen::default() }, steps);
        let http = transcript(&mut Http { node: other.http(), seen: Seen::default() }, steps);
        for ((step, grpc), http) in steps.iter().zip(&grpc).zip(&http) {
            if grpc != http {
                differences.push(format!("{name}, {step:?}:\n  gRPC {grpc}\n  HTTP {http}"));
            }
        }
        assert!(grpc.iter().any(|answer| *answer != json!({"refused": true})), "{name}: everything is refused");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn what_one_face_writes_the_other_reads_with_the_same_indexes() {
    let node = Node::dev();
    let runtime = Runtime::new().unwrap();
    let mut grpc = Grpc { client: runtime.block_on(node.client()), runtime, seen: Seen::default() };
    let mut http = Http { node: node.http(), seen: Seen::default() };
    for (n, step) in SCENARIOS.iter().flat_map(|(_, steps)| *steps).enumerate() {
        if n % 2 == 0 {
            grpc.play(*step)
        } else {
            http.play(*step)
        };
        for read in [List(""), Keys("", "/"), Instances("web"), Passing("web"), Services, Nodes, Checks("web")] {
            assert_eq!(grpc.play(read), http.play(read), "{read:?} after {step:?}");
        }
    }
}
