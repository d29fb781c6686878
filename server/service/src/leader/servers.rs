//! The quorum follows the pool: a server that appears is taken in, one that leaves is taken out,
//! one that has moved is found at its new address.
//!
//! A new server follows without a vote first, and gets one when it has been well for a while; one that the
//! cluster was begun with, or that is needed to have as many as that, gets it as soon as it has nearly the whole log.
//!
//! A server that leaves is taken out while it still votes, so that however many leave, those who stay are never fewer
//! than the quorum that they need.
//!
//! A server that comes back with an empty disk is another one to the log, and what it was before never comes back:
//! that is taken out as soon as the rest is a majority.
//!
//! A server that fails keeps its place, because it may come back with its log. Only when there are
//! more servers than the cluster was begun with has somebody replaced it: then it is taken out.
//!
//! Nobody is taken out unless those that are alive are a majority before and after it. Who has failed goes before who
//! leaves, because it counts on neither side.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use consensus::{Consensus, Member as Server, Peer};
use gossip::{Member, Status};
use state::Autopilot;

/// A server of this datacenter as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its number in the log.
    pub id: u64,
    /// Its node and address.
    pub server: Server,
    /// How it is.
    pub status: Status,
    /// How many servers it expects to begin a cluster with.
    pub expect: u32,
}

/// The servers of `datacenter` among the members of a pool, each once: what a server was called before, or where it
/// lived, counts for nothing beside what it is now.
pub fn described(members: &[Member], datacenter: &str) -> Vec<Described> {
    let mut servers: BTreeMap<u64, Described> = BTreeMap::new();
    for server in members.iter().filter_map(|member| describe(member, datacenter)) {
        match servers.get(&server.id) {
            Some(other) if liveness(other.status) >= liveness(server.status) => {}
            _ => drop(servers.insert(server.id, server)),
        }
    }
    servers.into_values().collect()
}

fn describe(member: &Member, datacenter: &str) -> Option<Described> {
    let tag = |name: &str| member.tags.get(name).map(String::as_str);
    let number = |name: &str| tag(name).and_then(|text| text.parse::<u64>().ok());
    if tag("role") != Some("consul") || tag("dc") != Some(datacenter) {
        return None;
    }
    let port = u16::try_from(number("port")?).ok()?;
    let address = std::net::SocketAddr::new(member.address, port).to_string();
    Some(Described {
        id: number("raft_id")?,
        server: Server { name: member.name.clone(), address },
        status: member.status,
        expect: number("expect").and_then(|expect| u32::try_from(expect).ok()).unwrap_or(0),
    })
}

fn liveness(status: Status) -> u8 {
    match status {
        Status::Left => 0,
        Status::Failed => 1,
        Status::Leaving => 2,
        Status::Alive => 3,
    }
}

/// Whether the quorum can commit before and after a server is taken out, as far as it is known who is `alive`.
pub(crate) fn survives(voters: &[u64], alive: impl Fn(u64) -> bool, without: u64) -> bool {
    let living = |voters: &mut dyn Iterator<Item = u64>| voters.filter(|id| alive(*id)).count();
    let (before, after) = (voters.len(), voters.iter().filter(|id| **id != without).count());
    living(&mut voters.iter().copied()) > before / 2 && living(&mut voters.iter().copied().filter(|id| *id != without)) > after / 2
}

/// Something to be done to the quorum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Take it in, without a vote.
    Follow(u64, Server),
    /// Let it vote.
    Add(u64, Server),
    /// Its address has changed.
    Move(u64, Server),
    /// Take it out.
    Remove(u64, &'static str),
}

impl Step {
    /// The server that it is about.
    pub(super) fn server(&self) -> u64 {
        match self {
            Step::Follow(id, _) | Step::Add(id, _) | Step::Move(id, _) | Step::Remove(id, _) => *id,
        }
    }
}

/// What the quorum is judged by.
pub(super) struct Rules<'r> {
    /// The leader.
    pub(super) own: u64,
    /// How many servers the cluster was begun with.
    pub(super) least: usize,
    /// How the operator wants servers to be looked after.
    pub(super) wanted: &'r Autopilot,
    /// The servers without a vote that have nearly the whole log.
    pub(super) close: &'r BTreeSet<u64>,
    /// Those of them that have been well for long enough.
    pub(super) stable: &'r BTreeSet<u64>,
    /// The servers that the pool does not know any more.
    pub(super) forgotten: &'r BTreeSet<u64>,
    /// The servers for which a step could not be done: they must not keep the others waiting.
    pub(super) refused: &'r BTreeSet<u64>,
}

