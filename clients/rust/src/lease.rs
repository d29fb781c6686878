//! What a holder knows for certain: until when its session lives.
//!
//! A server counts the TTL from when it takes a renewal, a holder from when it *sent* it, and takes a
//! margin off. Whatever lies in between, be it a slow network, an answer that came late or not at all, or
//! a program that was stopped, makes the holder give up earlier, never later. What it has given up
//! it never takes back: work that was begun in between would have gone on without the lock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Clock;

/// Why a session or a lock is not held any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// No renewal was answered in time. The servers may not have ended it yet.
    #[error("it was not renewed in time: the last renewal that was answered is too long ago")]
    NotRenewed,
    /// The servers have ended the session, or say that it does not exist.
    #[error("{0}")]
    Ended(String),
    /// The lock was taken away: released by somebody, or its key deleted.
    #[error("{0}")]
    TakenAway(String),
    /// It was given back.
    #[error("it was given back")]
    GivenBack,
}

/// Until when something is held for certain. Cheap to clone; clones are the same.
#[derive(Clone)]
pub(crate) struct Lease {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    margin: Duration,
    until: Mutex<Until>,
    lost: watch::Sender<Option<Lost>>,
}

/// The end, by the clock of the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Until {
    At(Duration),
    Always,
}

impl Lease {
    /// A lease that the servers have granted for `valid_for` from `sent` on; `None` never ends.
    pub(crate) fn new(clock: Arc<dyn Clock>, margin: Duration, sent: Duration, valid_for: Option<Duration>) -> Self {
        let lease = Lease {
            inner: Arc::new(Inner { clock, margin, until: Mutex::new(Until::At(Duration::ZERO)), lost: watch::Sender::new(None) }),
        };
        *lease.until() = lease.end(sent, valid_for);
        lease
    }

    /// Takes note of an answer to a renewal that was sent at `sent`. One that comes too late changes
    /// nothing.
    pub(crate) fn renewed(&self, sent: Duration, valid_for: Option<Duration>) {
        if self.check().is_ok() {
            let mut until = self.until();
            *until = (*until).max(self.end(sent, valid_for));
        }
    }

    /// Whether it is still held, by a look at the clock.
    pub(crate) fn check(&self) -> Result<(), Lost> {
        if let Some(lost) = &*self.inner.lost.borrow() {
            return Err(lost.clone());
        }
        match self.remaining() {
            Some(Duration::ZERO) => Err(self.lose(Lost::NotRenewed)),
            _ => Ok(()),
        }
    }

