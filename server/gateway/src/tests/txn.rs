use serde_json::json;

use super::rig::Rig;

#[tokio::test]
async fn a_transaction_writes_all_or_nothing() {
    let rig = Rig::start().await;
    let ops = json!([
        {"KV": {"Verb": "set", "Key": "a", "Value": "MQ==", "Flags": 7}},
        {"kv": {"verb": "get", "key": "a"}},
        {"KV": {"Verb": "check-not-exists", "Key": "b"}},
    ]);
    let got = rig.put("/v1/txn", ops.to_string()).await;
    assert_eq!(got.status, 200);
    let answer = got.json();
    assert_eq!(answer["Errors"], json!(null));
    assert_eq!(answer["Results"][0]["KV"]["Value"], json!(null));
    assert_eq!(answer["Results"][1]["KV"]["Value"], "MQ==");
    assert_eq!(answer["Results"][1]["KV"]["Flags"], 7);
    let ops = json!([{"KV": {"Verb": "set", "Key": "c"}}, {"KV": {"Verb": "get", "Key": "none"}}]);
    let got = rig.put("/v1/txn", ops.to_string()).await;
    assert_eq!(got.status, 409);
    assert_eq!(got.json(), json!({"Results": null, "Errors": [{"OpIndex": 1, "What": "key \"none\" doesn't exist"}]}));
    assert_eq!(rig.get("/v1/kv/c").await.status, 404);
}

#[tokio::test]
async fn a_transaction_that_only_reads_says_how_fresh_it_is() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "1").await;
    let got = rig.put("/v1/txn", json!([{"KV": {"Verb": "get-tree", "Key": "a"}}]).to_string()).await;
    assert_eq!(got.json()["Results"].as_array().unwrap().len(), 1);
    assert_eq!((got.header("x-consul-knownleader"), got.header("x-consul-lastcontact")), ("true", "0"));
}

#[tokio::test]
async fn what_cannot_be_done_is_told_for_each_operation() {
    let rig = Rig::start().await;
    let ops = json!([
        {"KV": {"Verb": "frob", "Key": "a"}},
        {"KV": {"Verb": "get", "Key": ""}},
        {"KV": {"Verb": "lock", "Key": "a", "Session": "x"}},
        {"Node": {"Verb": "lock", "Node": {"Node": "n"}}},
        {"Service": {"Verb": "", "Node": "n", "Service": {"ID": "s"}}},
        {"Check": {"Verb": "get-tree", "Check": {"Node": "n", "CheckID": "c"}}},
        {},
    ]);
    let got = rig.put("/v1/txn", ops.to_string()).await;
    assert_eq!(got.status, 409);
    let errors = got.json()["Errors"].clone();
    assert_eq!(errors[0], json!({"OpIndex": 0, "What": "unknown KV verb \"frob\""}));
    assert_eq!(errors[1]["What"], "Must provide key");
    assert_eq!(errors[2]["What"], "invalid session \"x\"");
    assert_eq!(errors[3]["What"], "unknown Node verb \"lock\"");
    assert_eq!(errors[4]["What"], "unknown Service verb \"\"");
    assert_eq!(errors[5]["What"], "unknown check verb \"get-tree\"");
    assert!(errors[6]["What"].as_str().unwrap().contains("empty"));
    for (op, what) in [
        (json!({"Node": {"Verb": "set", "Node": {"Address": "10.0.0.1"}}}), "must provide node"),
        (json!({"Node": {"Verb": "set", "Node": {"Node": "n", "Address": "a", "ID": "x"}}}), "bad node ID: `x` is not a UUID"),
        (json!({"Service": {"Verb": "get", "Service": {"ID": "s"}}}), "must provide node"),
        (json!({"Check": {"Verb": "get", "Check": {"Node": "n"}}}), "a check needs a name or an id"),
    ] {
        let got = rig.put("/v1/txn", json!([{"KV": {"Verb": "set", "Key": "a"}}, op]).to_string()).await;
        assert_eq!(got.status, 409);
        assert_eq!(got.json(), json!({"Results": null, "Errors": [{"OpIndex": 1, "What": what}]}));
    }
    assert_eq!(rig.get("/v1/kv/a").await.status, 404);
}

