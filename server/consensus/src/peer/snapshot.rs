//! A whole state from the leader to a follower that the log no longer reaches.
//!
//! The rows go in the state's own order, so that a transfer that broke off can go on by their
//! number. A digest over all of them closes it: a state that was cut short or changed on the way is
//! thrown away, and nothing of it is ever visible.

use std::sync::Arc;

use bytes::Bytes;
use openraft::storage::{Snapshot, SnapshotMeta};
use parking_lot::Mutex;
use proto::internal::v1 as pb;
use proto::internal::v1::install_snapshot_request::Part;
use proto::internal::v1::install_snapshot_response::Part as Answer;
use proto::internal::v1::peer_service_client::PeerServiceClient;
use sha2::{Digest, Sha256};
use state::{Tables, TablesBuilder};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::encode;
use crate::error::chain;
use crate::peer::wire::vote_of;
use crate::state_machine::SnapshotData;
use crate::types::{LogId, TypeConfig, Vote};

pub(crate) type SnapshotOf = openraft::alias::SnapshotOf<TypeConfig, SnapshotData>;

/// Bytes of rows in one message.
const PIECE_BYTES: usize = 512 << 10;

/// Messages that wait for the connection: a megabyte or so.
const PIECES_QUEUED: usize = 2;

/// Sends `snapshot` and waits until it is installed. Answers the vote that stands at the follower.
pub(crate) async fn send(mut client: PeerServiceClient<Channel>, to: u64, vote: Vote, snapshot: SnapshotOf) -> Result<Vote, Status> {
    let Snapshot { meta, snapshot: tables } = snapshot;
    let applied = meta.last_log_id.ok_or_else(|| Status::internal("an empty state can't be sent as a snapshot"))?;
    let (pieces, queue) = mpsc::channel(PIECES_QUEUED);
    let head = pb::SnapshotHead {
        to,
        vote: Some(encode::vote_to_proto(&vote)),
        applied: Some(encode::applied_to_proto(&applied, &meta.last_membership)),
    };
    let opening = pb::InstallSnapshotRequest { part: Some(Part::Head(head)) };
    pieces.send(opening).await.map_err(|_| Status::internal("the queue of a snapshot was closed"))?;
    let mut answers = client.install_snapshot(ReceiverStream::new(queue)).await?.into_inner();
    let resume_after = match answers.message().await?.and_then(|message| message.part) {
        Some(Answer::ResumeAfter(rows)) => rows,
        Some(Answer::Installed(vote)) => return Ok(encode::vote_from_proto(vote)),
        None => return Err(Status::aborted("the follower did not say where to begin")),
    };
    let feeding = tokio::task::spawn_blocking(move || feed(&tables, resume_after, &pieces));
    let installed = answers.message().await?.and_then(|message| message.part);
    feeding.await.map_err(|error| Status::internal(chain(&error)))?;
    match installed {
        Some(Answer::Installed(vote)) => Ok(encode::vote_from_proto(vote)),
        _ => Err(Status::aborted("the follower ended the transfer of a snapshot without an answer")),
    }
}

/// Puts every row after `skip` into the queue, and the end. Stops when nobody takes them any more.
fn feed(tables: &Tables, skip: u64, pieces: &mpsc::Sender<pb::InstallSnapshotRequest>) {
    let mut hash = Digested::default();
    let (mut rows, mut bytes) = (Vec::new(), 0);
    for row in tables.rows() {
        let row = Bytes::from(store::encode::row::encode(&row));
        hash.add(&row);
        if hash.rows <= skip {
            continue;
        }
        bytes += row.len();
        rows.push(row);
        if bytes >= PIECE_BYTES {
            bytes = 0;
            let part = Part::Rows(pb::SnapshotRows { rows: std::mem::take(&mut rows) });
            if pieces.blocking_send(pb::InstallSnapshotRequest { part: Some(part) }).is_err() {
                return;
            }
        }
    }
    let rest = Part::Rows(pb::SnapshotRows { rows });
    let end = Part::End(pb::SnapshotEnd { rows: hash.rows, sha256: hash.finish() });
    for part in [rest, end] {
        if pieces.blocking_send(pb::InstallSnapshotRequest { part: Some(part) }).is_err() {
            return;
        }
    }
}

