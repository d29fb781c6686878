//! What holds for every endpoint.

use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::body::Body;
use http::{Method, Request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{DEADLINE, Rig};
use crate::{GatewayOptions, LiveOptions};

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let rig = Rig::start().await;
    let got = rig.ask(Method::POST, "/v1/kv/a", Body::empty()).await;
    assert_eq!(got.told(), (405, "method POST not allowed"));
    assert_eq!(got.header("allow"), "OPTIONS,GET,PUT,DELETE");
    assert_eq!(rig.ask(Method::HEAD, "/v1/kv/a", Body::empty()).await.status, 405);
    let got = rig.ask(Method::OPTIONS, "/v1/catalog/register", Body::empty()).await;
    assert_eq!((got.told(), got.header("allow")), ((200, ""), "OPTIONS,PUT"));
}

#[tokio::test]
async fn unknown_paths_are_told_apart() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/v1/nope").await.told(), (404, "Invalid URL path: not a recognized HTTP API endpoint\n"));
    let got = rig.get("/nope").await;
    assert_eq!(got.status, 404);
    assert!(got.text().contains("starts with '/v1/'"));
    assert!(rig.get("/").await.text().contains("disabled"));
    assert_eq!(rig.get("/v1/internal/ui/nodes").await.status, 501);
    assert_eq!(rig.get("/v1/acl/tokens").await.told(), (401, "ACL support disabled"));
}

#[tokio::test]
async fn unclean_paths_are_redirected() {
    let rig = Rig::start().await;
    for (path, location) in [
        ("/v1/kv//a?raw", "/v1/kv/a?raw"),
        ("/v1//kv/a", "/v1/kv/a"),
        ("/v1/kv/a/../b%20c", "/v1/kv/b%20c"),
        ("/v1/kv/a%2F%2Fb", "/v1/kv/a/b"),
        ("/v1/kv?recurse", "/v1/kv/?recurse"),
        ("/v1/agent/service", "/v1/agent/service/"),
    ] {
        let got = rig.get(path).await;
        assert_eq!((got.status.as_u16(), got.header("location")), (301, location), "{path}");
    }
}

#[tokio::test]
async fn what_cannot_be_seen_cannot_be_a_path() {
    let rig = Rig::start().await;
    assert_eq!(rig.get("/v1/kv/a%00b").await.status, 400);
    assert_eq!(rig.get("/v1/kv/a%0Ab").await.status, 400);
    assert_eq!(rig.get("/v1/kv/a%zz").await.status, 400);
    assert_eq!(rig.get("/v1/kv/%C3%A9%20").await.status, 404);
    let rig = Rig::with(GatewayOptions { allow_unprintable: true, ..Default::default() }).await;
    assert_eq!(rig.get("/v1/kv/a%00b").await.status, 404);
}

#[tokio::test]
async fn namespaces_and_partitions_are_refused() {
    let rig = Rig::start().await;
    let text = "Invalid query parameter: \"ns\" - Namespaces are a Consul Enterprise feature";
    assert_eq!(rig.get("/v1/kv/a?ns=x").await.told(), (400, text));
    let text = "Invalid query parameter: \"partition\" - Partitions are a Consul Enterprise feature";
    assert_eq!(rig.get("/v1/catalog/nodes?partition=x").await.told(), (400, text));
    assert_eq!(rig.get_with("/v1/kv/a", "x-consul-namespace", "x").await.status, 400);
    assert_eq!(rig.get("/v1/kv/a?ns=").await.status, 404);
}

