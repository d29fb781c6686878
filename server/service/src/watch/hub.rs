//! The hub: history in, notifications out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use consensus::ChangeSink;
use parking_lot::Mutex;
use state::{ChangeBatch, LogIndex};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::delta::Delta;
use super::groups::{Groups, Member, Seat};
use super::ring::{Compacted, Ring};
use super::stream::{Inbox, WatchKey};
use super::target::Target;

/// How many batches are handed out before the next look at the ring: bounds how long its lock is
/// held while batches are copied out.
const DISPATCH_RUN: usize = 256;

/// All watchers, and what they may still ask for. Locks are taken in the order groups, ring.
pub struct Hub {
    groups: Mutex<Groups>,
    ring: Mutex<Ring>,
    pushed: Notify,
    applied: watch::Sender<LogIndex>,
    resets: watch::Sender<u64>,
    /// A copy of the groups' position that is read without their lock.
    position: AtomicU64,
}

impl Hub {
    /// A hub that keeps at most so many changes and bytes for watches that resume.
    pub fn new(history_changes_max: usize, history_bytes_max: usize) -> Arc<Self> {
        Arc::new(Hub {
            groups: Mutex::default(),
            ring: Mutex::new(Ring::new(history_changes_max, history_bytes_max)),
            pushed: Notify::new(),
            applied: watch::Sender::new(LogIndex::ZERO),
            resets: watch::Sender::new(0),
            position: AtomicU64::new(0),
        })
    }

    /// Hands changes out until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        while stop.run_until_cancelled(self.pushed.notified()).await.is_some() {
            while self.dispatch_some() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// How many blocked queries and watches there are.
    pub fn watchers(&self) -> usize {
        self.groups.lock().len()
    }

    /// Hands out a run of batches and says whether there may be more.
    fn dispatch_some(&self) -> bool {
        let mut groups = self.groups.lock();
        let run: Vec<Arc<ChangeBatch>> = match self.ring.lock().since(groups.position) {
            Ok(batches) => batches.take(DISPATCH_RUN).cloned().collect(),
            Err(Compacted) => {
                // The history turned over faster than it was handed out: everyone catches up.
                let applied = *self.applied.borrow();
                self.move_to(&mut groups, applied);
                groups.wake_all();
                return true;
            }
        };
        for batch in &run {
            groups.dispatch(batch);
        }
        let position = groups.position;
        self.move_to(&mut groups, position);
        run.len() == DISPATCH_RUN
    }

    /// Takes note that everything up to `position` was handed out.
    fn move_to(&self, groups: &mut Groups, position: LogIndex) {
        groups.position = position;
        self.position.store(position.0, Ordering::Release);
    }

    /// Waits until this server has applied `index`.
    pub(crate) async fn reached(&self, index: LogIndex) {
        let mut applied = self.applied.subscribe();
        // The sender lives in this hub, so that waiting cannot fail.
        let _ = applied.wait_for(|applied| *applied >= index).await;
    }

    /// Starts to take note of changes to `target`.
    pub(crate) fn wait_on(self: &Arc<Self>, target: Target) -> Waiter {
        let notify = Arc::new(Notify::new());
        let seat = self.groups.lock().join(target.normalized(), Member::Query(notify.clone()));
        Waiter { hub: self.clone(), notify, seat }
    }

    /// Joins a watch that has seen everything up to `from`, and returns what it has missed since.
    pub(crate) fn join(
        &self,
        target: &Target,
        inbox: &Arc<Inbox>,
        key: WatchKey,
        from: LogIndex,
    ) -> Result<(Seat, Vec<Arc<Delta>>), Compacted> {
        let mut groups = self.groups.lock();
        let missed = self.replay(target, from, groups.position)?;
        let member = Member::Watch { inbox: inbox.clone(), key, lagging: false };
        Ok((groups.join(target.clone(), member), missed))
    }

    /// What a lagging watch that has seen everything up to `from` has missed; it takes part again.
    /// `None` when it does not lag.
    pub(crate) fn catch_up(&self, target: &Target, seat: Seat, from: LogIndex) -> Result<Option<Vec<Arc<Delta>>>, Compacted> {
        let mut groups = self.groups.lock();
        if !groups.is_lagging(seat) {
            return Ok(None);
        }
        let missed = self.replay(target, from, groups.position)?;
        groups.caught_up(seat);
        Ok(Some(missed))
    }

    /// Gives a seat back.
    pub(crate) fn leave(&self, seat: Seat) {
        self.groups.lock().leave(seat);
    }

    /// Every change up to here was handed out.
    pub(crate) fn position(&self) -> LogIndex {
        LogIndex(self.position.load(Ordering::Acquire))
    }

    /// Looks for something in the history that is kept, from the newest change back.
    pub(crate) fn find_back<T>(&self, find: impl FnMut(&Arc<ChangeBatch>) -> Option<T>) -> Option<T> {
        self.ring.lock().back().find_map(find)
    }

    /// How often the state was replaced.
    pub(crate) fn resets(&self) -> u64 {
        *self.resets.borrow()
    }

    /// Follows how often the state was replaced.
    pub(crate) fn follow_resets(&self) -> watch::Receiver<u64> {
        self.resets.subscribe()
    }

    fn replay(&self, target: &Target, from: LogIndex, upto: LogIndex) -> Result<Vec<Arc<Delta>>, Compacted> {
        let ring = self.ring.lock();
        let missed = ring.since(from)?.take_while(|batch| batch.index <= upto);
        Ok(missed.filter_map(|batch| Delta::project(target, batch)).map(Arc::new).collect())
    }
}

impl ChangeSink for Hub {
    fn restore(&self, history: Vec<Arc<ChangeBatch>>, complete_from: LogIndex, applied: LogIndex) {
        let mut groups = self.groups.lock();
        let mut ring = self.ring.lock();
        ring.clear(LogIndex(complete_from.0.saturating_sub(1)));
        history.into_iter().for_each(|batch| ring.push(batch));
        self.move_to(&mut groups, applied);
        self.applied.send_replace(applied);
    }

    fn publish(&self, batch: Arc<ChangeBatch>) {
        self.ring.lock().push(batch);
    }

    fn advance(&self, applied: LogIndex) {
        self.applied.send_replace(applied);
        if let Some(mut groups) = self.groups.try_lock()
            && groups.is_empty()
        {
            // Whoever joins later begins from here; no task has to be woken for nobody.
            return self.move_to(&mut groups, applied);
        }
        self.pushed.notify_one();
    }

    fn reset(&self, applied: LogIndex) {
        let mut groups = self.groups.lock();
        self.ring.lock().clear(applied);
        self.move_to(&mut groups, applied);
        self.resets.send_modify(|resets| *resets += 1);
        groups.wake_all();
        self.applied.send_replace(applied);
    }
}

/// A blocked query's ear. Dropping it ends the interest at once.
pub struct Waiter {
    hub: Arc<Hub>,
    notify: Arc<Notify>,
    seat: Seat,
}

impl Waiter {
    /// Completes once something happened since this was last awaited. Nothing is missed between
    /// two calls.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    /// How often the state was replaced as a whole.
    pub(crate) fn resets(&self) -> u64 {
        self.hub.resets()
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.hub.leave(self.seat);
    }
}