    /// How long it is held for certain; `None` for ever.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        match *self.until() {
            Until::Always => None,
            Until::At(until) => Some(until.saturating_sub(self.inner.clock.now())),
        }
    }

    /// It is not held any more, and will not be. The first cause stays.
    pub(crate) fn lose(&self, cause: Lost) -> Lost {
        self.inner.lost.send_if_modified(|lost| {
            let first = lost.is_none();
            lost.get_or_insert(cause);
            first
        });
        self.inner.lost.borrow().clone().expect("it was set just now, or before")
    }

    /// Completes once it is not held any more.
    pub(crate) async fn lost(&self) -> Lost {
        let mut lost = self.inner.lost.subscribe();
        loop {
            if let Err(cause) = self.check() {
                return cause;
            }
            let until = *self.until();
            let over = async {
                match until {
                    Until::At(until) => self.inner.clock.sleep_until(until).await,
                    Until::Always => std::future::pending().await,
                }
            };
            tokio::select! {
                // The sender lives as long as `self`.
                _ = lost.changed() => {}
                () = over => {}
            }
        }
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    fn end(&self, sent: Duration, valid_for: Option<Duration>) -> Until {
        valid_for.map_or(Until::Always, |valid_for| Until::At((sent + valid_for).saturating_sub(self.inner.margin)))
    }

    fn until(&self) -> std::sync::MutexGuard<'_, Until> {
        self.inner.until.lock().expect("nothing under this lock panics")
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use proptest::prelude::*;

    use super::*;

    /// A clock that the test moves.
    #[derive(Default)]
    struct Moved(Mutex<Duration>);

    impl Moved {
        fn set(&self, ms: u64) {
            *self.0.lock().unwrap() = Duration::from_millis(ms);
        }
    }

    impl Clock for Moved {
        fn now(&self) -> Duration {
            *self.0.lock().unwrap()
        }

        fn sleep_until(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(std::future::pending())
        }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_counts_from_when_the_renewal_was_sent() {
        let clock = Arc::new(Moved::default());
        clock.set(1_000);
        let lease = Lease::new(clock.clone(), ms(500), ms(1_000), Some(ms(10_000)));
        clock.set(9_000);
        lease.renewed(ms(4_000), Some(ms(10_000)));
        clock.set(13_499);
        assert_eq!((lease.check(), lease.remaining()), (Ok(()), Some(ms(1))));
        clock.set(13_500);
        assert_eq!(lease.check(), Err(Lost::NotRenewed));
    }

    #[test]
    fn what_was_given_up_is_never_taken_back() {
        let clock = Arc::new(Moved::default());
        let lease = Lease::new(clock.clone(), ms(0), ms(0), Some(ms(10_000)));
        // The program was stopped for a minute; the answer to a renewal that it had sent lies there.
        clock.set(60_000);
        lease.renewed(ms(59_000), Some(ms(10_000)));
        assert_eq!(lease.check(), Err(Lost::NotRenewed));
        lease.lose(Lost::Ended("later".into()));
        assert_eq!(lease.check(), Err(Lost::NotRenewed), "the first cause stays");
    }

    #[test]
    fn an_answer_that_overtakes_another_does_not_shorten_it() {
        let clock = Arc::new(Moved::default());
        let lease = Lease::new(clock.clone(), ms(0), ms(0), Some(ms(10_000)));
        clock.set(5_000);
        lease.renewed(ms(4_000), Some(ms(10_000)));
        lease.renewed(ms(2_000), Some(ms(10_000)));
        assert_eq!(lease.remaining(), Some(ms(9_000)));
    }

    /// What happens between a holder and the servers. Times are those of the world.
    #[derive(Clone, Debug)]
    enum Step {
        /// The holder sends a renewal, which takes so long to the server, and its answer so long back.
        Renew { there_ms: u64, back_ms: u64, request_lost: bool, answer_lost: bool },
        /// Time passes.
        Pass { ms: u64 },
        /// The holder is stopped; nothing that it has received is looked at until it goes on.
        Stop { ms: u64 },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let delay = || prop_oneof![4 => 0..50u64, 1 => 0..20_000u64];
        let step = prop_oneof![
            4 => (delay(), delay(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
                .prop_map(|(there_ms, back_ms, request_lost, answer_lost)| Step::Renew { there_ms, back_ms, request_lost, answer_lost }),
            4 => (1..4_000u64).prop_map(|ms| Step::Pass { ms }),
            1 => (1..40_000u64).prop_map(|ms| Step::Stop { ms }),
        ];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        /// The clock of the holder began at another time than that of the servers, and runs up to 2 %
        /// slower or faster. Whenever it believes that it holds, the servers have not ended its session.
        #[test]
        fn a_holder_lets_go_before_the_servers_do(
            steps in steps(), skew_ms in 0..1_000_000u64, rate_permille in 980..1020u64, ttl_ms in 10_000..30_000u64,
        ) {
            let clock = Arc::new(Moved::default());
            let mut now = 0;
            let local = |world: u64| skew_ms + world * rate_permille / 1000;
            clock.set(local(now));
            let lease = Lease::new(clock.clone(), ms(ttl_ms / 10), ms(local(0)), Some(ms(ttl_ms)));
            // The session was made at the server at 0 as well: as early as it can be.
            let mut requests: Vec<u64> = Vec::new();
            let mut answers: Vec<(u64, u64, u64)> = Vec::new();
            for step in steps {
                let (until, awake) = match step {
                    Step::Renew { there_ms, back_ms, request_lost, answer_lost } => {
                        let arrives = now + there_ms;
                        if !request_lost {
                            requests.push(arrives);
                            requests.sort_unstable();
                        }
                        if !request_lost && !answer_lost {
                            answers.push((arrives + back_ms, arrives, local(now)));
                        }
                        (now, true)
                    }
                    Step::Pass { ms } => (now + ms, true),
                    Step::Stop { ms } => (now + ms, false),
                };
                while now < until {
                    now = if awake { (now + 250).min(until) } else { until };
                    clock.set(local(now));
                    // The servers end the session a TTL after the last renewal that has reached them while it lived.
                    let ends_by = |time: u64| {
                        let arrived = requests.iter().filter(|at| **at <= time);
                        arrived.fold(ttl_ms, |ends, at| if *at < ends { at + ttl_ms } else { ends })
                    };
                    for (_, arrived, sent) in answers.extract_if(.., |(at, _, _)| *at <= now) {
                        if arrived < ends_by(arrived) {
                            lease.renewed(ms(sent), Some(ms(ttl_ms)));
                        }
                    }
                    let ends = ends_by(now);
                    prop_assert!(lease.check().is_err() || now < ends, "held at {}, ended at {}", now, ends);
                }
            }
        }
    }
}
