//! The time of the cluster: what commands are stamped with, and what deadlines are measured against.
//!
//! It is nobody's wall clock. The first leader of all begins with its own; from then on the time of the
//! cluster is carried by the commands, and goes on by the time that really passes. Each server notes
//! the latest time that it has seen in a command and when it saw it; what has passed since then, by a
//! clock that only ever goes forward, is added. A server sees a command later than it was stamped, so
//! that its idea of the time is behind that of whoever stamped it, by as little as a command has ever
//! needed to reach it.
//!
//! From this follows what sessions and lock delays rely on: between two commands no more time passes
//! by their stamps than really did, whoever stamped them. A deadline never comes early, however far
//! apart the wall clocks of the servers are, and a new leader goes on where the last one was, instead
//! of granting everybody a new term. While no server runs, the time stands still.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use state::Millis;

/// The time of the cluster, as one server knows it.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The latest time seen, and when.
    seen: Mutex<(Millis, Instant)>,
}

impl Clock {
    /// Goes on from what the tables say.
    pub(crate) fn new(tables: Millis) -> Self {
        Clock { seen: Mutex::new((tables, Instant::now())) }
    }

    /// Takes note of the time that commands have carried.
    pub(crate) fn observe(&self, time: Millis) {
        self.observe_at(time, Instant::now());
    }

    /// The time now; where no command is known yet, that of this machine's wall clock.
    pub(crate) fn now(&self) -> Millis {
        self.now_at(Instant::now(), || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
    }

    fn observe_at(&self, time: Millis, at: Instant) {
        let mut seen = self.seen.lock();
        if seen.0 == Millis::default() || time > passed(*seen, at) {
            *seen = (time, at);
        }
    }

    fn now_at(&self, at: Instant, wall: impl FnOnce() -> Duration) -> Millis {
        let seen = *self.seen.lock();
        if seen.0 == Millis::default() {
            // Not kept: whether it becomes the time of the cluster is up to the log.
            return Millis(wall().as_millis() as u64);
        }
        passed(seen, at)
    }
}

fn passed((time, then): (Millis, Instant), at: Instant) -> Millis {
    Millis(time.0.saturating_add(at.saturating_duration_since(then).as_millis() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server with a wall clock of its own.
    struct Server {
        clock: Clock,
        wall: Duration,
    }

    impl Server {
        fn new(wall_s: u64, at: Instant) -> Self {
            Server { clock: Clock { seen: Mutex::new((Millis(0), at)) }, wall: Duration::from_secs(wall_s) }
        }

        fn now(&self, at: Instant) -> Millis {
            self.clock.now_at(at, || self.wall)
        }
    }

    #[test]
    fn a_change_of_leader_neither_jumps_nor_starts_over() {
        let begun = Instant::now();
        let at = |ms: u64| begun + Duration::from_millis(ms);
        // The second server's wall clock is an hour ahead, the third one's an hour behind.
        let servers = [Server::new(10_000, begun), Server::new(13_600, begun), Server::new(6_400, begun)];
        let stamp = |leader: usize, ms: u64| {
            let time = servers[leader].now(at(ms));
            // Others see it 30 ms later.
            servers.iter().for_each(|server| server.clock.observe_at(time, at(ms + 30)));
            time.0
        };
        let first = stamp(0, 0);
        assert_eq!(first, 10_000_000, "the first leader's wall clock");
        let mut last = (0, first);
        for (leader, ms) in [(0, 5_000), (1, 9_000), (2, 9_500), (0, 60_000), (1, 3_600_000)] {
            let time = stamp(leader, ms);
            assert!(time - last.1 <= ms - last.0 + 30, "between {last:?} and {ms} passed {}", time - last.1);
            assert!(time - first <= ms, "never more than really passed since the beginning");
            assert!(time - first + 60 >= ms, "and hardly less: {} of {ms}", time - first);
            last = (ms, time);
        }
    }

    #[test]
    fn a_late_command_does_not_set_the_clock_back() {
        let begun = Instant::now();
        let clock = Clock { seen: Mutex::new((Millis(1_000), begun)) };
        clock.observe_at(Millis(1_500), begun + Duration::from_secs(10));
        assert_eq!(clock.now_at(begun + Duration::from_secs(10), || unreachable!("it has a time")), Millis(11_000));
    }
}
