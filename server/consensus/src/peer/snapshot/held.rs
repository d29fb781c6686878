//! The snapshot that is being sent, kept until all who get it have it.
//!
//! A follower goes on from its snapshot by the log. If the log were dropped meanwhile, it would need another
//! snapshot, and so on for as long as writes come faster than snapshots go. So while one is under way the log behind
//! it stays, and a transfer that broke off is tried again with the same one. Both have an end: a follower that does
//! not come back must not make the log grow for ever.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use store::pieces::{self, Piece};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::peer::snapshot::SnapshotOf;
use crate::types::LogId;

/// How long a transfer that broke off is waited for.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// How long a snapshot is sent at most before a newer one takes its place.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// Bytes of commands behind a snapshot, after which a newer one takes its place: bounds the log.
const BEHIND_MAX: u64 = 1 << 30;

/// The snapshot that is being sent, if one is.
#[derive(Default)]
pub(crate) struct Held {
    kept: Mutex<Option<Kept>>,
}

struct Kept {
    snapshot: SnapshotOf,
    pieces: Arc<OnceCell<Arc<[Piece]>>>,
    /// Who has not got it yet.
    waiting: BTreeSet<u64>,
    under_way: usize,
    begun: Instant,
    last_active: Instant,
    /// Bytes of commands that were applied since.
    behind: u64,
}

impl Kept {
    fn is_over(&self) -> bool {
        let idle = self.under_way == 0 && self.last_active.elapsed() > IDLE_MAX;
        idle || self.begun.elapsed() > AGE_MAX || self.behind > BEHIND_MAX
    }
}

impl Held {
    /// The snapshot to be sent to whoever needs one now, if one is being sent.
    pub(crate) fn current(&self) -> Option<SnapshotOf> {
        self.with_kept(|kept| kept.snapshot.clone())
    }

    /// The index after which the log must stay.
    pub(crate) fn floor(&self) -> Option<u64> {
        self.with_kept(|kept| kept.snapshot.meta.last_log_id.map_or(0, |id| id.index))
    }

    /// Takes note of commands that were applied.
    pub(crate) fn applied(&self, bytes: usize) {
        if let Some(kept) = &mut *self.kept.lock() {
            kept.behind += bytes as u64;
        }
    }

    /// Forgets the snapshot: the log that it needs is gone.
    pub(crate) fn forget(&self) {
        *self.kept.lock() = None;
    }

    /// `snapshot` is sent to the server `to`, for as long as what this returns lives.
    pub(crate) fn send(self: &Arc<Self>, to: u64, snapshot: &SnapshotOf) -> Sending {
        let id = snapshot.meta.last_log_id;
        let mut kept = self.kept.lock();
        if kept.as_ref().is_none_or(|kept| kept.snapshot.meta.last_log_id != id) {
            *kept = Some(Kept {
                snapshot: snapshot.clone(),
                pieces: Arc::default(),
                waiting: BTreeSet::new(),
                under_way: 0,
                begun: Instant::now(),
                last_active: Instant::now(),
                behind: 0,
            });
        }
        let mut pieces = Arc::default();
        if let Some(kept) = &mut *kept {
            kept.waiting.insert(to);
            kept.under_way += 1;
            pieces = kept.pieces.clone();
        }
        Sending { held: self.clone(), snapshot: snapshot.clone(), pieces, id, to, done: false }
    }

    fn with_kept<T>(&self, look: impl FnOnce(&Kept) -> T) -> Option<T> {
        let mut kept = self.kept.lock();
        if kept.as_ref().is_some_and(Kept::is_over) {
            *kept = None;
        }
        kept.as_ref().map(look)
    }
}

/// One transfer under way.
pub(crate) struct Sending {
    held: Arc<Held>,
    snapshot: SnapshotOf,
    pieces: Arc<OnceCell<Arc<[Piece]>>>,
    id: Option<LogId>,
    to: u64,
    done: bool,
}

impl Sending {
    /// What the snapshot is made of. It is cut once, however often it is sent.
    pub(crate) async fn pieces(&self) -> Result<Arc<[Piece]>, tokio::task::JoinError> {
        let tables = self.snapshot.snapshot.clone();
        let cut = || async { tokio::task::spawn_blocking(move || pieces::of(&tables).into()).await };
        self.pieces.get_or_try_init(cut).await.cloned()
    }

    /// The follower has it.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        let mut held = self.held.kept.lock();
        let Some(kept) = held.as_mut().filter(|kept| kept.snapshot.meta.last_log_id == self.id) else { return };
        kept.under_way -= 1;
        kept.last_active = Instant::now();
        if self.done {
            kept.waiting.remove(&self.to);
        }
        if kept.waiting.is_empty() {
            *held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use openraft::storage::{Snapshot, SnapshotMeta};
    use state::Tables;

    use super::*;
    use crate::encode::log_id;
    use crate::types::StoredMembership;

    fn snapshot(index: u64) -> SnapshotOf {
        let meta = SnapshotMeta { last_log_id: Some(log_id(1, index)), last_membership: StoredMembership::default() };
        Snapshot { meta, snapshot: Arc::new(Tables::default()) }
    }

    fn index(held: &Held) -> Option<u64> {
        held.current().and_then(|snapshot| snapshot.meta.last_log_id).map(|id| id.index)
    }

    #[tokio::test(start_paused = true)]
    async fn it_stays_until_all_who_wait_for_it_have_it() {
        let held = Arc::new(Held::default());
        assert_eq!((index(&held), held.floor()), (None, None));
        let (one, two) = (held.send(1, &snapshot(5)), held.send(2, &snapshot(5)));
        one.done();
        assert_eq!((index(&held), held.floor()), (Some(5), Some(5)));
        drop(two);
        assert_eq!(index(&held), Some(5), "what broke off is tried again with the same one");
        held.send(2, &snapshot(5)).done();
        assert_eq!((index(&held), held.floor()), (None, None), "the log may go");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_come_back_holds_nothing_for_ever() {
        let held = Arc::new(Held::default());
        drop(held.send(1, &snapshot(5)));
        tokio::time::advance(IDLE_MAX - Duration::from_secs(1)).await;
        assert_eq!(held.floor(), Some(5));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(held.floor(), None);

        let slow = held.send(1, &snapshot(6));
        tokio::time::advance(IDLE_MAX * 2).await;
        assert_eq!(held.floor(), Some(6), "it is slow, but under way");
        tokio::time::advance(AGE_MAX).await;
        assert_eq!(held.floor(), None);
        drop(slow);

        let behind = held.send(1, &snapshot(7));
        held.applied(BEHIND_MAX as usize);
        assert_eq!(held.floor(), Some(7));
        held.applied(1);
        assert_eq!(held.floor(), None, "the log is bounded");
        let newer = held.send(1, &snapshot(8));
        drop(behind);
        assert_eq!(index(&held), Some(8), "an old transfer that ends says nothing about the newer one");
        newer.done();
    }
}
