//! Granting locks whose delay is over.
//!
//! A lock that is freed goes to the first who waits in the command that frees it. Only where a lock
//! delay runs out is there no such command: then the leader puts one into the log that does nothing
//! but carry the time.

use std::time::Duration;

use state::Operation;

use crate::Service;
use crate::watch::Target;

/// The pause after a proposal that failed.
const RETRY: Duration = Duration::from_millis(200);

/// Lets time pass where somebody waits for it. To be dropped when this server leads no more.
pub(crate) async fn run(service: &Service) {
    // Lock delays begin with the end of a session and with nothing else.
    let waiter = service.hub().wait_on(Target::Sessions);
    loop {
        let changed = waiter.changed();
        let (tables, now) = (service.consensus().tables(), service.consensus().now());
        if tables.next_lock_grant().is_some_and(|due| due <= now) {
            if let Err(error) = service.propose(Operation::Noop).await {
                tracing::warn!(%error, "locks whose delay is over could not be granted; trying again");
                tokio::time::sleep(RETRY).await;
            }
            continue;
        }
        match tables.next_lock_delay(now) {
            None => changed.await,
            Some(until) => {
                let pause = Duration::from_millis(until.0.saturating_sub(now.0).max(1));
                // Woken or not, the delays are looked at again.
                let _ = tokio::time::timeout(pause, changed).await;
            }
        }
    }
}