#[tokio::test]
async fn parameters_that_make_no_sense_are_refused() {
    let rig = Rig::start().await;
    for (query, text) in [
        ("index=x", "Invalid index"),
        ("index=-1", "Invalid index"),
        ("index=1&wait=soon", "Invalid wait time"),
        ("max_stale=x", "Invalid max_stale value \"x\""),
        ("stale&consistent", "Cannot specify ?stale with ?consistent, conflicting semantics."),
        ("cached&consistent", "Cannot specify ?cached with ?consistent, conflicting semantics."),
    ] {
        let got = rig.get(&format!("/v1/catalog/nodes?{query}")).await;
        assert_eq!(got.told(), (400, text), "{query}");
        assert_eq!((got.index(), got.header("x-consul-knownleader"), got.header("x-consul-lastcontact")), (1, "false", "0"));
    }
    assert_eq!(rig.get("/v1/catalog/nodes?dc=mars").await.told(), (500, "No path to datacenter"));
    assert_eq!(rig.get("/v1/catalog/nodes?dc=mars&datacenter=dc1").await.status, 200);
}

#[tokio::test]
async fn every_answer_says_how_fresh_it_is() {
    let rig = Rig::start().await;
    for (query, consistency) in
        [("", "leader"), ("?cached", "leader"), ("?consistent", "consistent"), ("?stale", "stale"), ("?max_stale=10s", "stale")]
    {
        let got = rig.get(&format!("/v1/catalog/service/none{query}")).await;
        assert_eq!(got.told(), (200, "[]"));
        assert_eq!(got.header("x-consul-effective-consistency"), consistency, "{query}");
        assert_eq!(got.header("x-consul-query-backend"), "blocking-query");
        assert_eq!(got.header("x-consul-knownleader"), "true");
        assert_eq!(got.header("x-consul-default-acl-policy"), "allow");
        assert_eq!(got.header("vary"), "Accept-Encoding");
        assert_eq!(got.header("content-type"), "application/json");
        assert!(got.index() >= 1);
        got.header("x-consul-lastcontact").parse::<u64>().unwrap();
    }
}

#[tokio::test]
async fn headers_are_written_the_way_scripts_look_for_them() {
    let rig = Rig::start().await;
    let mut stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(b"GET /v1/catalog/nodes HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tokio::time::timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    for name in ["X-Consul-Index: ", "X-Consul-Knownleader: true", "X-Consul-Lastcontact: 0", "Content-Type: application/json"] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[tokio::test]
async fn answers_are_indented_on_request_or_by_default() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "x").await;
    let compact = rig.get("/v1/kv/a").await;
    assert!(!compact.text().contains('\n'));
    let pretty = rig.get("/v1/kv/a?pretty").await;
    assert!(pretty.text().starts_with("[\n    {\n        \"LockIndex\": 0,\n") && pretty.text().ends_with("]\n"));
    assert_eq!(pretty.json(), compact.json());
    let rig = Rig::with(GatewayOptions { pretty: true, ..Default::default() }).await;
    assert_eq!(rig.put("/v1/kv/a", "x").await.text(), "true\n");
    assert!(rig.get("/v1/kv/?recurse").await.text().starts_with("[\n    {"));
}

#[tokio::test]
async fn configured_headers_and_blocked_endpoints_are_honoured() {
    let header = (http::HeaderName::from_static("access-control-allow-origin"), http::HeaderValue::from_static("*"));
    let live = LiveOptions { response_headers: vec![header], block_endpoints: vec!["/v1/agent".into()] };
    let options = GatewayOptions { live: Arc::new(ArcSwap::from_pointee(live)), ..Default::default() };
    let rig = Rig::with(options).await;
    assert_eq!(rig.get("/v1/catalog/nodes").await.header("access-control-allow-origin"), "*");
    let got = rig.get("/v1/agent/self").await;
    assert_eq!(got.told(), (403, "Endpoint is blocked by agent configuration"));
    assert_eq!(got.header("access-control-allow-origin"), "*");
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_take_it() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/big", "x".repeat(4000)).await;
    rig.put_true("/v1/kv/small", "x").await;
    let got = rig.get_with("/v1/kv/big", "accept-encoding", "br, gzip").await;
    assert_eq!(got.header("content-encoding"), "gzip");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&got.body[..]), &mut text).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), rig.get("/v1/kv/big").await.json());
    assert_eq!(rig.get_with("/v1/kv/small", "accept-encoding", "gzip").await.header("content-encoding"), "");
    assert_eq!(rig.get_with("/v1/kv/big", "accept-encoding", "gzip;q=0").await.header("content-encoding"), "");
}

