//! Several servers in one process, over real sockets: every one of them answers everything, a dead
//! leader is replaced, and whoever comes late gets the state as a whole.

use std::collections::BTreeMap;
use std::sync::Arc;

use state::{ChangeBatch, Compare, KvWrite, LockAction, LogIndex, Operation, Outcome};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;

pub(crate) struct Nobody;

impl ChangeSink for Nobody {
    fn restore(&self, _history: Vec<Arc<ChangeBatch>>, _complete_from: LogIndex, _applied: LogIndex) {}
    fn publish(&self, _batch: Arc<ChangeBatch>) {}
    fn advance(&self, _applied: LogIndex) {}
    fn reset(&self, _applied: LogIndex) {}
}

/// One server with its own listener.
pub(crate) struct Server {
    pub(crate) consensus: Consensus,
    pub(crate) member: Member,
    serving: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(id: u64) -> Server {
        Server::start_on(id, TcpListener::bind("127.0.0.1:0").await.unwrap(), Storage::Memory).await
    }

    pub(crate) async fn start_on(id: u64, listener: TcpListener, storage: Storage) -> Server {
        let member = Member { name: format!("n{id}"), address: listener.local_addr().unwrap().to_string() };
        let options = Options {
            id,
            member: member.clone(),
            datacenter: "dc1".into(),
            start: Start::Join,
            history: HistoryBounds { changes_max: 100, bytes_max: 1 << 20 },
            network: net::Network::host(),
            storage,
        };
        let consensus = Consensus::start(options, Arc::new(Nobody)).await.unwrap();
        let server = tonic::transport::Server::builder().add_service(consensus.peer_service());
        let serving = tokio::spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        Server { consensus, member, serving }
    }

    /// Ends it without a word to the others.
    pub(crate) async fn kill(self) {
        self.serving.abort();
        let _ = self.serving.await;
        self.consensus.inner.raft.shutdown().await.unwrap();
    }
}

pub(crate) async fn cluster(size: u64) -> Vec<Server> {
    let mut servers = Vec::new();
    for id in 1..=size {
        servers.push(Server::start(id).await);
    }
    let members: BTreeMap<u64, Member> = servers.iter().map(|server| (server.consensus.id(), server.member.clone())).collect();
    servers[0].consensus.form(members).await.unwrap().unwrap();
    for server in &servers {
        server.consensus.ready().await.unwrap();
    }
    servers
}

pub(crate) fn put(key: &str, value: &str) -> Operation {
    Operation::Kv(KvWrite::Set {
        key: key.as_bytes().into(),
        value: value.as_bytes().into(),
        flags: 0,
        compare: Compare::Any,
        lock: LockAction::Keep,
    })
}

