//! Watches: many on one stream, each a snapshot and then every change, and readers that do not read.

use bytes::Bytes;
use proto::v1;
use proto::v1::watch_request::Request as Ask;
use proto::v1::watch_response::Event;
use proto::v1::watch_service_client::WatchServiceClient;
use proto::v1::watch_target::Target;
use service::{Limits, kv::Put};
use state::{Compare, LockAction};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::{Server, refused, soon};

/// One stream for watches.
struct Watches {
    requests: mpsc::Sender<v1::WatchRequest>,
    messages: Streaming<v1::WatchResponse>,
}

impl Watches {
    async fn open(server: &Server) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let mut client = WatchServiceClient::new(server.channel().await);
        let messages = soon(client.watch(ReceiverStream::new(receiver))).await.unwrap().into_inner();
        Watches { requests, messages }
    }

    async fn ask(&self, request: Ask) {
        self.requests.send(v1::WatchRequest { request: Some(request) }).await.unwrap();
    }

    async fn create(&self, watch_id: u64, target: Target) {
        self.create_with(v1::WatchCreate { watch_id, ..Default::default() }, target).await;
    }

    async fn create_with(&self, create: v1::WatchCreate, target: Target) {
        let target = Some(v1::WatchTarget { target: Some(target) });
        self.ask(Ask::Create(v1::WatchCreate { target, ..create })).await;
    }

    async fn next(&mut self) -> v1::WatchResponse {
        soon(self.messages.message()).await.unwrap().expect("the stream goes on")
    }

    /// The next message that is about a change.
    async fn changes(&mut self) -> (v1::WatchResponse, Vec<v1::Change>) {
        loop {
            let message = self.next().await;
            if let Some(Event::Changes(v1::Changes { changes, .. })) = &message.event {
                let changes = changes.clone();
                return (message, changes);
            }
        }
    }

    /// Reads until the snapshot is complete, and gives its rows and the cursor.
    async fn snapshot(&mut self) -> (usize, Bytes) {
        let mut rows = 0;
        loop {
            let message = self.next().await;
            match message.event {
                Some(Event::Snapshot(chunk)) => rows += chunk.changes.len(),
                Some(Event::SnapshotEnd(_)) => return (rows, message.cursor),
                _ => assert!(message.cursor.is_empty(), "before its end a snapshot cannot be resumed"),
            }
        }
    }
}

async fn put(server: &Server, key: &str, value: &[u8]) -> u64 {
    let (key, value) = (key.into(), value.into());
    let put = Put { key, value, flags: 0, compare: Compare::Any, lock: LockAction::Keep, fence: None };
    soon(server.service.kv_put(&Default::default(), None, put)).await.unwrap().index.0
}

#[tokio::test]
async fn many_watches_share_a_stream_and_each_sees_its_own_target_only() {
    let server = Server::start().await;
    put(&server, "a/1", b"old").await;
    let mut watches = Watches::open(&server).await;
    watches.create(1, Target::KvPrefix("a/".into())).await;
    let (rows, cursor) = watches.snapshot().await;
    assert_eq!(rows, 1);
    watches.create(2, Target::KvKey("b".into())).await;
    assert_eq!(watches.snapshot().await.0, 0, "a key that does not exist has no row");

    put(&server, "unrelated", b"v").await;
    let first = put(&server, "a/2", b"new").await;
    let (message, changes) = watches.changes().await;
    assert_eq!((message.watch_id, message.revision, changes.len()), (1, first, 1));
    assert_eq!(message.previous_cursor, cursor, "changes name what came before them");
    let second = put(&server, "b", b"new").await;
    let (message, changes) = watches.changes().await;
    assert_eq!((message.watch_id, message.revision), (2, second));
    let Some(v1::change::Change::KvPut(entry)) = &changes[0].change else { panic!("a key was put") };
    assert_eq!((&entry.key[..], &entry.value[..]), (&b"b"[..], &b"new"[..]));

    watches.ask(Ask::Cancel(v1::WatchCancel { watch_id: 1 })).await;
    let cancelled = watches.next().await;
    assert_eq!((cancelled.watch_id, cancelled.event), (1, Some(Event::Cancelled(v1::Cancelled { refusal: None }))));
    put(&server, "a/2", b"unseen").await;
    let third = put(&server, "b", b"newer").await;
    assert_eq!(watches.changes().await.0.revision, third);
}

