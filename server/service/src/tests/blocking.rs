//! Blocking reads: they return when their answer changes, and not before.

use super::*;
use crate::watch::CheckScope;

/// Waits until `count` queries are blocked.
async fn until_blocked(service: &Service, count: usize) {
    timeout(PATIENCE, async {
        while service.hub().watchers() < count {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the queries block");
}

#[tokio::test]
async fn a_query_waits_for_its_key_and_not_for_another() {
    let service = dev().await;
    let index = put(&service, "a", "1").await;
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.kv_get(&me(), &ReadOptions::default(), from(index), b"a").await }
    });
    until_blocked(&service, 1).await;
    for n in 0..20 {
        put(&service, "b", &n.to_string()).await;
    }
    assert!(!waiting.is_finished(), "an unrelated write does not end the wait");
    let index = put(&service, "a", "2").await;
    let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.meta.index, index);
    assert_eq!(answer.value.unwrap().value(), b"2");
    assert_eq!(service.hub().watchers(), 0, "the interest ends with the query");
}

#[tokio::test]
async fn a_change_that_was_missed_is_answered_at_once() {
    let service = dev().await;
    let index = put(&service, "a", "1").await;
    service.kv_delete(&me(), None, b"a", Compare::Any).await.unwrap();
    put(&service, "b", "1").await;
    let answer = timeout(PATIENCE, service.kv_get(&me(), &ReadOptions::default(), from(index), b"a")).await.unwrap().unwrap();
    assert!(answer.value.is_none());
    assert!(answer.meta.index > index);
}

#[tokio::test]
async fn a_query_on_what_is_absent_waits_for_it_to_appear() {
    let service = dev().await;
    put(&service, "other", "1").await;
    let first = service.kv_get(&me(), &ReadOptions::default(), None, b"later").await.unwrap();
    assert!(first.meta.index.0 >= 1);
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.kv_list(&me(), &ReadOptions::default(), from(first.meta.index), b"late").await }
    });
    until_blocked(&service, 1).await;
    put(&service, "other", "2").await;
    let index = put(&service, "later", "1").await;
    let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.meta.index, answer.value.iter().count()), (index, 1));
}

#[tokio::test]
async fn a_wait_that_ends_answers_with_what_there_is() {
    let service = dev().await;
    let index = put(&service, "a", "1").await;
    let blocking = Some(Blocking { index, wait: Duration::from_millis(1) });
    let answer = timeout(PATIENCE, service.kv_get(&me(), &ReadOptions::default(), blocking, b"a")).await.unwrap().unwrap();
    assert_eq!((answer.meta.index, answer.value.is_some()), (index, true));
    let ahead = Some(Blocking { index: LogIndex(index.0 + 1000), wait: Duration::from_millis(1) });
    let answer = timeout(PATIENCE, service.kv_get(&me(), &ReadOptions::default(), ahead, b"a")).await.unwrap().unwrap();
    assert_eq!(answer.meta.index, index, "an index from the future is answered with the present one");
}

#[tokio::test]
async fn a_service_query_is_woken_by_a_check_of_an_instance() {
    let service = dev().await;
    let index = register(&service, "n1", "web1", Status::Critical).await;
    let query = crate::health::InstanceQuery { service: "web".into(), passing_only: true, ..Default::default() };
    let waiting = tokio::spawn({
        let service = service.clone();
        async move { service.health_service(&me(), &ReadOptions::default(), from(index), &query).await }
    });
    until_blocked(&service, 1).await;
    let index = register(&service, "n1", "web1", Status::Passing).await;
    let answer = timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap();
    assert_eq!((answer.meta.index, answer.value.len()), (index, 1));
}

#[tokio::test]
async fn checks_are_listed_by_node_service_and_status() {
    let service = dev().await;
    register(&service, "n1", "web1", Status::Critical).await;
    register(&service, "n2", "web2", Status::Passing).await;
    let count = async |scope: CheckScope| {
        service.health_checks(&me(), &ReadOptions::default(), None, &scope, &Default::default()).await.unwrap().value.len()
    };
    assert_eq!(count(CheckScope::Any).await, 2);
    assert_eq!(count(CheckScope::Node("N1".into())).await, 1);
    assert_eq!(count(CheckScope::Service("Web".into())).await, 2);
    assert_eq!(count(CheckScope::Status(Status::Critical)).await, 1);
}
