//! Forgetting: nothing of a member that is gone stays for ever.

use std::time::Duration;

use super::{Core, Output};
use crate::member::Status;

/// How long a failed member is shown.
const FAILED_KEPT: Duration = Duration::from_secs(72 * 3600);

/// How long a member that left is shown.
const LEFT_KEPT: Duration = Duration::from_secs(24 * 3600);

/// Each so often those who are gone for long are looked for.
const REAP: Duration = Duration::from_secs(60);

impl Core {
    /// Forgets who is gone for long.
    pub(super) fn reap(&mut self) {
        let now = self.now;
        if now < self.reaped + REAP {
            return;
        }
        self.reaped = now;
        let gone = self.entries.take(|entry| match entry.status {
            Status::Failed => now.saturating_sub(entry.since) >= FAILED_KEPT,
            Status::Left => now.saturating_sub(entry.since) >= LEFT_KEPT,
            Status::Alive | Status::Leaving => false,
        });
        if self.size() == 1 {
            let lost = gone.iter().filter(|entry| entry.status == Status::Failed);
            lost.for_each(|entry| self.calls.forgotten(entry.record.id.address));
        }
        if !gone.is_empty() {
            self.outputs.push(Output::Changed);
        }
        let mut inbox = self.inbox.lock();
        inbox.forget(now, FAILED_KEPT, &self.entries);
        self.unseen.retain(|_, record| inbox.known.contains_key(&record.name));
        self.peers.retain(|address| self.entries.has_address(address));
        inbox.suspicions.retain(|of, incarnation| self.peers.suspected(of) == Some(incarnation));
    }
}
