//! Sessions, and what they hold, over gRPC.

use lictor_client::PutOptions;
use proto::v1;
use proto::v1::kv_service_client::KvServiceClient;
use proto::v1::session_service_client::SessionServiceClient;
use proto::v1::session_service_keep_alive_response::State;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;

use super::{Server, refused, soon};

/// A session with a TTL of a minute and no checks, which the machine of these tests does not have.
fn asked() -> v1::SessionServiceCreateRequest {
    let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    v1::SessionServiceCreateRequest { name: "test".into(), ttl, ignore_node_failure: true, ..Default::default() }
}

async fn create(sessions: &mut SessionServiceClient<Channel>) -> String {
    let created = soon(sessions.create(asked())).await.unwrap().into_inner();
    created.session.expect("it was made").id
}

fn named(id: &str) -> v1::SessionServiceKeepAliveRequest {
    v1::SessionServiceKeepAliveRequest { session_id: id.to_owned(), options: None }
}

#[tokio::test]
async fn a_session_lives_until_it_is_destroyed() {
    let server = Server::start().await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let id = create(&mut sessions).await;
    let get = || v1::SessionServiceGetRequest { options: None, session_id: id.clone() };
    let session = soon(sessions.get(get())).await.unwrap().into_inner().session.expect("it lives");
    assert_eq!((&*session.node, session.ttl.unwrap().seconds, session.lock_delay.unwrap().seconds), ("dev", 60, 15));
    let listed = soon(sessions.list(v1::SessionServiceListRequest::default())).await.unwrap().into_inner();
    assert_eq!(listed.sessions, [session]);
    let renew = v1::SessionServiceRenewRequest { options: None, session_id: id.clone() };
    assert_eq!(soon(sessions.renew(renew.clone())).await.unwrap().into_inner().valid_for.unwrap().seconds, 60);
    let destroy = v1::SessionServiceDestroyRequest { options: None, session_id: id.clone() };
    assert!(soon(sessions.destroy(destroy.clone())).await.unwrap().into_inner().destroyed);
    assert!(!soon(sessions.destroy(destroy)).await.unwrap().into_inner().destroyed);
    assert!(soon(sessions.get(get())).await.unwrap().into_inner().session.is_none());
    let status = soon(sessions.renew(renew)).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "UNKNOWN_SESSION".to_owned()));
}

#[tokio::test]
async fn what_makes_no_session_is_refused_with_its_reason() {
    let server = Server::start().await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let short = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    for (request, code, reason) in [
        (v1::SessionServiceCreateRequest { ttl: short, ..asked() }, Code::InvalidArgument, "INVALID_ARGUMENT"),
        (v1::SessionServiceCreateRequest { behavior: 9, ..asked() }, Code::InvalidArgument, "INVALID_ARGUMENT"),
        (v1::SessionServiceCreateRequest { node: "none".into(), ..asked() }, Code::NotFound, "UNKNOWN_NODE"),
        (v1::SessionServiceCreateRequest { node_checks: vec!["x".into()], ..asked() }, Code::FailedPrecondition, "CHECK_NOT_PASSING"),
    ] {
        let status = soon(sessions.create(request)).await.unwrap_err();
        assert_eq!(refused(&status), (code, reason.to_owned()), "{}", status.message());
    }
}

#[tokio::test]
async fn a_stream_renews_and_tells_of_an_end_at_once_and_why() {
    let server = Server::start().await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let (kept, lost) = (create(&mut sessions).await, create(&mut sessions).await);
    let (requests, queue) = mpsc::channel(4);
    let mut answers = soon(sessions.keep_alive(ReceiverStream::new(queue))).await.unwrap().into_inner();
    for id in [&kept, &lost] {
        requests.send(named(id)).await.unwrap();
        let answer = soon(answers.message()).await.unwrap().unwrap();
        let Some(State::Renewed(renewed)) = answer.state else { panic!("{answer:?}") };
        assert_eq!((answer.session_id, renewed.valid_for.unwrap().seconds), (id.clone(), 60));
    }
    let destroy = v1::SessionServiceDestroyRequest { options: None, session_id: lost.clone() };
    let revision = soon(sessions.destroy(destroy)).await.unwrap().into_inner().meta.unwrap().revision;
    let answer = soon(answers.message()).await.unwrap().unwrap();
    let Some(State::Ended(ended)) = answer.state else { panic!("{answer:?}") };
    assert_eq!((answer.session_id, ended.cause(), ended.revision), (lost.clone(), v1::SessionEnd::Destroyed, revision));

    requests.send(named(&lost)).await.unwrap();
    let answer = soon(answers.message()).await.unwrap().unwrap();
    assert!(matches!(answer.state, Some(State::Ended(_))), "the stream stays, and says so again when asked");
    requests.send(named(&kept)).await.unwrap();
    assert!(matches!(soon(answers.message()).await.unwrap().unwrap().state, Some(State::Renewed(_))));
    drop(requests);
    assert!(soon(answers.message()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_grant_has_a_fence_that_later_writes_are_held_to() {
    let server = Server::start().await;
    let mut sessions = SessionServiceClient::new(server.channel().await);
    let mut kv = KvServiceClient::new(server.channel().await);
    let (first, second) = (create(&mut sessions).await, create(&mut sessions).await);
    let lock =
        |id: &str| v1::PutRequest { key: "lock".into(), lock: Some(v1::put_request::Lock::Acquire(id.to_owned())), ..Default::default() };
    let fence = soon(kv.put(lock(&first))).await.unwrap().into_inner().fence.expect("a grant has one");
    let held = soon(kv.get(v1::GetRequest { key: "lock".into(), options: None })).await.unwrap().into_inner().entry.unwrap();
    assert_eq!((held.session_id, held.fencing_token), (first.clone(), fence.token));
    let status = soon(kv.put(lock(&second))).await.unwrap_err();
    assert_eq!(refused(&status), (Code::Aborted, "LOCK_HELD".to_owned()));

    let write = |value: &'static str| v1::PutRequest {
        key: "data".into(),
        value: value.into(),
        precondition: Some(v1::Precondition { row: None, fence: Some(fence.clone()) }),
        ..Default::default()
    };
    soon(kv.put(write("held"))).await.unwrap();
    soon(sessions.destroy(v1::SessionServiceDestroyRequest { options: None, session_id: first })).await.unwrap();
    soon(kv.put(lock(&second))).await.expect("a session that is destroyed leaves no lock delay");
    let status = soon(kv.put(write("late"))).await.unwrap_err();
    assert_eq!(refused(&status), (Code::FailedPrecondition, "STALE_FENCE".to_owned()));
    let late = v1::DeleteRequest { key: "data".into(), precondition: write("").precondition, options: None };
    assert_eq!(refused(&soon(kv.delete(late)).await.unwrap_err()).1, "STALE_FENCE");
    let late = v1::DeletePrefixRequest { prefix: "data".into(), fence: Some(fence), ..Default::default() };
    assert_eq!(refused(&soon(kv.delete_prefix(late)).await.unwrap_err()).1, "STALE_FENCE");
    let client = server.client().await;
    assert_eq!(soon(client.kv().get("data")).await.unwrap().value.unwrap().value, "held");
    let other = soon(client.kv().put_with("lock", "x", PutOptions::new().release("00000000-0000-0000-0000-000000000000"))).await;
    assert_eq!(other.unwrap_err().code(), Code::FailedPrecondition);
}
