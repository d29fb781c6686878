//! The client's promises: a watch that outlives its connections, and errors that say what to do.

use std::time::Duration;

use lictor_client::{Change, Client, Endpoints, Error, Options, ResetReason, Row, Target, WatchEvent, WatchHandle, WatchOptions};
use service::Limits;

use super::{Server, soon};
use crate::RpcOptions;

/// The next event that is about rows: not a bookmark, not an interruption.
async fn next(watch: &mut WatchHandle) -> WatchEvent {
    loop {
        match soon(watch.next()).await.unwrap().expect("the watch goes on") {
            WatchEvent::Bookmark { .. } | WatchEvent::Interrupted { .. } => {}
            event => return event,
        }
    }
}

/// The values of the next changes.
async fn values(watch: &mut WatchHandle) -> Vec<String> {
    let WatchEvent::Changes { changes, .. } = next(watch).await else { panic!("changes are due") };
    let value = |change| match change {
        Change::Put(Row::Entry(entry)) => String::from_utf8_lossy(&entry.value).into_owned(),
        other => panic!("{other:?}"),
    };
    changes.into_iter().map(value).collect()
}

/// Stops a server and starts another one over the same state at the same address.
async fn restart(server: Server, between: impl AsyncFnOnce(&service::Service)) -> Server {
    let (service, address) = (server.service.clone(), server.address);
    server.stop.cancel();
    soon(server.task).await.unwrap().unwrap();
    between(&service).await;
    let options = RpcOptions::new(service.limits());
    Server::serve(service, options, address).await
}

async fn put(service: &service::Service, key: &str, value: &str) {
    let (key, value) = (key.into(), value.into());
    let put = service::kv::Put { key, value, flags: 0, compare: state::Compare::Any, lock: state::LockAction::Keep, fence: None };
    soon(service.kv_put(&Default::default(), None, put)).await.unwrap();
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_tells_each_change() {
    let server = Server::start().await;
    let client = server.client().await;
    soon(client.kv().put("a/1", "old")).await.unwrap();
    let mut watch = client.watch(Target::prefix("a/"));
    let WatchEvent::Snapshot { rows, .. } = next(&mut watch).await else { panic!("a snapshot is due") };
    assert!(matches!(&rows[..], [Row::Entry(entry)] if entry.key == "a/1"));
    assert!(matches!(next(&mut watch).await, WatchEvent::SnapshotEnd { .. }));
    soon(client.kv().put("a/2", "new")).await.unwrap();
    assert_eq!(values(&mut watch).await, ["new"]);
    soon(client.kv().delete("a/1")).await.unwrap();
    let WatchEvent::Changes { changes, .. } = next(&mut watch).await else { panic!("changes are due") };
    assert!(matches!(&changes[..], [Change::Delete(lictor_client::Gone::Key(key))] if key == "a/1"));
}

#[tokio::test]
async fn a_watch_goes_on_after_a_lost_connection_without_gap_or_repetition() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let mut watch = client.watch(Target::prefix("n/"));
    assert!(matches!(next(&mut watch).await, WatchEvent::SnapshotEnd { .. }));
    let mut seen = Vec::new();
    for round in 0..5 {
        put(&server.service, "n/1", &format!("{round} before")).await;
        if round % 2 == 0 {
            seen.extend(values(&mut watch).await);
        }
        server = restart(server, async |service| put(service, "n/1", &format!("{round} between")).await).await;
        put(&server.service, "n/1", &format!("{round} after")).await;
        while seen.len() < (round + 1) * 3 {
            seen.extend(values(&mut watch).await);
        }
    }
    let expected: Vec<String> = (0..5).flat_map(|round| ["before", "between", "after"].map(|when| format!("{round} {when}"))).collect();
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_watch_whose_history_is_gone_is_told_to_forget() {
    let limits = Limits { history_changes_max: 4, ..Limits::default() };
    let server = Server::start_with(limits, |_| {}).await;
    let client = server.client().await;
    let mut watch = client.watch(Target::prefix("n/"));
    assert!(matches!(next(&mut watch).await, WatchEvent::SnapshotEnd { .. }));
    let _server = restart(server, async |service| {
        for number in 0..20 {
            put(service, &format!("n/{number}"), "v").await;
        }
    })
    .await;
    let WatchEvent::Reset { reason, .. } = next(&mut watch).await else { panic!("a reset is due") };
    assert_eq!(reason, ResetReason::Compacted);
    let WatchEvent::Snapshot { rows, .. } = next(&mut watch).await else { panic!("a snapshot is due") };
    assert_eq!(rows.len(), 20);
}

#[tokio::test]
async fn a_cursor_that_was_kept_goes_on_where_it_was() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut watch = client.watch(Target::key("a"));
    let WatchEvent::SnapshotEnd { cursor, .. } = next(&mut watch).await else { panic!("a key that is not there has no rows") };
    drop(watch);
    put(&server.service, "a", "missed").await;
    let options = WatchOptions { resume_from: Some(cursor), ..WatchOptions::default() };
    let mut watch = client.watch_with(Target::key("a"), options);
    assert_eq!(values(&mut watch).await, ["missed"]);
}

