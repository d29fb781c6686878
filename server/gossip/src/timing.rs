//! The pace of a pool, and how it follows the pool's size and one's own health.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::PeriodicParams;

use crate::wire::PACKET_MAX;

/// How long the probing remembers who was down.
const DOWN_KEPT: Duration = Duration::from_secs(24 * 3600);

/// The pace of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Each so often one member is probed.
    pub probe: Duration,
    /// How long it may take to answer, before others are asked to try.
    pub answer: Duration,
    /// A member that does not answer is suspected for this long, times the logarithm of the pool's
    /// size, before it counts as failed.
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
            suspicion: Duration::from_secs(3),
            gossip: Duration::from_millis(200),
            compare: Duration::from_secs(30),
        }
    }

    /// Between datacenters.
    pub const fn wan() -> Self {
        Timing {
            probe: Duration::from_secs(5),
            answer: Duration::from_secs(3),
            suspicion: Duration::from_secs(30),
            gossip: Duration::from_millis(500),
            compare: Duration::from_secs(60),
        }
    }

    /// On one machine, for development.
    pub const fn local() -> Self {
        Timing {
            probe: Duration::from_millis(300),
            answer: Duration::from_millis(150),
            suspicion: Duration::from_millis(900),
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

    /// What the probing is told for a pool of `size`, when this member's own health is `health`: who
    /// may be the cause of missing answers gives the others more time (Lifeguard, §IV).
    pub(crate) fn config(&self, size: usize, health: u32) -> foca::Config {
        let scale = (size.max(1) as f64).log10().max(1.0);
        let transmissions = (5.0 * ((size + 1) as f64).log10().ceil()).clamp(5.0, 200.0);
        let every =
            |frequency, members| Some(PeriodicParams { frequency, num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN) });
        foca::Config {
            probe_period: self.probe,
            probe_rtt: self.answer,
            num_indirect_probes: NonZeroUsize::new(3).unwrap_or(NonZeroUsize::MIN),
            max_transmissions: NonZeroU8::new(transmissions as u8).unwrap_or(NonZeroU8::MIN),
            suspect_to_down_after: self.suspicion.mul_f64(scale * f64::from(1 + health)),
            remove_down_after: Some(DOWN_KEPT),
            max_packet_size: NonZeroUsize::new(PACKET_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: None,
            periodic_announce_to_down_members: every(self.compare, 2),
            periodic_gossip: every(self.gossip, 3),
        }
    }
}