#[tokio::test]
async fn rows_of_the_catalog_are_written_read_compared_and_removed() {
    let rig = Rig::start().await;
    let service = json!({"ID": "w1", "Service": "web", "Port": 80, "Tags": ["a"]});
    let check = json!({"Node": "n", "CheckID": "c", "Name": "alive", "Status": "passing", "ServiceID": "w1",
        "Definition": {"HTTP": "http://x", "Interval": "10s"}});
    let ops = json!([
        {"Node": {"Verb": "cas", "Node": {"Node": "n", "Address": "10.0.0.1", "Meta": {"rack": "a"}, "ModifyIndex": 0}}},
        {"Service": {"Verb": "set", "Node": "n", "Service": service}},
        {"Check": {"Verb": "set", "Check": check}},
        {"Check": {"Verb": "get", "Check": {"Node": "n", "CheckID": "c"}}},
    ]);
    let answer = rig.put("/v1/txn", ops.to_string()).await.json();
    let results = &answer["Results"];
    assert_eq!((&results[0]["Node"]["Datacenter"], &results[0]["Node"]["Meta"]["rack"]), (&json!("dc1"), &json!("a")));
    assert_eq!((&results[1]["Service"]["ID"], &results[1]["Service"]["Weights"]["Passing"]), (&json!("w1"), &json!(1)));
    assert_eq!(results[2]["Check"]["ServiceName"], "web");
    assert_eq!((&results[3]["Check"], &results[2]["Check"]["Definition"]["Interval"]), (&results[2]["Check"], &json!("10s")));
    let healthy = rig.get("/v1/health/service/web?passing").await.json();
    assert_eq!(healthy.as_array().map(Vec::len), Some(1), "{healthy}");

    let index = &results[1]["Service"]["ModifyIndex"];
    let stale = json!([{"Service": {"Verb": "delete-cas", "Node": "n", "Service": {"ID": "w1", "ModifyIndex": 1}}}]);
    let what = "failed to delete service \"w1\" on node \"n\", index is stale";
    assert_eq!(rig.put("/v1/txn", stale.to_string()).await.json()["Errors"][0]["What"], what);
    let gone = json!([
        {"Service": {"Verb": "delete-cas", "Node": "n", "Service": {"ID": "w1", "ModifyIndex": index}}},
        {"Node": {"Verb": "delete", "Node": {"Node": "n"}}},
    ]);
    assert_eq!(rig.put("/v1/txn", gone.to_string()).await.json(), json!({"Results": [], "Errors": null}));
    let missing = json!([{"Node": {"Verb": "get", "Node": {"Node": "n"}}}]);
    assert_eq!(rig.put("/v1/txn", missing.to_string()).await.json()["Errors"][0]["What"], "node \"n\" doesn't exist");
}

#[tokio::test]
async fn transactions_are_bounded_and_read_strictly() {
    let rig = Rig::start().await;
    let op = json!({"KV": {"Verb": "set", "Key": "a"}});
    let got = rig.put("/v1/txn", json!(vec![op; 129]).to_string()).await;
    assert_eq!(got.told(), (413, "Transaction contains too many operations (129 > 128)"));
    let value = "AAAA".repeat(512 * 1024 / 3 + 1);
    let got = rig.put("/v1/txn", json!([{"KV": {"Verb": "set", "Key": "k", "Value": value}}]).to_string()).await;
    assert_eq!(
        got.told(),
        (
            413,
            "Value for key \"k\" is too large (524289 > 524288 bytes)"
                .replace("(524289", "(524289 bytes")
                .replace("(524289 bytes >", "(524289 >")
                .as_str()
        )
    );
    assert_eq!(rig.put("/v1/txn", vec![b' '; 1 << 21]).await.status, 413);
    assert_eq!(rig.put("/v1/txn", "").await.told(), (400, "Failed to parse body: EOF"));
    assert_eq!(rig.put("/v1/txn", r#"[{"Foo":1}]"#).await.told(), (400, "Failed to parse body: json: unknown field \"Foo\""));
    assert_eq!(rig.put("/v1/txn", r#"[{"KV":{"Foo":1}}]"#).await.told(), (400, "Failed to parse body: json: unknown field \"Foo\""));
}
