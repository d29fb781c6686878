//! The catalog over HTTP: what runs where, however it got there.

use harness::{Node, Response};
use serde_json::{Value, json};

fn register(node: &Node, body: Value) -> Response {
    node.put("/v1/catalog/register", body.to_string())
}

/// Two nodes, of which one runs two instances of one service.
fn fleet(node: &Node) {
    let east = json!({"Node": "east", "Address": "10.0.0.1", "NodeMeta": {"rack": "1"}, "TaggedAddresses": {"wan": "198.51.100.1"}});
    let web = |id: &str, port: u16, tags: Value| json!({"ID": id, "Service": "web", "Port": port, "Tags": tags, "Meta": {"v": id}});
    let mut first = east.clone();
    first["Service"] = web("web1", 81, json!(["blue", "Primary"]));
    let mut second = east;
    second["Service"] = web("web2", 82, json!(["blue"]));
    let west =
        json!({"Node": "west", "Address": "10.0.0.2", "NodeMeta": {"rack": "2"}, "Service": {"Service": "db", "Address": "10.9.9.9"}});
    for body in [first, second, west] {
        assert_eq!(register(node, body).expect(200).json(), json!(true));
    }
}

fn field(rows: &Value, name: &str) -> Vec<String> {
    let mut values: Vec<String> = rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap().to_owned()).collect();
    values.sort();
    values
}

#[test]
fn what_was_registered_is_listed_from_every_side() {
    let node = Node::dev();
    fleet(&node);
    let nodes = node.get("/v1/catalog/nodes").expect(200);
    assert!(nodes.index() > 1);
    let names = field(&nodes.json(), "Node");
    assert!(names.contains(&"east".into()) && names.contains(&"west".into()), "{names:?}");

    let services = node.get("/v1/catalog/services").expect(200).json();
    assert_eq!((&services["web"], &services["db"]), (&json!(["Primary", "blue"]), &json!([])));

    let web = node.get("/v1/catalog/service/web").expect(200).json();
    assert_eq!(field(&web, "ServiceID"), ["web1", "web2"]);
    let row = web.as_array().unwrap().iter().find(|row| row["ServiceID"] == "web1").unwrap();
    assert_eq!((&row["Node"], &row["Address"], &row["ServiceAddress"]), (&"east".into(), &"10.0.0.1".into(), &"".into()));
    assert_eq!((&row["ServicePort"], &row["ServiceMeta"]["v"], &row["NodeMeta"]["rack"]), (&81.into(), &"web1".into(), &"1".into()));
    assert_eq!((&row["TaggedAddresses"]["wan"], &row["Datacenter"]), (&"198.51.100.1".into(), &"dc1".into()));
    assert_eq!(row["ServiceWeights"], json!({"Passing": 1, "Warning": 1}));

    let east = node.get("/v1/catalog/node/east").expect(200).json();
    assert_eq!((&east["Node"]["Node"], &east["Services"]["web2"]["Port"]), (&"east".into(), &82.into()));
    let listed = node.get("/v1/catalog/node-services/west").expect(200).json();
    assert_eq!(listed["Services"][0]["Service"], "db");
    assert_eq!(node.get("/v1/catalog/datacenters").expect(200).json(), json!(["dc1"]));
}

#[test]
fn what_is_not_there_is_an_empty_answer() {
    let node = Node::dev();
    assert_eq!(node.get("/v1/catalog/service/none").expect(200).json(), json!([]));
    assert_eq!(node.get("/v1/catalog/node/none").expect(200).json(), Value::Null);
    assert_eq!(node.get("/v1/catalog/node-services/none").expect(200).json(), json!({"Node": null, "Services": []}));
    node.get("/v1/catalog/service/").expect(400);
    assert!(node.get("/v1/catalog/nodes?dc=mars").expect(500).text().contains("No path to datacenter"));
}