#[tokio::test]
async fn a_watch_may_begin_with_the_next_change() {
    let server = Server::start().await;
    let client = server.client().await;
    put(&server.service, "a", "old").await;
    let options = WatchOptions { skip_snapshot: true, ..WatchOptions::default() };
    let mut watch = client.watch_with(Target::key("a"), options);
    let hub_has_it = async {
        let mut number = 0;
        loop {
            number += 1;
            put(&server.service, "a", &format!("new {number}")).await;
            if let Ok(event) = tokio::time::timeout(Duration::from_millis(50), next(&mut watch)).await {
                return event;
            }
        }
    };
    assert!(matches!(soon(hub_has_it).await, WatchEvent::Changes { .. }), "there is no snapshot");
}

#[tokio::test]
async fn a_watch_that_is_refused_for_good_ends_with_the_reason() {
    let server = Server::start().await;
    let client = server.client().await;
    let mut watch = client.watch(Target::key(""));
    let error = soon(watch.next()).await.unwrap_err();
    assert_eq!(error.reason(), Some(lictor_client::ErrorReason::InvalidArgument));
    assert!(soon(watch.next()).await.unwrap().is_none(), "it has ended");
}

#[tokio::test]
async fn more_watches_than_a_connection_holds_find_others() {
    let server = Server::start_with(Limits::default(), |options| options.max_concurrent_streams = 120).await;
    let client = server.client().await;
    let mut watches: Vec<WatchHandle> = (0..250).map(|_| client.watch(Target::key("a"))).collect();
    for watch in &mut watches {
        assert!(matches!(next(watch).await, WatchEvent::SnapshotEnd { .. }));
    }
    put(&server.service, "a", "all").await;
    for watch in &mut watches {
        assert_eq!(values(watch).await, ["all"]);
    }
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_passed_over() {
    let server = Server::start().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = nobody.local_addr().unwrap();
    drop(nobody);
    let endpoints = Endpoints::from([closed.to_string(), server.address.to_string()]);
    let client = Client::lazy(endpoints.clone(), Options::default()).unwrap();
    soon(client.kv().put("a", "1")).await.unwrap();
    let mut watch = Client::lazy(endpoints, Options::default()).unwrap().watch(Target::key("a"));
    assert!(matches!(next(&mut watch).await, WatchEvent::Snapshot { .. }));
    let error = soon(Client::connect(closed)).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { address, .. } if *address == closed.to_string()), "{error:?}");
    assert!(!error.outcome_unknown());
}

#[tokio::test]
async fn a_server_that_falls_silent_is_left() {
    let slow = Limits { bookmark_interval: Duration::from_secs(3600), ..Limits::default() };
    let server = Server::start_with(slow, |_| {}).await;
    let client = server.client().await;
    let options = WatchOptions { silence_max: Duration::from_millis(100), ..WatchOptions::default() };
    let mut watch = client.watch_with(Target::key("a"), options);
    let silent = async {
        loop {
            if let Some(WatchEvent::Interrupted { error, .. }) = watch.next().await.unwrap() {
                return error;
            }
        }
    };
    assert!(soon(silent).await.to_string().contains("said nothing"));
    put(&server.service, "a", "after").await;
    assert_eq!(values(&mut watch).await, ["after"]);
}
