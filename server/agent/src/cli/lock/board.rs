//! The keys of a lock, as they stand: followed by a watch.

use std::collections::BTreeMap;

use lictor_client::{Change, Client, Gone, ReadOptions, Row, Target, WatchEvent, WatchHandle, WatchOptions, v1};

/// The keys under a prefix.
pub(super) struct Board {
    watch: WatchHandle,
    prefix: String,
    entries: BTreeMap<Vec<u8>, v1::Entry>,
    revision: u64,
    whole: bool,
}

impl Board {
    /// Begins to follow the keys under `prefix`, which has no slash at its end.
    pub(super) fn new(client: &Client, prefix: &str, read: ReadOptions) -> Self {
        let options = WatchOptions { read, ..WatchOptions::default() };
        let watch = client.watch_with(Target::prefix(format!("{prefix}/")), options);
        Board { watch, prefix: prefix.to_owned(), entries: BTreeMap::new(), revision: 0, whole: false }
    }

    /// The key called so under the prefix.
    pub(super) fn get(&self, name: &str) -> Option<&v1::Entry> {
        self.entries.get(format!("{}/{name}", self.prefix).as_bytes())
    }

    /// Whether all keys of its revision are known.
    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }

    /// The revision at which the keys stand so.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Waits until the keys are known and are not as they were.
    pub(super) async fn change(&mut self) -> anyhow::Result<()> {
        loop {
            let Some(event) = self.watch.next().await? else { anyhow::bail!("the watch has ended") };
            if self.take(event) {
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: WatchEvent) -> bool {
        match event {
            WatchEvent::Snapshot { rows, .. } => {
                rows.into_iter().for_each(|row| self.put(row));
                false
            }
            WatchEvent::SnapshotEnd { revision, .. } => {
                (self.whole, self.revision) = (true, revision);
                true
            }
            WatchEvent::Changes { changes, revision, continued, .. } => {
                changes.into_iter().for_each(|change| match change {
                    Change::Put(row) => self.put(row),
                    Change::Delete(Gone::Key(key)) => {
                        self.entries.remove(&key[..]);
                    }
                    Change::Delete(_) => {}
                });
                self.revision = revision;
                self.whole && !continued
            }
            WatchEvent::Reset { .. } => {
                self.entries.clear();
                self.whole = false;
                false
            }
            WatchEvent::Bookmark { .. } | WatchEvent::Interrupted { .. } => false,
        }
    }

    fn put(&mut self, row: Row) {
        if let Row::Entry(entry) = row {
            self.entries.insert(entry.key.to_vec(), entry);
        }
    }
}
