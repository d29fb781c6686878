//! Everything that a watch has told, over all its interruptions.

use std::collections::BTreeMap;

use bytes::Bytes;
use lictor_client::{Change, Client, Cursor, Gone, Row, Target, WatchEvent, WatchHandle, WatchOptions};
use tokio::task::JoinHandle;

/// The key that is written last in a round, by no writer.
pub(crate) const MARKER: &str = "marker";

/// A change: the key and its value, or nothing for a removal.
pub(crate) type Changed = (String, Option<Bytes>);

/// What was told so far, and where to go on.
#[derive(Debug, Default)]
pub(crate) struct Told {
    changes: BTreeMap<u64, Changed>,
    last: u64,
    cursor: Cursor,
}

impl Told {
    /// Nothing yet: the cursor of an empty store.
    pub(crate) async fn begin(client: &Client) -> Told {
        let (rows, cursor) = crate::watch::snapshot(&mut client.watch(Target::prefix(""))).await;
        assert!(rows.is_empty(), "{rows:?} in a new store");
        Told { cursor, ..Told::default() }
    }

    fn handle(&self, client: &Client) -> WatchHandle {
        client.watch_with(Target::prefix(""), WatchOptions { resume_from: Some(self.cursor.clone()), ..WatchOptions::default() })
    }

    /// Goes on with a new watch until its connection is lost.
    pub(crate) fn watch(&mut self, client: &Client) -> JoinHandle<Told> {
        let mut told = std::mem::take(self);
        let mut watch = told.handle(client);
        tokio::spawn(async move {
            while let Ok(Some(event)) = watch.next().await {
                if !told.take(event) {
                    break;
                }
            }
            told
        })
    }

    /// Goes on with a new watch until it has told a write that is made now.
    pub(crate) async fn catch_up(mut self, client: &Client, round: usize) -> Told {
        let key = format!("{MARKER}/{round}");
        let marked = client.kv().put(&key, "").await.unwrap().value.modify_index;
        let mut watch = self.handle(client);
        while self.last < marked {
            let event = tokio::time::timeout(super::CATCH_UP, watch.next()).await.expect("the watch goes on");
            let event = event.unwrap().expect("the watch does not end");
            assert!(self.take(event), "the connection was lost without a kill");
        }
        assert_eq!(self.changes.remove(&marked), Some((key.clone(), Some(Bytes::new()))));
        self
    }

    /// Notes what an event tells; false once the connection is lost.
    fn take(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Interrupted { .. } => return false,
            WatchEvent::Bookmark { cursor, .. } => self.cursor = cursor,
            WatchEvent::Changes { changes, revision, cursor, continued } => {
                assert!(!continued && changes.len() == 1, "one write is one change: {changes:?}");
                assert!(revision > self.last, "revision {revision} after {}", self.last);
                self.last = revision;
                self.cursor = cursor;
                self.changes.extend(changes.into_iter().map(|change| (revision, changed(change))));
            }
            other => panic!("{other:?} in place of the missed changes"),
        }
        true
    }

    /// What was told at a revision.
    pub(crate) fn at(&self, revision: u64) -> Option<&Changed> {
        self.changes.get(&revision)
    }

    /// Everything that was told, in order.
    pub(crate) fn changes(&self) -> &BTreeMap<u64, Changed> {
        &self.changes
    }

    /// What is there after all these changes.
    pub(crate) fn state(&self) -> BTreeMap<String, Bytes> {
        let mut state = BTreeMap::new();
        for (key, value) in self.changes.values() {
            match value {
                Some(value) => state.insert(key.clone(), value.clone()),
                None => state.remove(key),
            };
        }
        state
    }
}

fn changed(change: Change) -> Changed {
    let text = |key: Bytes| String::from_utf8(key.to_vec()).unwrap();
    match change {
        Change::Put(Row::Entry(entry)) => (text(entry.key), Some(entry.value)),
        Change::Delete(Gone::Key(key)) => (text(key), None),
        other => panic!("{other:?} in a watch of keys"),
    }
}
