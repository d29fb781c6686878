//! Events over HTTP.

use serde_json::{Value, json};

use super::rig::{Got, Rig};
use crate::GatewayOptions;

async fn rig() -> Rig {
    Rig::over(service::testing::dev_in_a_pool().await, GatewayOptions::default()).await
}

fn names(got: &Got) -> Vec<String> {
    let events = got.json();
    events.as_array().unwrap().iter().map(|event| event["Name"].as_str().unwrap().to_owned()).collect()
}

/// The index that stands for an event, as clients work it out of its id.
fn index(event: &Value) -> u64 {
    let digits = event["ID"].as_str().unwrap().replace('-', "");
    let half = |range: std::ops::Range<usize>| u64::from_str_radix(&digits[range], 16).unwrap();
    half(0..16) ^ half(16..32)
}

#[tokio::test]
async fn a_list_waits_for_the_next_event_and_its_index_is_that_of_the_last_one() {
    let rig = rig().await;
    let empty = rig.get("/v1/event/list").await;
    assert_eq!((names(&empty).len(), empty.index()), (0, 1));
    let first = rig.put("/v1/event/fire/deploy", "42").await.json();
    let listed = rig.get("/v1/event/list?index=1&wait=1m").await;
    assert_eq!((names(&listed), listed.index()), (vec!["deploy".to_owned()], index(&first)));
    assert_eq!((&listed.json()[0]["Payload"], &listed.json()[0]["LTime"]), (&json!("NDI="), &json!(1)));
    let unchanged = rig.get(&format!("/v1/event/list?index={}&wait=20ms", listed.index())).await;
    assert_eq!(unchanged.index(), index(&first), "nothing has come");
    let path = format!("/v1/event/list?name=flush&index={}&wait=1m", rig.get("/v1/event/list?name=flush").await.index());
    let firing = async {
        rig.put("/v1/event/fire/deploy", "43").await;
        rig.put("/v1/event/fire/flush", "").await.json()
    };
    let (got, fired) = tokio::join!(rig.get(&path), firing);
    assert_eq!((names(&got), got.index()), (vec!["flush".to_owned()], index(&fired)), "the other one did not end the wait");
}

#[tokio::test]
async fn the_latest_256_events_are_kept() {
    let rig = rig().await;
    for at in 0..300 {
        assert_eq!(rig.put(&format!("/v1/event/fire/e{at}"), "").await.status.as_u16(), 200);
    }
    let expected: Vec<String> = (300 - 256..300).map(|at| format!("e{at}")).collect();
    assert_eq!(names(&rig.get("/v1/event/list").await), expected);
}

#[tokio::test]
async fn filters_choose_the_agents_that_act_when_an_event_comes_and_the_events_of_a_list() {
    let rig = rig().await;
    let register = |tags: &'static str| rig.put("/v1/agent/service/register", format!(r#"{{"Name": "cache", "Tags": ["{tags}"]}}"#));
    assert_eq!(register("blue").await.status.as_u16(), 200);
    for (name, filters) in [
        ("all", ""),
        ("me", "?node=^d.v$"),
        ("another", "?node=^other"),
        ("cache", "?service=^cache$"),
        ("web", "?service=web"),
        ("blue", "?service=cache&tag=blue"),
        ("green", "?service=cache&tag=green"),
    ] {
        assert_eq!(rig.put(&format!("/v1/event/fire/{name}{filters}"), "").await.status.as_u16(), 200, "{name}");
    }
    assert_eq!(names(&rig.get("/v1/event/list").await), ["all", "me", "cache", "blue"]);
    assert_eq!(register("green").await.status.as_u16(), 200);
    assert_eq!(names(&rig.get("/v1/event/list").await), ["all", "me", "cache", "blue"], "what was for others stays so");
    for (query, expected) in
        [("service=cache", &["cache", "blue"][..]), ("tag=bl", &["blue"]), ("node=d", &["me"]), ("name=all&node=x", &[])]
    {
        assert_eq!(names(&rig.get(&format!("/v1/event/list?{query}")).await), expected, "{query}");
    }
}

#[tokio::test]
async fn what_can_not_be_fired_is_refused_with_the_reason() {
    let rig = rig().await;
    for (path, body, why) in [
        ("/v1/event/fire/x?node=(", 0, "The node filter `(` is no regular expression"),
        ("/v1/event/fire/x?service=[", 0, "The service filter `[` is no regular expression"),
        ("/v1/event/fire/x?service=a&tag=*", 0, "The tag filter `*` is no regular expression"),
        ("/v1/event/fire/x?tag=a", 0, "A tag filter needs a service filter"),
        ("/v1/event/fire/x", 513, "The payload has 513 bytes, and an event carries at most 512"),
        ("/v1/event/fire/x", 100_000, "the payload of an event has at most 512 bytes"),
        ("/v1/event/fire/_rexec", 0, "`lictor exec`"),
    ] {
        let got = rig.put(path, vec![b'x'; body]).await;
        assert!(got.status.as_u16() == 500 && got.text().contains(why), "{path}: {} {}", got.status, got.text());
    }
    let got = rig.get("/v1/event/list?node=(").await;
    assert!(got.status.as_u16() == 500 && got.text().contains("no regular expression"), "{}", got.text());
    assert_eq!(names(&rig.get("/v1/event/list").await).len(), 0);
}
