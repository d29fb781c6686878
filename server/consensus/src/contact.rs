//! When this server last heard from its leader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The moment of the last word from a leader.
pub(crate) struct Contact {
    started: Instant,
    /// How long after the start what was promised before it may still bind.
    bound: Duration,
    /// Milliseconds from `started`.
    heard: AtomicU64,
}

impl Contact {
    /// For `bound` from now on a leader may rely on what this server has promised before it was started.
    pub(crate) fn new(bound: Duration) -> Self {
        Contact { started: Instant::now(), bound, heard: AtomicU64::new(0) }
    }

    /// Whether a lease that was given before the start may not be over yet. Nothing of a lease is on disk.
    pub(crate) fn is_bound(&self) -> bool {
        self.started.elapsed() < self.bound
    }

    /// A leader has spoken.
    pub(crate) fn note(&self) {
        self.heard.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago a leader spoke; since the start if none ever did.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.heard.load(Ordering::Relaxed)))
    }
}
