//! The cluster as this agent sees it: members of its pools, and the quorum.

pub mod membership;
mod nearness;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use gossip::Pool;
pub use gossip::{Coordinate, JoinReport, Key, KeyAnswers, KeyOperation, Member, Status};

use crate::error::{Error, Reason};
use crate::{Caller, Right, Service};

/// The pools that this agent takes part in.
#[derive(Clone)]
pub struct Pools {
    /// All agents of the datacenter.
    pub lan: Pool,
    /// All servers of all datacenters; only servers take part.
    pub wan: Option<Pool>,
    /// Asks the process to leave and to end, and waits until it has left.
    pub leave: Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>,
}

/// Which pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolKind {
    /// All agents of the datacenter.
    #[default]
    Lan,
    /// All servers of all datacenters.
    Wan,
}

impl Service {
    /// The pools, unless gossip is switched off.
    pub(crate) fn pools(&self) -> Option<&Pools> {
        self.inner.pools.as_ref()
    }

    pub(crate) fn pool(&self, kind: PoolKind) -> Result<&Pool, Error> {
        let pools = self.pools().ok_or_else(|| {
            Error::new(Reason::PreconditionFailed, "this agent takes part in no pool: its gossip port is off; set `ports.serf_lan`")
        })?;
        match (kind, &pools.wan) {
            (PoolKind::Lan, _) => Ok(&pools.lan),
            (PoolKind::Wan, Some(wan)) => Ok(wan),
            (PoolKind::Wan, None) => {
                let message = "this agent takes no part in the pool between datacenters; only servers do, with `ports.serf_wan` set";
                Err(Error::new(Reason::PreconditionFailed, message).with("pool", "absent"))
            }
        }
    }

    /// Whether this agent takes part in a pool.
    pub fn takes_part(&self, kind: PoolKind) -> bool {
        self.pool(kind).is_ok()
    }

    /// The members of a pool that the caller may see.
    pub fn members(&self, caller: &Caller, kind: PoolKind) -> Result<Vec<Member>, Error> {
        self.authorize(caller, Right::AgentRead)?;
        match self.pool(kind) {
            Ok(pool) => Ok(pool.members()),
            Err(_) if kind == PoolKind::Wan && !self.identity().server => Ok(Vec::new()),
            Err(_) => Ok(vec![self.this_member(kind)]),
        }
    }

