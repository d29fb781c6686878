//! Ending sessions that were not renewed.
//!
//! When a session may end is part of its row, in the time of the cluster, which no change of leader
//! sets forward: a new leader goes on where the last one stopped, and never too early. It waits a
//! moment before it ends anything, since nobody could be renewed while nobody led.
//! The leader proposes the end a little after that, and the state machine looks again: a
//! renewal that came before it in the log wins. So no session ends before its TTL, whatever the
//! delays, and none lives much longer than it while somebody leads.

use std::time::Duration;

use futures::future::join_all;
use state::{Millis, Operation, SessionEnd, SessionId};

use crate::Service;
use crate::watch::Target;

/// How long after its deadline a session is ended: room for a renewal that is under way.
const GRACE: Duration = Duration::from_millis(250);

/// How many ends are proposed at once: enough to share a flush of the log, and few beside the
/// proposals of others.
const BATCH: usize = 256;

/// The pause after proposals that failed.
const RETRY: Duration = Duration::from_millis(200);

/// How long a new leader ends no session: time for the renewals that nobody took before.
const SETTLING: Duration = Duration::from_secs(1);

/// Ends sessions as they become due. To be dropped when this server leads no more.
pub(crate) async fn run(service: &Service) {
    tokio::time::sleep(SETTLING).await;
    let waiter = service.hub().wait_on(Target::Sessions);
    loop {
        let changed = waiter.changed();
        let tables = service.consensus().tables();
        let now = service.consensus().now();
        let due: Vec<SessionId> = tables.sessions_due(Millis(now.0.saturating_sub(GRACE.as_millis() as u64))).take(BATCH).collect();
        if !due.is_empty() {
            end(service, due).await;
            continue;
        }
        match tables.next_session_deadline() {
            None => changed.await,
            Some((deadline, _)) => {
                let pause = Duration::from_millis(deadline.0.saturating_sub(now.0)) + GRACE;
                // Woken or not, the deadlines are looked at again.
                let _ = tokio::time::timeout(pause, changed).await;
            }
        }
    }
}

async fn end(service: &Service, due: Vec<SessionId>) {
    let term = service.consensus().status().term;
    let ends = due.into_iter().map(|id| Operation::SessionEnd { id, cause: SessionEnd::Expired, term, delays: true });
    let results = join_all(ends.map(|end| service.propose(end))).await;
    if let Some(error) = results.into_iter().find_map(Result::err) {
        tracing::warn!(%error, "sessions that were not renewed could not be ended; trying again");
        tokio::time::sleep(RETRY).await;
    }
}
