//! What only the leader does. Each duty begins when this server becomes the leader, and ends with
//! its leadership.

mod expire;
mod grant;
pub mod reconcile;

mod members;
mod servers;

use std::collections::BTreeSet;
use std::time::Duration;

use state::Outcome;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use reconcile::reconcile_self;
pub use servers::{Described, described};

use crate::Service;
use crate::error::Error;

/// The pause before a duty that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything is looked at again each so often, although nothing has changed.
const ROUND: Duration = Duration::from_secs(60);

/// A node that the pool does not know is taken out of the catalog after this long: a leader that has
/// just been started may know less than there is.
const UNKNOWN_KEPT: Duration = Duration::from_secs(10 * 60);

/// Does the leader's duties whenever this server leads, until `stop`. `least` is how many servers the cluster was begun with.
pub async fn run(service: Service, least: usize, stop: CancellationToken) {
    let mut leader = service.consensus().leader();
    let own = service.consensus().id();
    loop {
        let led = stop.run_until_cancelled(leader.wait_for(|leader| *leader == Some(own))).await;
        if !matches!(led, Some(Ok(_))) {
            return;
        }
        drop(led);
        tracing::info!("this server leads");
        let lost = async {
            // Without a sender consensus has ended, and leadership with it.
            let _ = leader.wait_for(|leader| *leader != Some(own)).await;
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = lost => tracing::info!("this server leads no longer"),
            () = lead(&service, least) => {}
            () = expire::run(&service) => {}
            () = grant::run(&service) => {}
        }
    }
}

/// Never returns.
async fn lead(service: &Service, least: usize) {
    while let Err(error) = reconcile_self(service.consensus(), service.identity(), &service.agent().node()).await {
        tracing::warn!(%error, "this server is not in its own catalog yet; trying again");
        sleep(RETRY).await;
    }
    let Some(lan) = service.pools().map(|pools| pools.lan.clone()) else { return std::future::pending().await };
    let mut changes = lan.changes();
    let mut restores = service.hub().follow_resets();
    let mut duty = Duty { service, least, begun: Instant::now(), known: BTreeSet::new() };
    loop {
        changes.borrow_and_update();
        restores.borrow_and_update();
        let pause = match duty.round(&lan.members()).await {
            Ok(()) => ROUND,
            Err(error) => {
                tracing::warn!("the catalog and the quorum do not follow the pool yet, and will be tried again: {error}");
                RETRY
            }
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return std::future::pending().await },
            // What was restored is of another cluster, or of another time.
            restored = restores.changed() => if restored.is_err() { return std::future::pending().await },
            () = sleep(pause) => {}
        }
    }
}

struct Duty<'s> {
    service: &'s Service,
    least: usize,
    begun: Instant,
    /// Members that this leader has seen.
    known: BTreeSet<String>,
}

impl Duty<'_> {
    /// Brings the catalog and the quorum in line with the pool.
    async fn round(&mut self, all: &[gossip::Member]) -> Result<(), String> {
        self.catalog(all).await.map_err(|error| error.to_string())?;
        self.quorum(all).await
    }

    async fn catalog(&mut self, all: &[gossip::Member]) -> Result<(), Error> {
        let consensus = self.service.consensus();
        let tables = consensus.tables();
        let mut operations = members::operations(&tables, all, &self.service.identity().datacenter);
        let present: BTreeSet<String> = all.iter().map(|member| member.name.clone()).collect();
        let long = self.begun.elapsed() > UNKNOWN_KEPT;
        let unknown = tables.nodes().map(|view| view.node.name.to_string()).filter(|name| !present.contains(name));
        operations.extend(unknown.filter(|name| long || self.known.contains(name)).filter_map(|name| members::forget(&tables, &name)));
        for operation in operations {
            if let Outcome::Refused(refusal) = consensus.propose(operation).await?.outcome {
                tracing::warn!("the catalog refused a member of the pool: {refusal}");
            }
        }
        self.known = present;
        Ok(())
    }

    async fn quorum(&self, all: &[gossip::Member]) -> Result<(), String> {
        let consensus = self.service.consensus();
        let datacenter = &self.service.identity().datacenter;
        let servers = described(all, datacenter);
        // Each step changes what the next one is; more than this many at once means that they undo each other.
        for _ in 0..32 {
            let Some(step) = servers::next(&consensus.status().peers, &servers, consensus.id(), self.least) else { return Ok(()) };
            let told = format!("{step:?}");
            servers::take(consensus, step, datacenter).await.map_err(|why| format!("{told}: {why}"))?;
        }
        Ok(())
    }
}
