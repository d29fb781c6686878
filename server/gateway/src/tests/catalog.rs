use serde_json::{Value, json};

use super::rig::Rig;

/// Two nodes, three instances of two services, and a check of each kind.
pub(super) async fn populated() -> Rig {
    let rig = Rig::start().await;
    for (node, service, id, port, tags, rack) in [
        ("n1", "web", "web-1", 80, json!(["blue", "v1"]), "r1"),
        ("n2", "web", "web-2", 81, json!(["green"]), "r2"),
        ("n2", "db", "db", 5432, json!([]), "r2"),
    ] {
        let body = json!({
            "Node": node, "Address": format!("10.0.0.{port}"), "NodeMeta": {"rack": rack}, "TaggedAddresses": {"lan": "10.1.1.1"},
            "Service": {"ID": id, "Service": service, "Port": port, "Tags": tags, "Meta": {"env": "prod"}},
            "Check": {"CheckID": format!("c-{id}"), "Name": "alive", "Status": if port == 81 { "critical" } else { "passing" }, "ServiceID": id,
                      "Interval": "10s", "Definition": {"HTTP": "http://x/", "Interval": "10s"}},
        });
        rig.put_true("/v1/catalog/register", body.to_string()).await;
    }
    rig
}

pub(super) fn fields(value: &Value, name: &str) -> Vec<String> {
    value.as_array().unwrap().iter().map(|row| row.pointer(name).unwrap().as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn nodes_are_listed_and_looked_up() {
    let rig = populated().await;
    let got = rig.get("/v1/catalog/nodes").await;
    let nodes = got.json();
    assert_eq!(fields(&nodes, "/Node"), ["dev", "n1", "n2"]);
    let nodes = &nodes.as_array().unwrap()[1..];
    let names: Vec<_> = nodes[0].as_object().unwrap().keys().cloned().collect();
    let mut expected = ["ID", "Node", "Address", "Datacenter", "TaggedAddresses", "Meta", "CreateIndex", "ModifyIndex"];
    expected.sort();
    assert_eq!(names, expected);
    assert_eq!(nodes[0]["Datacenter"], "dc1");
    assert_eq!(fields(&rig.get("/v1/catalog/nodes?node-meta=rack:r2").await.json(), "/Node"), ["n2"]);
    assert_eq!(fields(&rig.get("/v1/catalog/nodes?filter=Meta.rack%20!=%20r2").await.json(), "/Node"), ["dev", "n1"]);
    let node = rig.get("/v1/catalog/node/N2").await.json();
    assert_eq!(node["Node"]["Node"], "n2");
    assert_eq!(node["Services"].as_object().unwrap().keys().collect::<Vec<_>>(), ["db", "web-2"]);
    assert_eq!(rig.get("/v1/catalog/node/n2?filter=Service==db").await.json()["Services"].as_object().unwrap().len(), 1);
    assert_eq!(rig.get("/v1/catalog/node/none").await.told(), (200, "null"));
    let list = rig.get("/v1/catalog/node-services/n2").await.json();
    assert_eq!(fields(&list["Services"], "/ID"), ["db", "web-2"]);
    assert_eq!(list["Services"][0]["Proxy"]["Mode"], "");
    assert_eq!(rig.get("/v1/catalog/node-services/none").await.text(), r#"{"Node":null,"Services":[]}"#);
    assert_eq!(rig.get("/v1/catalog/node/").await.told(), (400, "Missing node name"));
    assert_eq!(rig.get("/v1/catalog/datacenters").await.json(), json!(["dc1"]));
}

#[tokio::test]
async fn services_are_listed_with_their_tags() {
    let rig = populated().await;
    assert_eq!(rig.get("/v1/catalog/services").await.json(), json!({"db": [], "web": ["blue", "green", "v1"]}));
    assert_eq!(rig.get("/v1/catalog/services?node-meta=rack:r1").await.json(), json!({"web": ["blue", "v1"]}));
    let filtered = rig.get("/v1/catalog/services?filter=ServicePort%20==%2081%20or%20ServiceName==db").await;
    assert_eq!(filtered.json(), json!({"db": [], "web": ["green"]}));
    let web = rig.get("/v1/catalog/service/web").await.json();
    assert_eq!(fields(&web, "/ServiceID"), ["web-1", "web-2"]);
    assert_eq!(
        (&web[0]["ServiceAddress"], &web[0]["Address"], &web[0]["NodeMeta"]["rack"]),
        (&json!(""), &json!("10.0.0.80"), &json!("r1"))
    );
    assert_eq!(web[0]["ServiceWeights"], json!({"Passing": 1, "Warning": 1}));
    assert_eq!(fields(&rig.get("/v1/catalog/service/web?tag=BLUE&tag=v1").await.json(), "/ServiceID"), ["web-1"]);
    assert_eq!(fields(&rig.get("/v1/catalog/service/web?filter=green%20in%20ServiceTags").await.json(), "/ServiceID"), ["web-2"]);
    assert_eq!(rig.get("/v1/catalog/service/none").await.told(), (200, "[]"));
    assert_eq!(rig.get("/v1/catalog/service/").await.told(), (400, "Missing service name"));
}

#[tokio::test]
async fn a_bad_filter_is_refused_even_where_nothing_is_found() {
    let rig = Rig::start().await;
    for path in [
        "catalog/nodes",
        "catalog/services",
        "catalog/service/x",
        "catalog/node/x",
        "health/node/x",
        "health/state/any",
        "health/service/x",
        "agent/services",
        "agent/checks",
        "agent/members",
    ] {
        let got = rig.get(&format!("/v1/{path}?filter=Foo==1")).await;
        assert_eq!(got.told(), (500, "Failed to create boolean expression evaluator: Selector \"Foo\" is not valid"), "{path}");
    }
    let got = rig.get("/v1/catalog/nodes?filter=Node==").await;
    assert!(got.text().starts_with("Failed to create boolean expression evaluator: "));
}

#[tokio::test]
async fn registrations_are_validated_with_known_words() {
    let rig = Rig::start().await;
    let refused = async |body: Value| {
        let got = rig.put("/v1/catalog/register", body.to_string()).await;
        (got.status.as_u16(), got.text().to_owned())
    };
    assert_eq!(refused(json!({})).await, (500, "Must provide node".into()));
    assert_eq!(refused(json!({"Node": "n"})).await, (500, "Must provide address if SkipNodeUpdate is not set".into()));
    assert!(refused(json!({"Node": "n", "Address": "a", "ID": "x"})).await.1.starts_with("Bad node ID: "));
    let nameless = json!({"Node": "n", "Address": "a", "Service": {"ID": "x"}});
    assert_eq!(refused(nameless).await, (500, "Must provide service name (Service.Service) when service ID is provided".into()));
    let unspecified = json!({"Node": "n", "Address": "a", "Service": {"Service": "x", "Address": "0.0.0.0"}});
    assert!(refused(unspecified).await.1.starts_with("Invalid service address"));
    let orphan = json!({"Node": "n", "Address": "a", "Check": {"Name": "c", "ServiceID": "none"}});
    assert_eq!(refused(orphan).await, (500, "Missing service registration".into()));
    assert_eq!(refused(json!({"Nod": "n"})).await, (400, "Request decode failed: json: unknown field \"Nod\"".into()));
    assert_eq!(refused(json!({"Node": "n", "Address": "a", "Datacenter": "mars"})).await, (500, "No path to datacenter".into()));
}

#[tokio::test]
async fn deregistration_takes_what_it_names() {
    let rig = populated().await;
    rig.put_true("/v1/catalog/deregister", json!({"Node": "n2", "CheckID": "c-db"}).to_string()).await;
    assert_eq!(rig.get("/v1/health/checks/db").await.json(), json!([]));
    rig.put_true("/v1/catalog/deregister", json!({"Node": "n2", "ServiceID": "db", "Address": "ignored"}).to_string()).await;
    assert_eq!(rig.get("/v1/catalog/services").await.json(), json!({"web": ["blue", "green", "v1"]}));
    rig.put_true("/v1/catalog/deregister", json!({"Node": "n2"}).to_string()).await;
    rig.put_true("/v1/catalog/deregister", json!({"Node": "n2"}).to_string()).await;
    assert_eq!(fields(&rig.get("/v1/catalog/nodes").await.json(), "/Node"), ["dev", "n1"]);
    assert_eq!(rig.put("/v1/catalog/deregister", "{}").await.told(), (500, "Must provide node"));
}

#[tokio::test]
async fn checks_are_listed_by_node_service_and_state() {
    let rig = populated().await;
    assert_eq!(fields(&rig.get("/v1/health/node/n2").await.json(), "/CheckID"), ["c-db", "c-web-2"]);
    assert_eq!(fields(&rig.get("/v1/health/checks/web").await.json(), "/CheckID"), ["c-web-1", "c-web-2"]);
    assert_eq!(fields(&rig.get("/v1/health/state/critical").await.json(), "/CheckID"), ["c-web-2"]);
    assert_eq!(fields(&rig.get("/v1/health/state/any").await.json(), "/CheckID").len(), 3);
    assert_eq!(rig.get("/v1/health/state/odd").await.told(), (200, "[]"));
    assert_eq!(rig.get("/v1/health/state/").await.told(), (400, "Missing check state"));
    assert_eq!(rig.get("/v1/health/node/").await.told(), (400, "Missing node name"));
    assert_eq!(rig.get("/v1/health/checks/").await.told(), (400, "Missing service name"));
    assert_eq!(fields(&rig.get("/v1/health/state/any?filter=Status==critical").await.json(), "/CheckID"), ["c-web-2"]);
    let check = &rig.get("/v1/health/checks/db").await.json()[0];
    assert_eq!((&check["Interval"], &check["Timeout"], &check["ServiceTags"]), (&json!("10s"), &json!(""), &json!([])));
    assert_eq!(check["Definition"], json!({"HTTP": "http://x/", "Interval": "10s"}));
}

#[tokio::test]
async fn instances_are_listed_with_node_and_checks() {
    let rig = populated().await;
    let web = rig.get("/v1/health/service/web").await.json();
    assert_eq!(fields(&web, "/Service/ID"), ["web-1", "web-2"]);
    assert_eq!(fields(&web, "/Node/Node"), ["n1", "n2"]);
    assert_eq!(web[0]["Checks"][0]["CheckID"], "c-web-1");
    for (query, ids) in [
        ("passing", vec!["web-1"]),
        ("passing=1", vec!["web-1"]),
        ("passing=false", vec!["web-1", "web-2"]),
        ("tag=green", vec!["web-2"]),
        ("node-meta=rack:r1", vec!["web-1"]),
        ("filter=Checks.Status%20==%20critical", vec!["web-2"]),
        ("filter=Service.Meta.env==prod%20and%20Node.Meta.rack==r1", vec!["web-1"]),
        ("near=n1", vec!["web-1", "web-2"]),
    ] {
        assert_eq!(fields(&rig.get(&format!("/v1/health/service/web?{query}")).await.json(), "/Service/ID"), ids, "{query}");
    }
    assert_eq!(rig.get("/v1/health/service/web?passing=x").await.told(), (400, "Invalid value for ?passing"));
    assert_eq!(rig.get("/v1/health/service/none").await.told(), (200, "[]"));
    assert_eq!(rig.get("/v1/health/service/").await.told(), (400, "Missing service name"));
}
