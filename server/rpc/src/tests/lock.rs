//! Locks over gRPC: the queue, the slots, who looks on, and what a stream leaves behind.

use proto::v1;
use proto::v1::lock_service_acquire_request::Holder;
use proto::v1::lock_service_acquire_response::State;
use proto::v1::lock_service_client::LockServiceClient;
use proto::v1::session_service_client::SessionServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::{Server, refused, soon};

type Told = Streaming<v1::LockServiceAcquireResponse>;

struct Locks {
    locks: LockServiceClient<Channel>,
    sessions: SessionServiceClient<Channel>,
}

impl Locks {
    async fn new(server: &Server) -> Self {
        let channel = server.channel().await;
        Locks { locks: LockServiceClient::new(channel.clone()), sessions: SessionServiceClient::new(channel) }
    }

    async fn session(&mut self) -> String {
        let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
        let lock_delay = Some(prost_types::Duration::default());
        let asked = v1::SessionServiceCreateRequest { ttl, lock_delay, ignore_node_failure: true, ..Default::default() };
        soon(self.sessions.create(asked)).await.unwrap().into_inner().session.unwrap().id
    }

    async fn end(&mut self, session: &str) {
        let destroy = v1::SessionServiceDestroyRequest { options: None, session_id: session.to_owned() };
        soon(self.sessions.destroy(destroy)).await.unwrap();
    }

    async fn acquire(&mut self, key: &'static str, session: &str, slots: u32) -> Told {
        let holder = Some(Holder::SessionId(session.to_owned()));
        let request = v1::LockServiceAcquireRequest { key: key.into(), holder, slots, value: session.to_owned().into(), options: None };
        soon(self.locks.acquire(request)).await.unwrap().into_inner()
    }

    async fn release(&mut self, key: &'static str, session: &str) {
        let release = v1::LockServiceReleaseRequest { key: key.into(), session_id: session.to_owned(), ..Default::default() };
        soon(self.locks.release(release)).await.unwrap();
    }

    async fn observe(&mut self, key: &'static str, semaphore: bool) -> Streaming<v1::LockServiceObserveResponse> {
        let request = v1::LockServiceObserveRequest { key: key.into(), semaphore, options: None };
        soon(self.locks.observe(request)).await.unwrap().into_inner()
    }
}

async fn told(stream: &mut Told) -> State {
    soon(stream.message()).await.unwrap().expect("the stream goes on").state.expect("something happened")
}

