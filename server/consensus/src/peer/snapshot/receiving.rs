//! The follower's side of a transfer.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use openraft::storage::{Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use proto::internal::v1 as pb;
use proto::internal::v1::install_snapshot_request::Part;
use state::{Tables, TablesBuilder};
use store::pieces::{self, Arrived, Name};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::encode;
use crate::error::chain;
use crate::peer::snapshot::{SnapshotOf, digest};
use crate::peer::wire::vote_of;
use crate::types::{TypeConfig, Vote};

/// How long pieces of a transfer that broke off are kept when nobody goes on with it.
const KEPT: Duration = Duration::from_secs(10 * 60);

/// Where transfers put what arrives. One at a time: the newest counts, as there is one leader.
#[derive(Clone)]
pub(crate) struct Staging {
    arrived: Arrived,
    turn: Arc<tokio::sync::Mutex<()>>,
    newest: Arc<Mutex<CancellationToken>>,
    /// When the last transfer ended, if it may have left something.
    left: Arc<Mutex<Option<Instant>>>,
}

impl Staging {
    /// Pieces are kept in `dir`, where some may be from before a restart; without one in memory.
    pub(crate) fn new(dir: Option<PathBuf>) -> Self {
        let arrived = dir.map_or_else(Arrived::in_memory, Arrived::on_disk);
        let left = Arc::new(Mutex::new(Some(Instant::now())));
        Staging { arrived, turn: Arc::default(), newest: Arc::default(), left }
    }

    /// Throws away what a transfer has left that nobody goes on with. To be called now and then.
    pub(crate) async fn tidy(&self) {
        let Ok(_turn) = self.turn.try_lock() else { return };
        if self.left.lock().is_some_and(|left| left.elapsed() > KEPT) {
            self.clear().await;
        }
    }

    /// Throws away what has arrived.
    async fn clear(&self) {
        *self.left.lock() = None;
        let arrived = self.arrived.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || arrived.clear()).await {
            tracing::warn!(error = %chain(&error), "what has arrived of a snapshot can't be deleted; it takes room until the next one");
        }
    }
}

/// A snapshot being received.
pub(crate) struct Receiving {
    staging: Staging,
    /// Another transfer has begun.
    superseded: CancellationToken,
    _turn: OwnedMutexGuard<()>,
    pub(crate) vote: Vote,
    meta: openraft::alias::SnapshotMetaOf<TypeConfig>,
    names: Arc<[Name]>,
    sha256: bytes::Bytes,
    /// Places of the pieces that are not here.
    wanted: Vec<u32>,
}

impl Receiving {
    /// Begins a transfer, and ends the one before it. Whatever is here already is not wanted: from an earlier transfer, or
    /// in `tables`, the state as it is here now.
    pub(crate) async fn begin(staging: &Staging, head: pb::SnapshotHead, tables: Arc<Tables>) -> Result<Self, Status> {
        if head.pieces.is_empty() {
            return Err(Status::invalid_argument("the leader names no pieces: run the same release on all servers"));
        }
        if digest(&head) != head.sha256 {
            return Err(damaged("its head does not fit its digest"));
        }
        let names = head.pieces.iter().map(|piece| Name::read(&piece.sha256)).collect::<Option<Arc<[Name]>>>();
        let names = names.ok_or_else(|| Status::invalid_argument("a piece of the snapshot has no name"))?;
        let vote = vote_of(head.vote)?;
        let applied = head.applied.ok_or_else(|| Status::invalid_argument("`applied` is not set"))?;
        let (id, membership) = encode::applied_from_proto(applied).map_err(|error| Status::invalid_argument(error.to_string()))?;

        let superseded = CancellationToken::new();
        std::mem::replace(&mut *staging.newest.lock(), superseded.clone()).cancel();
        let turn = staging.turn.clone().lock_owned().await;
        let (arrived, all) = (staging.arrived.clone(), names.clone());
        let looked = tokio::task::spawn_blocking(move || missing(&arrived, &all, &tables)).await;
        let wanted = looked.map_err(|error| Status::internal(chain(&error)))?.map_err(|error| not_kept(&error))?;
        let bytes = |wanted: bool, places: &[u32]| {
            let all = head.pieces.iter().enumerate();
            let some = all.filter(|(place, _)| places.binary_search(&(*place as u32)).is_ok() == wanted);
            some.map(|(_, piece)| piece.bytes).sum::<u64>()
        };
        let (here, missing) = (bytes(false, &wanted), bytes(true, &wanted));
        counter!("consul_raft_snapshot_reused_bytes").increment(here);
        tracing::info!(
            index = id.index,
            pieces = names.len(),
            wanted = wanted.len(),
            bytes_here = here,
            bytes_wanted = missing,
            "the leader sends its state"
        );
        let meta = SnapshotMeta { last_log_id: Some(id), last_membership: membership };
        Ok(Receiving { staging: staging.clone(), superseded, _turn: turn, vote, meta, names, sha256: head.sha256, wanted })
    }

