//! Joining: the addresses that the configuration names are asked until somebody is there, and again whenever
//! nobody is there any more.

use std::time::Duration;

use gossip::{Pool, Status};
use service::cluster::Pools;
use tokio::time::sleep;

use crate::config::Config;
use crate::shutdown::{Cause, Shutdown};

/// The first pause between two attempts to join; each further one is longer by half.
const JOIN_FIRST: Duration = Duration::from_millis(100);

/// How long an agent that has lost everybody waits at first: the pool itself calls those that it has lost.
const LOST_FIRST: Duration = Duration::from_secs(2);

/// Joins as the configuration says. Fails only when nobody of `start_join` lets this agent in.
pub(crate) async fn join(config: &Config, pools: &Pools, shutdown: &Shutdown) -> anyhow::Result<()> {
    let cluster = &config.cluster;
    let seeds = |kind, addresses: &[String], interval, max| Seeds { kind, addresses: addresses.to_vec(), interval, max };
    let lan = seeds("LAN", &cluster.retry_join, cluster.retry_interval, cluster.retry_max);
    join_pool(&pools.lan, &cluster.join, lan, shutdown).await?;
    if let Some(wan) = &pools.wan {
        let seeds = seeds("WAN", &cluster.retry_join_wan, cluster.retry_interval_wan, cluster.retry_max_wan);
        join_pool(wan, &cluster.join_wan, seeds, shutdown).await?;
    }
    Ok(())
}

/// Whom to ask, and how often.
struct Seeds {
    /// What the pool is called.
    kind: &'static str,
    addresses: Vec<String>,
    /// The longest pause between two attempts.
    interval: Duration,
    /// Attempts until this agent gives up, when it has never been in; 0 is never.
    max: u32,
}

async fn join_pool(pool: &Pool, once: &[String], seeds: Seeds, shutdown: &Shutdown) -> anyhow::Result<()> {
    let kind = seeds.kind;
    if !once.is_empty() {
        let report = pool.join(once).await;
        anyhow::ensure!(
            report.joined > 0 || !report.own.is_empty(),
            "nobody lets this agent into the {kind} pool: {}",
            reasons(&report.failed)
        );
    }
    if !seeds.addresses.is_empty() {
        let (pool, shutdown) = (pool.clone(), shutdown.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = shutdown.requested() => {}
                Err(why) = seeds.keep_asking(&pool) => {
                    let attempts = seeds.max;
                    tracing::error!(attempts, "nobody has let this agent into the {kind} pool; it ends, as `retry_max` says: {why}");
                    shutdown.request(Cause::Failure);
                }
            }
        });
    }
    Ok(())
}

impl Seeds {
    /// Asks until somebody is there, and whenever nobody is there any more. Ends when it was in vain from the beginning,
    /// or when nobody else is meant.
    async fn keep_asking(&self, pool: &Pool) -> Result<(), String> {
        let own = pool.address().to_string();
        let others: Vec<String> = self.addresses.iter().filter(|address| **address != own).cloned().collect();
        if others.is_empty() {
            // A server that is told of itself alone is right where it is, unless another one answers there.
            for (address, why) in pool.join(&self.addresses).await.failed {
                tracing::error!(address, "the {} pool is not joined: {why}", self.kind);
            }
            return Ok(());
        }
        self.ask_until_in(pool, &others).await?;
        loop {
            self.await_loneliness(pool).await;
            self.ask_until_back(pool, &others).await;
        }
    }

    /// Asks until somebody else is there, or `max` attempts were in vain. That nobody answers but this agent itself is
    /// none: the others may come later.
    async fn ask_until_in(&self, pool: &Pool, others: &[String]) -> Result<(), String> {
        let kind = self.kind;
        let mut pause = JOIN_FIRST;
        let mut attempt = 0u32;
        loop {
            let report = pool.join(others).await;
            // Being in by somebody else's call is as good.
            if report.joined > 0 || is_accompanied(pool) {
                tracing::info!(members = pool.members().len(), "joined the {kind} pool");
                return Ok(());
            }
            // The others may be on their way up.
            if report.own.is_empty() {
                attempt += 1;
                if pause > JOIN_FIRST * 8 {
                    tracing::warn!(attempt, "nobody lets this agent into the {kind} pool yet: {}", reasons(&report.failed));
                }
                if attempt == self.max {
                    return Err(reasons(&report.failed));
                }
            }
            self.wait(&mut pause).await;
        }
    }

