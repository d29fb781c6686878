//! Bounds and refusals: named, with the numbers, and nothing changed.

use super::*;
use crate::{Kind, Reason};

#[tokio::test]
async fn what_is_too_large_is_refused_with_size_and_limit() {
    let service = dev_with(Limits { value_bytes_max: 10, key_bytes_max: 5, ..Limits::default() }).await;
    let put = |key: &str, value: &str| {
        let put = Put { key: key.into(), value: value.into(), flags: 0, compare: Compare::Any, lock: LockAction::Keep, fence: None };
        let service = service.clone();
        async move { service.kv_put(&me(), None, put).await }
    };
    let error = put("a", "01234567890").await.unwrap_err();
    assert_eq!((error.reason, error.kind()), (Reason::ValueTooLarge, Kind::TooLarge));
    assert_eq!(error.details, [("size", "11".to_owned()), ("limit", "10".to_owned())]);
    assert_eq!(put("abcdef", "").await.unwrap_err().reason, Reason::KeyTooLong);
    assert_eq!(put("", "").await.unwrap_err().reason, Reason::InvalidArgument);
    assert!(put("abcde", "0123456789").await.is_ok());
}

#[tokio::test]
async fn another_datacenter_is_an_error_that_names_it() {
    let service = dev().await;
    let options = ReadOptions { datacenter: Some("mars".into()), ..Default::default() };
    let error = service.kv_get(&me(), &options, None, b"a").await.unwrap_err();
    assert_eq!(error.reason, Reason::UnknownDatacenter);
    assert!(error.message.contains("mars"), "{error}");
    let options = ReadOptions { datacenter: Some("DC1".into()), ..Default::default() };
    assert!(service.kv_get(&me(), &options, None, b"a").await.is_ok());
}

#[tokio::test]
async fn a_registration_without_what_it_needs_says_what() {
    let service = dev().await;
    let node = |name: &str, address: &str| NodeInput { name: name.into(), address: address.into(), ..Default::default() };
    let cases = [
        (node("", "10.0.0.1"), "must provide node"),
        (node("n1", ""), "must provide address"),
        (NodeInput { id: "x".into(), ..node("n1", "10.0.0.1") }, "bad node ID"),
    ];
    for (node, text) in cases {
        let request = Registration { node, ..Default::default() };
        let error = service.catalog_register(&me(), None, request).await.unwrap_err();
        assert!(error.message.contains(text), "{error}");
    }
    assert_eq!(service.consensus().tables().nodes_len(), 0);
}

#[tokio::test]
async fn a_read_waits_for_the_revision_that_it_is_given() {
    let service = dev().await;
    let index = put(&service, "a", "1").await;
    let options = ReadOptions { min_index: LogIndex(index.0 + 1), ..Default::default() };
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.kv_get(&me(), &options, None, b"a").await }
    });
    put(&service, "a", "2").await;
    let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.value.unwrap().value(), b"2");
}
