//! Everything there is, out to a file and back.

use std::time::Duration;

use bytes::Bytes;
use proto::v1;
use proto::v1::operator_service_client::OperatorServiceClient;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::error::Error;
use crate::operator::Operator;
use crate::read::{ReadOptions, write_options};

/// How long a server may take to put a snapshot in the place of everything, once it has all of it.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// Pieces that wait for the connection.
const PIECES_QUEUED: usize = 4;

/// A snapshot that is being saved: the bytes of its file.
pub struct SnapshotStream {
    stream: tonic::Streaming<v1::SaveSnapshotResponse>,
    digest: Option<Sha256>,
    meta: v1::ResponseMeta,
}

impl SnapshotStream {
    /// The revision it is of.
    pub fn revision(&self) -> u64 {
        self.meta.revision
    }

    /// The next bytes of the file. `None` at its end, once the digest of all of it was found to be
    /// what the server has sent; a stream that breaks off before is an error.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let Some(mut digest) = self.digest.take() else { return Ok(None) };
        let next = self.stream.message().await.map_err(|status| Error::from_status(&status, "the server", Duration::ZERO))?;
        let Some(v1::SaveSnapshotResponse { meta: _, data, sha256 }) = next else {
            return Err(Error::Interrupted("the snapshot ended before its end".into()));
        };
        digest.update(&data);
        if sha256.is_empty() {
            self.digest = Some(digest);
            return Ok(Some(data));
        }
        if digest.finalize()[..] != sha256[..] {
            return Err(Error::Contract("the snapshot was changed on the way: its digest is another".into()));
        }
        Ok(Some(data).filter(|data| !data.is_empty()))
    }
}

/// A restore that is being sent.
pub struct SnapshotRestore {
    pieces: Option<mpsc::Sender<v1::RestoreSnapshotRequest>>,
    digest: Sha256,
    answer: tokio::task::JoinHandle<Result<v1::RestoreSnapshotResponse, tonic::Status>>,
}

impl SnapshotRestore {
    /// Sends the next bytes of the file, waiting until there is room for them. `false` when the server
    /// takes no more; [`SnapshotRestore::finish`] then tells why.
    pub async fn send(&mut self, data: Bytes) -> bool {
        self.digest.update(&data);
        let Some(pieces) = &self.pieces else { return false };
        let sent = pieces.send(v1::RestoreSnapshotRequest { data, ..Default::default() }).await.is_ok();
        if !sent {
            self.pieces = None;
        }
        sent
    }

    /// Ends the file, and waits until it is in the place of everything.
    pub async fn finish(mut self) -> Result<v1::RestoreSnapshotResponse, Error> {
        if let Some(pieces) = self.pieces.take() {
            let sha256 = self.digest.finalize().to_vec().into();
            // A server that takes no more has said why.
            let _ = pieces.send(v1::RestoreSnapshotRequest { sha256, ..Default::default() }).await;
        }
        match self.answer.await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(status)) => Err(Error::from_status(&status, "the server", RESTORE_TIMEOUT)),
            Err(error) => Err(Error::Interrupted(error.to_string())),
        }
    }
}

impl Operator<'_> {
    /// Saves everything there is at one revision.
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use std::io::Write;
    /// let mut file = std::fs::File::create("backup.snap")?;
    /// let mut snapshot = client.operator().save_snapshot(&Default::default()).await?;
    /// while let Some(bytes) = snapshot.next().await? {
    ///     file.write_all(&bytes)?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn save_snapshot(&self, read: &ReadOptions) -> Result<SnapshotStream, Error> {
        let request = v1::SaveSnapshotRequest { options: read.wire() };
        let send = |channel, request| async move { OperatorServiceClient::new(channel).save_snapshot(request).await };
        let mut stream: tonic::Streaming<v1::SaveSnapshotResponse> = self.pool().stream(request, send).await?;
        let first = stream.message().await.map_err(|status| Error::from_status(&status, "the server", Duration::ZERO))?;
        let meta = first.and_then(|first| first.meta).ok_or_else(|| Error::Contract("a snapshot came without its metadata".into()))?;
        Ok(SnapshotStream { stream, digest: Some(Sha256::new()), meta })
    }

    /// Begins to replace everything there is in `datacenter` (empty is that of the agent) by a snapshot.
    /// Nothing is changed before [`SnapshotRestore::finish`].
    ///
    /// ```no_run
    /// # async fn run(client: lictor_client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let mut restore = client.operator().restore_snapshot("");
    /// restore.send(std::fs::read("backup.snap")?.into()).await;
    /// println!("restored revision {}", restore.finish().await?.snapshot_revision);
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore_snapshot(&self, datacenter: &str) -> SnapshotRestore {
        let (pieces, queue) = mpsc::channel(PIECES_QUEUED);
        let first = v1::RestoreSnapshotRequest { options: write_options(datacenter), ..Default::default() };
        // The queue is empty, so that there is room.
        let _ = pieces.try_send(first);
        let mut client = OperatorServiceClient::new(self.pool().patient_channel(RESTORE_TIMEOUT));
        let request = self.pool().request(ReceiverStream::new(queue));
        let answer = tokio::spawn(async move { client.restore_snapshot(request).await.map(tonic::Response::into_inner) });
        SnapshotRestore { pieces: Some(pieces), digest: Sha256::new(), answer }
    }
}
