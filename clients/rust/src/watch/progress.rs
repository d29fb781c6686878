//! Where a watch stands, and what each message of the server means for it. Without IO.

use bytes::Bytes;
use proto::v1;
use proto::v1::watch_response::Event;

use super::event::{Change, ResetReason, Row, WatchEvent};
use super::{Cursor, Target, WatchOptions};
use crate::error::Error;

/// The one watch of a stream.
const WATCH_ID: u64 = 1;

/// A watch between its connections.
pub(crate) struct Progress {
    target: Target,
    read: Option<v1::ReadOptions>,
    skip_snapshot: bool,
    /// Where to resume; empty begins with a snapshot.
    resume_from: Bytes,
    /// What the next changes must name as the cursor before them.
    previous: Bytes,
    /// The latest bookmark since; a server may name that one as well, since nothing lies between.
    bookmark: Bytes,
    /// The reader holds a part of a snapshot.
    cut: bool,
}

/// What a message means.
#[derive(Debug)]
pub(crate) enum Step {
    /// Tell the reader.
    Tell(WatchEvent),
    /// Nothing to tell.
    Nothing,
    /// Leave this connection, and go on with the next.
    Leave(Error),
    /// The watch has ended, for good.
    End(Option<Error>),
}

impl Progress {
    pub(crate) fn new(target: Target, options: &WatchOptions) -> Self {
        let resume_from = options.resume_from.as_ref().map(Cursor::wire).unwrap_or_default();
        Progress {
            target,
            read: options.read.wire(),
            skip_snapshot: options.skip_snapshot,
            resume_from,
            previous: Bytes::new(),
            bookmark: Bytes::new(),
            cut: false,
        }
    }

    /// The request that goes on from here on a new connection.
    pub(crate) fn request(&self) -> v1::WatchRequest {
        let create = v1::WatchCreate {
            watch_id: WATCH_ID,
            target: Some(self.target.wire()),
            resume_from: self.resume_from.clone(),
            skip_snapshot: self.skip_snapshot,
            options: self.read.clone(),
        };
        v1::WatchRequest { request: Some(v1::watch_request::Request::Create(create)) }
    }

    /// The connection is gone. The reader has to forget a snapshot that was cut.
    pub(crate) fn lost(&mut self) -> Option<WatchEvent> {
        std::mem::take(&mut self.cut).then(|| WatchEvent::Reset {
            reason: ResetReason::SnapshotCut,
            message: "the connection was lost in the middle of a snapshot".into(),
        })
    }

    /// Takes a message.
    pub(crate) fn take(&mut self, message: v1::WatchResponse) -> Step {
        let v1::WatchResponse { watch_id, cursor, previous_cursor, revision, event } = message;
        if watch_id != WATCH_ID && watch_id != 0 {
            return Step::Leave(Error::Contract(format!("a message for watch `{watch_id}`, which nobody asked for")));
        }
        match event {
            Some(Event::Created(v1::Created {})) => self.created(cursor),
            Some(Event::Snapshot(chunk)) => self.snapshot(chunk, revision),
            Some(Event::SnapshotEnd(v1::SnapshotEnd {})) => {
                self.cut = false;
                self.stand_at(cursor.clone());
                Step::Tell(WatchEvent::SnapshotEnd { revision, cursor: Cursor(cursor) })
            }
            Some(Event::Changes(changes)) => self.changes(changes, revision, cursor, &previous_cursor),
            Some(Event::Bookmark(v1::Bookmark { leader_known })) => self.bookmark(cursor, revision, leader_known),
            Some(Event::Reset(v1::Reset { reason, message })) => {
                let reason = v1::ResetReason::try_from(reason).unwrap_or_default().into();
                self.begin_anew();
                Step::Tell(WatchEvent::Reset { reason, message })
            }
            Some(Event::Cancelled(v1::Cancelled { refusal })) => match refusal.map(Error::from_refusal) {
                Some(error) if error.is_transient() => Step::Leave(error),
                refused => Step::End(refused),
            },
            // A kind of message that a newer server adds is one that an older client can do without.
            None => Step::Nothing,
        }
    }

    fn created(&mut self, cursor: Bytes) -> Step {
        if cursor.is_empty() {
            self.begin_anew();
            self.cut = true;
            return Step::Nothing;
        }
        // A server may stand at the start of a revision of which some changes were told already,
        // and goes on after those; resuming once more still needs the cursor that says so.
        let resumed = std::mem::take(&mut self.resume_from);
        self.stand_at(cursor);
        if !resumed.is_empty() {
            self.resume_from = resumed;
        }
        Step::Nothing
    }

    fn snapshot(&mut self, chunk: v1::SnapshotChunk, revision: u64) -> Step {
        self.cut = true;
        let rows: Result<Vec<Row>, Error> = chunk.changes.into_iter().map(row).collect();
        match rows {
            Ok(rows) => Step::Tell(WatchEvent::Snapshot { rows, revision }),
            Err(error) => Step::End(Some(error)),
        }
    }

    fn changes(&mut self, changes: v1::Changes, revision: u64, cursor: Bytes, previous: &Bytes) -> Step {
        if self.cut || cursor.is_empty() {
            return Step::Leave(Error::Contract("changes came before the snapshot was complete".into()));
        }
        if *previous != self.previous && (self.bookmark.is_empty() || *previous != self.bookmark) {
            return Step::Leave(Error::Contract("the changes do not follow the last ones; asking for them again".into()));
        }
        let v1::Changes { changes, continued } = changes;
        let changes: Result<Vec<Change>, Error> = changes.into_iter().map(Change::try_from).collect();
        match changes {
            Ok(changes) => {
                self.stand_at(cursor.clone());
                Step::Tell(WatchEvent::Changes { changes, revision, cursor: Cursor(cursor), continued })
            }
            Err(error) => Step::End(Some(error)),
        }
    }

    fn bookmark(&mut self, cursor: Bytes, revision: u64, leader_known: bool) -> Step {
        // Until the snapshot is complete there is nothing to resume.
        if self.cut || self.previous.is_empty() || cursor.is_empty() {
            return Step::Nothing;
        }
        self.resume_from = cursor.clone();
        self.bookmark = cursor.clone();
        Step::Tell(WatchEvent::Bookmark { revision, cursor: Cursor(cursor), leader_known })
    }

    /// Everything up to `cursor` was told.
    fn stand_at(&mut self, cursor: Bytes) {
        self.previous = cursor.clone();
        self.resume_from = cursor;
        self.bookmark = Bytes::new();
    }

    /// Nothing is known; a snapshot follows, even where it was to be skipped.
    fn begin_anew(&mut self) {
        self.stand_at(Bytes::new());
        self.skip_snapshot = false;
        self.cut = false;
    }
}

fn row(change: v1::Change) -> Result<Row, Error> {
    match Change::try_from(change)? {
        Change::Put(row) => Ok(row),
        Change::Delete(_) => Err(Error::Contract("a snapshot tells of a deletion".into())),
    }
}

#[cfg(test)]
mod tests;