#[tokio::test]
async fn the_listener_ends_when_told_and_lets_nobody_hang() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "x").await;
    let index = rig.get("/v1/kv/a").await.index();
    let path = format!("/v1/kv/a?index={index}&wait=5m");
    let waiting = rig.get(&path);
    let stopping = async {
        rig.watchers(1).await;
        rig.stop.cancel();
    };
    let (got, ()) = tokio::join!(waiting, stopping);
    assert_eq!(got.status, 500);
    assert!(got.text().contains("shutting down"));
    tokio::time::timeout(DEADLINE, rig.task).await.expect("the listener ends").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_sent_breaks_a_handler() {
    let rig = Rig::start().await;
    let endpoints = [
        "kv/",
        "txn",
        "catalog/register",
        "catalog/deregister",
        "catalog/service/",
        "catalog/node/",
        "health/state/",
        "health/service/",
        "agent/service/register",
        "agent/check/register",
        "agent/check/update/x",
        "agent/service/",
        "watch/nope/",
        "",
    ];
    let requests = (
        prop::sample::select(vec![Method::GET, Method::PUT, Method::DELETE, Method::POST]),
        prop::sample::select(endpoints.to_vec()),
        "[a-zA-Z0-9%/._~-]{0,12}",
        prop::collection::vec(
            (
                prop::sample::select(vec![
                    "index",
                    "wait",
                    "cas",
                    "flags",
                    "keys",
                    "recurse",
                    "separator",
                    "filter",
                    "tag",
                    "passing",
                    "acquire",
                    "raw",
                ]),
                "[a-z0-9%=.\"]{0,6}",
            ),
            0..3,
        ),
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..60),
            "[\\[\\]{}:,\"a-zA-Z0-9 ]{0,60}".prop_map(String::into_bytes),
            prop::sample::select(vec![
                "{\"Node\":\"n\",\"Address\":\"a\"}",
                "[{\"KV\":{\"Verb\":\"set\",\"Key\":\"k\"}}]",
                "[{\"KV\":null}]",
                "{\"Name\":\"w\"}"
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
        ],
    );
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..300 {
        let (method, endpoint, rest, params, body) = requests.new_tree(&mut runner).unwrap().current();
        let query: Vec<String> = params.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let uri = format!("/v1/{endpoint}{rest}?wait=1ms&{}", query.join("&").replace('"', "%22"));
        let Ok(request) = Request::builder().method(method).uri(&uri).body(Body::from(body.clone())) else { continue };
        // A handler that breaks closes the connection without an answer, which `send` does not forgive.
        let got = rig.send(request).await;
        assert!(got.status.as_u16() >= 200, "{uri}");
        let internal = got.status == 500 && got.text().to_lowercase().contains("panic");
        assert!(!internal, "{uri} {body:?}: {}", got.text());
    }
}

#[tokio::test]
async fn flags_of_the_keyring_are_bounded() {
    let rig = Rig::start().await;
    for (path, what) in [("?relay-factor=6", "from 0 to 5"), ("?relay-factor=-1", "from 0 to 5"), ("?local-only=x", "true or false")] {
        let got = rig.get(&format!("/v1/operator/keyring{path}")).await;
        assert!(got.status == 400 && got.text().contains(what), "{path}: {:?}", got.told());
    }
    let got = rig.put("/v1/operator/keyring?local-only=1", r#"{"Key": "x"}"#).await;
    assert!(got.status == 400 && got.text().contains("GET only"), "{:?}", got.told());
}