    async fn await_loneliness(&self, pool: &Pool) {
        let mut changes = pool.changes();
        while is_accompanied(pool) {
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Asks until somebody is there again, however long it takes.
    async fn ask_until_back(&self, pool: &Pool, others: &[String]) {
        let kind = self.kind;
        let mut pause = LOST_FIRST;
        let mut told = false;
        loop {
            self.wait(&mut pause).await;
            if is_accompanied(pool) {
                return;
            }
            let report = pool.join(others).await;
            if report.joined > 0 {
                tracing::info!(members = pool.members().len(), "joined the {kind} pool again");
                return;
            }
            if !told {
                told = true;
                tracing::warn!(
                    "nobody is left in the {kind} pool, and nobody that `retry_join` names lets this agent in; they are asked at least each {:?}: {}",
                    self.interval,
                    reasons(&report.failed)
                );
            }
        }
    }

    /// Waits for about so long, and makes the next pause longer by half.
    async fn wait(&self, pause: &mut Duration) {
        *pause = (*pause).min(self.interval);
        sleep(pause.mul_f64(0.8 + 0.4 * rand::random::<f64>())).await;
        *pause = pause.mul_f64(1.5);
    }
}

/// Whether anybody else is alive in the pool.
fn is_accompanied(pool: &Pool) -> bool {
    pool.members().iter().filter(|member| member.status == Status::Alive).count() > 1
}

fn reasons(failed: &[(String, String)]) -> String {
    failed.iter().map(|(address, why)| format!("{address}: {why}")).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Instant;

    use gossip::{Options, Sockets, Timing};

    use super::*;

    async fn start(name: &str, at: SocketAddr) -> Pool {
        let sockets = Sockets::bind(&net::Network::host(), at).await.unwrap();
        let options = Options {
            name: name.into(),
            node_id: format!("id-of-{name}"),
            advertise: at,
            tags: BTreeMap::new(),
            label: "lan:dc1".into(),
            bond: None,
            timing: Timing::local(),
            keyring: None,
            memory: None,
            keyring_file: None,
            rejoin_after_leave: false,
        };
        Pool::start(options, sockets).unwrap()
    }

    async fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds() {
            assert!(Instant::now() < deadline, "{what} in time");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn who_has_seen_everybody_leave_asks_those_that_it_was_told_of_again() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let (a, b) = (start("a", any).await, start("b", any).await);
        let place = b.address();
        let seeds = Seeds { kind: "LAN", addresses: vec![place.to_string()], interval: Duration::from_millis(200), max: 3 };
        let asking = tokio::spawn({
            let a = a.clone();
            async move { seeds.keep_asking(&a).await }
        });
        until("it is in", || is_accompanied(&a)).await;
        b.leave().await;
        drop(b);
        until("it is alone", || !is_accompanied(&a)).await;
        // Whoever has left is not called by the pool, and knows nobody when it comes back.
        let b = start("b", place).await;
        until("it is in again", || is_accompanied(&a) && is_accompanied(&b)).await;
        assert!(!asking.is_finished(), "and goes on looking");
        asking.abort();
    }

    #[tokio::test]
    async fn who_was_never_let_in_gives_up_after_so_many_attempts() {
        let a = start("a", SocketAddr::from(([127, 0, 0, 1], 0))).await;
        let seeds = Seeds { kind: "LAN", addresses: vec!["127.0.0.1:1".into()], interval: Duration::from_millis(1), max: 3 };
        assert!(seeds.keep_asking(&a).await.unwrap_err().contains("127.0.0.1:1: "));
    }
}
