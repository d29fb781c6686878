//! Long lists are encoded once, and are never out of date.

use serde_json::json;

use super::catalog::fields;
use super::rig::Rig;

async fn register(rig: &Rig, number: usize, status: &str) {
    let id = format!("big-{number:03}");
    let body = json!({
        "Node": "n", "Address": "10.0.0.1", "Service": {"ID": id, "Service": "big", "Port": number},
        "Check": {"CheckID": format!("c-{id}"), "Name": "alive", "Status": status, "ServiceID": id},
    });
    rig.put_true("/v1/catalog/register", body.to_string()).await;
}

#[tokio::test]
async fn a_list_that_was_encoded_before_shows_every_later_change() {
    let rig = Rig::start().await;
    for number in 0..40 {
        register(&rig, number, "passing").await;
    }
    let path = "/v1/health/service/big?passing";
    let first = rig.get(path).await;
    assert!(first.body.len() > 16 * 1024);
    assert_eq!(first.body, rig.get(path).await.body);
    register(&rig, 7, "critical").await;
    let second = rig.get(path).await;
    assert_eq!(fields(&second.json(), "/Service/ID").len(), 39);
    assert!(second.index() > first.index());
    register(&rig, 7, "passing").await;
    assert_eq!(fields(&rig.get(path).await.json(), "/Service/ID").len(), 40);
    rig.put_true("/v1/catalog/deregister", json!({"Node": "n", "ServiceID": "big-011"}).to_string()).await;
    assert_eq!(fields(&rig.get(path).await.json(), "/Service/ID").len(), 39);
}

#[tokio::test]
async fn questions_that_differ_do_not_share_an_answer() {
    let rig = Rig::start().await;
    for number in 0..40 {
        register(&rig, number, "passing").await;
    }
    let whole = rig.get("/v1/health/service/big").await.body;
    let flat = rig.get("/v1/catalog/service/big").await;
    assert_eq!(fields(&flat.json(), "/ServiceID").len(), 40);
    let chosen = rig.get("/v1/health/service/big?filter=Service.Port%20!=%203").await;
    assert_eq!(fields(&chosen.json(), "/Service/ID").len(), 39);
    let other = rig.get("/v1/health/service/big?filter=Service.Port%20==%203").await;
    assert_eq!(fields(&other.json(), "/Service/ID"), ["big-003"]);
    assert!(rig.get("/v1/health/service/big?pretty").await.body.len() > whole.len());
    assert_eq!(rig.get("/v1/health/service/big").await.body, whole);
    let packed = rig.get_with("/v1/health/service/big", "accept-encoding", "gzip").await;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut text).unwrap();
    assert_eq!(text, whole);
}