#[tokio::test]
async fn a_watch_resumes_after_its_cursor_and_a_foreign_one_starts_over() {
    let server = Server::start().await;
    let mut first = Watches::open(&server).await;
    first.create(1, Target::KvPrefix("".into())).await;
    let (_, cursor) = first.snapshot().await;
    drop(first);
    let missed = [put(&server, "a", b"1").await, put(&server, "b", b"2").await];

    let mut second = Watches::open(&server).await;
    let resume = |resume_from: Bytes| v1::WatchCreate { watch_id: 7, resume_from, ..Default::default() };
    second.create_with(resume(cursor.clone()), Target::KvPrefix("".into())).await;
    let created = second.next().await;
    assert_eq!((created.event, created.cursor), (Some(Event::Created(v1::Created {})), cursor.clone()));
    for revision in missed {
        assert_eq!(second.changes().await.0.revision, revision);
    }

    let mut foreign = cursor.to_vec();
    foreign[0] ^= 0xff;
    let mut third = Watches::open(&server).await;
    third.create_with(resume(foreign.into()), Target::KvPrefix("".into())).await;
    let Some(Event::Reset(reset)) = third.next().await.event else { panic!("it says that it starts over") };
    assert_eq!(reset.reason(), v1::ResetReason::ForeignCursor);
    assert_eq!(third.snapshot().await.0, 2);
}

#[tokio::test]
async fn a_watch_that_cannot_be_served_leaves_the_others_alone() {
    let server = Server::start_with(Limits { watches_per_stream_max: 1, ..Limits::default() }, |_| {}).await;
    let mut watches = Watches::open(&server).await;
    watches.create(1, Target::KvKey("a".into())).await;
    watches.snapshot().await;
    watches.create(2, Target::KvKey("b".into())).await;
    let Some(Event::Cancelled(cancelled)) = watches.next().await.event else { panic!("one watch too many") };
    assert_eq!(cancelled.refusal.unwrap().reason(), v1::ErrorReason::TooManyWatches);
    watches.create(3, Target::Node(String::new())).await;
    let Some(Event::Cancelled(cancelled)) = watches.next().await.event else { panic!("a target without a name") };
    assert_eq!(cancelled.refusal.unwrap().reason(), v1::ErrorReason::InvalidArgument);
    let revision = put(&server, "a", b"1").await;
    assert_eq!(watches.changes().await.0.revision, revision);
}

#[tokio::test]
async fn a_request_that_belongs_to_no_watch_ends_the_stream() {
    let server = Server::start().await;
    for watch_id in [0, 1] {
        let mut watches = Watches::open(&server).await;
        watches.create(1, Target::KvKey("a".into())).await;
        watches.snapshot().await;
        watches.create(watch_id, Target::KvKey("b".into())).await;
        let status = soon(watches.messages.message()).await.unwrap_err();
        assert_eq!(refused(&status), (Code::InvalidArgument, "INVALID_ARGUMENT".to_owned()));
    }
}

#[tokio::test]
async fn closing_the_sending_side_keeps_the_watches() {
    let server = Server::start().await;
    let watches = Watches::open(&server).await;
    watches.create(1, Target::KvKey("a".into())).await;
    let Watches { requests, messages } = watches;
    drop(requests);
    let mut watches = Watches { requests: mpsc::channel(1).0, messages };
    watches.snapshot().await;
    let revision = put(&server, "a", b"1").await;
    assert_eq!(watches.changes().await.0.revision, revision);
}

#[tokio::test]
async fn a_quiet_watch_is_told_how_far_it_has_seen() {
    let limits = Limits { bookmark_interval: std::time::Duration::from_millis(20), ..Limits::default() };
    let server = Server::start_with(limits, |_| {}).await;
    let mut watches = Watches::open(&server).await;
    watches.create(1, Target::KvKey("a".into())).await;
    watches.snapshot().await;
    let unrelated = put(&server, "b", b"1").await;
    let cursor = loop {
        let message = watches.next().await;
        let Some(Event::Bookmark(v1::Bookmark { leader_known })) = message.event else { panic!("nothing else happened") };
        assert!(leader_known && message.watch_id == 0);
        if message.revision >= unrelated {
            break message.cursor;
        }
    };
    assert!(!cursor.is_empty());
}

