//! Keys and values.

use std::sync::Arc;

use consensus::Proposed;
use state::{Compare, Fence, Indexed, KvEntry, KvWrite, LockAction, LogIndex, Operation, Outcome, Tables};

use crate::answer::{Answer, Blocking, ReadOptions};
use crate::error::{Error, Reason};
use crate::watch::Target;
use crate::{Caller, Right, Service};

/// Everything under a prefix at one moment. It holds a snapshot, so that it can be walked in pages
/// over any time without blocking a writer.
#[derive(Clone)]
pub struct KvRange {
    tables: Arc<Tables>,
    prefix: Box<[u8]>,
}

impl KvRange {
    /// The entries in key order.
    pub fn iter(&self) -> impl Iterator<Item = &KvEntry> {
        self.tables.kv_range(&self.prefix)
    }

    /// The entries whose keys are greater than `after`.
    pub fn iter_after<'a>(&'a self, after: Option<&'a [u8]>) -> impl Iterator<Item = &'a KvEntry> {
        self.tables.kv_range_after(&self.prefix, after)
    }

    /// Whether there is nothing under the prefix.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// The keys, each cut after the first `separator` behind the prefix; cut keys appear once. An
    /// empty separator cuts nothing.
    pub fn keys<'a>(&'a self, separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let cut = move |entry: &'a KvEntry| cut(entry.key(), self.prefix.len(), separator);
        let mut last: Option<&[u8]> = None;
        self.iter().map(cut).filter(move |key| last.replace(key) != Some(*key))
    }
}

fn cut<'a>(key: &'a [u8], prefix_len: usize, separator: &[u8]) -> &'a [u8] {
    if separator.is_empty() {
        return key;
    }
    let found = key[prefix_len..].windows(separator.len()).position(|window| window == separator);
    found.map_or(key, |at| &key[..prefix_len + at + separator.len()])
}

/// A write of one key that was applied.
#[derive(Clone, Debug)]
pub struct Written {
    /// The log index of the write.
    pub index: LogIndex,
    /// The entry as it stands now; `None` after a deletion.
    pub entry: Option<KvEntry>,
    /// How many keys a deletion removed.
    pub removed: u64,
}

/// A write of one key.
#[derive(Clone, Debug)]
pub struct Put {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// An opaque number of the writer's.
    pub flags: u64,
    /// Write only if this holds.
    pub compare: Compare,
    /// What to do with the lock on the key.
    pub lock: LockAction,
    /// Write only while this lock is held.
    pub fence: Option<Fence>,
}

/// What must hold for a deletion.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// What the key must look like.
    pub compare: Compare,
    /// The lock that must be held.
    pub fence: Option<Fence>,
}

impl From<Compare> for Condition {
    fn from(compare: Compare) -> Self {
        Condition { compare, fence: None }
    }
}

impl Service {
    /// Reads one key.
    pub async fn kv_get(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        key: &[u8],
    ) -> Result<Answer<Option<KvEntry>>, Error> {
        self.authorize(caller, Right::KeyRead(key))?;
        self.check_key(key)?;
        self.read(options, blocking, || Target::KvKey(key.into()), |tables| tables.kv_get(key)).await
    }

    /// Reads everything under a prefix; an empty prefix is everything.
    pub async fn kv_list(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        prefix: &[u8],
    ) -> Result<Answer<KvRange>, Error> {
        self.authorize(caller, Right::KeyRead(prefix))?;
        self.check_key_length(prefix)?;
        let range = |tables: &Arc<Tables>| KvRange { tables: tables.clone(), prefix: prefix.into() };
        let query = |tables: &Arc<Tables>| -> Indexed<KvRange> { tables.kv_prefix_index(prefix).map(|()| range(tables)) };
        self.read(options, blocking, || Target::KvPrefix(prefix.into()), query).await
    }

    /// Writes one key. Refusals: `KEY_TOO_LONG`, `VALUE_TOO_LARGE`, `PRECONDITION_FAILED`,
    /// `LOCK_HELD`, `LOCK_DELAY`, `LOCK_NOT_HELD`, `UNKNOWN_SESSION`, `STALE_FENCE`.
    pub async fn kv_put(&self, caller: &Caller, datacenter: Option<&str>, put: Put) -> Result<Written, Error> {
        self.check_datacenter(datacenter)?;
        self.authorize(caller, Right::KeyWrite(&put.key))?;
        self.check_key(&put.key)?;
        self.check_value(&put.key, put.value.len())?;
        let Put { key, value, flags, compare, lock, fence } = put;
        let write = KvWrite::Set { key: key.into_boxed_slice(), value: value.into_boxed_slice(), flags, compare, lock };
        self.kv_write(write, fence).await
    }

    /// Deletes one key. Deleting a missing key succeeds, whatever the condition.
    pub async fn kv_delete(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        key: &[u8],
        condition: impl Into<Condition>,
    ) -> Result<Written, Error> {
        let Condition { compare, fence } = condition.into();
        self.check_datacenter(datacenter)?;
        self.authorize(caller, Right::KeyWrite(key))?;
        self.check_key(key)?;
        self.kv_write(KvWrite::Delete { key: key.into(), compare }, fence).await
    }

    /// Deletes everything under a prefix; an empty prefix is everything.
    pub async fn kv_delete_prefix(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        prefix: &[u8],
        fence: Option<Fence>,
    ) -> Result<Written, Error> {
        self.check_datacenter(datacenter)?;
        self.authorize(caller, Right::KeyWrite(prefix))?;
        self.check_key_length(prefix)?;
        self.kv_write(KvWrite::DeletePrefix { prefix: prefix.into() }, fence).await
    }

    async fn kv_write(&self, write: KvWrite, fence: Option<Fence>) -> Result<Written, Error> {
        let write = Operation::Kv(write);
        let operation = match fence {
            Some(fence) => Operation::Fenced { fence, operation: Box::new(write) },
            None => write,
        };
        let Proposed { index, outcome } = self.propose(operation).await?;
        match outcome {
            Outcome::Done { entry, removed } => Ok(Written { index, entry, removed }),
            Outcome::Txn(_) | Outcome::Session(_) | Outcome::Lock(_) => Ok(Written { index, entry: None, removed: 0 }),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Refuses an empty key or one that is too long.
    pub(crate) fn check_key(&self, key: &[u8]) -> Result<(), Error> {
        if key.is_empty() {
            return Err(Error::invalid("missing key name"));
        }
        self.check_key_length(key)
    }

    pub(crate) fn check_key_length(&self, key: &[u8]) -> Result<(), Error> {
        let limit = self.limits().key_bytes_max;
        if key.len() <= limit {
            return Ok(());
        }
        let message = format!("the key has {} bytes, the limit is {limit}; use a shorter key", key.len());
        Err(Error::new(Reason::KeyTooLong, message).with("size", key.len()).with("limit", limit))
    }

    pub(crate) fn check_value(&self, key: &[u8], size: usize) -> Result<(), Error> {
        let limit = self.limits().value_bytes_max;
        if size <= limit {
            return Ok(());
        }
        let key = String::from_utf8_lossy(key);
        let message = format!("the value of `{key}` has {size} bytes, the limit is {limit}; store less, or raise limits.kv_max_value_size");
        Err(Error::new(Reason::ValueTooLarge, message).with("size", size).with("limit", limit))
    }
}
