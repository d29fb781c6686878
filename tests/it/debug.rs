//! What is told about the agent, its machine and its state: over HTTP, over gRPC, and in one archive.

use std::collections::BTreeMap;
use std::fs;

use harness::{Node, PATIENCE, Setup, eventually, run};
use lictor_client::v1;
use serde_json::{Value, json};

#[test]
fn an_agent_tells_everything_about_itself() {
    let node = Setup::durable()
        .flag("-node=me")
        .flag("-node-meta=rack:r7")
        .config(r#"encrypt = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="  dns_config { node_ttl = "5s" }"#)
        .start();
    node.put("/v1/agent/service/register", json!({"Name": "web", "Check": {"TTL": "10m"}}).to_string()).expect(200);
    let told = node.get("/v1/agent/self").expect(200).json();
    assert_eq!((&told["Config"]["NodeName"], &told["Config"]["Server"], &told["Meta"]["rack"]), (&"me".into(), &true.into(), &"r7".into()));
    let debug = &told["DebugConfig"];
    let http = node.addresses().http;
    assert_eq!((&debug["NodeMeta"]["rack"], &debug["DNSNodeTTL"], &debug["EncryptKey"]), (&"r7".into(), &"5s".into(), &"hidden".into()));
    assert_eq!((&debug["ClientAddrs"], &debug["DevMode"]), (&json!([http.ip().to_string()]), &false.into()));
    assert_eq!(debug["DataDir"], node.setup().data_dir().to_str().unwrap());
    assert_eq!(debug["TaggedAddresses"]["lan"], http.ip().to_string());
    let stats = &told["Stats"];
    assert_eq!((&stats["agent"]["services"], &stats["agent"]["check_ttls"]), (&"1".into(), &"1".into()));
    assert_eq!(
        (&stats["consul"]["server"], &stats["raft"]["state"], &stats["serf_lan"]["members"]),
        (&"true".into(), &"Leader".into(), &"1".into())
    );
    assert_eq!(stats["serf_lan"]["encrypted"], "true");
    assert!(told["Coord"]["Vec"].is_array() && told["Member"]["Status"] == 1, "{told}");
    assert!(!told.to_string().contains("AAAAAAAA"), "the key is not shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_machine_is_told_on_both_faces() {
    let node = Node::dev();
    let host = node.get("/v1/agent/host").expect(200).json();
    let number = |value: &Value| value.as_u64().unwrap();
    assert!(number(&host["Memory"]["total"]) > number(&host["Memory"]["used"]), "{host}");
    assert!(!host["CPU"].as_array().unwrap().is_empty() && number(&host["Disk"]["total"]) > 0, "{host}");
    assert_eq!((host["Host"]["os"].as_str(), host["Errors"].as_array().map(Vec::len)), (Some("linux"), Some(0)));
    assert!(number(&host["CollectionTime"]) > 1_600_000_000_000_000_000, "it is in nanoseconds");
    let client = node.client().await;
    let told = client.agent().host().await.unwrap();
    assert_eq!(told.memory.unwrap().total, number(&host["Memory"]["total"]));
    assert_eq!(told.system.unwrap().kernel_version, host["Host"]["kernelVersion"].as_str().unwrap());
    let info = client.agent().info().await.unwrap();
    assert_eq!(info.configuration["check_update_interval"], "5m");
    assert!(client.agent().metrics().await.unwrap().contains("consul_runtime_threads "));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_waited_for_on_both_faces() {
    let node = Node::dev();
    let register = |port: u16| node.put("/v1/agent/service/register", json!({"Name": "web", "Port": port}).to_string()).expect(200);
    register(1);
    let hash = node.get("/v1/agent/service/web").expect(200).header("x-consul-contenthash").unwrap().to_owned();
    let mut grpc = v1::agent_service_client::AgentServiceClient::connect(format!("http://{}", node.addresses().grpc)).await.unwrap();
    let asked = v1::AgentServiceGetServiceRequest { service_id: "web".into(), known_hash: hash.clone(), wait: None };
    let waiting = tokio::spawn(async move { grpc.get_service(asked).await.unwrap().into_inner() });
    let (http, path) = (node.http(), format!("/v1/agent/service/web?hash={hash}&wait=5m"));
    let blocked = std::thread::spawn(move || http.get(&path).expect(200));
    // An unrelated registration wakes nobody; the change does.
    node.put("/v1/agent/service/register", json!({"Name": "other"}).to_string()).expect(200);
    assert!(!waiting.is_finished() && !blocked.is_finished());
    register(2);
    let told = tokio::time::timeout(PATIENCE, waiting).await.expect("gRPC is woken").unwrap();
    eventually!(PATIENCE, blocked.is_finished(), "HTTP is woken");
    let answer = blocked.join().unwrap();
    assert_eq!((told.service.unwrap().port, &answer.json()["Port"]), (2, &2.into()));
    assert_eq!(Some(told.content_hash.as_str()), answer.header("x-consul-contenthash"));
    assert_ne!(told.content_hash, hash);
}

/// The files of an archive by their name inside its directory.
fn unpacked(archive: &std::path::Path, into: &std::path::Path) -> BTreeMap<String, String> {
    fs::create_dir(into).unwrap();
    run(&format!("tar -xzf {} -C {}", archive.display(), into.display())).success();
    let found = run(&format!("cd {} && find . -type f", into.display())).success().stdout;
    let inside = |path: &str| path.splitn(3, '/').nth(2).unwrap_or_default().to_owned();
    found.lines().map(|path| (inside(path), fs::read_to_string(into.join(path)).unwrap())).collect()
}

#[test]
fn one_archive_holds_what_a_report_needs_and_no_secret() {
    let node = Setup::dev().config(r#"encrypt = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=""#).start();
    let check = json!({"HTTP": "http://127.0.0.1:1/", "Interval": "1s", "Header": {"Authorization": ["Bearer very-secret"]}});
    node.put("/v1/agent/service/register", json!({"Name": "web", "Token": "very-secret", "Check": check}).to_string()).expect(200);
    let home = node.setup().home();
    let said = node.cli(&["debug", "-duration=2s", "-interval=1s", "-output=bug"]).success().stdout;
    assert_eq!(said, "Saved debug archive: bug.tar.gz\n");
    let files = unpacked(&home.join("bug.tar.gz"), &home.join("unpacked"));
    assert!(!home.join("bug").exists(), "only the archive stays");
    for name in ["agent.json", "host.json", "members.json", "services.json", "checks.json", "index.json", "lictor.log", "metrics/0001.txt"]
    {
        assert!(files.contains_key(name), "{name} is missing in {:?}", files.keys());
    }
    let agent: Value = serde_json::from_str(&files["agent.json"]).unwrap();
    assert_eq!(agent["configuration"]["encrypt"], "hidden");
    assert!(files["checks.json"].contains("service:web") && files["metrics/0001.txt"].contains("consul_"));
    let index: Value = serde_json::from_str(&files["index.json"]).unwrap();
    assert_eq!((&index["missing"], &index["log_cut"]), (&json!([]), &false.into()));
    let all: String = files.values().cloned().collect();
    assert!(!all.contains("very-secret") && !all.contains("AAAAAAAA"), "a secret is in it");

    let again = node.cli(&["debug", "-duration=1s", "-capture=heap"]).exited(1).stderr;
    assert!(again.contains("`heap`") && again.contains("metrics"), "{again}");
    node.cli(&["debug", "-duration=1s", "-capture=host", "-archive=false", "-output=only"]).success();
    assert!(home.join("only/host.json").exists() && !home.join("only/agent.json").exists());
}
