//! How the servers do, as the leader sees them, and how they are to be looked after.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use consensus::{Follower, Peer};
use gossip::Member;
use parking_lot::Mutex;
use state::{Autopilot, Compare, Indexed, LogIndex, Operation, Outcome};

use crate::answer::{Answer, ReadOptions};
use crate::cluster::PoolKind;
use crate::error::{Error, Reason};
use crate::{Caller, Right, Service};

/// How one server does.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerHealth {
    /// The server.
    pub peer: Peer,
    /// Whether it leads.
    pub leader: bool,
    /// What the leader knows of it.
    pub follower: Follower,
    /// How the pool sees it: `alive`, `left`, `failed`, or `none` when it is not in the pool.
    pub member_status: &'static str,
    /// Its version, when the pool knows it.
    pub version: String,
    /// Whether it is reachable and close behind the leader.
    pub healthy: bool,
    /// Since when `healthy` is what it is.
    pub stable_since: SystemTime,
}

/// How the servers do.
#[derive(Clone, Debug, PartialEq)]
pub struct AutopilotState {
    /// Whether every server is healthy.
    pub healthy: bool,
    /// How many voters may fail before the quorum is lost.
    pub failure_tolerance: u32,
    /// The same, if every healthy server had a vote.
    pub optimistic_failure_tolerance: u32,
    /// The servers, by id.
    pub servers: Vec<ServerHealth>,
}

/// Since when each server is as healthy as it is. Only the leader's is of use.
#[derive(Debug, Default)]
pub(crate) struct Stability(Mutex<BTreeMap<u64, (bool, SystemTime)>>);

impl Stability {
    fn note(&self, id: u64, healthy: bool) -> SystemTime {
        let mut known = self.0.lock();
        let entry = known.entry(id).or_insert_with(|| (healthy, SystemTime::now()));
        if entry.0 != healthy {
            *entry = (healthy, SystemTime::now());
        }
        entry.1
    }

    fn keep(&self, peers: &[Peer]) {
        self.0.lock().retain(|id, _| peers.iter().any(|peer| peer.id == *id));
    }
}

/// Whether a server is close enough behind the leader to count as up to date.
pub(crate) fn is_close(follower: &Follower, leader: &Follower, wanted: &Autopilot) -> bool {
    follower.last_index.saturating_add(wanted.max_trailing_logs) >= leader.last_index
}

impl Service {
    /// How the servers do. Only the leader knows.
    pub fn autopilot_state(&self, caller: &Caller) -> Result<AutopilotState, Error> {
        self.authorize(caller, Right::OperatorRead)?;
        let consensus = self.consensus();
        if !consensus.is_leader() {
            let leader = self.leader_address().unwrap_or_else(|| "nobody".into());
            return Err(Error::new(Reason::NoLeader, format!("only the leader knows how the servers do; the leader is {leader}")));
        }
        let wanted = consensus.tables().autopilot().value;
        let members = self.members(&Caller::default(), PoolKind::Lan)?;
        let (followers, peers) = (consensus.followers(), self.peers());
        self.inner.stability.keep(&peers);
        let own = followers.get(&consensus.id()).copied().unwrap_or_default();
        let judge = |peer: &Peer| {
            let follower = followers.get(&peer.id).copied().unwrap_or_default();
            let leader = peer.id == consensus.id();
            let member = members.iter().find(|member| member.name == peer.name);
            let reached = follower.last_contact.is_some_and(|age| age <= Duration::from_millis(wanted.last_contact_threshold_ms));
            let alive = member.is_some_and(|member| member.status == gossip::Status::Alive);
            let healthy = leader || (alive && reached && is_close(&follower, &own, &wanted));
            ServerHealth {
                peer: peer.clone(),
                leader,
                follower,
                member_status: member.map_or("none", |member| member.status.as_str()),
                version: member.and_then(build).unwrap_or_default(),
                healthy,
                stable_since: self.inner.stability.note(peer.id, healthy),
            }
        };
        let mut servers: Vec<ServerHealth> = peers.iter().map(judge).collect();
        servers.sort_by_key(|server| server.peer.id);
        Ok(summed_up(servers))
    }

    /// How servers are to be looked after.
    pub async fn autopilot_configuration(&self, caller: &Caller, options: &ReadOptions) -> Result<Answer<Autopilot>, Error> {
        self.authorize(caller, Right::OperatorRead)?;
        let tables = self.snapshot(options).await?;
        Ok(self.answer(tables.autopilot(), &tables, options.consistency))
    }

    /// Sets how servers are looked after, unless somebody has done so already. Says whether it did.
    pub async fn begin_autopilot(&self, wanted: Autopilot) -> Result<bool, Error> {
        if self.consensus().tables().autopilot().value.create_index != LogIndex::ZERO {
            return Ok(false);
        }
        let proposed = self.propose(Operation::SetAutopilot { wanted, compare: Compare::Absent }).await?;
        Ok(!matches!(proposed.outcome, Outcome::Refused(_)))
    }