/// The next thing to be done, if any. One at a time, so that each is judged by what the one before
/// it has led to.
pub(super) fn next(peers: &[Peer], servers: &[Described], rules: &Rules<'_>) -> Option<Step> {
    let Rules { own, least, wanted, close, stable, forgotten, refused } = *rules;
    let votes = peers.iter().filter(|peer| peer.voter).count();
    let known: HashMap<u64, &Described> = servers.iter().map(|server| (server.id, server)).collect();
    let alive = |id: &u64| known.get(id).is_some_and(|server| matches!(server.status, Status::Alive | Status::Leaving));
    for server in servers.iter().filter(|server| server.status == Status::Alive && !refused.contains(&server.id)) {
        match peers.iter().find(|peer| peer.id == server.id) {
            None => return Some(Step::Follow(server.id, server.server.clone())),
            Some(peer) if !peer.voter && (stable.contains(&peer.id) || votes < least && close.contains(&peer.id)) => {
                return Some(Step::Add(server.id, server.server.clone()));
            }
            Some(peer) if peer.address != server.server.address || peer.name != server.server.name => {
                return Some(Step::Move(server.id, server.server.clone()));
            }
            Some(_) => {}
        }
    }
    let voters: Vec<u64> = peers.iter().filter(|peer| peer.voter).map(|peer| peer.id).collect();
    let others = peers.iter().filter(|peer| peer.id != own && !refused.contains(&peer.id) && survives(&voters, |id| alive(&id), peer.id));
    let due = others.filter_map(|peer| {
        let why = match known.get(&peer.id).map(|server| server.status) {
            Some(Status::Left | Status::Leaving) => "it leaves",
            None if forgotten.contains(&peer.id) => "the pool does not know it any more",
            None if is_succeeded(peer, servers) => "another server lives in its place",
            Some(Status::Failed) if wanted.cleanup_dead_servers && is_replaced(peer, &voters, rules) => {
                "it has failed, and another server has taken its place"
            }
            _ => return None,
        };
        Some((alive(&peer.id), Step::Remove(peer.id, why)))
    });
    due.min_by_key(|(is_alive, _)| *is_alive).map(|(_, step)| step)
}

/// Whether somebody else is alive under the name or at the address of a server that the pool does not know any more.
fn is_succeeded(peer: &Peer, servers: &[Described]) -> bool {
    let alive = servers.iter().filter(|server| server.status == Status::Alive && server.id != peer.id);
    alive.map(|server| &server.server).any(|server| server.name == peer.name || server.address == peer.address)
}

/// Whether a failed server is not needed any more: there are more voters than the cluster was begun
/// with, and enough are left without it.
fn is_replaced(peer: &Peer, voters: &[u64], rules: &Rules<'_>) -> bool {
    !peer.voter || (voters.len() > rules.least.max(3) && voters.len() > rules.wanted.min_quorum as usize)
}

/// Does one step. The refusal says why it was not done; it is tried again.
pub(super) async fn take(consensus: &Consensus, step: Step, datacenter: &str) -> Result<(), String> {
    match step {
        Step::Follow(id, server) => {
            check(consensus, id, &server, datacenter).await?;
            consensus.add_learner(id, server.clone()).await.map_err(|error| error.to_string())?;
            tracing::info!(
                name = server.name,
                address = server.address,
                "a server follows, and will vote once it has the whole log and was well for a while"
            );
        }
        Step::Add(id, server) => {
            consensus.add_voter(id).await.map_err(|error| error.to_string())?;
            tracing::info!(name = server.name, address = server.address, "a server was taken into the quorum");
        }
        Step::Move(id, server) => {
            consensus.move_server(id, server.clone()).await.map_err(|error| error.to_string())?;
            tracing::info!(name = server.name, address = server.address, "a server of the quorum has another address");
        }
        Step::Remove(id, why) => {
            consensus.remove_server(id).await.map_err(|error| error.to_string())?;
            tracing::info!(id, why, "a server was taken out of the quorum");
        }
    }
    Ok(())
}

