//! One key with its value, packed into two allocations.
//!
//! A control plane holds millions of small keys, so the row is shaped for memory: key and value
//! share one buffer, the counters sit beside it, and the whole is shared by reference count
//! between the tables, the change history and every answer in flight.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use crate::id::{LogIndex, SessionId};

/// A key, its value and their bookkeeping. Cheap to clone, immutable, ordered by key bytes.
#[derive(Clone)]
pub struct KvEntry(Arc<Inner>);

struct Inner {
    /// The key followed by the value.
    bytes: Box<[u8]>,
    key_len: u32,
    holder: Option<Box<Holder>>,
    flags: u64,
    create_index: LogIndex,
    modify_index: LogIndex,
    lock_index: u64,
}

/// Who holds a lock, and since which grant. Few keys are locked, so that they alone pay for it.
struct Holder {
    session: SessionId,
    fence: LogIndex,
}

/// Everything of an entry but its key and value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KvHeader {
    /// An opaque number that belongs to the writer.
    pub flags: u64,
    /// The index of the command that created the key.
    pub create_index: LogIndex,
    /// The index of the last command that changed it.
    pub modify_index: LogIndex,
    /// How often the lock on the key was granted to a new holder.
    pub lock_index: u64,
    /// The session that holds the lock.
    pub session: Option<SessionId>,
    /// The index of the command that granted the lock; 0 when nobody holds it.
    pub fence: LogIndex,
}

impl KvEntry {
    /// Packs an entry.
    pub fn new(key: &[u8], value: &[u8], header: KvHeader) -> Self {
        let mut bytes = Vec::with_capacity(key.len() + value.len());
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(value);
        KvEntry(Arc::new(Inner {
            bytes: bytes.into_boxed_slice(),
            key_len: u32::try_from(key.len()).expect("keys are bounded far below 4 GiB by the service layer"),
            holder: header.session.map(|session| Box::new(Holder { session, fence: header.fence })),
            flags: header.flags,
            create_index: header.create_index,
            modify_index: header.modify_index,
            lock_index: header.lock_index,
        }))
    }

    /// The key's bytes.
    pub fn key(&self) -> &[u8] {
        &self.0.bytes[..self.0.key_len as usize]
    }

    /// The value's bytes.
    pub fn value(&self) -> &[u8] {
        &self.0.bytes[self.0.key_len as usize..]
    }

    /// Everything but key and value.
    pub fn header(&self) -> KvHeader {
        KvHeader {
            flags: self.0.flags,
            create_index: self.0.create_index,
            modify_index: self.0.modify_index,
            lock_index: self.0.lock_index,
            session: self.session(),
            fence: self.fence(),
        }
    }

    /// The writer's opaque number.
    pub fn flags(&self) -> u64 {
        self.0.flags
    }

    /// The index of the command that created the key.
    pub fn create_index(&self) -> LogIndex {
        self.0.create_index
    }

    /// The index of the last command that changed the key.
    pub fn modify_index(&self) -> LogIndex {
        self.0.modify_index
    }

    /// How often the lock on the key was granted to a new holder.
    pub fn lock_index(&self) -> u64 {
        self.0.lock_index
    }

    /// The session that holds the lock on the key.
    pub fn session(&self) -> Option<SessionId> {
        self.0.holder.as_ref().map(|holder| holder.session)
    }

    /// The fencing token of the present holder: the index of the command that granted the lock; 0
    /// when nobody holds it.
    pub fn fence(&self) -> LogIndex {
        self.0.holder.as_ref().map_or(LogIndex::ZERO, |holder| holder.fence)
    }
}

impl Borrow<[u8]> for KvEntry {
    fn borrow(&self) -> &[u8] {
        self.key()
    }
}

/// By key alone, as the `Borrow` contract of ordered maps asks.
impl Ord for KvEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(other.key())
    }
}

impl PartialOrd for KvEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for KvEntry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for KvEntry {}

impl fmt::Debug for KvEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KvEntry")
            .field("key", &String::from_utf8_lossy(self.key()))
            .field("value_bytes", &self.value().len())
            .field("header", &self.header())
            .finish()
    }
}
