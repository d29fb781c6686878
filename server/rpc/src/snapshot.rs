//! Snapshots over gRPC: a file in pieces, with a digest of all of it at the end.

use bytes::Bytes;
use futures::Stream;
use futures::stream;
use proto::v1;
use service::{Error, Reason, Service};
use sha2::{Digest, Sha256};
use tonic::{Request, Status, Streaming};

use crate::caller::open;
use crate::convert::common::{meta, read_options, write_meta, write_to};
use crate::status::status;

/// Most bytes in one message: well below what clients take by default.
const MESSAGE_BYTES: usize = 1 << 20;

type Piece = Result<v1::SaveSnapshotResponse, Status>;

/// Sends a snapshot.
pub(crate) async fn save(
    service: &Service,
    request: Request<v1::SaveSnapshotRequest>,
) -> Result<impl Stream<Item = Piece> + Send + use<>, Error> {
    let (caller, v1::SaveSnapshotRequest { options }) = open(request)?;
    let saving = service.save_snapshot(&caller, &read_options(options)?).await?;
    let first = v1::SaveSnapshotResponse { meta: Some(meta(saving.meta)), ..Default::default() };
    let pieces = stream::unfold(Some((saving.value, Bytes::new(), Sha256::new())), |state| async move {
        let (mut saving, mut left, mut digest) = state?;
        if left.is_empty() {
            match saving.next().await {
                Some(piece) => left = piece,
                None => {
                    let last = v1::SaveSnapshotResponse { sha256: digest.finalize().to_vec().into(), ..Default::default() };
                    return Some((Ok(last), None));
                }
            }
        }
        let data = left.split_to(left.len().min(MESSAGE_BYTES));
        digest.update(&data);
        Some((Ok(v1::SaveSnapshotResponse { data, ..Default::default() }), Some((saving, left, digest))))
    });
    Ok(futures::StreamExt::chain(stream::iter([Ok(first)]), pieces))
}

/// Receives a snapshot, and puts it in the place of everything.
pub(crate) async fn restore(
    service: &Service,
    request: Request<Streaming<v1::RestoreSnapshotRequest>>,
) -> Result<v1::RestoreSnapshotResponse, Status> {
    let (caller, mut pieces) = open(request).map_err(status)?;
    let mut next = pieces.message().await?;
    let options = next.as_mut().and_then(|first| first.options.take());
    let mut restoring = service.begin_restore(&caller, write_to(options).as_deref()).map_err(status)?;
    let (mut digest, mut given) = (Sha256::new(), Bytes::new());
    while let Some(v1::RestoreSnapshotRequest { options: _, data, sha256 }) = next {
        digest.update(&data);
        given = sha256;
        service.restore_more(&mut restoring, &data).await.map_err(status)?;
        next = if given.is_empty() { pieces.message().await? } else { None };
    }
    if given[..] != digest.finalize()[..] {
        let what = if given.is_empty() { "the stream ended without it" } else { "the bytes that came have another one" };
        let text = format!(
            "the snapshot was not received as it was sent: its last part brings the digest of all bytes, and {what}; send it again"
        );
        return Err(status(Error::new(Reason::InvalidSnapshot, text)));
    }
    let restored = service.finish_restore(restoring).await.map_err(status)?;
    Ok(v1::RestoreSnapshotResponse { meta: Some(write_meta(service, restored.revision)), snapshot_revision: restored.snapshot.0 })
}