#[tokio::test]
async fn a_reader_who_does_not_read_is_set_back_and_misses_nothing() {
    // A history of 64 changes, and a reader who is further behind than that.
    let limits = Limits { history_changes_max: 64, watch_backlog_max: 8, ..Limits::default() };
    let server = Server::start_with(limits, |options| options.connection_window_bytes = 64 * 1024).await;
    let mut watches = Watches::open(&server).await;
    watches.create(1, Target::KvPrefix("".into())).await;
    watches.snapshot().await;
    let value = vec![7; 64 * 1024];
    let mut last = 0;
    for number in 0..400 {
        last = put(&server, &format!("k/{:03}", number % 100), &value).await;
    }
    // What was under way arrives first, then the reset and a snapshot of everything.
    let mut previous = 0;
    let reset = loop {
        let message = watches.next().await;
        match message.event {
            Some(Event::Changes(_)) => {
                assert!(message.revision > previous && message.revision < last, "changes come in order");
                previous = message.revision;
            }
            Some(Event::Reset(reset)) => break reset,
            _ => {}
        }
    };
    assert_eq!(reset.reason(), v1::ResetReason::SlowConsumer);
    assert_eq!(watches.snapshot().await.0, 100);
    let next = put(&server, "k/000", b"after").await;
    assert_eq!(watches.changes().await.0.revision, next);
}

#[tokio::test]
async fn the_simple_streams_tell_the_same() {
    let server = Server::start().await;
    let channel = server.channel().await;
    let mut kv = v1::kv_service_client::KvServiceClient::new(channel.clone());
    let target = Some(v1::kv_service_watch_request::Target::Prefix("a/".into()));
    let request = v1::KvServiceWatchRequest { target, ..Default::default() };
    let mut keys = soon(kv.watch(request)).await.unwrap().into_inner();
    let mut catalog = v1::catalog_service_client::CatalogServiceClient::new(channel.clone());
    let mut nodes = soon(catalog.watch_nodes(v1::WatchNodesRequest::default())).await.unwrap().into_inner();
    let mut services = soon(catalog.watch_services(v1::WatchServicesRequest::default())).await.unwrap().into_inner();
    let mut health = v1::health_service_client::HealthServiceClient::new(channel);
    let service = Some(v1::ServiceTarget { name: "web".into(), ..Default::default() });
    let request = v1::WatchServiceRequest { service, ..Default::default() };
    let mut instances = soon(health.watch_service(request)).await.unwrap().into_inner();

    put(&server, "a/1", b"v").await;
    let node = v1::Node { name: "n1".into(), address: "10.0.0.1".into(), ..Default::default() };
    let service = v1::Service { name: "web".into(), ..Default::default() };
    let request = v1::RegisterRequest { node: Some(node), service: Some(service), ..Default::default() };
    soon(catalog.register(request)).await.unwrap();

    macro_rules! first_change {
        ($stream:expr) => {
            loop {
                let event = soon($stream.message()).await.unwrap().unwrap().event.expect("it holds an event");
                assert_eq!(event.watch_id, 0);
                if let Some(Event::Changes(changes)) = event.event {
                    break changes.changes.into_iter().next().and_then(|change| change.change).expect("a change says what changed");
                }
            }
        };
    }
    use v1::change::Change;
    assert!(matches!(first_change!(keys), Change::KvPut(entry) if entry.key == "a/1"));
    assert!(matches!(first_change!(nodes), Change::NodePut(node) if node.name == "n1"));
    assert!(matches!(first_change!(services), Change::ServicePut(service) if service.name == "web"));
    let Change::InstancePut(instance) = first_change!(instances) else { panic!("an instance came") };
    assert_eq!(instance.node.unwrap().name, "n1");
}

#[tokio::test]
async fn a_simple_watch_that_cannot_be_served_is_a_refused_call() {
    let server = Server::start().await;
    let mut kv = v1::kv_service_client::KvServiceClient::new(server.channel().await);
    let target = Some(v1::kv_service_watch_request::Target::Key("a".into()));
    let request = v1::KvServiceWatchRequest { target, resume_from: "made up".into(), ..Default::default() };
    assert_eq!(soon(kv.watch(request)).await.unwrap_err().code(), Code::InvalidArgument);
    let nothing = v1::KvServiceWatchRequest::default();
    assert_eq!(soon(kv.watch(nothing)).await.unwrap_err().code(), Code::InvalidArgument);
}
