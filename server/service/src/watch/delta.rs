//! What the watchers of one target receive of one command: built once, encoded once a format.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use state::{Change, ChangeBatch, Check, Instance, KvEntry, LogIndex, Node, ServiceSummary, Session};

use super::target::Target;

/// Most events in one chunk, and so in one message.
pub(crate) const CHUNK_EVENTS_MAX: usize = 500;

/// Most bytes of rows in one chunk, unless a single row is larger: well below the message limit of
/// an unconfigured gRPC client (4 MiB).
pub(crate) const CHUNK_BYTES_MAX: usize = 512 * 1024;

/// One thing that a watcher sees. Deletions carry the row as it was.
#[derive(Clone, Debug)]
pub enum Event {
    /// A key is as given.
    KvPut(KvEntry),
    /// A key is gone.
    KvDelete(KvEntry),
    /// An instance is as given.
    InstancePut(Arc<Instance>),
    /// An instance is gone, or not shown any more.
    InstanceDelete(Arc<Instance>),
    /// A node is as given.
    NodePut(Arc<Node>),
    /// A node is gone.
    NodeDelete(Arc<Node>),
    /// A check is as given.
    CheckPut(Arc<Check>),
    /// A check is gone, or not shown any more.
    CheckDelete(Arc<Check>),
    /// A service is listed as given.
    ServicePut(Arc<ServiceSummary>),
    /// A service is not listed any more.
    ServiceDelete(Arc<ServiceSummary>),
    /// A session has begun.
    SessionPut(Arc<Session>),
    /// A session has ended.
    SessionDelete(Arc<Session>),
}

impl Event {
    fn bytes(&self) -> usize {
        match self {
            Event::KvPut(entry) => entry.key().len() + entry.value().len(),
            Event::KvDelete(entry) => entry.key().len(),
            Event::InstancePut(instance) => 512 + instance.checks.iter().map(|check| 256 + check.output.len()).sum::<usize>(),
            Event::CheckPut(check) => 256 + check.output.len(),
            _ => 256,
        }
    }
}

/// The formats that an encoded chunk is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The protobuf body of a gRPC watch response.
    Proto,
    /// One line of JSON.
    Json,
}

/// Some of the events of one command: what fits into one message.
#[derive(Debug, Default)]
pub struct Chunk {
    /// In the order in which the command made them.
    pub events: Vec<Event>,
    encoded: [OnceLock<Bytes>; 2],
}

impl Chunk {
    pub(crate) fn new(events: Vec<Event>) -> Self {
        Chunk { events, encoded: Default::default() }
    }

    /// The chunk in `format`: the first to ask encodes, everybody shares.
    pub fn encoded(&self, format: Format, encode: impl FnOnce(&[Event]) -> Bytes) -> Bytes {
        self.encoded[format as usize].get_or_init(|| encode(&self.events)).clone()
    }
}

/// The events of one command for one target.
#[derive(Debug)]
pub struct Delta {
    /// The command's log index.
    pub index: LogIndex,
    /// At least one.
    pub chunks: Vec<Chunk>,
}

impl Delta {
    /// What watchers of `target` see of `batch`; `None` when they see nothing.
    pub(crate) fn project(target: &Target, batch: &ChangeBatch) -> Option<Delta> {
        Delta::new(batch.index, batch.changes.iter().filter_map(|change: &Change| target.project(change)).collect())
    }

    pub(crate) fn new(index: LogIndex, events: Vec<Event>) -> Option<Delta> {
        let chunks: Vec<Chunk> = split(events).into_iter().map(Chunk::new).collect();
        if chunks.is_empty() { None } else { Some(Delta { index, chunks }) }
    }
}

/// Cuts events into runs that each fit into one message.
pub(crate) fn split(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut runs: Vec<Vec<Event>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let size = event.bytes();
        match runs.last_mut() {
            Some(run) if run.len() < CHUNK_EVENTS_MAX && bytes + size <= CHUNK_BYTES_MAX => {
                bytes += size;
                run.push(event);
            }
            _ => {
                bytes = size;
                runs.push(vec![event]);
            }
        }
    }
    runs
}
