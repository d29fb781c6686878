//! Deletions that keep their index for a while, so that a reader who last looked before the
//! deletion is told that something happened although nothing is left to see.

use crate::id::{LogIndex, Millis};

/// How long a deletion is remembered, in milliseconds.
pub const TOMBSTONE_TTL_MS: u64 = 15 * 60 * 1000;

/// How many expired tombstones one command may reap: a bound on the work of a single apply, and
/// twice what one command can make, which is one for each of a transaction's 128 operations.
pub const REAP_PER_COMMAND: usize = 256;

/// A deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// The index of the command that deleted.
    pub index: LogIndex,
    /// When, by that command's clock.
    pub at: Millis,
}

impl Tombstone {
    /// Whether it has been remembered for long enough.
    pub fn expired(&self, now: Millis) -> bool {
        self.at.0.saturating_add(TOMBSTONE_TTL_MS) <= now.0
    }
}
