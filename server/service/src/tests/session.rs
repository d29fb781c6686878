//! Sessions end by themselves, not too early and not much too late.

use std::time::{Duration, Instant};

use state::SessionEnd;

use super::*;
use crate::session::NewSession;
use crate::{Reason, leader};

/// A session without checks, which the machine of these tests does not have.
fn short(ttl: Duration) -> NewSession {
    NewSession { ttl: Some(ttl), node_checks: Some(vec![]), ..Default::default() }
}

/// A service that leads and lets sessions be short.
async fn leading() -> Service {
    let service = dev_with(Limits { session_ttl_min: Duration::from_millis(1), ..Default::default() }).await;
    leader::reconcile_self(service.consensus(), service.identity(), &service.agent().node()).await.unwrap();
    tokio::spawn(leader::run(service.clone(), 1, Default::default()));
    service
}

#[tokio::test]
async fn a_session_that_is_not_renewed_ends_and_lets_go_of_its_locks() {
    let service = leading().await;
    let ttl = Duration::from_millis(300);
    let begun = Instant::now();
    let id = service.session_create(&me(), None, short(ttl)).await.unwrap().session.id;
    let lasting = service.session_create(&me(), None, short(Duration::from_secs(3600))).await.unwrap().session.id;
    let put =
        Put { key: b"lock".to_vec(), value: vec![], flags: 0, compare: Default::default(), lock: LockAction::Acquire(id), fence: None };
    service.kv_put(&me(), None, put).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(20), service.session_ends().next(&[id, lasting].into())).await;
    assert_eq!(ended.expect("it ends in time"), id);
    assert!(begun.elapsed() >= ttl, "never before its time");
    assert_eq!(service.session_end(id).map(|(end, _)| end), Some(SessionEnd::Expired));
    let entry = service.kv_get(&me(), &Default::default(), None, b"lock").await.unwrap().value.unwrap();
    assert_eq!(entry.session(), None);
    assert_eq!(service.session_renew(&me(), None, id).await.unwrap_err().reason, Reason::UnknownSession);
    assert!(service.session_get(&me(), &Default::default(), None, lasting).await.unwrap().value.is_some());
}
