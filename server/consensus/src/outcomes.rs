//! What commands that another server proposed have answered here.
//!
//! A follower that passes a command on gets its index back, not its outcome: that it works out by
//! itself, like every other server, when it applies the command. While somebody here waits for
//! such a command, the outcomes of the latest ones are kept.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::types::Applied;

/// Outcomes kept while somebody waits: more than may be under way at once.
const KEPT_MAX: usize = 32_768;

/// The latest outcomes, and how far this server has applied the log.
pub(crate) struct Outcomes {
    waiting: AtomicUsize,
    kept: Mutex<VecDeque<(u64, Applied)>>,
    applied: watch::Sender<u64>,
}

impl Outcomes {
    pub(crate) fn new(applied: u64) -> Self {
        Outcomes { waiting: AtomicUsize::new(0), kept: Mutex::new(VecDeque::new()), applied: watch::Sender::new(applied) }
    }

    /// Whether outcomes of commands that nobody here proposed are to be kept.
    pub(crate) fn are_wanted(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Keeps outcomes while the guard lives: to be taken before the command is passed on.
    pub(crate) fn want(&self) -> Wanted<'_> {
        self.waiting.fetch_add(1, Ordering::AcqRel);
        Wanted { outcomes: self }
    }

    /// Takes note of a group of commands that is visible now.
    pub(crate) fn reached(&self, applied: u64, outcomes: &mut Vec<(u64, Applied)>) {
        if !outcomes.is_empty() {
            let mut kept = self.kept.lock();
            kept.extend(outcomes.drain(..));
            let surplus = kept.len().saturating_sub(KEPT_MAX);
            kept.drain(..surplus);
        }
        self.applied.send_replace(applied);
    }

    /// Waits until `index` is applied here.
    pub(crate) async fn applied(&self, index: u64) {
        if *self.applied.borrow() >= index {
            return;
        }
        let mut applied = self.applied.subscribe();
        // The sender lives as long as `self`.
        let _ = applied.wait_for(|applied| *applied >= index).await;
    }
}

/// Keeps outcomes while it lives.
pub(crate) struct Wanted<'o> {
    outcomes: &'o Outcomes,
}

impl Wanted<'_> {
    /// The outcome of the command at `index`, once it is applied here. `None` when it is not known
    /// any more: this server got the state as a whole instead.
    pub(crate) async fn outcome(&self, index: u64) -> Option<Applied> {
        self.outcomes.applied(index).await;
        let kept = self.outcomes.kept.lock();
        let at = kept.binary_search_by_key(&index, |(index, _)| *index).ok()?;
        Some(kept[at].1.clone())
    }
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        if self.outcomes.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            let mut kept = self.outcomes.kept.lock();
            if !self.outcomes.are_wanted() {
                kept.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use state::{LogIndex, Outcome};

    use super::*;

    fn done(index: u64) -> (u64, Applied) {
        (index, Applied { revision: LogIndex(index), outcome: Outcome::DONE })
    }

    #[tokio::test]
    async fn outcomes_are_kept_only_while_somebody_waits() {
        let outcomes = Outcomes::new(0);
        assert!(!outcomes.are_wanted());
        let wanted = outcomes.want();
        let other = outcomes.want();
        outcomes.reached(7, &mut vec![done(6), done(7)]);
        assert!(wanted.outcome(6).await.is_some());
        assert!(wanted.outcome(5).await.is_none(), "it was applied before anybody asked");
        drop(wanted);
        assert!(other.outcome(7).await.is_some(), "another one still waits");
        drop(other);
        assert!(!outcomes.are_wanted() && outcomes.kept.lock().is_empty());
    }

    #[tokio::test]
    async fn a_bound_holds_for_what_is_kept() {
        let outcomes = Outcomes::new(0);
        let wanted = outcomes.want();
        let mut many: Vec<_> = (1..=KEPT_MAX as u64 + 5).map(done).collect();
        outcomes.reached(KEPT_MAX as u64 + 5, &mut many);
        assert!(wanted.outcome(5).await.is_none() && wanted.outcome(6).await.is_some());
    }
}