pub(crate) async fn value(consensus: &Consensus, key: &str) -> Option<String> {
    let tables = consensus.read(Consistency::Linearizable).await.unwrap();
    tables.kv_get(key.as_bytes()).value.map(|entry| String::from_utf8_lossy(entry.value()).into_owned())
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} in time");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn leader_of(servers: &[Server]) -> usize {
    servers.iter().position(|server| server.consensus.is_leader()).expect("somebody leads")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_takes_writes_and_reads_its_own_and_those_of_others() {
    let servers = cluster(3).await;
    for (n, server) in servers.iter().enumerate() {
        let proposed = server.consensus.propose(put("a", &n.to_string())).await.unwrap();
        assert!(server.consensus.tables().applied() >= proposed.index, "applied where it was proposed");
        for reader in &servers {
            assert_eq!(value(&reader.consensus, "a").await, Some(n.to_string()), "server {} reads", reader.consensus.id());
        }
    }
    let refused = Operation::Kv(KvWrite::Set {
        key: b"a"[..].into(),
        value: b"9"[..].into(),
        flags: 0,
        compare: Compare::ModifyIndex(LogIndex(999)),
        lock: LockAction::Keep,
    });
    for server in &servers {
        let outcome = server.consensus.propose(refused.clone()).await.unwrap().outcome;
        assert!(matches!(outcome, Outcome::Refused(_)), "a follower learns a refusal too");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut servers = cluster(3).await;
    for n in 0..100 {
        servers[n % 3].consensus.propose(put(&format!("k{n}"), "v")).await.unwrap();
    }
    let dead = servers.remove(leader_of(&servers));
    let dead_id = dead.consensus.id();
    dead.kill().await;
    until("another leader", || servers.iter().all(|server| server.consensus.leader_id().is_some_and(|leader| leader != dead_id))).await;
    for server in &servers {
        server.consensus.propose(put("after", "it")).await.unwrap();
        for n in 0..100 {
            assert_eq!(value(&server.consensus, &format!("k{n}")).await.as_deref(), Some("v"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_quorum_nothing_is_acknowledged_and_nothing_read_as_fresh() {
    let mut servers = cluster(3).await;
    let last = servers.pop().unwrap();
    for server in servers {
        server.kill().await;
    }
    assert!(last.consensus.propose(put("a", "1")).await.is_err());
    assert!(last.consensus.read(Consistency::Linearizable).await.is_err());
    assert!(last.consensus.read(Consistency::Stale).await.is_ok(), "what is here can still be read as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_late_gets_a_snapshot_and_a_vote() {
    let mut servers = cluster(1).await;
    for n in 0..12_000u32 {
        let write = servers[0].consensus.propose(put(&format!("k{n}"), "v"));
        write.await.unwrap();
    }
    let first = servers[0].consensus.clone();
    first.inner.raft.trigger().snapshot().await.unwrap();
    until("the state is on disk", || first.status().flushed >= 12_000).await;
    first.inner.raft.trigger().purge_log(12_000).await.unwrap();
    let late = Server::start(2).await;
    first.add_learner(2, late.member.clone()).await.unwrap();
    until("it has caught up", || first.followers().get(&2).is_some_and(|late| late.last_index >= 12_000)).await;
    first.add_voter(2).await.unwrap();
    late.consensus.ready().await.unwrap();
    assert_eq!(value(&late.consensus, "k7").await.as_deref(), Some("v"));
    assert!(first.status().peers.iter().any(|peer| peer.id == 2 && peer.voter));
    assert_eq!(late.consensus.tables().meta().incarnation, first.tables().meta().incarnation);
    servers.push(late);

    first.transfer_leadership(2).await.unwrap();
    until("the other one leads", || servers[1].consensus.is_leader()).await;
    servers[1].consensus.remove_server(1).await.unwrap();
    assert_eq!(servers[1].consensus.status().peers.len(), 1);
    servers[1].consensus.propose(put("alone", "again")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_a_quorum_lets_nobody_form_another() {
    let servers = cluster(1).await;
    let new = Server::start(5).await;
    let members = BTreeMap::from([(5, new.member.clone()), (1, servers[0].member.clone())]);
    let refused = new.consensus.form(members).await.unwrap().unwrap_err();
    assert!(refused.contains("`n1` belongs to a quorum already"), "{refused}");
    assert!(!new.consensus.is_initialized().await.unwrap());
    let identified = new.consensus.identify(&servers[0].member.address).await.unwrap();
    assert_eq!((identified.id, identified.initialized, identified.datacenter.as_str()), (1, true, "dc1"));
    assert_ne!(identified.cluster, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_another_server_is_refused() {
    let servers = cluster(1).await;
    let mut client = servers[0].consensus.peers().client(&servers[0].member.address).await.unwrap();
    let wrong = proto::internal::v1::ReadIndexRequest { to: 77, leased: false };
    let status = client.read_index(wrong).await.unwrap_err();
    assert!(status.message().contains("server 77, but server 1 lives"), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_just_started_votes_for_nobody_while_a_lease_from_before_may_run() {
    let vote = crate::types::Vote::new(3, 1);
    let recovered = store::log::Recovered { vote: Some(crate::encode::vote_to_bytes(&vote)), ..Default::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let started = Instant::now();
    let storage = Storage::Log { log: store::log::LogHandle::in_memory(), recovered };
    let server = Server::start_on(2, listener, storage).await;
    let mut client = Peers::new(net::Network::host()).client(&server.member.address).await.unwrap();
    let ask = openraft::raft::VoteRequest::new(crate::types::Vote::new(9, 7), Some(crate::encode::log_id(8, 100)));
    let request = crate::peer::wire::vote_request(2, &ask, false);
    let early = client.vote(request).await;
    if started.elapsed() < start::LEASE {
        assert_eq!(early.unwrap_err().code(), tonic::Code::Unavailable);
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let granted = loop {
        match client.vote(request).await {
            Ok(answer) => break answer.into_inner().granted,
            Err(status) => assert!(Instant::now() < deadline, "{status}"),
        }
        sleep(Duration::from_millis(5)).await;
    };
    assert!(granted && started.elapsed() >= start::LEASE);
}
