//! The rows of a watch, put together from its events.

use std::collections::BTreeMap;

use lictor_client::{Change, Gone, Row, WatchEvent};

/// What is there, put together from snapshot and changes.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) by_name: BTreeMap<Vec<u8>, Row>,
    whole: bool,
}

impl Rows {
    /// Takes in an event; says at which revision there is something new to look at.
    pub(crate) fn take(&mut self, event: WatchEvent) -> Option<u64> {
        match event {
            WatchEvent::Snapshot { rows, .. } => {
                self.by_name.extend(rows.into_iter().map(|row| (name(&row), row)));
                None
            }
            WatchEvent::SnapshotEnd { revision, .. } => {
                self.whole = true;
                Some(revision)
            }
            WatchEvent::Changes { changes, revision, continued, .. } => {
                changes.into_iter().for_each(|change| self.change(change));
                (self.whole && !continued).then_some(revision)
            }
            WatchEvent::Reset { .. } => {
                *self = Rows::default();
                None
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Interrupted { .. } => None,
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Put(row) => {
                self.by_name.insert(name(&row), row);
            }
            Change::Delete(gone) => {
                self.by_name.remove(&gone_name(&gone));
            }
        }
    }
}

/// What tells a row from the others of its watch.
fn name(row: &Row) -> Vec<u8> {
    let of = |text: &str| text.as_bytes().to_vec();
    match row {
        Row::Entry(entry) => entry.key.to_vec(),
        Row::Node(node) => of(&node.name.to_ascii_lowercase()),
        Row::Service(service) => of(&service.name.to_ascii_lowercase()),
        Row::Check(check) => pair(&check.node, &check.check_id),
        Row::Instance(instance) => {
            let node = instance.node.as_ref().map(|node| node.name.as_str()).unwrap_or_default();
            let id = instance.service.as_ref().map(|service| service.id.as_str()).unwrap_or_default();
            pair(node, id)
        }
    }
}

/// The same of a row that is gone.
fn gone_name(gone: &Gone) -> Vec<u8> {
    match gone {
        Gone::Key(key) => key.to_vec(),
        Gone::Node(name) | Gone::Service(name) => name.to_ascii_lowercase().into_bytes(),
        Gone::Check(check) => pair(&check.node, &check.check_id),
        Gone::Instance(instance) => pair(&instance.node, &instance.service_id),
    }
}

fn pair(node: &str, id: &str) -> Vec<u8> {
    [node.to_ascii_lowercase().as_bytes(), b"\0", id.as_bytes()].concat()
}
