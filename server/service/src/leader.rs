//! What only the leader does. Each duty begins when this server becomes the leader, and ends with
//! its leadership.

mod expire;
mod grant;
pub mod reconcile;

mod members;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use consensus::Consensus;
use state::{Autopilot, Outcome};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use reconcile::reconcile_self;
use servers::Rules;
pub(crate) use servers::survives;
pub use servers::{Described, described};

use crate::Service;
use crate::autopilot::is_close;
use crate::error::Error;

/// The pause before a duty that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Everything is looked at again each so often, although nothing has changed.
const ROUND: Duration = Duration::from_secs(60);

/// How often a server is looked at that waits for its vote.
const LEARNER_LOOK: Duration = Duration::from_millis(500);

/// A node that the pool does not know is taken out of the catalog, and a server out of the quorum, after this long: a leader that has
/// just been started may know less than there is.
const UNKNOWN_KEPT: Duration = Duration::from_secs(10 * 60);

/// Until then it counts as failed, from this long on: it has died while nobody led.
const UNKNOWN_TRUSTED: Duration = Duration::from_secs(30);

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
    let Some(lan) = service.pools().map(|pools| pools.lan.clone()) else { return std::future::pending().await };
    let mut changes = lan.changes();
    let mut restores = service.hub().follow_resets();
    let mut duty = Duty {
        service,
        least,
        begun: Instant::now(),
        known: BTreeSet::new(),
        seen: BTreeSet::new(),
        refused: BTreeMap::new(),
        well_since: BTreeMap::new(),
    };
    loop {
        changes.borrow_and_update();
        restores.borrow_and_update();
        let pause = match duty.round(&lan.members()).await {
            Ok(soon) => soon.unwrap_or(ROUND),
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
    /// Servers that it has seen in the pool.
    seen: BTreeSet<u64>,
    /// Servers that could not be taken in, moved or taken out, and why.
    refused: BTreeMap<u64, String>,
    /// Since when each server that has no vote yet is alive and close behind.
    well_since: BTreeMap<u64, Instant>,
}

impl Duty<'_> {
    /// Brings the catalog and the quorum in line with the pool. Answers when to look again, if that is
    /// soon.
    async fn round(&mut self, all: &[gossip::Member]) -> Result<Option<Duration>, String> {
        let unknown = self.catalog(all).await.map_err(|error| error.to_string())?;
        let quorum = self.quorum(all).await?;
        Ok(unknown.into_iter().chain(quorum).min())
    }

    /// Answers when a node is to be looked at again that the pool does not know.
    async fn catalog(&mut self, all: &[gossip::Member]) -> Result<Option<Duration>, Error> {
        let consensus = self.service.consensus();
        let tables = consensus.tables();
        let mut operations = members::operations(&tables, all, &self.service.identity().datacenter);
        let present: BTreeSet<String> = all.iter().map(|member| member.name.clone()).collect();
        let led = self.begun.elapsed();
        let mut waits = false;
        for name in tables.nodes().map(|view| view.node.name.to_string()).filter(|name| !present.contains(name)) {
            if led > UNKNOWN_KEPT || self.known.contains(&name) {
                operations.extend(members::forget(&tables, &name));
            } else if led > UNKNOWN_TRUSTED {
                operations.extend(members::show_failed(&tables, &name));
            } else {
                waits = true;
            }
        }
        for operation in operations {
            if let Outcome::Refused(refusal) = consensus.propose(operation).await?.outcome {
                tracing::warn!("the catalog refused a member of the pool: {refusal}");
            }
        }
        self.known = present;
        Ok(waits.then(|| (UNKNOWN_TRUSTED + LEARNER_LOOK).saturating_sub(led)))
    }

    async fn quorum(&mut self, all: &[gossip::Member]) -> Result<Option<Duration>, String> {
        let consensus = self.service.consensus();
        let datacenter = &self.service.identity().datacenter;
        let servers = described(all, datacenter);
        let present: BTreeSet<u64> = servers.iter().map(|server| server.id).collect();
        let long = self.begun.elapsed() > UNKNOWN_KEPT;
        self.seen.extend(&present);
        // Each step changes what the next one is; more than this many at once means that they undo each other.
        let mut refused = BTreeMap::new();
        for _ in 0..32 {
            let wanted = consensus.tables().autopilot().value;
            let peers = consensus.status().peers;
            let Learners { close, stable, waits } = learners(&mut self.well_since, consensus, &servers, &wanted);
            let absent = peers.iter().map(|peer| peer.id).filter(|id| !present.contains(id));
            let forgotten = absent.filter(|id| long || self.seen.contains(id)).collect();
            let skipped = refused.keys().copied().collect();
            let rules = Rules {
                own: consensus.id(),
                least: self.least,
                wanted: &wanted,
                close: &close,
                stable: &stable,
                forgotten: &forgotten,
                refused: &skipped,
            };
            let Some(step) = servers::next(&peers, &servers, &rules) else {
                let again = (!refused.is_empty()).then_some(RETRY);
                self.tell(refused);
                return Ok(again.or(waits.then_some(LEARNER_LOOK)));
            };
            let (id, told) = (step.server(), format!("{step:?}"));
            if let Err(why) = servers::take(consensus, step, datacenter).await {
                refused.insert(id, format!("{told}: {why}"));
            }
        }
        Ok(None)
    }

    /// Says why the quorum does not follow the pool, once for each reason.
    fn tell(&mut self, refused: BTreeMap<u64, String>) {
        for (id, why) in &refused {
            if self.refused.get(id) != Some(why) {
                tracing::warn!(id, "the quorum does not follow the pool yet, and it will be tried again: {why}");
            }
        }
        self.refused = refused;
    }
}

/// The servers without a vote.
struct Learners {
    /// Whether one of them is alive, and may get a vote.
    waits: bool,
    /// Those that are alive and have nearly the whole log.
    close: BTreeSet<u64>,
    /// Those for which that is true for so long that they get a vote.
    stable: BTreeSet<u64>,
}

/// How the servers without a vote do. How long ago a server answered does not count here: on a busy machine it would
/// keep a good server waiting for ever.
fn learners(well_since: &mut BTreeMap<u64, Instant>, consensus: &Consensus, servers: &[Described], wanted: &Autopilot) -> Learners {
    let followers = consensus.followers();
    let own = followers.get(&consensus.id()).copied().unwrap_or_default();
    let alive = |id: u64| servers.iter().any(|server| server.id == id && server.status == gossip::Status::Alive);
    let well = |id: u64| alive(id) && followers.get(&id).is_some_and(|follower| is_close(follower, &own, wanted));
    let all: BTreeSet<u64> = consensus.status().peers.iter().filter(|peer| !peer.voter).map(|peer| peer.id).collect();
    let close: BTreeSet<u64> = all.iter().copied().filter(|id| well(*id)).collect();
    well_since.retain(|id, _| close.contains(id));
    for id in &close {
        well_since.entry(*id).or_insert_with(Instant::now);
    }
    let long = Duration::from_millis(wanted.server_stabilization_ms);
    let stable = well_since.iter().filter(|(_, since)| since.elapsed() >= long).map(|(id, _)| *id).collect();
    Learners { waits: all.into_iter().any(alive), close, stable }
}