    /// Places of the pieces that are to be sent.
    pub(crate) fn wanted(&self) -> Vec<u32> {
        self.wanted.clone()
    }

    /// Takes what is wanted, and puts the state together. What has arrived before the stream breaks is kept.
    pub(crate) async fn receive(&self, mut pieces: Streaming<pb::InstallSnapshotRequest>) -> Result<SnapshotOf, Status> {
        let mut missing = self.wanted.iter();
        loop {
            let message = tokio::select! {
                message = pieces.message() => message?,
                () = self.superseded.cancelled() => return Err(Status::aborted("another transfer has begun")),
            };
            match message.and_then(|message| message.part) {
                Some(Part::Rows(rows)) => {
                    let place = missing.next().ok_or_else(|| Status::invalid_argument("a piece has come that is not wanted"))?;
                    self.take(self.names[*place as usize], rows).await?;
                }
                Some(Part::End(end)) if missing.len() == 0 && end.sha256 == self.sha256 => return self.finish(end.rows).await,
                Some(Part::End(_)) => return Err(damaged("it has ended before its end")),
                Some(Part::Head(_)) => return Err(Status::invalid_argument("a second head in one snapshot")),
                None => return Err(Status::aborted("the snapshot ended before its end")),
            }
        }
    }

    /// The state is in its place: what has arrived is of no use any more.
    pub(crate) async fn installed(self) {
        self.staging.clear().await;
    }

    /// Keeps a piece, if it is the one that was named.
    async fn take(&self, name: Name, rows: pb::SnapshotRows) -> Result<(), Status> {
        let arrived = self.staging.arrived.clone();
        let kept = tokio::task::spawn_blocking(move || {
            let bytes = pieces::join(&rows.rows);
            if Name::of(&bytes) != name {
                return Err(damaged("a piece does not fit its digest"));
            }
            counter!("consul_raft_snapshot_received_bytes").increment(bytes.len() as u64);
            arrived.put(name, bytes).map_err(|error| not_kept(&error))
        });
        kept.await.map_err(|error| Status::internal(chain(&error)))?
    }

    async fn finish(&self, rows: u64) -> Result<SnapshotOf, Status> {
        let (arrived, names, index) = (self.staging.arrived.clone(), self.names.clone(), self.meta.last_log_id.map_or(0, |id| id.index));
        let built = tokio::task::spawn_blocking(move || build(&arrived, &names, rows, index)).await;
        let tables = built.map_err(|error| Status::internal(chain(&error)))??;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Arc::new(tables) })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        *self.staging.left.lock() = Some(Instant::now());
    }
}

fn damaged(what: &str) -> Status {
    counter!("consul_raft_snapshot_damaged").increment(1);
    Status::data_loss(format!("the snapshot was damaged on the way: {what}; what is damaged is thrown away, and sent again"))
}

fn not_kept(error: &store::Error) -> Status {
    Status::resource_exhausted(format!("a snapshot can't be received: {}", chain(error)))
}

/// Which of `names` are not here. Those that `tables` have are put with those that have arrived.
fn missing(arrived: &Arrived, names: &[Name], tables: &Tables) -> Result<Vec<u32>, store::Error> {
    let mut missing: HashSet<Name> = names.iter().copied().collect();
    for name in arrived.keep(&missing)? {
        missing.remove(&name);
    }
    pieces::cut(tables, |piece, bytes| match missing.remove(&piece.name) {
        true => arrived.put(piece.name, bytes.to_vec()),
        false => Ok(()),
    })?;
    Ok((0..).zip(names).filter(|(_, name)| missing.contains(*name)).map(|(place, _)| place).collect())
}

/// The state that is made of `names`.
fn build(arrived: &Arrived, names: &[Name], rows: u64, index: u64) -> Result<Tables, Status> {
    let (mut builder, mut found) = (TablesBuilder::default(), 0);
    for name in names {
        let piece = arrived.get(*name).map_err(|error| not_kept(&error))?;
        let piece = piece.ok_or_else(|| damaged("a piece is not on the disk as it was written there"))?;
        let unknown = |error| Status::data_loss(format!("a row of the snapshot can't be read: {}", chain(&error)));
        for row in pieces::rows(piece).map_err(unknown)? {
            builder.push(row);
            found += 1;
        }
    }
    let tables = builder.finish().map_err(|error| Status::data_loss(format!("the snapshot contradicts itself: {error}")))?;
    if found != rows || tables.log_applied() != index {
        let at = tables.log_applied();
        return Err(Status::data_loss(format!(
            "the snapshot contradicts itself: it has {found} of {rows} rows, and is of index {at} and not {index}"
        )));
    }
    Ok(tables)
}
