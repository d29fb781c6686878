//! Watches: a snapshot, then every change once and in order, whatever happens in between.

use std::collections::BTreeMap;

use super::*;
use crate::watch::{Cursor, Event, ResetReason, Start, Target, WatchEvent, WatchStream};

/// A client's copy of a prefix, kept by a watch alone.
#[derive(Default, Debug, PartialEq)]
struct Copy {
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the last change left off.
    cursor: Option<Cursor>,
    resets: Vec<ResetReason>,
    changes: u64,
}

impl Copy {
    /// Takes one message, and checks that it joins on to the one before.
    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Created { cursor, .. } => self.cursor = cursor.or(self.cursor),
            WatchEvent::Snapshot { events, .. } => events.iter().for_each(|event| self.apply(event)),
            WatchEvent::SnapshotEnd { cursor, .. } => self.cursor = Some(cursor),
            WatchEvent::Bookmark { cursor } => assert!(self.cursor.is_none_or(|last| last.index <= cursor.index)),
            WatchEvent::Changes { cursor, previous, delta, chunk, .. } => {
                assert_eq!(Some(previous), self.cursor, "no gap");
                self.cursor = Some(cursor);
                self.changes += 1;
                delta.chunks[chunk].events.iter().for_each(|event| self.apply(event));
            }
            WatchEvent::Reset { reason, .. } => {
                self.rows.clear();
                self.resets.push(reason);
            }
            WatchEvent::Cancelled { error, .. } => assert!(error.is_none(), "{error:?}"),
        }
    }

    fn apply(&mut self, event: &Event) {
        match event {
            Event::KvPut(entry) => drop(self.rows.insert(entry.key().to_vec(), entry.value().to_vec())),
            Event::KvDelete(entry) => {
                assert!(self.rows.remove(entry.key()).is_some(), "only what was there is deleted");
            }
            other => panic!("not asked for: {other:?}"),
        }
    }
}

async fn next(stream: &mut WatchStream) -> WatchEvent {
    timeout(PATIENCE, stream.next()).await.expect("a message comes")
}

/// Takes messages until the copy holds what the service holds.
async fn follow(stream: &mut WatchStream, copy: &mut Copy, service: &Service, prefix: &[u8]) {
    let truth = contents(service, prefix);
    while copy.rows != truth {
        copy.take(next(stream).await);
    }
}

fn contents(service: &Service, prefix: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let tables = service.consensus().tables();
    tables.kv_range(prefix).map(|entry| (entry.key().to_vec(), entry.value().to_vec())).collect()
}

fn prefix(text: &str) -> Target {
    Target::KvPrefix(text.as_bytes().into())
}

async fn watching(service: &Service, target: Target, start: Start) -> WatchStream {
    let mut stream = service.watch_stream(&me());
    stream.create(1, target, &ReadOptions::default(), start).await.unwrap();
    stream
}

#[tokio::test]
async fn a_snapshot_then_every_change_and_nothing_of_others() {
    let service = dev().await;
    put(&service, "a/1", "x").await;
    put(&service, "b/1", "x").await;
    let mut stream = watching(&service, prefix("a/"), Start::Snapshot).await;
    let mut copy = Copy::default();
    follow(&mut stream, &mut copy, &service, b"a/").await;
    for n in 0..50 {
        put(&service, &format!("a/{}", n % 7), &n.to_string()).await;
        put(&service, &format!("b/{}", n % 7), &n.to_string()).await;
    }
    service.kv_delete_prefix(&me(), None, b"a/3", None).await.unwrap();
    follow(&mut stream, &mut copy, &service, b"a/").await;
    assert_eq!((copy.changes, copy.resets.len()), (51, 0));
}

#[tokio::test]
async fn a_watch_resumes_on_another_stream_where_it_left_off() {
    let service = dev().await;
    let mut stream = watching(&service, prefix(""), Start::Snapshot).await;
    let mut copy = Copy::default();
    for round in 0..10 {
        for n in 0..10 {
            put(&service, &format!("k{n}"), &round.to_string()).await;
        }
        follow(&mut stream, &mut copy, &service, b"").await;
        let cursor = Cursor::from_bytes(&copy.cursor.unwrap().to_bytes()).unwrap();
        put(&service, "between", &round.to_string()).await;
        stream = watching(&service, prefix(""), Start::Resume(cursor)).await;
        follow(&mut stream, &mut copy, &service, b"").await;
    }
    assert_eq!((copy.changes, copy.resets.len()), (110, 0), "each change came once");
}

#[tokio::test]
async fn a_large_deletion_is_cut_and_can_be_resumed_in_its_middle() {
    let service = dev().await;
    for n in 0..1200 {
        put(&service, &format!("k{n:04}"), "x").await;
    }
    let mut stream = watching(&service, prefix(""), Start::Snapshot).await;
    let mut copy = Copy::default();
    follow(&mut stream, &mut copy, &service, b"").await;
    while !matches!(copy.cursor, Some(cursor) if cursor.index >= service.consensus().tables().applied()) {
        copy.take(next(&mut stream).await);
    }
    service.kv_delete_prefix(&me(), None, b"k", None).await.unwrap();
    copy.take(next(&mut stream).await);
    assert!(!copy.rows.is_empty() && copy.rows.len() < 1200, "one message does not hold it all");
    stream = watching(&service, prefix(""), Start::Resume(copy.cursor.unwrap())).await;
    follow(&mut stream, &mut copy, &service, b"").await;
    assert!(copy.resets.is_empty());
}

