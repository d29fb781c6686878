//! Who belongs to the quorum: forming the first one, and changing it afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use openraft::ChangeMembers;
use openraft::errors::{ClientWriteError, RaftError};
use proto::internal::v1 as pb;
use tokio::time::{sleep, timeout};

use crate::error::{Error, chain};
use crate::types::{Member, TypeConfig};
use crate::{Consensus, LEADER_POLL, fatal, status};

type Refused = RaftError<TypeConfig, ClientWriteError<TypeConfig>>;

/// How long a promise to let another server form the quorum stands. Longer than forming it takes.
const PROMISE: Duration = Duration::from_secs(10);

/// How long all promises together may take.
const PROMISES: Duration = Duration::from_secs(3);

/// How long a server may take to say who it is.
const IDENTIFY: Duration = Duration::from_secs(1);

/// How long a change of the quorum may take to be committed.
const CHANGE: Duration = Duration::from_secs(10);

/// Whom this server has promised to let form the first quorum.
#[derive(Default)]
pub(crate) struct Promise(Option<(u64, Instant)>);

/// Who lives at an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// Its number in the log.
    pub id: u64,
    /// The name of its node.
    pub name: String,
    /// Its datacenter.
    pub datacenter: String,
    /// The number of its cluster; 0 while it knows of none.
    pub cluster: u64,
    /// It belongs to a quorum.
    pub initialized: bool,
    /// The servers that vote, as it knows.
    pub voters: Vec<u64>,
}

impl Consensus {
    /// Whether this server belongs to a quorum, or has begun to.
    pub async fn is_initialized(&self) -> Result<bool, Error> {
        self.inner.raft.is_initialized().await.map_err(fatal)
    }

    /// Promises to let `from` form the first quorum; the refusal says why not.
    pub(crate) async fn promise(&self, from: u64) -> Result<Result<(), String>, Error> {
        if self.is_initialized().await? {
            return Ok(Err(format!("server `{}` belongs to a quorum already", self.inner.member.name)));
        }
        let mut promise = self.inner.promise.lock();
        Ok(match promise.0 {
            Some((other, until)) if other != from && Instant::now() < until => {
                Err(format!("server `{}` has promised to wait for server {other}", self.inner.member.name))
            }
            _ => {
                promise.0 = Some((from, Instant::now() + PROMISE));
                Ok(())
            }
        })
    }

    /// Forms the first quorum of `members`, this server among them.
    ///
    /// Each of them is asked to promise that it belongs to no quorum and will wait for this one, so
    /// that two servers with different views never form two that share a member. The refusal says
    /// who would not promise and why; nothing was changed then.
    pub async fn form(&self, members: BTreeMap<u64, Member>) -> Result<Result<(), String>, Error> {
        if let Err(refused) = self.promise(self.inner.id).await? {
            return Ok(Err(refused));
        }
        let others = members.iter().filter(|(id, _)| **id != self.inner.id);
        let asked = futures::future::join_all(others.map(|(id, member)| self.ask_promise(*id, member)));
        let Ok(answers) = timeout(PROMISES, asked).await else {
            return Ok(Err(format!("not every server has answered within {PROMISES:?}")));
        };
        if let Some(refused) = answers.into_iter().find_map(Result::err) {
            return Ok(Err(refused));
        }
        match self.inner.raft.initialize(members).await {
            Ok(()) => Ok(Ok(())),
            Err(RaftError::APIError(refused)) => Ok(Err(chain(&refused))),
            Err(error) => Err(self.inner.cause.behind(&error)),
        }
    }

    async fn ask_promise(&self, id: u64, member: &Member) -> Result<(), String> {
        let address = self.inner.peers.address(id, &member.address);
        let unreachable =
            |error: &dyn std::error::Error| format!("server `{}` at {address} can't be reached: {}", member.name, chain(error));
        let mut client = self.inner.peers.client(&address).await.map_err(|error| unreachable(&error))?;
        let answer = client.promise(pb::PromiseRequest { to: id, from: self.inner.id }).await.map_err(|status| unreachable(&status))?;
        let pb::PromiseResponse { granted, reason } = answer.into_inner();
        if granted { Ok(()) } else { Err(reason) }
    }