#[test]
fn lists_are_narrowed_by_tag_meta_and_filter() {
    let node = Node::dev();
    fleet(&node);
    let ids = |query: &str| field(&node.get(&format!("/v1/catalog/service/web?{query}")).expect(200).json(), "ServiceID");
    assert_eq!(ids("tag=blue"), ["web1", "web2"]);
    assert_eq!(ids("tag=blue&tag=primary"), ["web1"]);
    assert_eq!(ids("node-meta=rack:2"), [] as [&str; 0]);
    assert_eq!(ids("filter=ServicePort%20%3D%3D%2082"), ["web2"]);
    assert_eq!(ids("filter=%22Primary%22%20in%20ServiceTags"), ["web1"]);
    assert_eq!(ids("filter=not%20ServiceMeta.v%20matches%20%22%5Eweb1%22"), ["web2"]);
    let nodes = |query: &str| field(&node.get(&format!("/v1/catalog/nodes?{query}")).expect(200).json(), "Node");
    assert_eq!(nodes("node-meta=rack:2"), ["west"]);
    assert_eq!(nodes("filter=Meta.rack%20%3D%3D%20%221%22"), ["east"]);
}

#[test]
fn deregistration_takes_what_it_names_and_what_hangs_on_it() {
    let node = Node::dev();
    fleet(&node);
    let check = json!({"Node": "east", "CheckID": "c", "Name": "c", "ServiceID": "web1", "Status": "passing"});
    register(&node, json!({"Node": "east", "Address": "10.0.0.1", "Check": check})).expect(200);
    assert_eq!(node.get("/v1/health/checks/web").json().as_array().unwrap().len(), 1);
    let deregister = |body: Value| node.put("/v1/catalog/deregister", body.to_string()).expect(200).json();
    assert_eq!(deregister(json!({"Node": "east", "ServiceID": "web1"})), json!(true));
    assert_eq!(node.get("/v1/health/checks/web").json(), json!([]));
    assert_eq!(field(&node.get("/v1/catalog/service/web").json(), "ServiceID"), ["web2"]);
    assert_eq!(deregister(json!({"Node": "east"})), json!(true));
    assert_eq!(node.get("/v1/catalog/service/web").json(), json!([]));
    assert_eq!(node.get("/v1/catalog/node/east").json(), Value::Null);
    assert_eq!(deregister(json!({"Node": "east"})), json!(true), "what is gone is gone");
}

#[test]
fn a_registration_that_changes_nothing_moves_no_index() {
    let node = Node::dev();
    fleet(&node);
    let index = |path: &str| node.get(path).expect(200).index();
    let before = ["/v1/catalog/service/web", "/v1/catalog/service/db", "/v1/catalog/services"].map(index);
    fleet(&node);
    assert_eq!(["/v1/catalog/service/web", "/v1/catalog/service/db", "/v1/catalog/services"].map(index), before);
    register(&node, json!({"Node": "west", "Address": "10.0.0.2", "NodeMeta": {"rack": "2"}, "Service": {"Service": "db", "Port": 1}}))
        .expect(200);
    assert_eq!(index("/v1/catalog/service/web"), before[0], "a change of one service is no news of another");
    assert!(index("/v1/catalog/service/db") > before[1]);
}

#[test]
fn half_a_registration_is_refused_with_what_is_missing() {
    let node = Node::dev();
    for (body, part) in [
        (json!({"Address": "10.0.0.1"}), "node"),
        (json!({"Node": "n"}), "address"),
        (json!({"Node": "n", "Address": "a", "ID": "no-uuid"}), "node ID"),
        (json!({"Node": "n", "Address": "a", "Service": {"ID": "x"}}), "service name"),
        (json!({"Node": "n", "Address": "a", "Service": {"Service": "x", "Address": "0.0.0.0"}}), "service address"),
    ] {
        let refused = register(&node, body.clone());
        assert!(refused.status >= 400, "{body}");
        assert!(refused.text().to_lowercase().contains(&part.to_lowercase()), "{body}: {}", refused.text());
    }
    let unknown = register(&node, json!({"Node": "n", "Address": "a", "Colour": "red"})).expect(400);
    assert!(unknown.text().contains("Colour"), "{}", unknown.text());
    assert_eq!(node.get("/v1/catalog/node/n").json(), Value::Null);
}
