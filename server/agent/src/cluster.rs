//! How this agent finds the others, and becomes a part of them.

mod join;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use consensus::Consensus;
use gossip::{Key, Keyring, Options, Pool, Status, Timing};
use service::cluster::Pools;
use service::{CLUSTER_TAG, Identity, Service};
use store::data_dir::DataDir;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
pub(crate) use join::join;

use crate::shutdown::{Cause, Shutdown};

/// Servers that are missing in the pool between datacenters are looked for each so often.
const FLOOD: Duration = Duration::from_secs(10);

/// How long a leader that leaves waits for another one.
const HAND_OVER: Duration = Duration::from_secs(3);

/// How long a server that leaves waits until it has no vote any more.
const OUT_OF_QUORUM: Duration = Duration::from_secs(8);

/// How often it looks.
const QUORUM_LOOK: Duration = Duration::from_millis(50);

/// Joins the pools: alone at first.
pub(crate) fn pools(
    config: &Config,
    identity: &Identity,
    cluster: Option<&str>,
    (lan, wan): (Option<gossip::Sockets>, Option<gossip::Sockets>),
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Pools>> {
    let Some(lan) = lan else { return Ok(None) };
    let timing = if config.dev { Timing::local() } else { Timing::lan() };
    let name = identity.node_name.to_string();
    let lan = Pool::start(options(config, identity, cluster, name, "local", timing)?, lan)?;
    let wan_name = format!("{}.{}", identity.node_name, identity.datacenter);
    let wan_timing = if config.dev { Timing::local() } else { Timing::wan() };
    let wan = wan
        .map(|sockets| anyhow::Ok(Pool::start(options(config, identity, cluster, wan_name, "remote", wan_timing)?, sockets)?))
        .transpose()?;
    let shutdown = shutdown.clone();
    Ok(Some(Pools {
        lan,
        wan,
        leave: Arc::new(move || {
            let shutdown = shutdown.clone();
            Box::pin(async move { shutdown.depart().await })
        }),
    }))
}

fn options(
    config: &Config,
    identity: &Identity,
    cluster: Option<&str>,
    name: String,
    file: &str,
    timing: Timing,
) -> anyhow::Result<Options> {
    let folder = config.data_dir.as_ref().map(|path| path.join("serf"));
    let keyring_file = folder.as_ref().map(|folder| folder.join(format!("{file}.keyring")));
    let label = if file == "local" { format!("lan:{}", identity.datacenter) } else { "wan".to_owned() };
    Ok(Options {
        name,
        node_id: identity.node_id.to_string(),
        advertise: SocketAddr::new(if file == "local" { config.advertise_addr } else { config.advertise.wan }, 0),
        tags: identity.tags(cluster.map(str::to_owned)),
        label,
        // Datacenters are clusters of their own.
        bond: (file == "local").then_some(CLUSTER_TAG),
        timing,
        keyring: keyring(config, keyring_file.as_deref())?,
        memory: folder.map(|folder| folder.join(format!("{file}.snapshot"))),
        keyring_file,
        rejoin_after_leave: config.cluster.rejoin_after_leave,
    })
}

/// The keys that were kept, which may have been changed since the configuration was written; else
/// the configured one.
fn keyring(config: &Config, file: Option<&std::path::Path>) -> anyhow::Result<Option<Keyring>> {
    let kept = match file {
        Some(file) if file.exists() => {
            let wrong = || format!("the keys of gossip in `{}`; mend the file, or remove it to begin with `encrypt` again", file.display());
            let texts: Vec<String> = serde_json::from_slice(&std::fs::read(file).with_context(wrong)?).with_context(wrong)?;
            let keys: Result<Vec<Key>, _> = texts.iter().map(|text| Key::from_base64(text)).collect();
            Keyring::from_keys(keys.with_context(wrong)?)
        }
        _ => None,
    };
    let configured = config.cluster.encrypt.as_deref().map(Key::from_base64).transpose().context("`encrypt`")?;
    if let (Some(file), true) = (file, is_unused(configured.as_ref(), kept.as_ref())) {
        tracing::warn!(file = %file.display(), "`encrypt` is none of the keys that are kept in this file, and is not used: the kept ones are; add it to every member with `lictor keyring -install`, or correct the configuration");
    }
    Ok(kept.or_else(|| configured.map(Keyring::new)))
}

/// Whether a key is configured that the keys that were kept don't have.
fn is_unused(configured: Option<&Key>, kept: Option<&Keyring>) -> bool {
    configured.zip(kept).is_some_and(|(key, kept)| !kept.keys().contains(key))
}

/// Has this server belong to the cluster whose log it keeps: it says so to its pools, from now on and, by its data directory, right from
/// the start of its next life.
pub(crate) fn belong(service: &Service, pools: Option<&Pools>, directory: Option<&mut DataDir>) -> anyhow::Result<()> {
    let tags = service.tags();
    if let (Some(directory), Some(cluster)) = (directory, tags.get(CLUSTER_TAG)) {
        directory.belongs_to(cluster)?;
    }
    for pool in pools.into_iter().flat_map(|pools| [Some(&pools.lan), pools.wan.as_ref()]).flatten() {
        pool.set_tags(tags.clone())?;
    }
    Ok(())
}

/// Brings the servers of this datacenter into the pool between datacenters, so that it is enough for
/// one of them to be told of another datacenter.
pub(crate) async fn flood(pools: Pools, datacenter: String, stop: CancellationToken) {
    let Some(wan) = pools.wan else { return };
    let mut changes = pools.lan.changes();
    loop {
        changes.borrow_and_update();
        let there: Vec<String> = wan.members().into_iter().map(|member| member.name).collect();
        let missing = pools
            .lan
            .members()
            .into_iter()
            .filter(|member| member.status == Status::Alive && !there.contains(&format!("{}.{datacenter}", member.name)));
        let addresses: Vec<String> = missing
            .filter_map(|member| {
                let port: u16 = member.tags.get("wan_join_port")?.parse().ok()?;
                Some(SocketAddr::new(member.address, port).to_string())
            })
            .collect();
        if !addresses.is_empty() {
            for (address, why) in wan.join(&addresses).await.failed {
                tracing::debug!(address, why, "a server of this datacenter is not in the WAN pool yet");
            }
        }
        let again = tokio::time::timeout(FLOOD, changes.changed());
        if stop.run_until_cancelled(again).await.is_none() {
            return;
        }
    }
}

/// Whether this end of the process is a departure from the cluster.
pub(crate) fn leaves(config: &Config, cause: Option<Cause>) -> bool {
    let cluster = &config.cluster;
    match cause {
        Some(Cause::Leave) => true,
        Some(Cause::Interrupt) => !cluster.skip_leave_on_interrupt.unwrap_or(config.server),
        Some(Cause::Terminate) => cluster.leave_on_terminate.unwrap_or(!config.server),
        Some(Cause::Failure) | None => false,
    }
}

/// Leaves: hands leadership over first, so that nobody waits for an election, and then its vote, so that those who
/// stay are never fewer than the quorum that they need.
pub(crate) async fn leave(service: &Service, consensus: &Consensus, pools: &Pools) {
    if consensus.is_leader() {
        let handed = tokio::time::timeout(HAND_OVER, service.transfer_leader(&service::Caller::default(), None)).await;
        if !matches!(handed, Ok(Ok(_))) {
            tracing::info!("leadership was not handed over: the others will elect a leader by themselves");
        }
    }
    if let Some(wan) = &pools.wan {
        wan.leave().await;
    }
    pools.lan.announce_leave().await;
    if tokio::time::timeout(OUT_OF_QUORUM, leave_quorum(service, consensus)).await.is_err() {
        tracing::warn!(
            "this server leaves although the quorum still counts on it: nobody has taken it out within {OUT_OF_QUORUM:?}; \
             look with `operator raft list-peers`, and take it out with `operator raft remove-peer`"
        );
    }
    pools.lan.leave().await;
    tracing::info!("left the cluster");
}

/// Waits until this server has no vote any more, or nobody else has one.
async fn leave_quorum(service: &Service, consensus: &Consensus) {
    loop {
        let status = consensus.status();
        let voters: Vec<u64> = status.peers.iter().filter(|peer| peer.voter).map(|peer| peer.id).collect();
        if !voters.contains(&status.id) || voters == [status.id] {
            return;
        }
        if consensus.is_leader() {
            // Whoever leaves as well is taken out by this leader meanwhile.
            let _ = service.transfer_leader(&service::Caller::default(), None).await;
        } else if consensus.voters_at_leader().await.is_some_and(|voters| !voters.contains(&status.id)) {
            return;
        }
        sleep(QUORUM_LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configured_key_that_was_never_in_use_is_noticed() {
        let (old, new, strange) = (Key::generate(), Key::generate(), Key::generate());
        let kept = Keyring::from_keys(vec![new.clone(), old.clone()]);
        for key in [&old, &new] {
            assert!(!is_unused(Some(key), kept.as_ref()), "the key was changed while it ran");
        }
        assert!(is_unused(Some(&strange), kept.as_ref()));
        assert!(!is_unused(Some(&strange), None) && !is_unused(None, kept.as_ref()), "there is nothing to differ from");
    }
}
