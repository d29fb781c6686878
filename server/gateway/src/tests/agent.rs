use std::sync::Arc;

use serde_json::json;

use super::rig::Rig;
use crate::GatewayOptions;

#[tokio::test]
async fn a_service_is_registered_judged_and_deregistered() {
    let rig = Rig::start().await;
    let body = json!({"Name": "web", "ID": "w1", "Port": 80, "Tags": ["a"], "Check": {"TTL": "10m"}}).to_string();
    assert_eq!(rig.put("/v1/agent/service/register", body).await.told(), (200, ""));
    let services = rig.get("/v1/agent/services").await.json();
    assert_eq!((&services["w1"]["Service"], &services["w1"]["Datacenter"]), (&json!("web"), &json!("dc1")));
    assert!(services["w1"].get("ContentHash").is_none());
    let checks = rig.get("/v1/agent/checks").await.json();
    assert_eq!((&checks["service:w1"]["Status"], &checks["service:w1"]["Type"]), (&json!("critical"), &json!("ttl")));
    assert_eq!(rig.get("/v1/agent/health/service/id/w1").await.status, 503);
    assert_eq!(rig.put("/v1/agent/check/warn/service:w1?note=slow", "").await.told(), (200, ""));
    let got = rig.get("/v1/agent/health/service/id/w1").await;
    assert_eq!((got.status.as_u16(), &got.json()["AggregatedStatus"], got.header("x-consul-reason")), (429, &json!("warning"), "warning"));
    assert_eq!(rig.put("/v1/agent/check/pass/service:w1", "").await.status, 200);
    assert_eq!(rig.get("/v1/agent/health/service/name/web?format=text").await.told(), (200, "passing"));
    assert_eq!(rig.get("/v1/agent/health/service/name/web").await.json().as_array().unwrap().len(), 1);
    let update = json!({"Status": "critical", "Output": "broken"}).to_string();
    assert_eq!(rig.put("/v1/agent/check/update/service:w1", update).await.status, 200);
    assert_eq!(rig.get("/v1/agent/checks?filter=Status==critical").await.json()["service:w1"]["Output"], "broken");
    assert_eq!(rig.put("/v1/agent/service/deregister/w1", "").await.told(), (200, ""));
    assert_eq!(rig.get("/v1/agent/services").await.told(), (200, "{}"));
    assert_eq!(rig.get("/v1/agent/checks").await.told(), (200, "{}"));
}

#[tokio::test]
async fn what_is_registered_here_is_found_in_the_catalog() {
    let rig = Rig::start().await;
    let index = rig.get("/v1/health/service/web").await.index();
    let waiting = format!("/v1/health/service/web?index={index}&wait=1m");
    let registering = async {
        rig.watchers(1).await;
        assert_eq!(rig.put("/v1/agent/service/register", json!({"Name": "web", "Port": 80}).to_string()).await.status, 200);
    };
    let (got, ()) = tokio::join!(rig.get(&waiting), registering);
    assert_eq!(got.json()[0]["Service"]["Port"], 80);
}

#[tokio::test]
async fn unknown_ids_are_404_with_advice() {
    let rig = Rig::start().await;
    assert_eq!(
        rig.put("/v1/agent/service/deregister/x", "").await.told(),
        (404, "Unknown service ID \"x\". Ensure that the service ID is passed, not the service name.")
    );
    let unknown = (404, "Unknown check ID \"x\". Ensure that the check ID is passed, not the check name.");
    assert_eq!(rig.put("/v1/agent/check/deregister/x", "").await.told(), unknown);
    assert_eq!(rig.put("/v1/agent/check/pass/x", "").await.told(), unknown);
    assert_eq!(rig.get("/v1/agent/service/x").await.told(), (404, "unknown service ID: x"));
    assert_eq!(rig.get("/v1/agent/health/service/id/x").await.told(), (404, "ServiceId x not found"));
    assert_eq!(rig.get("/v1/agent/health/service/name/x").await.told(), (404, "ServiceName x not found"));
    let check = json!({"Name": "c", "TTL": "10s", "ServiceID": "x"}).to_string();
    assert_eq!(rig.put("/v1/agent/check/register", check).await.told(), (404, "ServiceID \"x\" does not exist"));
}

