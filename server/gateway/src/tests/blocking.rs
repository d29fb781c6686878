use serde_json::json;

use super::rig::Rig;

#[tokio::test]
async fn a_query_wakes_for_its_own_key_and_for_no_other() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "1").await;
    let index = rig.get("/v1/kv/a").await.index();
    let path = format!("/v1/kv/a?index={index}&wait=1m");
    let waiting = rig.get(&path);
    let writing = async {
        rig.watchers(1).await;
        rig.put_true("/v1/kv/b", "unrelated").await;
        rig.put_true("/v1/kv/a", "2").await;
    };
    let (got, ()) = tokio::join!(waiting, writing);
    assert_eq!(got.json()[0]["Value"], "Mg==");
    assert!(got.index() > index + 1, "the unrelated write did not wake it");
}

#[tokio::test]
async fn when_the_wait_is_over_the_answer_is_as_it_was() {
    let rig = Rig::start().await;
    rig.put_true("/v1/kv/a", "1").await;
    let index = rig.get("/v1/kv/a").await.index();
    let got = rig.get(&format!("/v1/kv/a?index={index}&wait=20ms")).await;
    assert_eq!((got.status.as_u16(), got.index()), (200, index));
    let ahead = rig.get(&format!("/v1/kv/a?index={}&wait=20ms", index + 1000)).await;
    assert_eq!(ahead.index(), index);
    assert_eq!(rig.get("/v1/kv/a?index=0&wait=10m").await.index(), index);
}

#[tokio::test]
async fn appearing_and_disappearing_wakes() {
    let rig = Rig::start().await;
    let index = rig.get("/v1/kv/a").await.index();
    let path = format!("/v1/kv/a?index={index}&wait=1m");
    let writing = async {
        rig.watchers(1).await;
        rig.put_true("/v1/kv/a", "1").await;
    };
    let (got, ()) = tokio::join!(rig.get(&path), writing);
    assert_eq!(got.status, 200);
    let path = format!("/v1/kv/a?index={}&wait=1m", got.index());
    let deleting = async {
        rig.watchers(1).await;
        rig.delete("/v1/kv/a").await;
    };
    let (gone, ()) = tokio::join!(rig.get(&path), deleting);
    assert_eq!(gone.status, 404);
    assert!(gone.index() > got.index());
}

#[tokio::test]
async fn lists_of_the_catalog_wake() {
    let rig = Rig::start().await;
    let register =
        json!({"Node": "n", "Address": "a", "Service": {"Service": "web"}, "Check": {"Name": "c", "ServiceID": "web"}}).to_string();
    for path in [
        "kv-no",
        "catalog/nodes",
        "catalog/services",
        "catalog/services?filter=ServiceName==web",
        "catalog/service/web",
        "health/service/web",
        "health/state/critical",
        "health/checks/web",
        "health/node/n",
        "catalog/node/n",
    ] {
        if path == "kv-no" {
            continue;
        }
        rig.put_true("/v1/catalog/deregister", json!({"Node": "n"}).to_string()).await;
        let index = rig.get(&format!("/v1/{path}")).await.index();
        let separator = if path.contains('?') { '&' } else { '?' };
        let waiting = format!("/v1/{path}{separator}index={index}&wait=1m");
        let writing = async {
            rig.watchers(1).await;
            rig.put_true("/v1/catalog/register", register.clone()).await;
        };
        let (got, ()) = tokio::join!(rig.get(&waiting), writing);
        assert!(got.index() > index, "{path}");
        assert!(got.text().contains("\"n\"") || got.text().contains("\"web\""), "{path}: {}", got.text());
    }
}
