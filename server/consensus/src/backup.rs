//! Snapshots that leave the cluster as a file, and come back from one.
//!
//! A save streams a set of tables, which costs nothing to hold while writes go on. A restore goes
//! through the log as everything does: its rows are proposed part by part, as they are verified, and
//! stand beside the state until the last command puts them in its place. Whatever goes wrong before
//! that, the state is as it was. Every step may be proposed twice, so that a leader that changes on the
//! way costs a repetition.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use metrics::counter;
use state::{LogIndex, Millis, Operation, Outcome, RestoreStep, Row, Tables};
use store::snapshot::{Damage, Header, Reader, pieces};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::error::{Error, chain};
use crate::{Consensus, Consistency};

/// Pieces that wait for whoever takes them: about a megabyte.
const PIECES_QUEUED: usize = 4;

/// How long one step of a restore is tried again while nobody leads.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// A snapshot on its way out.
pub struct Saving {
    /// The revision it is of.
    pub revision: LogIndex,
    pieces: mpsc::Receiver<Bytes>,
}

impl Saving {
    /// The next bytes of the file; `None` at its end.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.pieces.recv().await
    }
}

/// A restore that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The revision at which the state was replaced.
    pub revision: LogIndex,
    /// The revision at which the snapshot was taken.
    pub snapshot: LogIndex,
}

/// A snapshot on its way in. Dropped before its end, it leaves everything as it was.
pub struct Restoring {
    consensus: Consensus,
    id: u64,
    reader: Reader,
    parts: u64,
    rows: u64,
}

impl Consensus {
    /// Makes a snapshot of `tables`, which `version` of the program writes.
    pub fn save(&self, tables: Arc<Tables>, version: &str) -> Saving {
        let (sender, pieces_of_it) = mpsc::channel(PIECES_QUEUED);
        let revision = tables.applied();
        let header = Header {
            incarnation: tables.meta().incarnation,
            datacenter: self.inner.datacenter.clone(),
            revision,
            term: self.status().term,
            taken: Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64),
            version: version.to_owned(),
        };
        counter!("consul_snapshot_saves").increment(1);
        tokio::task::spawn_blocking(move || pieces(&header, &tables, |piece| sender.blocking_send(piece).is_ok()));
        Saving { revision, pieces: pieces_of_it }
    }

    /// Begins to restore a snapshot. Nothing is changed before [`Restoring::finish`].
    pub fn restore(&self) -> Restoring {
        let id = rand::random::<u64>() | 1;
        Restoring { consensus: self.clone(), id, reader: Reader::default(), parts: 0, rows: 0 }
    }
}

impl Restoring {
    /// Takes the next bytes of the file.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.reader.push(bytes);
        loop {
            match self.reader.next_part() {
                Ok(None) => return Ok(()),
                Ok(Some(rows)) => self.stage(rows).await?,
                Err(damage) => return Err(refused(&damage)),
            }
        }
    }

    async fn stage(&mut self, rows: Vec<Row>) -> Result<(), Error> {
        if self.parts == 0 {
            self.step(RestoreStep::Begin).await?;
        }
        let count = rows.len() as u64;
        self.step(RestoreStep::Stage { sequence: self.parts, rows: rows.into() }).await?;
        self.parts += 1;
        self.rows += count;
        Ok(())
    }

    /// Puts the snapshot in the place of everything, once it was received whole.
    pub async fn finish(mut self) -> Result<Restored, Error> {
        let reader = std::mem::take(&mut self.reader);
        let summary = reader.finish().map_err(|damage| refused(&damage))?;
        let incarnation = rand::random::<u64>() | 1;
        let commit = RestoreStep::Commit { parts: self.parts, rows: self.rows, incarnation };
        let revision = self.commit(commit, incarnation).await?;
        // There is nothing to be thrown away any more.
        self.parts = 0;
        counter!("consul_snapshot_restores").increment(1);
        tracing::warn!(revision = revision.0, snapshot = summary.header.revision.0, "the state was replaced by a snapshot");
        Ok(Restored { revision, snapshot: summary.header.revision })
    }

    /// Proposes the last step until its fate is known, twice if need be: once the state was replaced the restore is known no more,
    /// and the state's incarnation says whether it was this one that replaced it.
    async fn commit(&self, commit: RestoreStep, incarnation: u64) -> Result<LogIndex, Error> {
        let refused = match self.step(commit).await {
            Ok(revision) => return Ok(revision),
            Err(Error::Snapshot(why)) => Error::Snapshot(why),
            Err(cause) => return Err(Error::RestoreUnknown(cause.to_string().into())),
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.consensus.read(Consistency::Linearizable).await {
                Ok(tables) if tables.meta().incarnation == incarnation => return Ok(tables.restored()),
                Ok(_) => return Err(refused),
                Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
                Err(cause) => return Err(Error::RestoreUnknown(cause.to_string().into())),
            }
        }
    }

    /// Proposes a step until it is done, or until it can't be. A leader that is lost costs a repetition.
    async fn step(&self, step: RestoreStep) -> Result<LogIndex, Error> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let operation = Operation::Restore { id: self.id, step: step.clone() };
            match self.consensus.propose(operation).await {
                Ok(proposed) => {
                    return match proposed.outcome {
                        Outcome::Refused(refusal) => Err(Error::Snapshot(format!("{refusal}; nothing was changed").into())),
                        _ => Ok(proposed.index),
                    };
                }
                Err(Error::NoLeader | Error::Overloaded(_) | Error::Interrupted | Error::Timeout(_)) if Instant::now() < deadline => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for Restoring {
    fn drop(&mut self) {
        if self.parts == 0 {
            return;
        }
        let (consensus, id) = (self.consensus.clone(), self.id);
        // If nobody leads now, the rows are thrown away by the next restore, or by time.
        let abandon = Operation::Restore { id, step: RestoreStep::Abandon };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { consensus.propose(abandon).await.map(drop) });
        }
    }
}

fn refused(damage: &Damage) -> Error {
    counter!("consul_snapshot_refused").increment(1);
    Error::Snapshot(format!("the snapshot can't be restored, and nothing was changed: {}", chain(damage)).into())
}