async fn granted(stream: &mut Told) -> v1::LockGranted {
    loop {
        match told(stream).await {
            State::Granted(granted) => return granted,
            State::Queued(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn seen(stream: &mut Streaming<v1::LockServiceObserveResponse>) -> Vec<String> {
    let told = soon(stream.message()).await.unwrap().unwrap();
    told.holders.into_iter().map(|holder| holder.session_id).collect()
}

#[tokio::test]
async fn who_comes_first_is_granted_first_and_each_is_told() {
    let server = Server::start().await;
    let mut locks = Locks::new(&server).await;
    let (a, b, c) = (locks.session().await, locks.session().await, locks.session().await);
    let mut of_a = locks.acquire("lock", &a, 0).await;
    let first = granted(&mut of_a).await;
    assert_eq!((&first.session_id, first.valid_for), (&a, None), "who keeps the session alive knows for how long");
    let (mut of_b, mut of_c) = (locks.acquire("lock", &b, 0).await, locks.acquire("lock", &c, 0).await);
    let State::Queued(queued) = told(&mut of_b).await else { panic!() };
    assert_eq!((queued.position, &queued.holder, &queued.session_id), (0, &a, &b));
    let State::Queued(queued) = told(&mut of_c).await else { panic!() };
    assert_eq!((queued.position, &queued.holder), (1, &a));
    locks.release("lock", &a).await;
    let second = granted(&mut of_b).await;
    assert!(second.fence.as_ref().unwrap().token > first.fence.as_ref().unwrap().token);
    let State::Lost(lost) = told(&mut of_a).await else { panic!() };
    assert_eq!(lost.cause(), v1::LockLoss::Released);
    assert!(soon(of_a.message()).await.unwrap().is_none(), "nothing follows");
    locks.end(&b).await;
    let State::Lost(lost) = told(&mut of_b).await else { panic!() };
    assert_eq!((lost.cause(), lost.session_end()), (v1::LockLoss::SessionEnded, v1::SessionEnd::Destroyed));
    granted(&mut of_c).await;
    // The second write is by a stranger, and takes the lock with it.
    let client = server.client().await;
    soon(client.kv().delete("lock")).await.unwrap();
    let State::Lost(lost) = told(&mut of_c).await else { panic!() };
    assert_eq!(lost.cause(), v1::LockLoss::KeyDeleted);
}

#[tokio::test]
async fn a_stream_that_ends_gives_up_its_place_but_not_its_lock() {
    let server = Server::start().await;
    let mut locks = Locks::new(&server).await;
    let (a, b, c) = (locks.session().await, locks.session().await, locks.session().await);
    let mut of_a = locks.acquire("lock", &a, 0).await;
    let fence = granted(&mut of_a).await.fence;
    let mut of_b = locks.acquire("lock", &b, 0).await;
    told(&mut of_b).await;
    let mut of_c = locks.acquire("lock", &c, 0).await;
    let State::Queued(queued) = told(&mut of_c).await else { panic!() };
    assert_eq!(queued.position, 1);
    drop(of_b);
    let State::Queued(queued) = told(&mut of_c).await else { panic!() };
    assert_eq!(queued.position, 0, "the one before has gone");
    drop(of_a);
    let mut again = locks.acquire("lock", &a, 0).await;
    assert_eq!(granted(&mut again).await.fence, fence, "it is found again");
    locks.release("lock", &a).await;
    granted(&mut of_c).await;
}

#[tokio::test]
async fn the_session_of_a_stream_begins_and_ends_with_it() {
    let server = Server::start().await;
    let mut locks = Locks::new(&server).await;
    let ttl = Some(prost_types::Duration { seconds: 10, nanos: 0 });
    let session = v1::StreamSession { name: "mine".into(), ttl, lock_delay: Some(prost_types::Duration::default()), ..Default::default() };
    let request = v1::LockServiceAcquireRequest { key: "lock".into(), holder: Some(Holder::Session(session)), ..Default::default() };
    let mut stream = soon(locks.locks.acquire(request)).await.unwrap().into_inner();
    let first = granted(&mut stream).await;
    let valid_for = first.valid_for.expect("it is known").seconds;
    assert!((5..10).contains(&valid_for), "10 s less a second, or a little more: {valid_for}");
    let State::Extended(extended) = told(&mut stream).await else { panic!() };
    assert!(extended.valid_for.unwrap().seconds >= valid_for);
    let other = locks.session().await;
    let mut next = locks.acquire("lock", &other, 0).await;
    told(&mut next).await;
    drop(stream);
    granted(&mut next).await;
}

#[tokio::test]
async fn a_semaphore_has_slots_and_who_looks_on_sees_each_change() {
    let server = Server::start().await;
    let mut locks = Locks::new(&server).await;
    let (a, b, c) = (locks.session().await, locks.session().await, locks.session().await);
    let mut observed = locks.observe("sem", true).await;
    assert!(seen(&mut observed).await.is_empty());
    let mut of_a = locks.acquire("sem", &a, 2).await;
    assert_eq!(granted(&mut of_a).await.fence.unwrap().key, "sem/0");
    assert_eq!(seen(&mut observed).await, std::slice::from_ref(&a));
    let mut of_b = locks.acquire("sem", &b, 2).await;
    let fence = granted(&mut of_b).await.fence.unwrap();
    assert_eq!(seen(&mut observed).await, [a.clone(), b.clone()]);
    let write = |fence| v1::PutRequest {
        key: "data".into(),
        precondition: Some(v1::Precondition { row: None, fence: Some(fence) }),
        ..Default::default()
    };
    let mut kv = v1::kv_service_client::KvServiceClient::new(server.channel().await);
    soon(kv.put(write(fence.clone()))).await.expect("a slot has a fence like any lock");
    let mut of_c = locks.acquire("sem", &c, 2).await;
    told(&mut of_c).await;
    locks.release("sem", &b).await;
    assert_eq!(granted(&mut of_c).await.fence.unwrap().key, "sem/1");
    assert_eq!(seen(&mut observed).await, [a, c]);
    assert_eq!(refused(&soon(kv.put(write(fence))).await.unwrap_err()).1, "STALE_FENCE");
}

#[tokio::test]
async fn an_election_is_observed() {
    let server = Server::start().await;
    let mut locks = Locks::new(&server).await;
    let (a, b) = (locks.session().await, locks.session().await);
    let mut observed = locks.observe("leader", false).await;
    assert!(soon(observed.message()).await.unwrap().unwrap().holder.is_none());
    let mut of_a = locks.acquire("leader", &a, 0).await;
    let granted_a = granted(&mut of_a).await;
    let holder = soon(observed.message()).await.unwrap().unwrap().holder.unwrap();
    assert_eq!((holder.value, holder.node.as_str(), holder.waiting), (a.clone().into(), "dev", 0));
    assert_eq!(holder.fencing_token, granted_a.fence.unwrap().token);
    let mut of_b = locks.acquire("leader", &b, 0).await;
    told(&mut of_b).await;
    locks.release("leader", &a).await;
    let holder = soon(observed.message()).await.unwrap().unwrap().holder.unwrap();
    assert_eq!(holder.session_id, b, "handed on in one step");
}

#[tokio::test]
async fn what_cannot_be_locked_is_refused_with_its_reason() {
    let server = Server::start().await;
    let mut locks = Locks::new(&server).await;
    let (a, b) = (locks.session().await, locks.session().await);
    let take = |key: &'static str, session: &str, slots: u32| v1::LockServiceTryAcquireRequest {
        key: key.into(),
        session_id: session.to_owned(),
        slots,
        ..Default::default()
    };
    let fence = soon(locks.locks.try_acquire(take("lock", &a, 0))).await.unwrap().into_inner().fence;
    assert_eq!(soon(locks.locks.try_acquire(take("lock", &a, 0))).await.unwrap().into_inner().fence, fence);
    soon(locks.locks.try_acquire(take("sem", &a, 3))).await.unwrap();
    let unknown = "00000000-0000-0000-0000-000000000000";
    let large = v1::LockServiceTryAcquireRequest { value: vec![0; 5000].into(), ..take("lock", &a, 0) };
    for (request, code, reason) in [
        (take("lock", &b, 0), Code::Aborted, "LOCK_HELD"),
        (take("lock", unknown, 0), Code::FailedPrecondition, "UNKNOWN_SESSION"),
        (take("sem", &b, 4), Code::FailedPrecondition, "LOCK_SLOTS_DIFFER"),
        (take("sem", &b, 100_000), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (take("", &b, 0), Code::InvalidArgument, "INVALID_ARGUMENT"),
        (large, Code::InvalidArgument, "VALUE_TOO_LARGE"),
    ] {
        let shown = format!("{request:?}");
        let status = soon(locks.locks.try_acquire(request)).await.unwrap_err();
        assert_eq!(refused(&status), (code, reason.to_owned()), "{shown}");
    }
    let nobody = v1::LockServiceAcquireRequest { key: "lock".into(), ..Default::default() };
    assert_eq!(refused(&soon(locks.locks.acquire(nobody)).await.unwrap_err()).1, "INVALID_ARGUMENT");
    let stale = v1::LockServiceReleaseRequest { key: "lock".into(), session_id: a, fencing_token: 1, ..Default::default() };
    assert_eq!(refused(&soon(locks.locks.release(stale)).await.unwrap_err()).1, "STALE_FENCE");
    let others = v1::LockServiceReleaseRequest { key: "lock".into(), session_id: b, ..Default::default() };
    assert_eq!(refused(&soon(locks.locks.release(others)).await.unwrap_err()).1, "LOCK_NOT_HELD");
}