    /// Changes how servers are looked after, if `compare` holds. Answers at which revision, and how
    /// they are looked after from then on.
    pub async fn set_autopilot(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        wanted: Autopilot,
        compare: Compare,
    ) -> Result<Indexed<Autopilot>, Error> {
        self.authorize(caller, Right::OperatorWrite)?;
        self.check_datacenter(datacenter)?;
        for (name, millis) in
            [("last_contact_threshold", wanted.last_contact_threshold_ms), ("server_stabilization_time", wanted.server_stabilization_ms)]
        {
            if millis > LENGTH_MAX_MS {
                return Err(Error::invalid(format!("`{name}` is longer than a day; give a shorter one")).with("field", name));
            }
        }
        let proposed = self.propose(Operation::SetAutopilot { wanted, compare }).await?;
        match proposed.outcome {
            Outcome::Refused(refusal) => Err(refusal.into()),
            _ => Ok(Indexed::exact(self.consensus().tables().autopilot().value, proposed.index)),
        }
    }
}

/// The longest time that can be asked for.
pub const LENGTH_MAX_MS: u64 = 24 * 60 * 60 * 1000;

fn build(member: &Member) -> Option<String> {
    member.tags.get("build").cloned()
}

fn summed_up(servers: Vec<ServerHealth>) -> AutopilotState {
    let voters = servers.iter().filter(|server| server.peer.voter).count();
    let well = servers.iter().filter(|server| server.peer.voter && server.healthy).count();
    let all_well = servers.iter().filter(|server| server.healthy).count();
    let spare = |well: usize, of: usize| u32::try_from(well.saturating_sub(of / 2 + 1)).unwrap_or(u32::MAX);
    AutopilotState {
        healthy: servers.iter().all(|server| server.healthy),
        failure_tolerance: spare(well, voters),
        optimistic_failure_tolerance: spare(all_well, servers.len()),
        servers,
    }
}

/// Which index a configuration has to have.
pub fn at_index(index: Option<LogIndex>) -> Compare {
    index.map_or(Compare::Any, Compare::ModifyIndex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn server(id: u64, voter: bool, healthy: bool) -> ServerHealth {
        ServerHealth {
            peer: Peer { id, name: format!("s{id}"), address: String::new(), voter },
            leader: id == 1,
            follower: Follower::default(),
            member_status: "alive",
            version: String::new(),
            healthy,
            stable_since: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn what_may_fail_is_counted_from_those_that_are_well() {
        let of = |servers: &[(bool, bool)]| {
            let servers = (1..).zip(servers).map(|(id, (voter, healthy))| server(id, *voter, *healthy)).collect();
            let state = summed_up(servers);
            (state.healthy, state.failure_tolerance, state.optimistic_failure_tolerance)
        };
        assert_eq!(of(&[(true, true)]), (true, 0, 0));
        assert_eq!(of(&[(true, true); 3]), (true, 1, 1));
        assert_eq!(of(&[(true, true), (true, true), (true, false)]), (false, 0, 0));
        assert_eq!(of(&[(true, true), (false, true), (false, true)]), (true, 0, 1));
        assert_eq!(of(&[(true, true); 5]), (true, 2, 2));
    }

    #[tokio::test]
    async fn a_cluster_begins_as_it_was_told_and_stays_as_it_was_set() {
        let service = testing::dev().await;
        let caller = Caller::default();
        let first = Autopilot { min_quorum: 3, ..Autopilot::default() };
        assert!(service.begin_autopilot(first).await.unwrap());
        assert!(!service.begin_autopilot(Autopilot { min_quorum: 5, ..first }).await.unwrap(), "it has begun");
        let found = service.autopilot_configuration(&caller, &ReadOptions::default()).await.unwrap().value;
        assert_eq!(found.min_quorum, 3);
        service.set_autopilot(&caller, None, Autopilot { min_quorum: 7, ..found }, Compare::Any).await.unwrap();
        assert!(!service.begin_autopilot(first).await.unwrap());
        assert_eq!(service.autopilot_configuration(&caller, &ReadOptions::default()).await.unwrap().value.min_quorum, 7);
    }

    #[tokio::test]
    async fn a_configuration_is_changed_by_who_has_read_it() {
        let service = testing::dev().await;
        let caller = Caller::default();
        let read = service.autopilot_configuration(&caller, &ReadOptions::default()).await.unwrap().value;
        assert_eq!(read, Autopilot::default());
        let wanted = Autopilot { min_quorum: 3, ..read };
        let set = service.set_autopilot(&caller, None, wanted, at_index(Some(read.modify_index))).await.unwrap();
        assert_eq!((set.value.min_quorum, set.value.modify_index), (3, set.index));
        let late = service.set_autopilot(&caller, None, wanted, at_index(Some(read.modify_index))).await.unwrap_err();
        assert_eq!(late.reason, Reason::PreconditionFailed);
        let state = service.autopilot_state(&caller).unwrap();
        assert!(state.healthy && state.servers.len() == 1 && state.servers[0].leader, "{state:?}");
    }
}