/// A server with another cluster's data must not get this one's log.
async fn check(consensus: &Consensus, id: u64, server: &Server, datacenter: &str) -> Result<(), String> {
    let found = consensus.identify(&server.address).await?;
    let ours = consensus.tables().meta().cluster;
    if found.id != id {
        return Err(format!("server {} lives at {}, where server {id} was said to be", found.id, server.address));
    }
    if found.datacenter != datacenter {
        return Err(format!("it belongs to the datacenter `{}`", found.datacenter));
    }
    if found.initialized && found.cluster != 0 && found.cluster != ours {
        metrics::counter!("consul_leader_foreign_servers").increment(1);
        return Err("it holds another cluster's data; stop it, and start it with an empty data directory".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(id: u64, status: Status) -> Described {
        Described { id, server: Server { name: format!("s{id}"), address: format!("10.0.0.{id}:8300") }, status, expect: 3 }
    }

    fn peer(id: u64, voter: bool) -> Peer {
        Peer { id, name: format!("s{id}"), address: format!("10.0.0.{id}:8300"), voter }
    }

    /// The next step for a cluster that was begun with `least` servers, when `stable` have been well for long.
    fn step(peers: &[Peer], servers: &[Described], least: usize, stable: &[u64]) -> Option<Step> {
        step_with(peers, servers, least, stable, &Autopilot::default())
    }

    /// All but server 6 have nearly the whole log.
    fn step_with(peers: &[Peer], servers: &[Described], least: usize, stable: &[u64], wanted: &Autopilot) -> Option<Step> {
        let stable = &stable.iter().copied().collect();
        let close = &peers.iter().map(|peer| peer.id).filter(|id| *id != 6).collect();
        let (forgotten, refused) = (&BTreeSet::from([7]), &BTreeSet::from([77]));
        next(peers, servers, &Rules { own: 1, least, wanted, close, stable, forgotten, refused })
    }

    #[test]
    fn who_appears_is_taken_in_and_who_leaves_is_taken_out() {
        let two = [server(1, Status::Alive), server(2, Status::Alive)];
        let (add, follow) = (Step::Add(2, two[1].server.clone()), Step::Follow(2, two[1].server.clone()));
        assert_eq!(step(&[peer(1, true)], &two, 3, &[]), Some(follow.clone()));
        assert_eq!(step(&[peer(1, true), peer(2, false)], &two, 3, &[]), Some(add.clone()), "it is needed at once");
        assert_eq!(step(&[peer(1, true)], &two, 1, &[]), Some(follow));
        assert_eq!(step(&[peer(1, true), peer(2, false)], &two, 1, &[]), None, "it has to be well for a while");
        assert_eq!(step(&[peer(1, true), peer(2, false)], &two, 1, &[2]), Some(add), "a learner is promoted");
        assert_eq!(step(&[peer(1, true), peer(2, true)], &two, 1, &[]), None);
        let far_behind = [server(1, Status::Alive), server(6, Status::Alive)];
        assert_eq!(step(&[peer(1, true), peer(6, false)], &far_behind, 3, &[]), None, "it would hold up every commit");
        let three = [server(1, Status::Alive), server(2, Status::Alive), server(3, Status::Left)];
        let peers = [peer(1, true), peer(2, true), peer(3, true)];
        assert_eq!(step(&peers, &three, 3, &[]), Some(Step::Remove(3, "it leaves")));
        let moved = [
            server(1, Status::Alive),
            Described { server: Server { name: "s2".into(), address: "10.9.9.9:8300".into() }, ..server(2, Status::Alive) },
        ];
        assert!(matches!(step(&[peer(1, true), peer(2, true)], &moved, 1, &[]), Some(Step::Move(2, _))));
    }

    #[test]
    fn nobody_is_taken_out_who_is_needed_afterwards() {
        let voters = |all: u64| (1..=all).map(|id| peer(id, true)).collect::<Vec<_>>();
        let as_told = |told: &[Status]| (1..).zip(told).map(|(id, status)| server(id, *status)).collect::<Vec<_>>();
        let (up, dead, goes) = (Status::Alive, Status::Failed, Status::Leaving);
        assert_eq!(step(&voters(3), &as_told(&[up, goes, dead]), 3, &[]), None, "one of two can't commit");
        let grown = as_told(&[up, goes, dead, dead, up]);
        assert!(matches!(step(&voters(5), &grown, 3, &[]), Some(Step::Remove(3, _))), "the dead first");
        assert!(survives(&[1, 2, 3], |id| id != 3, 3) && !survives(&[1, 2, 3], |id| id != 3, 2));
        assert!(survives(&[1, 2], |_| true, 2) && !survives(&[1, 2], |id| id == 1, 2), "who is gone can't say yes to it");
    }

    #[test]
    fn a_server_counts_as_what_it_is_now() {
        let member = |name: &str, status, address: [u8; 4]| {
            let tags = [("role", "consul"), ("dc", "dc1"), ("port", "8300"), ("raft_id", "5")];
            Member {
                name: name.into(),
                node_id: String::new(),
                address: address.into(),
                port: 8301,
                tags: tags.into_iter().map(|(tag, value)| (tag.to_owned(), value.to_owned())).collect(),
                status,
            }
        };
        let (now, before) = (member("a", Status::Alive, [10, 0, 0, 2]), member("b", Status::Left, [10, 0, 0, 1]));
        for members in [[now.clone(), before.clone()], [before, now]] {
            let servers = described(&members, "dc1");
            assert_eq!((servers.len(), servers[0].server.name.as_str(), servers[0].status), (1, "a", Status::Alive));
        }
    }

    #[test]
    fn who_leaves_is_taken_out_while_it_votes_and_who_was_forgotten_as_soon_as_the_rest_can() {
        let two = [server(1, Status::Alive), server(2, Status::Leaving)];
        let out = Some(Step::Remove(2, "it leaves"));
        assert_eq!(step(&[peer(1, true), peer(2, true)], &two, 2, &[]), out, "one of two can still say yes");
        let gone = [server(1, Status::Alive), server(2, Status::Left)];
        assert_eq!(step(&[peer(1, true), peer(2, true)], &gone, 2, &[]), None, "nobody is left to say yes");
        let three = [server(1, Status::Alive), server(2, Status::Alive)];
        let with = |id| [peer(1, true), peer(2, true), peer(id, true)];
        assert!(matches!(step(&with(7), &three, 3, &[]), Some(Step::Remove(7, _))), "it was pruned");
        assert_eq!(step(&with(8), &three, 3, &[]), None, "this leader may not have heard of it yet");
    }

    #[test]
    fn a_server_that_can_not_be_taken_in_keeps_nobody_waiting() {
        let foreign = [server(77, Status::Alive), server(1, Status::Alive), server(2, Status::Alive)];
        assert!(matches!(step(&[peer(1, true)], &foreign, 3, &[]), Some(Step::Follow(2, _))));
        assert_eq!(step(&[peer(1, true), peer(2, true)], &foreign, 3, &[]), None);
    }

    #[test]
    fn the_earlier_life_of_a_server_with_an_empty_disk_is_taken_out_when_the_rest_is_a_majority() {
        let again = |id| Described { id, ..server(3, Status::Alive) };
        let servers = [server(1, Status::Alive), server(2, Status::Alive), again(9)];
        let voters: Vec<Peer> = (1..=3).map(|id| peer(id, true)).collect();
        let new = again(9).server;
        assert_eq!(step(&voters, &servers, 3, &[]), Some(Step::Follow(9, new.clone())));
        let followed = [voters.clone(), vec![Peer { id: 9, ..peer(3, false) }]].concat();
        assert!(matches!(step(&followed, &servers, 3, &[]), Some(Step::Remove(3, _))));
        let without = [peer(1, true), peer(2, true), Peer { id: 9, ..peer(3, false) }];
        assert_eq!(step(&without, &servers, 3, &[]), Some(Step::Add(9, new)), "it is needed at once");
        let two = [peer(1, true), peer(3, true), Peer { id: 9, ..peer(3, false) }];
        assert_eq!(step(&two, &[server(1, Status::Alive), again(9)], 2, &[]), None, "one of two is no majority");
    }

    #[test]
    fn a_failed_server_is_taken_out_only_when_it_was_replaced_and_the_rest_is_a_majority() {
        let failed = |ids: &[u64], all: u64| {
            (1..=all).map(|id| server(id, if ids.contains(&id) { Status::Failed } else { Status::Alive })).collect::<Vec<_>>()
        };
        let voters = |all: u64| (1..=all).map(|id| peer(id, true)).collect::<Vec<_>>();
        assert_eq!(step(&voters(3), &failed(&[3], 3), 3, &[]), None, "it may come back");
        assert!(matches!(step(&voters(4), &failed(&[3], 4), 3, &[]), Some(Step::Remove(3, _))), "somebody has replaced it");
        assert_eq!(step(&voters(5), &failed(&[3], 5), 5, &[]), None);
        assert_eq!(step(&voters(4), &failed(&[3, 4], 4), 3, &[]), None, "two of four are no majority");
        let kept = Autopilot { cleanup_dead_servers: false, ..Autopilot::default() };
        assert_eq!(step_with(&voters(4), &failed(&[3], 4), 3, &[], &kept), None, "the operator wants it kept");
        let many = Autopilot { min_quorum: 4, ..Autopilot::default() };
        assert_eq!(step_with(&voters(4), &failed(&[3], 4), 3, &[], &many), None, "four voters shall be left");
        let learner = [peer(1, true), peer(2, true), peer(3, false)];
        assert!(matches!(step(&learner, &failed(&[3], 3), 1, &[]), Some(Step::Remove(3, _))), "without a vote nobody misses it");
    }
}
