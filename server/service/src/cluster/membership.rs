//! How the servers that gossip finds become a quorum, and stay connected to each other.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use consensus::{Consensus, Member};
use gossip::{Pool, Status};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::Identity;
use crate::leader::{Described, described};

/// The pause between two looks whether the first quorum can be formed.
const LOOK: Duration = Duration::from_millis(50);

/// Forms the first quorum once `expect` servers that expect as many have found each other, unless
/// one of them belongs to a quorum already. One of them does it for all: the one with the lowest
/// number.
pub async fn form_first_quorum(consensus: Consensus, lan: Pool, identity: Identity, stop: CancellationToken) {
    let mut told = String::new();
    loop {
        match consensus.is_initialized().await {
            Ok(false) => {}
            Ok(true) | Err(_) => return,
        }
        let servers = described(&lan.members(), &identity.datacenter);
        let alive: Vec<Described> = servers.into_iter().filter(|server| server.status == Status::Alive).collect();
        if let Some(members) = quorum(&alive, identity.expect, consensus.id()) {
            match consensus.form(members.clone()).await {
                Ok(Ok(())) => {
                    let names: Vec<&str> = members.values().map(|member| member.name.as_str()).collect();
                    tracing::info!(servers = names.join(", "), "the first quorum is formed");
                    return;
                }
                Ok(Err(why)) => {
                    if why != told {
                        tracing::info!("the first quorum can't be formed yet: {why}");
                        told = why;
                    }
                }
                Err(error) => tracing::warn!(%error, "the first quorum can't be formed yet"),
            }
        }
        if stop.run_until_cancelled(sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

/// The members of the first quorum, if it is complete and this server is the one to form it.
fn quorum(alive: &[Described], expect: u32, own: u64) -> Option<BTreeMap<u64, Member>> {
    let alike: BTreeMap<u64, Member> =
        alive.iter().filter(|server| server.expect == expect).map(|server| (server.id, server.server.clone())).collect();
    let first: BTreeMap<u64, Member> = alike.into_iter().take(expect as usize).collect();
    (first.len() == expect as usize && first.keys().next() == Some(&own)).then_some(first)
}

/// Tells consensus where the other servers live, whenever that changes.
pub async fn follow_addresses(consensus: Consensus, lan: Pool, datacenter: String, stop: CancellationToken) {
    let mut changes = lan.changes();
    loop {
        changes.borrow_and_update();
        let servers = described(&lan.members(), &datacenter);
        let addresses: HashMap<u64, String> = servers.into_iter().map(|server| (server.id, server.server.address)).collect();
        consensus.peers().set_addresses(addresses);
        if !matches!(stop.run_until_cancelled(changes.changed()).await, Some(Ok(()))) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u64, expect: u32) -> Described {
        Described { id, server: Member { name: format!("s{id}"), address: format!("10.0.0.{id}:8300") }, status: Status::Alive, expect }
    }

    #[test]
    fn one_of_the_expected_servers_forms_the_quorum_for_all() {
        let three = [server(7, 3), server(4, 3), server(9, 3)];
        assert_eq!(quorum(&three, 3, 4).map(|members| members.len()), Some(3));
        assert_eq!(quorum(&three, 3, 7), None, "another one does it");
        assert_eq!(quorum(&three[..2], 3, 4), None, "not everybody is there");
        assert_eq!(quorum(&[server(7, 3), server(4, 3), server(9, 0)], 3, 4), None, "one of them expects something else");
    }
}
