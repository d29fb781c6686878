//! Consistency and blocking: the one way in which anything is read.

use std::sync::Arc;
use std::time::Duration;

use state::{Indexed, LogIndex, Tables};
use tokio::time::{Instant, timeout, timeout_at};

use crate::answer::{Answer, Blocking, Meta, ReadOptions};
use crate::error::{Error, Reason};
use crate::telemetry::Counted;
use crate::watch::Target;
use crate::{Consistency, Service};

/// How long a read waits for this server to reach the index that the caller asks for.
const CATCH_UP_WAIT: Duration = Duration::from_secs(7);

impl Service {
    /// A snapshot of the tables as fresh as `options` asks, and its place in time.
    pub(crate) async fn snapshot(&self, options: &ReadOptions) -> Result<Arc<Tables>, Error> {
        self.check_datacenter(options.datacenter.as_deref())?;
        if let Some(limit) = options.max_staleness {
            self.check_staleness(limit)?;
        }
        self.telemetry().queries.increment(1);
        if options.consistency == Consistency::Linearizable {
            self.telemetry().consistent_reads.increment(1);
        }
        let tables = self.consensus().read(options.consistency).await?;
        if tables.applied() >= options.min_index {
            return Ok(tables);
        }
        let reached = timeout(CATCH_UP_WAIT, self.hub().reached(options.min_index)).await;
        reached.map_err(|_| {
            let applied = tables.applied();
            let message = format!("revision {} was not reached within {CATCH_UP_WAIT:?}; this server is at {applied}", options.min_index);
            Error::new(Reason::NotReady, message).with("applied", applied).with("wanted", options.min_index)
        })?;
        Ok(self.consensus().tables())
    }

    /// Reads once, or with `blocking` waits until something that the answer shows has changed.
    ///
    /// `target` names what can change the answer; `query` is evaluated on a snapshot, again after
    /// each such change. An unrelated write neither wakes nor delays it.
    pub(crate) async fn read<T>(
        &self,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        target: impl FnOnce() -> Target,
        query: impl Fn(&Arc<Tables>) -> Indexed<T>,
    ) -> Result<Answer<T>, Error> {
        let query = |tables: &Arc<Tables>| {
            let found = query(tables);
            // Whatever was seen before a restore is no more.
            Indexed { changed: found.changed.max(tables.restored()), ..found }
        };
        let tables = self.snapshot(options).await?;
        let first = query(&tables);
        let Some(blocking) = blocking.filter(|blocking| blocking.index > LogIndex::ZERO && first.changed <= blocking.index) else {
            return Ok(self.answer(first, &tables, options.consistency));
        };
        let deadline = Instant::now() + self.bounded_wait(blocking.wait);
        let _waiting = Counted::new(&self.telemetry().blocking);
        let waiter = self.hub().wait_on(target());
        loop {
            let restores = waiter.resets();
            let woken = waiter.changed();
            let tables = self.consensus().tables();
            let current = query(&tables);
            if current.changed > blocking.index {
                return Ok(self.answer(current, &tables, options.consistency));
            }
            let timed_out = timeout_at(deadline, woken).await.is_err();
            if timed_out || waiter.resets() != restores {
                let tables = self.snapshot(options).await?;
                return Ok(self.answer(query(&tables), &tables, options.consistency));
            }
        }
    }

    /// The place in time of an answer read from `tables`.
    pub(crate) fn answer<T>(&self, indexed: Indexed<T>, tables: &Tables, consistency: Consistency) -> Answer<T> {
        let (leader_known, last_contact) = self.consensus().contact();
        let meta = Meta {
            index: indexed.index.max(tables.restored()).max(LogIndex(1)),
            applied: tables.applied(),
            datacenter: self.identity().datacenter.clone(),
            leader_known,
            last_contact,
            consistency,
        };
        Answer { value: indexed.value, meta }
    }

    fn check_staleness(&self, limit: Duration) -> Result<(), Error> {
        let (_, age) = self.consensus().contact();
        if age <= limit {
            return Ok(());
        }
        let message = format!("this server heard from its leader {age:?} ago, longer than the {limit:?} allowed; ask another server");
        Err(Error::new(Reason::TooStale, message))
    }

    /// The wait asked for, within bounds, plus up to a sixteenth so that a herd of callers that
    /// asked together does not come back together.
    fn bounded_wait(&self, asked: Duration) -> Duration {
        let limits = self.limits();
        let wait = if asked.is_zero() { limits.blocking_wait_default } else { asked.min(limits.blocking_wait_max) };
        wait + wait.mul_f64(rand::random::<f64>() / 16.0)
    }
}
