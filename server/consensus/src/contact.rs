//! When this server last heard from its leader.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The moment of the last word from a leader.
pub(crate) struct Contact {
    started: Instant,
    /// Milliseconds from `started`.
    heard: AtomicU64,
}

impl Contact {
    pub(crate) fn new() -> Self {
        Contact { started: Instant::now(), heard: AtomicU64::new(0) }
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
