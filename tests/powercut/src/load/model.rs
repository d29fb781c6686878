//! What the log and the rows should hold: both follow from a few numbers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use state::kv::KvHeader;
use state::{Change, ChangeBatch, KvEntry, LogIndex, Row, RowKey};

use crate::image::Chance;

/// Changes that the history keeps.
const HISTORY: u64 = 30;

/// A write to the log, as the marks tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Write {
    Append { first: u64, count: u64, term: u64 },
    Truncate { after: u64 },
    Purge { upto: u64 },
    Vote { number: u64 },
}

impl Write {
    /// The line of the marks that says it.
    pub(super) fn line(self) -> String {
        match self {
            Self::Append { first, count, term } => format!("append {first} {count} {term}"),
            Self::Truncate { after } => format!("truncate {after}"),
            Self::Purge { upto } => format!("purge {upto}"),
            Self::Vote { number } => format!("vote {number}"),
        }
    }

    /// Reads back what [`line`](Self::line) wrote.
    pub(super) fn parse(words: &[&str]) -> Option<Self> {
        let (verb, numbers) = words.split_first()?;
        let numbers: Vec<u64> = numbers.iter().map(|word| word.parse().ok()).collect::<Option<_>>()?;
        Some(match (*verb, &numbers[..]) {
            ("append", &[first, count, term]) => Self::Append { first, count, term },
            ("truncate", &[after]) => Self::Truncate { after },
            ("purge", &[upto]) => Self::Purge { upto },
            ("vote", &[number]) => Self::Vote { number },
            _ => return None,
        })
    }
}

/// The log: the term of each entry held, and the marks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    pub(super) entries: BTreeMap<u64, u64>,
    pub(super) vote: Option<u64>,
    pub(super) purged: Option<u64>,
}

impl Log {
    pub(super) fn apply(&mut self, write: Write) {
        match write {
            Write::Append { first, count, term } => self.entries.extend((first..first + count).map(|index| (index, term))),
            Write::Truncate { after } => self.entries.retain(|index, _| *index <= after),
            Write::Purge { upto } => {
                self.entries.retain(|index, _| *index > upto);
                self.purged = self.purged.max(Some(upto));
            }
            Write::Vote { number } => self.vote = Some(number),
        }
    }

    /// Index and term of the last entry, the vote and the purge mark: what tells two states of one run apart.
    pub(super) fn summary(&self) -> [u64; 4] {
        let term = self.entries.last_key_value().map_or(0, |(_, term)| *term);
        [self.last(), term, self.vote.unwrap_or(0), self.purged.unwrap_or(0)]
    }

    /// The last index, purged or not; 0 for none.
    pub(super) fn last(&self) -> u64 {
        self.entries.last_key_value().map(|(index, _)| *index).or(self.purged).unwrap_or(0)
    }
}

/// The payload of an entry: of a length of its own, up to larger than a segment.
pub(super) fn payload(index: u64, term: u64) -> Bytes {
    let mut chance = Chance::new(index ^ (term << 32));
    let len = match chance.below(40) {
        0 => 20_000 + chance.below(30_000),
        1..=5 => chance.below(4_000),
        _ => chance.below(300),
    };
    let byte = chance.draw() as u8;
    (0..len).map(|at| byte.wrapping_add(at as u8)).collect()
}

/// What the command at `index` does to the rows: it sets a key, or deletes it.
fn effect(index: u64) -> (Vec<u8>, Option<Vec<u8>>) {
    let mut chance = Chance::new(index.wrapping_mul(0x5851_f42d_4c95_7f2d));
    let number = chance.below(120);
    let mut key = format!("key/{number}").into_bytes();
    if number.is_multiple_of(10) {
        key.resize(600, b'k');
    }
    let len = if chance.below(30) == 0 { 9_000 } else { chance.below(400) };
    let value = vec![index as u8; len as usize];
    (key, (chance.below(5) != 0).then_some(value))
}

fn entry(key: &[u8], value: &[u8], index: u64) -> KvEntry {
    KvEntry::new(key, value, KvHeader { modify_index: LogIndex(index), ..KvHeader::default() })
}

/// The rows after every command up to `index`: by key, the index and the value of the last one that set it.
pub(super) fn rows(index: u64) -> BTreeMap<Vec<u8>, (u64, Vec<u8>)> {
    let mut rows = BTreeMap::new();
    for index in 1..=index {
        match effect(index) {
            (key, Some(value)) => rows.insert(key, (index, value)),
            (key, None) => rows.remove(&key),
        };
    }
    rows
}

/// The rows as they are persisted whole.
pub(super) fn all_rows(index: u64) -> Vec<Row> {
    rows(index).into_iter().map(|(key, (at, value))| Row::Kv(entry(&key, &value, at))).collect()
}

/// The rows that the commands after `from` up to `to` touched, as they stand after `to`.
pub(super) fn touched(from: u64, to: u64) -> Vec<(RowKey, Option<Row>)> {
    let rows = rows(to);
    let keys = (from + 1..=to).map(|index| effect(index).0);
    keys.map(|key| {
        let row = rows.get(&key).map(|(at, value)| Row::Kv(entry(&key, value, *at)));
        (RowKey::Kv(entry(&key, b"", 0)), row)
    })
    .collect()
}

/// Where the history begins when `index` is the last command.
pub(super) fn history_floor(index: u64) -> u64 {
    index.saturating_sub(HISTORY) + 1
}

/// The changes of the commands after `from` up to `to`.
pub(super) fn history(from: u64, to: u64) -> Vec<Arc<ChangeBatch>> {
    let change = |index| {
        let (key, value) = effect(index);
        let entry = entry(&key, value.as_deref().unwrap_or_default(), index);
        let change = if value.is_some() { Change::KvPut { entry } } else { Change::KvDelete { entry } };
        Arc::new(ChangeBatch { index: LogIndex(index), changes: vec![change] })
    };
    (from + 1..=to).map(change).collect()
}
