//! The state machine as the Raft library drives it.
//!
//! Commands are applied a group at a time: to a working copy of the tables, which is then published
//! as a whole. Whoever is answered finds the published tables at least as new as the answer.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use futures::{Stream, StreamExt};
use metrics::{Histogram, counter, histogram};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EntryPayload, OptionalSend};
use state::{Change, ChangeBatch, Effects, LogIndex, RowKey, Tables, apply};

use crate::ChangeSink;
use crate::clock::Clock;
use crate::compaction::Backlog;
use crate::flusher::{Flusher, Group as Flushable, Position};
use crate::outcomes::Outcomes;
use crate::peer::snapshot::held::Held;
use crate::types::{Applied, Entry, LogId, StoredMembership, TypeConfig};

/// Most commands applied before the tables are published and the proposers answered.
const GROUP_MAX: usize = 256;

/// A snapshot is a set of tables: taking one costs nothing.
pub(crate) type SnapshotData = Arc<Tables>;

pub(crate) struct StateMachine {
    tables: Tables,
    position: Position,
    sink: Arc<dyn ChangeSink>,
    flusher: Flusher,
    backlog: Arc<Backlog>,
    shared: Shared,
    apply_time: Histogram,
}

/// What others look at while commands are applied.
pub(crate) struct Shared {
    pub(crate) published: Arc<ArcSwap<Tables>>,
    pub(crate) outcomes: Arc<Outcomes>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) held: Arc<Held>,
}

impl StateMachine {
    pub(crate) fn new(position: Position, sink: Arc<dyn ChangeSink>, flusher: Flusher, backlog: Arc<Backlog>, shared: Shared) -> Self {
        let tables = Tables::clone(&shared.published.load());
        let apply_time = histogram!("consul_raft_fsm_apply");
        StateMachine { tables, position, sink, flusher, backlog, shared, apply_time }
    }

    /// Applies one entry to the working copy.
    fn step(&mut self, entry: &Entry, group: &mut Group) -> Option<Applied> {
        let index = self.tables.revision_of(entry.log_id.index);
        self.position.log_id = Some(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => self.tables.advance(index),
            EntryPayload::Membership(membership) => {
                self.position.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.tables.advance(index);
            }
            EntryPayload::Normal(proposal) => {
                let mut effects = Effects { rows: std::mem::take(&mut group.rows), ..Effects::default() };
                let outcome = apply(&mut self.tables, index, &proposal.command, &mut effects);
                group.rows = effects.rows;
                group.bytes += proposal.bytes.len();
                group.take_changes(index, effects.changes);
                group.replaced |= effects.replaced;
                return Some(Applied { revision: self.tables.applied(), outcome });
            }
        }
        None
    }

    /// Makes a group visible: first the tables, then the changes, then the answers.
    async fn publish(&mut self, group: &mut Group) -> io::Result<()> {
        let tables = Arc::new(self.tables.clone());
        self.shared.clock.observe(tables.clock());
        self.shared.published.store(tables.clone());
        let batches = std::mem::take(&mut group.batches);
        for batch in &batches {
            self.sink.publish(batch.clone());
        }
        let replaced = std::mem::take(&mut group.replaced);
        match replaced {
            false => self.sink.advance(tables.applied()),
            true => self.sink.reset(tables.applied()),
        }
        self.shared.outcomes.reached(tables.log_applied(), &mut group.kept);
        for (responder, outcome) in group.answers.drain(..) {
            responder.send(outcome);
        }
        self.shared.held.applied(group.bytes);
        self.backlog.add(std::mem::take(&mut group.commands), std::mem::take(&mut group.bytes));
        let rows: Vec<RowKey> = std::mem::take(&mut group.rows);
        self.flusher.note(Flushable { rows, batches, replaced, tables, position: self.position.clone() }).await
    }
}

/// Commands applied but not yet visible.
#[derive(Default)]
struct Group {
    commands: usize,
    bytes: usize,
    rows: Vec<RowKey>,
    batches: Vec<Arc<ChangeBatch>>,
    /// Outcomes for those who passed their commands on.
    kept: Vec<(u64, Applied)>,
    answers: Vec<(openraft::storage::ApplyResponder<TypeConfig>, Option<Applied>)>,
    /// The last of the commands replaced everything.
    replaced: bool,
}

impl Group {
    fn take_changes(&mut self, index: LogIndex, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.batches.push(Arc::new(ChangeBatch { index, changes }));
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.position.log_id, self.position.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut entries = entries.ready_chunks(GROUP_MAX);
        let mut group = Group::default();
        while let Some(chunk) = entries.next().await {
            let started = Instant::now();
            for item in chunk {
                let (entry, responder) = item?;
                let applied = self.step(&entry, &mut group);
                group.commands += 1;
                match (responder, applied) {
                    (Some(responder), applied) => group.answers.push((responder, applied)),
                    (None, Some(applied)) if self.shared.outcomes.are_wanted() => group.kept.push((entry.log_id.index, applied)),
                    (None, _) => {}
                }
                if group.replaced {
                    self.publish(&mut group).await?;
                }
            }
            self.publish(&mut group).await?;
            self.apply_time.record(started.elapsed().as_secs_f64() * 1000.0);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder { flusher: self.flusher.clone(), backlog: self.backlog.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf, snapshot: SnapshotData) -> io::Result<()> {
        self.position = Position { log_id: meta.last_log_id, membership: meta.last_membership.clone() };
        self.tables = Tables::clone(&snapshot);
        let position = self.position.clone();
        self.shared.held.forget();
        self.flusher.replace(snapshot.clone(), position).await?;
        self.shared.clock.observe(snapshot.clock());
        self.shared.published.store(snapshot.clone());
        self.sink.reset(snapshot.applied());
        self.shared.outcomes.reached(snapshot.log_applied(), &mut Vec::new());
        Ok(())
    }

    /// What is sent to a follower: the state as it is now, whether or not it is on disk; or, where a transfer is under way or
    /// broke off, what that one sends.
    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf>> {
        let Position { log_id, membership } = self.position.clone();
        if log_id.is_none() {
            return Ok(None);
        }
        let now = || Snapshot {
            meta: SnapshotMeta { last_log_id: log_id, last_membership: membership },
            snapshot: Arc::new(self.tables.clone()),
        };
        Ok(Some(self.shared.held.current().unwrap_or_else(now)))
    }
}

type SnapshotMetaOf = openraft::alias::SnapshotMetaOf<TypeConfig>;
type SnapshotOf = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// Takes a snapshot: writes the state to disk, so that the log before it may go.
pub(crate) struct SnapshotBuilder {
    flusher: Flusher,
    backlog: Arc<Backlog>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf> {
        self.backlog.clear();
        counter!("consul_raft_snapshot_create").increment(1);
        let flushed = self.flusher.flush().await?;
        let meta = SnapshotMeta { last_log_id: flushed.position.log_id, last_membership: flushed.position.membership };
        Ok(Snapshot { meta, snapshot: flushed.tables })
    }
}
