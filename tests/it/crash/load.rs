//! Writers, what they were promised, and what must therefore be there.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lictor_client::{Client, v1};

use super::told::Told;

/// One write of a writer: the value, or nothing for a removal.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) key: String,
    pub(crate) value: Option<Bytes>,
    /// The revision at which it was acknowledged; nothing if the answer never came.
    pub(crate) revision: Option<u64>,
}

/// Writes one after the other until the server is gone: new keys, a counter that is written over
/// and over, and removals. Gives what it did, in order.
pub(crate) async fn write(client: Client, round: usize, writer: usize) -> Vec<Write> {
    let mut history = Vec::new();
    for n in 0.. {
        let own = |n: usize| format!("new/{round}/{writer}/{n}");
        let (key, value) = match n % 7 {
            3 => (format!("counter/{writer}"), Some(format!("{round}.{n}").into())),
            6 => (own(n - 1), None),
            _ => (own(n), Some(Bytes::from(vec![b'a' + (n % 26) as u8; 1 << (n % 12)]))),
        };
        let revision = match &value {
            Some(value) => client.kv().put(&key, value.clone()).await.map(|done| done.value.modify_index),
            None => client.kv().delete(&key).await.map(|done| done.revision()),
        };
        let alive = revision.is_ok();
        history.push(Write { key, value, revision: revision.ok() });
        if !alive {
            break;
        }
    }
    history
}

/// What must be there.
#[derive(Debug, Default)]
pub(crate) struct Model {
    /// The value of each key after the last acknowledged write of it.
    certain: BTreeMap<String, Bytes>,
    /// What may have become of a key since: writes without an answer.
    possible: BTreeMap<String, Option<Bytes>>,
    /// All acknowledged writes by their revision.
    acknowledged: BTreeMap<u64, Write>,
    /// All writes that were ever sent.
    sent: BTreeSet<(String, Option<Bytes>)>,
}

impl Model {
    /// Takes over what a writer did. No two writers share a key.
    pub(crate) fn add(&mut self, history: Vec<Write>) {
        for write in history {
            self.sent.insert((write.key.clone(), write.value.clone()));
            match (write.revision, write.value.clone()) {
                (None, value) => drop(self.possible.insert(write.key, value)),
                (Some(revision), value) => {
                    match value {
                        Some(value) => self.certain.insert(write.key.clone(), value),
                        None => self.certain.remove(&write.key),
                    };
                    let twin = self.acknowledged.insert(revision, write.clone());
                    assert!(twin.is_none(), "revision {revision} was given to {twin:?} and to {write:?}");
                }
            }
        }
    }

    /// Compares with what the server holds, and learns what became of the writes without an answer.
    pub(crate) fn settle(&mut self, found: &[v1::Entry], round: usize) {
        let text = |key: &Bytes| String::from_utf8(key.to_vec()).unwrap();
        let mut found: BTreeMap<String, Bytes> = found.iter().map(|entry| (text(&entry.key), entry.value.clone())).collect();
        found.retain(|key, _| !key.starts_with(super::told::MARKER));
        for (key, value) in std::mem::take(&mut self.possible) {
            if found.get(&key) == value.as_ref() {
                match value {
                    Some(value) => self.certain.insert(key, value),
                    None => self.certain.remove(&key),
                };
            }
        }
        for (key, value) in &self.certain {
            let there = found.get(key);
            assert!(there == Some(value), "round {round}: `{key}` was acknowledged as {value:?} and is {there:?}");
        }
        for key in found.keys() {
            assert!(self.certain.contains_key(key), "round {round}: `{key}` is there, although its removal was acknowledged");
        }
    }

    /// Compares with what the watch has told: every acknowledged write at its revision, nothing
    /// that nobody wrote, and in the end the same keys and values.
    pub(crate) fn compare(&self, told: &Told) {
        for (revision, write) in &self.acknowledged {
            let Some((key, value)) = told.at(*revision) else { panic!("the watch did not tell {write:?}") };
            assert_eq!((key, value), (&write.key, &write.value), "at revision {revision}");
        }
        for (revision, (key, value)) in told.changes() {
            assert!(self.sent.contains(&(key.clone(), value.clone())), "nobody wrote what was told at {revision}: {key} {value:?}");
        }
        assert_eq!(told.state(), self.certain, "the changes that were told do not add up to what is there");
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
