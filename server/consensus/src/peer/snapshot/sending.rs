//! The leader's side of a transfer.

use std::sync::Arc;

use metrics::counter;
use proto::internal::v1 as pb;
use proto::internal::v1::install_snapshot_request::Part;
use proto::internal::v1::install_snapshot_response::Part as Answer;
use proto::internal::v1::peer_service_client::PeerServiceClient;
use state::Tables;
use store::pieces::{self, Piece};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::encode;
use crate::error::chain;
use crate::peer::snapshot::held::Held;
use crate::peer::snapshot::{SnapshotOf, digest};
use crate::types::Vote;

/// Messages that wait for the connection: half a megabyte or so, two megabytes at most.
const PIECES_QUEUED: usize = 2;

/// Sends `snapshot` and waits until it is installed. Answers the vote that stands at the follower.
pub(crate) async fn send(
    mut client: PeerServiceClient<Channel>,
    to: u64,
    vote: Vote,
    snapshot: SnapshotOf,
    held: &Arc<Held>,
) -> Result<Vote, Status> {
    let sending = held.send(to, &snapshot);
    let all = sending.pieces().await.map_err(|error| Status::internal(chain(&error)))?;
    let applied = snapshot.meta.last_log_id.ok_or_else(|| Status::internal("an empty state can't be sent as a snapshot"))?;
    let name = |piece: &Piece| pb::SnapshotPiece { sha256: piece.name.0.to_vec().into(), bytes: piece.bytes };
    let mut head = pb::SnapshotHead {
        to,
        vote: Some(encode::vote_to_proto(&vote)),
        applied: Some(encode::applied_to_proto(&applied, &snapshot.meta.last_membership)),
        pieces: all.iter().map(name).collect(),
        ..Default::default()
    };
    head.sha256 = digest(&head);
    let end = pb::SnapshotEnd { rows: all.iter().map(|piece| piece.rows as u64).sum(), sha256: head.sha256.clone() };
    let (queue, queued) = mpsc::channel(PIECES_QUEUED);
    let opening = pb::InstallSnapshotRequest { part: Some(Part::Head(head)) };
    queue.send(opening).await.map_err(|_| Status::internal("the queue of a snapshot was closed"))?;
    let mut answers = client.install_snapshot(ReceiverStream::new(queued)).await?.into_inner();
    let wanted = match next(&mut answers).await? {
        Answer::Wanted(wanted) => wanted.places,
        Answer::Installed(vote) => return Ok(encode::vote_from_proto(vote)),
    };
    tracing::info!(to, index = applied.index, pieces = all.len(), wanted = wanted.len(), "sending the state to a server that lags");
    let tables = snapshot.snapshot;
    let feeding = tokio::task::spawn_blocking(move || feed(&tables, &all, &wanted, end, &queue));
    let answer = next(&mut answers).await;
    feeding.await.map_err(|error| Status::internal(chain(&error)))?;
    match answer {
        Ok(Answer::Installed(stands)) => {
            sending.done();
            Ok(encode::vote_from_proto(stands))
        }
        Ok(Answer::Wanted(_)) => Err(Status::aborted("the follower began anew in the midst of a snapshot")),
        Err(status) => {
            tracing::warn!(to, error = %chain(&status), "the state did not get through; what has arrived is not sent again");
            Err(status)
        }
    }
}

async fn next(answers: &mut Streaming<pb::InstallSnapshotResponse>) -> Result<Answer, Status> {
    let answer = answers.message().await?.and_then(|message| message.part);
    answer.ok_or_else(|| Status::aborted("the follower ended the transfer of a snapshot without an answer"))
}

/// Puts every piece that is wanted into the queue, and the end. Stops when nobody takes them any more.
fn feed(tables: &Tables, all: &[Piece], wanted: &[u32], end: pb::SnapshotEnd, queue: &mpsc::Sender<pb::InstallSnapshotRequest>) {
    let put = |part| queue.blocking_send(pb::InstallSnapshotRequest { part: Some(part) }).is_ok();
    pieces::select(tables, all, wanted, |rows| {
        counter!("consul_raft_snapshot_sent_bytes").increment(rows.iter().map(|row| row.len() as u64).sum());
        put(Part::Rows(pb::SnapshotRows { rows }))
    });
    put(Part::End(end));
}