    /// This agent as a member of a pool.
    pub fn this_member(&self, kind: PoolKind) -> Member {
        let identity = self.identity();
        let name = match kind {
            PoolKind::Lan => identity.node_name.to_string(),
            PoolKind::Wan => format!("{}.{}", identity.node_name, identity.datacenter),
        };
        let known = self.pool(kind).ok().and_then(|pool| pool.members().into_iter().find(|member| member.name == name));
        known.unwrap_or_else(|| Member {
            name,
            node_id: identity.node_id.to_string(),
            address: identity.address.parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into()),
            port: identity.server_port,
            tags: self.tags(),
            status: Status::Alive,
        })
    }

    /// How many servers of this datacenter are alive, as far as this agent knows.
    pub fn known_servers(&self) -> usize {
        let Some(servers) = self.servers() else { return self.identity().server.into() };
        servers.iter().filter(|server| server.status == Status::Alive).count()
    }

    /// Whether a pool's packets are sealed with a key.
    pub fn is_sealed(&self, kind: PoolKind) -> bool {
        self.pool(kind).is_ok_and(Pool::is_sealed)
    }

    /// Where this agent is in the network of its datacenter, as far as it takes part in it.
    pub fn own_coordinate(&self) -> Option<Coordinate> {
        Some(self.pools()?.lan.coordinate())
    }

    /// What this agent says of itself to its pools.
    pub fn tags(&self) -> BTreeMap<String, String> {
        self.identity().tags(crate::cluster_tag(self.consensus().tables().meta().cluster))
    }

    /// Joins a pool by way of its members at `addresses`.
    pub async fn join(&self, caller: &Caller, kind: PoolKind, addresses: &[String]) -> Result<JoinReport, Error> {
        self.authorize(caller, Right::AgentWrite)?;
        if addresses.is_empty() {
            return Err(Error::new(Reason::InvalidArgument, "there is nobody to join; give the address of a member"));
        }
        Ok(self.pool(kind)?.join(addresses).await)
    }

    /// Has this agent leave its cluster and end. Answers when it has left.
    pub async fn leave(&self, caller: &Caller) -> Result<(), Error> {
        self.authorize(caller, Right::AgentWrite)?;
        self.pool(PoolKind::Lan)?;
        if let Some(pools) = self.pools() {
            (pools.leave)().await;
        }
        Ok(())
    }

    /// Declares a failed member to have left, or with `prune` to have never been.
    pub fn force_leave(&self, caller: &Caller, kind: PoolKind, name: &str, prune: bool) -> Result<(), Error> {
        self.authorize(caller, Right::OperatorWrite)?;
        self.pool(kind)?.force_leave(name, prune).map_err(|error| Error::new(Reason::UnknownNode, error.to_string()))
    }

    /// Has every member do something with the keys that gossip is sealed with.
    pub async fn gossip_keys(&self, caller: &Caller, kind: PoolKind, operation: KeyOperation) -> Result<KeyAnswers, Error> {
        self.authorize(caller, if operation == KeyOperation::List { Right::OperatorRead } else { Right::OperatorWrite })?;
        self.pool(kind)?.keys(operation).await.map_err(|error| Error::new(Reason::PreconditionFailed, error.to_string()))
    }

    /// Where the members of a pool are in the network, by name; those that were not heard yet are left
    /// out.
    pub fn coordinates(&self, caller: &Caller, kind: PoolKind) -> Result<Vec<(String, Coordinate)>, Error> {
        self.authorize(caller, Right::AgentRead)?;
        let pool = self.pool(kind)?;
        let members = pool.members().into_iter();
        Ok(members.filter_map(|member| Some((member.name.clone(), pool.coordinate_of(&member.name)?))).collect())
    }

    /// Where the servers are in the network, by datacenter; those that were not heard yet are left out.
    pub fn coordinates_by_datacenter(&self, caller: &Caller) -> Result<BTreeMap<String, Vec<(String, Coordinate)>>, Error> {
        self.authorize(caller, Right::AgentRead)?;
        let Some(pool) = self.pools().and_then(|pools| pools.wan.as_ref()) else { return Ok(BTreeMap::new()) };
        let mut found: BTreeMap<String, Vec<(String, Coordinate)>> = BTreeMap::new();
        for member in pool.members() {
            let datacenter = member.tags.get("dc").cloned().unwrap_or_default();
            let servers = found.entry(datacenter).or_default();
            servers.extend(pool.coordinate_of(&member.name).map(|at| (member.name.clone(), at)));
        }
        Ok(found)
    }

    /// Tells how far nodes are from the node `near`, by their names; what was not heard of is farthest.
    /// `None` when nothing is known of `near` itself.
    pub fn distances_from<'a>(&'a self, near: &'a str) -> Option<impl Fn(&str) -> Duration + Send + Sync + 'a> {
        let pool = self.pool(PoolKind::Lan).ok()?;
        let from = pool.coordinate_of(near)?;
        Some(move |name: &str| match name == near {
            true => Duration::ZERO,
            false => pool.coordinate_of(name).map_or(Duration::MAX, |at| from.distance(&at)),
        })
    }

    /// Sorts by the round trip from the node `near`; what was not heard of comes last, and equals stay
    /// as they are. A node that nobody knows leaves everything as it is.
    pub fn sort_by_distance<T>(&self, near: &str, rows: &mut [T], node: impl Fn(&T) -> &str) {
        if let Some(distance) = self.distances_from(near) {
            nearness::sort(rows, node, distance);
        }
    }

    /// The datacenters that can be asked: this one, then the others by their round-trip time.
    pub fn datacenters(&self) -> Vec<String> {
        let own = self.identity().datacenter.to_string();
        let Some(wan) = self.pools().and_then(|pools| pools.wan.as_ref()) else { return vec![own] };
        let foreign = wan.members().into_iter().filter_map(|member| {
            let datacenter = member.tags.get("dc").filter(|dc| **dc != own)?;
            Some((datacenter.clone(), wan.coordinate_of(&member.name)))
        });
        let others = nearness::datacenters(&wan.coordinate(), foreign);
        std::iter::once(own).chain(others).collect()
    }

    /// Takes a server out of the quorum by its number or its address. Only the leader can. Refuses where those that are
    /// left and alive would be no majority of the new quorum: nothing could be written any more, not even a way back.
    pub async fn remove_peer(&self, caller: &Caller, id: Option<u64>, address: Option<&str>) -> Result<(), Error> {
        self.authorize(caller, Right::OperatorWrite)?;
        let peers = self.peers();
        let found = peers.iter().find(|peer| Some(peer.id) == id || address.is_some_and(|address| address == peer.address));
        let peer = found.ok_or_else(|| {
            let asked = id.map_or_else(|| address.unwrap_or_default().to_owned(), |id| id.to_string());
            Error::new(Reason::UnknownNode, format!("no server of the quorum is `{asked}`; list them with `operator raft list-peers`"))
        })?;
        let voters: Vec<u64> = peers.iter().filter(|peer| peer.voter).map(|peer| peer.id).collect();
        let servers = self.servers();
        let living = |status: Status| matches!(status, Status::Alive | Status::Leaving);
        let is_alive = |id: u64| servers.as_ref().is_none_or(|all| all.iter().any(|server| server.id == id && living(server.status)));
        let left_alive = voters.iter().filter(|id| is_alive(**id)).count();
        if left_alive <= voters.len() / 2 {
            return Err(Error::new(
                Reason::NoLeader,
                format!(
                    "of {} voters {left_alive} are alive: without a majority nothing can be committed, and nobody be taken out; start others, or \
                     make a new quorum with `lictor recover`",
                    voters.len()
                ),
            ));
        }
        if peer.voter && !crate::leader::survives(&voters, is_alive, peer.id) {
            let left = voters.iter().filter(|id| **id != peer.id);
            let dead: Vec<&str> =
                peers.iter().filter(|other| other.voter && other.id != peer.id && !is_alive(other.id)).map(|other| &*other.name).collect();
            return Err(Error::new(
                Reason::PreconditionFailed,
                format!(
                    "without `{}` {} servers would vote, of which `{}` are not alive: nothing could be committed any more; start these, \
                     or take them out first",
                    peer.name,
                    left.count(),
                    dead.join("`, `")
                ),
            ));
        }
        Ok(self.consensus().remove_server(peer.id).await?)
    }

    /// The servers of this datacenter, as the pool has them; `None` without a pool.
    fn servers(&self) -> Option<Vec<crate::leader::Described>> {
        let pools = self.pools()?;
        Some(crate::leader::described(&pools.lan.members(), &self.identity().datacenter))
    }

    /// Hands leadership to a server, or to any that is alive. Only the leader can. Answers the new
    /// leader's number.
    pub async fn transfer_leader(&self, caller: &Caller, to: Option<u64>) -> Result<u64, Error> {
        self.authorize(caller, Right::OperatorWrite)?;
        let consensus = self.consensus();
        if !consensus.is_leader() {
            let leader = self.leader_address().unwrap_or_else(|| "nobody".into());
            return Err(Error::new(
                Reason::PreconditionFailed,
                format!("only the leader can hand leadership over; the leader is {leader}"),
            ));
        }
        let others: Vec<u64> =
            self.peers().into_iter().filter(|peer| peer.voter && peer.id != consensus.id()).map(|peer| peer.id).collect();
        let alive: Vec<u64> = match self.servers() {
            None => others.clone(),
            Some(servers) => {
                let living = servers.into_iter().filter(|server| server.status == Status::Alive).map(|server| server.id);
                living.filter(|id| others.contains(id)).collect()
            }
        };
        let chosen = next_leader(to, consensus.id(), &others, &alive)?;
        consensus.transfer_leadership(chosen).await?;
        Ok(consensus.leader_id().unwrap_or(chosen))
    }
}

