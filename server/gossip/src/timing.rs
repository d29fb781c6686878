//! The pace of a pool, and how it follows the pool's size and one's own health.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

use crate::wire::PACKET_MAX;

/// How long the probing remembers who was down.
const DOWN_KEPT: Duration = Duration::from_secs(24 * 3600);

/// How much longer than the least a suspicion lasts that nobody confirms.
const SUSPICION_MAX: f64 = 6.0;

/// The pace of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Each so often one member is probed.
    pub probe: Duration,
    /// How long it may take to answer, before others are asked to try.
    pub answer: Duration,
    /// A member that does not answer and that others don't reach either is suspected for this long,
    /// times the logarithm of the pool's size, before it counts as failed; for six times as long when
    /// nobody confirms that it does not answer.
    pub suspicion: Duration,
    /// Each so often news are sent on.
    pub gossip: Duration,
    /// Each so often everything is compared with one other member, in a pool of up to 32.
    pub compare: Duration,
}

impl Timing {
    /// For a datacenter.
    pub const fn lan() -> Self {
        Timing {
            probe: Duration::from_secs(1),
            answer: Duration::from_millis(500),
            suspicion: Duration::from_secs(2),
            gossip: Duration::from_millis(200),
            compare: Duration::from_secs(30),
        }
    }

    /// Between datacenters.
    pub const fn wan() -> Self {
        Timing {
            probe: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            suspicion: Duration::from_secs(20),
            gossip: Duration::from_millis(500),
            compare: Duration::from_secs(60),
        }
    }

    /// On one machine, for development.
    pub const fn local() -> Self {
        Timing {
            probe: Duration::from_millis(300),
            answer: Duration::from_millis(150),
            suspicion: Duration::from_millis(600),
            gossip: Duration::from_millis(100),
            compare: Duration::from_secs(15),
        }
    }

    /// The time between two comparisons in a pool of `size`: what is compared grows with the pool, so
    /// the pause does as well, by one `compare` for each doubling beyond 32.
    pub(crate) fn compare_every(&self, size: usize) -> Duration {
        let doublings = (size.max(1) as f64 / 32.0).log2().ceil().max(0.0);
        self.compare.mul_f64(1.0 + doublings)
    }

    /// How long a member of a pool of `size` is suspected, when so many of `wanted` others have
    /// confirmed it (Lifeguard, §IV-B). Whoever doubts its own `health` gives the others more time.
    pub(crate) fn suspected_for(&self, size: usize, health: u32, confirmed: usize, wanted: usize) -> Duration {
        let scale = (size.max(1) as f64).log10().max(1.0);
        let (least, most) = (self.suspicion.mul_f64(scale), self.suspicion.mul_f64(scale * SUSPICION_MAX));
        let least = least.mul_f64(f64::from(1 + health)).min(most);
        if wanted == 0 {
            // Nobody is there who could confirm it.
            return (least * 2).min(most);
        }
        let part = ((1 + confirmed.min(wanted)) as f64).ln() / ((1 + wanted) as f64).ln();
        most - (most - least).mul_f64(part)
    }

    /// How long others are given to reach a member that has not answered.
    pub(crate) fn indirect(&self) -> Duration {
        self.probe.saturating_sub(self.answer)
    }

    /// What the probing is told for a pool of `size`.
    pub(crate) fn config(&self, size: usize) -> foca::Config {
        let transmissions = (5.0 * ((size + 1) as f64).log10().ceil()).clamp(5.0, 200.0);
        let every =
            |frequency, members| Some(PeriodicParams { frequency, num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN) });
        foca::Config {
            probe_period: self.probe,
            probe_rtt: self.answer,
            num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
            max_transmissions: NonZeroU8::new(transmissions as u8).unwrap_or(NonZeroU8::MIN),
            // Suspicions are timed outside of the probing.
            suspect_to_down_after: self.suspicion,
            remove_down_after: Some(DOWN_KEPT),
            max_packet_size: NonZeroUsize::new(PACKET_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: None,
            periodic_announce_to_down_members: every(self.compare, 2),
            periodic_gossip: every(self.gossip, 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspicion_starts_long_and_each_confirmation_takes_less_off_than_the_one_before() {
        let lan = Timing::lan();
        let seconds = |confirmed| lan.suspected_for(100, 0, confirmed, 3).as_secs_f64();
        assert_eq!((seconds(0), seconds(3), seconds(9)), (24.0, 4.0, 4.0), "2 s by the logarithm of 100, six times as long at first");
        assert_eq!(seconds(1), 14.0, "half of the way with the first one: ln 2 / ln 4");
        assert!(seconds(0) - seconds(1) > seconds(1) - seconds(2) && seconds(1) - seconds(2) > seconds(2) - seconds(3));
        assert_eq!(lan.suspected_for(2, 0, 0, 0), Duration::from_secs(4), "nobody could confirm it");
        assert_eq!(lan.suspected_for(100, 2, 3, 3), Duration::from_secs(12), "who doubts itself waits longer");
        assert_eq!(lan.suspected_for(100, 8, 3, 3), Duration::from_secs(24), "but no longer than without a confirmation");
    }
}
