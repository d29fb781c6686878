//! Events: fired, kept, and followed.

use std::collections::VecDeque;
use std::sync::Arc;

use metrics::counter;
use tokio::sync::watch;

use super::Pool;
use crate::event::{Arrived, Event, NewEvent};
use crate::options::Error;

/// What has come of late, from a number on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recent {
    /// The events, in the order in which they came.
    pub events: Vec<Arrived>,
    /// The number of the last one.
    pub last: u64,
    /// How many more there were, which are not kept any more.
    pub missed: u64,
}

/// Events from some time on, in the order in which they come.
pub struct Feed {
    pool: Pool,
    arrivals: watch::Receiver<u64>,
    read: u64,
    waiting: VecDeque<Arrived>,
}

impl Feed {
    /// The next event that is news. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Arc<Event> {
        loop {
            while let Some(next) = self.waiting.pop_front() {
                if next.news {
                    return next.event;
                }
            }
            self.arrivals.borrow_and_update();
            let Recent { events, last, missed } = self.pool.events_since(self.read);
            if missed > 0 {
                tracing::warn!(missed, "events came faster than they were read");
            }
            self.read = last;
            self.waiting.extend(events);
            // The sender lives as long as the pool, which this holds.
            if self.waiting.is_empty() && self.arrivals.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Pool {
    /// Fires an event. It comes back by [`Pool::subscribe`] like everybody else's.
    pub fn fire(&self, event: NewEvent) -> Result<Event, Error> {
        self.drive(|core, now| core.fire(now, event))
    }

    /// What has come after the event `number`, history included; after 0, all that is kept.
    pub fn events_since(&self, number: u64) -> Recent {
        let (events, last) = self.shared.core.lock().events_since(number);
        let missed = last.saturating_sub(number).saturating_sub(events.len() as u64);
        Recent { events, last, missed }
    }

    /// The number of the last event that has come, as it moves.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.shared.arrivals.subscribe()
    }

    /// Events from now on. A reader that is too slow misses some, which the log tells.
    pub fn subscribe(&self) -> Feed {
        let arrivals = self.arrivals();
        Feed { pool: self.clone(), arrivals, read: self.events_since(u64::MAX).last, waiting: VecDeque::new() }
    }

    /// Counts events that were dropped, and tells of it now and then.
    pub(super) fn complain_of_events(&self, late: u64, held: u64) {
        counter!("consul_gossip_events_late").increment(late);
        counter!("consul_gossip_events_held").increment(held);
        if late > 0 && self.is_time_to_complain("late event") {
            tracing::warn!(
                late,
                pool = self.shared.label,
                "events came so late that they may have come before, and were dropped; they are counted in `consul_gossip_events_late`"
            );
        }
        if held > 0 && self.is_time_to_complain("held event") {
            tracing::warn!(
                held,
                pool = self.shared.label,
                "more events came than can be passed on; others may hear of them late; they are counted in `consul_gossip_events_held`"
            );
        }
    }
}