/// Who is to lead: the server that was asked for, or any other voter that is alive.
fn next_leader(asked: Option<u64>, leads: u64, others: &[u64], alive: &[u64]) -> Result<u64, Error> {
    match asked {
        None => alive.first().copied().ok_or_else(|| {
            Error::new(Reason::PreconditionFailed, "there is no other voter alive that could lead; `operator raft list-peers` lists them")
        }),
        Some(id) if id == leads => {
            Err(Error::new(Reason::PreconditionFailed, format!("server `{id}` leads already; name another one, or none to leave it open")))
        }
        Some(id) if others.contains(&id) => Ok(id),
        Some(id) => {
            let message = format!("no voter of the quorum is server `{id}`; `operator raft list-peers` lists them");
            Err(Error::new(Reason::UnknownNode, message).with("id", id))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leadership_goes_to_who_was_named_and_a_stranger_is_told_apart_from_nobody() {
        let told = |asked, alive: &[u64]| next_leader(asked, 1, &[2, 3], alive).map_err(|error| error.message);
        assert_eq!((told(Some(3), &[2]), told(None, &[2])), (Ok(3), Ok(2)));
        assert!(told(Some(77), &[2]).unwrap_err().contains("no voter of the quorum is server `77`"));
        assert!(told(Some(1), &[2]).unwrap_err().contains("leads already"));
        assert!(told(None, &[]).unwrap_err().contains("no other voter alive"));
    }
}
