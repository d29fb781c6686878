//! Events as they come, for one who follows them.

use std::collections::VecDeque;
use std::sync::Arc;

use gossip::{Arrived, Event};
use tokio::sync::watch;

use super::Book;
use super::ring::Since;

/// What stands for the time before all events: after it come those that were news to this agent.
const BEFORE_ALL: [u8; 16] = [0; 16];

/// One who follows events. It reads the ring behind the number that it has come to, so it holds no more than that
/// has, however slow its reader is.
pub struct Subscription {
    book: Arc<Book>,
    changes: watch::Receiver<u64>,
    name: String,
    read: u64,
    waiting: VecDeque<Arrived>,
    gap: bool,
}

/// An event as it is told to one who follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What has come.
    pub event: Arc<Event>,
    /// Whether some before it may be missing.
    pub gap: bool,
}

impl Subscription {
    pub(super) fn begin(book: Arc<Book>, name: &str, after: Option<[u8; 16]>) -> Self {
        let changes = book.changes.subscribe();
        let mut new = Subscription { book, changes, name: name.to_owned(), read: 0, waiting: VecDeque::new(), gap: false };
        let ring = new.book.ring.lock();
        let all = ring.since(0);
        let found = after.and_then(|id| ring.find(id)).cloned();
        drop(ring);
        new.read = all.read;
        let Some(after) = after else { return new };
        let from = found.as_ref().map_or(0, |found| found.number);
        // What happened before this agent met its pool is told to whom it was told before, which is nobody, and to
        // whom goes on from there: the agent, or the way to it, has begun anew.
        let history = after != BEFORE_ALL && found.as_ref().is_none_or(|found| !found.news);
        let missed = if after == BEFORE_ALL { all.missed } else { found.is_none() };
        new.wait_for(Since { missed, ..all }, |arrived| arrived.number > from && (arrived.news || history));
        new
    }

    /// The next event. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Told {
        loop {
            if let Some(arrived) = self.waiting.pop_front() {
                return Told { event: arrived.event, gap: std::mem::take(&mut self.gap) };
            }
            self.changes.borrow_and_update();
            let since = self.book.ring.lock().since(self.read);
            self.wait_for(since, |arrived| arrived.news);
            // The sender lives in the book, which this holds.
            if self.waiting.is_empty() && self.changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn wait_for(&mut self, since: Since, wanted: impl Fn(&Arrived) -> bool) {
        self.read = since.read;
        self.gap |= since.missed;
        let named = |arrived: &Arrived| self.name.is_empty() || self.name == arrived.event.name;
        self.waiting.extend(since.events.into_iter().filter(|arrived| named(arrived) && wanted(arrived)));
    }
}