/// Rows counted and digested.
#[derive(Default)]
struct Digested {
    rows: u64,
    hash: Sha256,
}

impl Digested {
    fn add(&mut self, row: &[u8]) {
        self.rows += 1;
        self.hash.update((row.len() as u64).to_le_bytes());
        self.hash.update(row);
    }

    fn finish(self) -> Bytes {
        self.hash.finalize().to_vec().into()
    }
}

/// A transfer that broke off, kept for the next. One at a time: there is one leader.
#[derive(Default)]
pub(crate) struct Staging {
    broken_off: Mutex<Option<Staged>>,
}

/// What has arrived of a snapshot.
struct Staged {
    id: LogId,
    builder: TablesBuilder,
    digested: Digested,
}

/// A snapshot being received.
pub(crate) struct Receiving {
    staging: Arc<Staging>,
    staged: Option<Staged>,
    pub(crate) vote: Vote,
    meta: openraft::alias::SnapshotMetaOf<TypeConfig>,
}

impl Receiving {
    /// Begins, or goes on where the last transfer of the same snapshot ended.
    pub(crate) fn begin(staging: &Arc<Staging>, head: pb::SnapshotHead) -> Result<Self, Status> {
        let vote = vote_of(head.vote)?;
        let applied = head.applied.ok_or_else(|| Status::invalid_argument("`applied` is not set"))?;
        let (id, membership) = encode::applied_from_proto(applied).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let kept = staging.broken_off.lock().take().filter(|staged| staged.id == id);
        let staged = kept.unwrap_or_else(|| Staged { id, builder: TablesBuilder::default(), digested: Digested::default() });
        let meta = SnapshotMeta { last_log_id: Some(id), last_membership: membership };
        Ok(Receiving { staging: staging.clone(), staged: Some(staged), vote, meta })
    }

    /// How many rows are here already.
    pub(crate) fn rows(&self) -> u64 {
        self.staged.as_ref().map_or(0, |staged| staged.digested.rows)
    }

    /// Takes the rest of the snapshot. What arrived before the stream broke is kept.
    pub(crate) async fn receive(mut self, mut pieces: Streaming<pb::InstallSnapshotRequest>) -> Result<SnapshotOf, Status> {
        loop {
            match pieces.message().await?.and_then(|message| message.part) {
                Some(Part::Rows(rows)) => self.take(rows)?,
                Some(Part::End(end)) => return self.finish(&end),
                Some(Part::Head(_)) => return Err(Status::invalid_argument("a second head in one snapshot")),
                None => return Err(Status::aborted("the snapshot ended before its end")),
            }
        }
    }

    fn take(&mut self, rows: pb::SnapshotRows) -> Result<(), Status> {
        let staged = self.staged.as_mut().ok_or_else(|| Status::internal("the snapshot is finished"))?;
        for row in rows.rows {
            match store::encode::row::decode(&row) {
                Ok(decoded) => staged.builder.push(decoded),
                Err(error) => {
                    self.staged = None;
                    return Err(Status::data_loss(format!("a row of the snapshot can't be read: {error}")));
                }
            }
            staged.digested.add(&row);
        }
        Ok(())
    }

    fn finish(mut self, end: &pb::SnapshotEnd) -> Result<SnapshotOf, Status> {
        let Staged { builder, digested, .. } = self.staged.take().ok_or_else(|| Status::internal("the snapshot is finished"))?;
        let rows = digested.rows;
        if rows != end.rows || digested.finish() != end.sha256 {
            return Err(Status::data_loss(format!(
                "the snapshot was damaged on the way: {rows} of {} rows, or another digest; it is thrown away",
                end.rows
            )));
        }
        let tables = builder.finish().map_err(|error| Status::data_loss(format!("the snapshot contradicts itself: {error}")))?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Arc::new(tables) })
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(staged) = self.staged.take() {
            *self.staging.broken_off.lock() = Some(staged);
        }
    }
}