#[tokio::test]
async fn a_slow_reader_catches_up_from_the_history_without_loss() {
    let service = dev_with(Limits { watch_backlog_max: 4, ..Limits::default() }).await;
    let mut stream = watching(&service, prefix(""), Start::Snapshot).await;
    let mut copy = Copy::default();
    for n in 0..200 {
        put(&service, &format!("k{}", n % 9), &n.to_string()).await;
    }
    follow(&mut stream, &mut copy, &service, b"").await;
    assert_eq!((copy.changes, copy.resets.len()), (200, 0));
}

#[tokio::test]
async fn a_reader_too_slow_for_the_history_is_told_and_starts_again() {
    let limits = Limits { watch_backlog_max: 4, history_changes_max: 10, ..Limits::default() };
    let service = dev_with(limits).await;
    let mut stream = watching(&service, prefix(""), Start::Snapshot).await;
    let mut copy = Copy::default();
    for n in 0..200 {
        put(&service, &format!("k{}", n % 9), &n.to_string()).await;
    }
    follow(&mut stream, &mut copy, &service, b"").await;
    assert_eq!(copy.resets, [ResetReason::SlowConsumer]);
    put(&service, "k1", "after").await;
    follow(&mut stream, &mut copy, &service, b"").await;
    assert_eq!(copy.resets.len(), 1, "it goes on as before");
}

#[tokio::test]
async fn a_cursor_that_cannot_be_resumed_says_so_first() {
    let service = dev_with(Limits { history_changes_max: 10, ..Limits::default() }).await;
    let old = put(&service, "a", "0").await;
    for n in 1..50 {
        put(&service, "a", &n.to_string()).await;
    }
    let incarnation = service.consensus().tables().meta().incarnation;
    let cases = [
        (Cursor { incarnation, index: old, offset: 0 }, ResetReason::Compacted),
        (Cursor { incarnation: incarnation ^ 1, index: old, offset: 0 }, ResetReason::ForeignCursor),
    ];
    for (cursor, reason) in cases {
        let mut stream = watching(&service, prefix(""), Start::Resume(cursor)).await;
        let mut copy = Copy::default();
        follow(&mut stream, &mut copy, &service, b"").await;
        assert_eq!(copy.resets, [reason]);
    }
}

#[tokio::test]
async fn a_filtered_watch_sees_instances_come_and_go_with_their_health() {
    let service = dev().await;
    register(&service, "n1", "web1", Status::Critical).await;
    let target = Target::Service { name: "WEB".into(), passing_only: true, tags: vec![] };
    let mut stream = watching(&service, target, Start::Snapshot).await;
    assert!(matches!(next(&mut stream).await, WatchEvent::Created { cursor: None, .. }));
    assert!(matches!(next(&mut stream).await, WatchEvent::SnapshotEnd { .. }), "nothing passes yet");
    register(&service, "n2", "web2", Status::Critical).await;
    for (status, appears) in [(Status::Passing, true), (Status::Warning, false), (Status::Critical, false), (Status::Passing, true)] {
        register(&service, "n1", "web1", status).await;
        if status == Status::Critical {
            continue; // From warning to critical it stays unseen: nothing is sent.
        }
        let WatchEvent::Changes { delta, .. } = next(&mut stream).await else { panic!("a change comes") };
        assert_eq!(matches!(delta.chunks[0].events[..], [Event::InstancePut(_)]), appears, "{delta:?}");
    }
}

#[tokio::test]
async fn many_watches_share_a_stream_and_each_can_end() {
    let service = dev().await;
    let mut stream = service.watch_stream(&me());
    for id in 1..=20u64 {
        let target = Target::KvKey(format!("k{}", id % 10).as_bytes().into());
        stream.create(id, target, &ReadOptions::default(), Start::Now).await.unwrap();
        assert!(matches!(next(&mut stream).await, WatchEvent::Created { cursor: Some(_), .. }));
    }
    let twice = stream.create(7, prefix(""), &ReadOptions::default(), Start::Now).await;
    assert_eq!(twice.unwrap_err().reason, crate::Reason::InvalidArgument);
    stream.cancel(13);
    assert!(matches!(next(&mut stream).await, WatchEvent::Cancelled { watch_id: 13, error: None }));
    put(&service, "k3", "x").await;
    let WatchEvent::Changes { watch_id, .. } = next(&mut stream).await else { panic!("a change comes") };
    assert_eq!(watch_id, 3, "its twin has ended");
    drop(stream);
    assert_eq!(service.hub().watchers(), 0);
}

#[tokio::test]
async fn a_bound_on_watches_is_kept() {
    let service = dev_with(Limits { watches_per_stream_max: 2, ..Limits::default() }).await;
    let mut stream = service.watch_stream(&me());
    for id in 1..=2 {
        stream.create(id, prefix(""), &ReadOptions::default(), Start::Now).await.unwrap();
    }
    let error = stream.create(3, prefix(""), &ReadOptions::default(), Start::Now).await.unwrap_err();
    assert_eq!(error.reason, crate::Reason::TooManyWatches);
}

#[tokio::test]
async fn an_idle_watch_is_told_how_far_it_has_seen() {
    let service = dev_with(Limits { bookmark_interval: Duration::from_millis(5), ..Limits::default() }).await;
    let mut stream = watching(&service, Target::KvKey(b"a"[..].into()), Start::Now).await;
    assert!(matches!(next(&mut stream).await, WatchEvent::Created { .. }));
    let index = put(&service, "unrelated", "x").await;
    timeout(PATIENCE, async {
        loop {
            let WatchEvent::Bookmark { cursor } = stream.next().await else { panic!("only bookmarks") };
            if cursor.index >= index {
                break;
            }
        }
    })
    .await
    .unwrap();
}