    /// Asks who lives at `address`. The refusal says why nobody answered.
    pub async fn identify(&self, address: &str) -> Result<Identified, String> {
        let asked = async {
            let mut client = self.inner.peers.client(address).await.map_err(|error| chain(&error))?;
            client.identify(pb::IdentifyRequest {}).await.map_err(|status| chain(&status))
        };
        let answer = timeout(IDENTIFY, asked).await.map_err(|_| format!("no answer within {IDENTIFY:?}"))??;
        let pb::IdentifyResponse { id, name, datacenter, cluster, initialized, voters, leader: _ } = answer.into_inner();
        Ok(Identified { id, name, datacenter, cluster, initialized, voters })
    }

    /// The servers that vote, as the leader says; `None` when none answers.
    pub async fn voters_at_leader(&self) -> Option<Vec<u64>> {
        let leader = self.leader_id()?;
        if leader == self.inner.id {
            return Some(self.inner.raft.voter_ids().collect());
        }
        let address = status::address_of(&self.inner.raft, &self.inner.peers, leader)?;
        let found = self.identify(&address).await.ok()?;
        (found.id == leader).then_some(found.voters)
    }

    /// Takes a server in without a vote: it receives the log from now on. Only the leader can.
    pub async fn add_learner(&self, id: u64, member: Member) -> Result<(), Error> {
        self.change(|| self.inner.raft.add_learner(id, member.clone(), false)).await
    }

    /// Gives a vote to a server that follows. Until it has nearly the whole log it holds up every commit that needs it: see
    /// [`Consensus::followers`]. Only the leader can.
    pub async fn add_voter(&self, id: u64) -> Result<(), Error> {
        self.change_members(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Puts a server's new address into the log. Only the leader can.
    pub async fn move_server(&self, id: u64, member: Member) -> Result<(), Error> {
        self.change_members(ChangeMembers::SetNodes(BTreeMap::from([(id, member)]))).await
    }

    /// Takes a server out, voter or learner. Only the leader can.
    pub async fn remove_server(&self, id: u64) -> Result<(), Error> {
        let voter = self.status().peers.iter().any(|peer| peer.id == id && peer.voter);
        self.change_members(match voter {
            true => ChangeMembers::RemoveVoters(BTreeSet::from([id])),
            false => ChangeMembers::RemoveNodes(BTreeSet::from([id])),
        })
        .await
    }

    /// Asks the server to take over. Returns when somebody else leads, or the time is up.
    pub async fn transfer_leadership(&self, to: u64) -> Result<(), Error> {
        self.inner.raft.trigger().transfer_leader(to).await.map_err(fatal)?;
        let mut leader = self.leader();
        let me = self.inner.id;
        let moved = timeout(CHANGE, leader.wait_for(|leader| leader.is_some_and(|leader| leader != me))).await;
        moved.map_err(|_| Error::Timeout(CHANGE))?.map_err(|_| Error::NoLeader)?;
        Ok(())
    }

    async fn change_members(&self, change: ChangeMembers<u64, Member>) -> Result<(), Error> {
        self.change(|| self.inner.raft.change_membership(change.clone(), false)).await
    }

    /// Proposes a change of the quorum, again while this server leads but may not write yet: a new
    /// leader first has to hear from its quorum.
    async fn change<T, F: Future<Output = Result<T, Refused>>>(&self, propose: impl Fn() -> F) -> Result<(), Error> {
        let changed = timeout(CHANGE, async {
            loop {
                match propose().await {
                    Ok(_) => return Ok(()),
                    Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) if self.is_leader() => sleep(LEADER_POLL).await,
                    Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => return Err(Error::NoLeader),
                    Err(RaftError::APIError(refused)) => return Err(Error::Quorum(chain(&refused).into())),
                    Err(error) => return Err(self.inner.cause.behind(&error)),
                }
            }
        });
        changed.await.map_err(|_| Error::Timeout(CHANGE))?
    }
}