#[tokio::test]
async fn definitions_are_refused_with_known_words() {
    let rig = Rig::start().await;
    let told = async |path: &str, body: serde_json::Value| {
        let got = rig.put(&format!("/v1/agent/{path}"), body.to_string()).await;
        (got.status.as_u16(), got.text().to_owned())
    };
    assert_eq!(told("service/register", json!({})).await, (400, "Missing service name".into()));
    let (status, text) = told("service/register", json!({"Name": "x", "Address": "0.0.0.0"})).await;
    assert!(status == 400 && text.starts_with("Invalid service address"), "{text}");
    assert_eq!(
        told("service/register", json!({"Name": "x", "Foo": 1})).await,
        (400, "Request decode failed: json: unknown field \"Foo\"".into())
    );
    assert_eq!(told("check/register", json!({"TTL": "1s"})).await, (400, "Missing check name".into()));
    let (status, text) = told("check/register", json!({"Name": "x"})).await;
    assert!(status == 400 && text.starts_with("Invalid check: TTL must be > 0 for TTL checks"), "{text}");
    assert_eq!(told("check/update/x", json!({"Status": "odd"})).await, (400, "Invalid check status: 'odd'".into()));
    let check = json!({"Name": "page", "HTTP": "http://127.0.0.1:1/", "Interval": "1h"});
    assert_eq!(told("check/register", check).await, (200, "".into()));
    assert_eq!(told("check/pass/page", json!(null)).await, (500, "CheckID \"page\" does not have associated TTL".into()));
    assert_eq!(told("check/deregister/page", json!(null)).await.0, 200);
}

#[tokio::test]
async fn one_instance_can_be_waited_on_by_its_hash() {
    let rig = Rig::start().await;
    let register = |port: u16| json!({"Name": "web", "Port": port}).to_string();
    rig.put("/v1/agent/service/register", register(80)).await;
    let got = rig.get("/v1/agent/service/web").await;
    let hash = got.header("x-consul-contenthash").to_owned();
    assert_eq!(got.json()["ContentHash"], hash.as_str());
    let same = rig.get(&format!("/v1/agent/service/web?hash={hash}&wait=10ms")).await;
    assert_eq!(same.header("x-consul-contenthash"), hash);
    let path = format!("/v1/agent/service/web?hash={hash}&wait=1m");
    let (changed, _) = tokio::join!(rig.get(&path), rig.put("/v1/agent/service/register", register(81)));
    assert_eq!(changed.json()["Port"], 81);
}

#[tokio::test]
async fn the_agent_tells_who_it_is() {
    let rig = Rig::start().await;
    let about = rig.get("/v1/agent/self").await.json();
    assert_eq!(
        (&about["Config"]["Datacenter"], &about["Config"]["NodeName"], &about["Config"]["Server"]),
        (&json!("dc1"), &json!("dev"), &json!(true))
    );
    assert_eq!(about["Stats"]["consul"]["leader"], "true");
    let members = rig.get("/v1/agent/members").await.json();
    assert_eq!((&members[0]["Name"], &members[0]["Status"], &members[0]["Tags"]["dc"]), (&json!("dev"), &json!(1), &json!("dc1")));
    assert_eq!(rig.get("/v1/agent/members?filter=Tags.dc==dc2").await.json(), json!([]));
    assert_eq!(rig.get("/v1/agent/version").await.json()["HumanVersion"], "0.0.0");
    assert_eq!(rig.get("/v1/status/leader").await.json(), "127.0.0.1:8300");
    assert_eq!(rig.get("/v1/status/peers").await.json(), json!(["127.0.0.1:8300"]));
}

#[tokio::test]
async fn metrics_are_told_in_both_forms() {
    let rig = Rig::start().await;
    let text = "Prometheus is not enabled since its retention time is not positive";
    assert_eq!(rig.get("/v1/agent/metrics?format=prometheus").await.told(), (415, text));
    assert_eq!(rig.get("/v1/agent/metrics").await.json()["Gauges"], json!([]));
    let metrics: crate::MetricsText = Arc::new(|| "# TYPE up gauge\nup 1\n".into());
    let rig = Rig::with(GatewayOptions { metrics: Some(metrics), ..Default::default() }).await;
    let got = rig.get("/v1/agent/metrics?format=prometheus").await;
    assert_eq!(got.told(), (200, "# TYPE up gauge\nup 1\n"));
    assert!(got.header("content-type").starts_with("text/plain; version=0.0.4"));
    assert_eq!(rig.get("/v1/agent/metrics").await.json()["Gauges"][0]["Name"], "up");
}
