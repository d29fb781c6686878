//! Transfers that break off: over a link that is cut, by a restart, by another leader, by damage. What was sent
//! once is not sent again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::internal::v1::install_snapshot_request::Part;
use proto::internal::v1::install_snapshot_response::Part as Answer;
use store::log::LogOptions;
use store::pieces;
use store::state_store::{StateOptions, StateStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;
use crate::cluster_tests::{Server, cluster, leader_of, put, until, value};
use crate::{Consensus, Member, Storage, encode};

/// Bytes of each value, and how many there are.
const VALUE: usize = 40_000;
const KEYS: usize = 300;

/// Bytes of the whole state, about.
const STATE: u64 = (VALUE * KEYS) as u64;

/// Keys that `consensus` has only in its state, and no more in its log.
async fn fill(consensus: &Consensus) {
    for n in 0..KEYS {
        let value = format!("{n:0VALUE$}");
        consensus.propose(put(&format!("k/{n:04}"), &value)).await.unwrap();
    }
    let last = consensus.tables().log_applied();
    consensus.inner.raft.trigger().snapshot().await.unwrap();
    until("the state is on disk", || consensus.status().flushed >= last).await;
    consensus.inner.raft.trigger().purge_log(last).await.unwrap();
}

/// What stands between the others and one server. It lets some bytes through to it and then cuts every connection, until more
/// are allowed.
struct Link {
    /// Where the others find the server.
    member: Member,
    /// Where it listens itself.
    inside: String,
    allowed: Arc<AtomicI64>,
    passed: Arc<AtomicU64>,
}

impl Link {
    async fn new(id: u64, allowed: u64) -> (Link, TcpListener) {
        let (outside, inside) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let member = Member { name: format!("n{id}"), address: outside.local_addr().unwrap().to_string() };
        let link = Link {
            member,
            inside: inside.local_addr().unwrap().to_string(),
            allowed: Arc::new(AtomicI64::new(allowed as i64)),
            passed: Arc::default(),
        };
        let (allowed, passed, target) = (link.allowed.clone(), link.passed.clone(), link.inside.clone());
        tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let Ok((from, _)) = outside.accept().await else { return };
                let (allowed, passed, target) = (allowed.clone(), passed.clone(), target.clone());
                connections.spawn(async move {
                    if allowed.load(Ordering::SeqCst) > 0
                        && let Ok(to) = TcpStream::connect(target).await
                    {
                        carry(from, to, &allowed, &passed).await;
                    }
                });
            }
        });
        (link, inside)
    }

    fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    fn is_cut(&self) -> bool {
        self.allowed.load(Ordering::SeqCst) <= 0
    }

    fn mend(&self, bytes: u64) {
        self.allowed.store(bytes as i64, Ordering::SeqCst);
    }
}

async fn carry(mut from: TcpStream, mut to: TcpStream, allowed: &AtomicI64, passed: &AtomicU64) {
    let ((mut from_read, mut from_write), (mut to_read, mut to_write)) = (from.split(), to.split());
    let there = async {
        let mut piece = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from_read.read(&mut piece).await {
            if allowed.fetch_sub(count as i64, Ordering::SeqCst) <= count as i64 || to_write.write_all(&piece[..count]).await.is_err() {
                return;
            }
            passed.fetch_add(count as u64, Ordering::SeqCst);
        }
    };
    // Once the link is cut nothing comes back over it either.
    let back = async {
        tokio::io::copy(&mut to_read, &mut from_write).await.map(drop).unwrap_or_default();
    };
    let cut = async {
        while allowed.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = there => {}
        () = back => {}
        () = cut => {}
    }
}

const EVERYTHING: u64 = u64::MAX / 4;

async fn durable(dir: &TempDir) -> Storage {
    for part in ["log", "state"] {
        std::fs::create_dir_all(dir.path().join(part)).unwrap();
    }
    let options = LogOptions { segment_bytes: 1 << 20, first_segment_bytes: 1 << 20, ..LogOptions::default() };
    let mut opened = None;
    // The tasks of a server that was killed let go of its files a moment later.
    until("nobody else has it open", || {
        opened = StateStore::open(&dir.path().join("state"), StateOptions { map_bytes: 1 << 30 }).ok();
        opened.is_some()
    })
    .await;
    let state = opened.unwrap();
    let (log, recovered) = store::log::open(&dir.path().join("log"), options).unwrap();
    Storage::Durable { log, recovered, state, arriving: dir.path().join("arriving") }
}

/// Takes the server behind `link` in, as soon as it can be reached.
fn add(leader: &Consensus, id: u64, link: &Link) -> tokio::task::JoinHandle<()> {
    let (leader, member) = (leader.clone(), link.member.clone());
    tokio::spawn(async move { leader.add_learner(id, member).await.unwrap_or_default() })
}

fn rows(consensus: &Consensus) -> Vec<String> {
    consensus.tables().rows().skip(1).map(|row| format!("{row:?}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_link_that_is_cut_twice_the_state_goes_once_while_writes_go_on() {
    let servers = cluster(1).await;
    let leader = servers[0].consensus.clone();
    fill(&leader).await;
    let (link, inside) = Link::new(2, STATE / 3).await;
    let late = Server::start_on(2, inside, Storage::Memory).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, writer) = (stop.clone(), leader.clone());
    let writing = tokio::spawn(async move {
        let mut n = 0;
        while !stopped.load(Ordering::Relaxed) {
            writer.propose(put(&format!("w/{n}"), "v")).await.unwrap();
            n += 1;
        }
        n
    });
    let adding = add(&leader, 2, &link);
    for _ in 0..2 {
        until("the link is cut", || link.is_cut()).await;
        let seen = leader.tables().log_applied();
        until("writes go on", || leader.tables().log_applied() > seen + 10).await;
        link.mend(STATE / 3);
    }
    until("the link is cut", || link.is_cut()).await;
    assert!(late.consensus.tables().kv_get(b"k/0000").value.is_none(), "nothing of a part is visible");
    link.mend(EVERYTHING);
    adding.await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    assert!(written > 20);
    late.consensus.ready().await.unwrap();
    let target = leader.tables().log_applied();
    until("it has caught up", || late.consensus.tables().log_applied() >= target).await;
    assert_eq!(rows(&late.consensus), rows(&leader));
    let sent = link.passed();
    assert!(
        (STATE..STATE * 3 / 2).contains(&sent),
        "{sent} bytes for a state of {STATE}; three times from the start would be twice as much"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_started_again_goes_on_from_its_disk() {
    let servers = cluster(1).await;
    let leader = servers[0].consensus.clone();
    fill(&leader).await;
    let dir = TempDir::new().unwrap();
    let (link, inside) = Link::new(2, STATE / 2).await;
    let late = Server::start_on(2, inside, durable(&dir).await).await;
    let adding = add(&leader, 2, &link);
    until("the link is cut", || link.is_cut()).await;
    late.kill().await;
    // A file that a power failure left torn.
    let torn = std::fs::read_dir(dir.path().join("arriving")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&torn, b"torn").unwrap();

    let inside = TcpListener::bind(&link.inside).await.unwrap();
    let late = Server::start_on(2, inside, durable(&dir).await).await;
    link.mend(EVERYTHING);
    adding.await.unwrap();
    until("it has caught up", || late.consensus.tables().log_applied() >= leader.tables().log_applied()).await;
    assert_eq!(rows(&late.consensus), rows(&leader));
    assert!(link.passed() < STATE * 5 / 4, "{} bytes for a state of {STATE}", link.passed());
    until("nothing is left of the transfer", || !dir.path().join("arriving").exists()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_leader_goes_on_where_the_first_one_ended() {
    let servers = cluster(3).await;
    let first = leader_of(&servers);
    fill(&servers[first].consensus).await;
    for server in &servers {
        let last = servers[first].consensus.tables().log_applied();
        until("it has applied all", || server.consensus.tables().log_applied() >= last).await;
        server.consensus.inner.raft.trigger().snapshot().await.unwrap();
        until("the state is on disk", || server.consensus.status().flushed >= last).await;
        server.consensus.inner.raft.trigger().purge_log(last).await.unwrap();
    }
    let (link, inside) = Link::new(9, STATE / 2).await;
    let late = Server::start_on(9, inside, Storage::Memory).await;
    let adding = add(&servers[first].consensus, 9, &link);
    until("the link is cut", || link.is_cut()).await;
    let second = (first + 1) % 3;
    servers[first].consensus.transfer_leadership(servers[second].consensus.id()).await.unwrap();
    until("another leads", || servers[second].consensus.is_leader()).await;
    servers[second].consensus.propose(put("after", "v")).await.unwrap();
    link.mend(EVERYTHING);
    until("it has caught up", || late.consensus.tables().kv_get(b"after").value.is_some()).await;
    assert_eq!(rows(&late.consensus), rows(&servers[second].consensus));
    assert!(link.passed() < STATE * 5 / 4, "{} bytes for a state of {STATE}", link.passed());
    adding.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_lags_gets_what_has_changed() {
    let servers = cluster(1).await;
    let leader = servers[0].consensus.clone();
    fill(&leader).await;
    let (link, inside) = Link::new(2, EVERYTHING).await;
    let late = Server::start_on(2, inside, Storage::Memory).await;
    add(&leader, 2, &link).await.unwrap();
    assert_eq!(value(&late.consensus, "k/0007").await.unwrap().len(), VALUE);

    link.mend(0);
    leader.propose(put("k/0007", "changed")).await.unwrap();
    let last = leader.tables().log_applied();
    leader.inner.raft.trigger().snapshot().await.unwrap();
    until("the state is on disk", || leader.status().flushed >= last).await;
    leader.inner.raft.trigger().purge_log(last).await.unwrap();
    let before = link.passed();
    link.mend(EVERYTHING);
    until("it has caught up", || late.consensus.tables().log_applied() >= last).await;
    assert_eq!(rows(&late.consensus), rows(&leader));
    let sent = link.passed() - before;
    assert!(sent < STATE / 4, "{sent} bytes of {STATE} for one key");
}

/// A head and the pieces that it names.
fn snapshot_of(consensus: &Consensus, to: u64) -> (pb::SnapshotHead, Vec<Vec<Bytes>>) {
    let tables = consensus.tables();
    let all = pieces::of(&tables);
    let mut bodies = Vec::new();
    let places: Vec<u32> = (0..all.len() as u32).collect();
    pieces::select(&tables, &all, &places, |rows| {
        bodies.push(rows);
        true
    });
    let id = encode::log_id(1_000, tables.log_applied());
    let mut head = pb::SnapshotHead {
        to,
        vote: Some(proto::storage::v1::Vote { term: 1_000, node_id: 99, committed: true }),
        applied: Some(encode::applied_to_proto(&id, &Default::default())),
        pieces: all.iter().map(|piece| pb::SnapshotPiece { sha256: piece.name.0.to_vec().into(), bytes: piece.bytes }).collect(),
        ..Default::default()
    };
    head.sha256 = digest(&head);
    (head, bodies)
}

/// Sends a head, and what `rest` makes of what is wanted.
async fn offer(
    to: &Server,
    head: &pb::SnapshotHead,
    rest: impl FnOnce(&[u32]) -> Vec<Part>,
) -> Result<(Vec<u32>, Option<Answer>), tonic::Status> {
    let mut client = to.consensus.peers().client(&to.member.address).await.unwrap();
    let (queue, queued) = tokio::sync::mpsc::channel(1000);
    let send = |part| queue.try_send(pb::InstallSnapshotRequest { part: Some(part) }).unwrap();
    send(Part::Head(head.clone()));
    let mut answers = client.install_snapshot(tokio_stream::wrappers::ReceiverStream::new(queued)).await?.into_inner();
    let Some(Answer::Wanted(wanted)) = answers.message().await?.and_then(|answer| answer.part) else { panic!("it says what it wants") };
    rest(&wanted.places).into_iter().for_each(send);
    drop(queue);
    Ok((wanted.places, answers.message().await?.and_then(|answer| answer.part)))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_flipped_bit_is_refused_and_only_that_piece_comes_again() {
    let source = cluster(1).await;
    fill(&source[0].consensus).await;
    let target = Server::start_on(2, TcpListener::bind("127.0.0.1:0").await.unwrap(), Storage::Memory).await;
    let (head, bodies) = snapshot_of(&source[0].consensus, 2);
    let end = Part::End(pb::SnapshotEnd { rows: bodies.iter().map(|rows| rows.len() as u64).sum(), sha256: head.sha256.clone() });
    let piece = |place: usize| Part::Rows(pb::SnapshotRows { rows: bodies[place].clone() });
    let flipped = |place: usize| {
        let mut rows = bodies[place].clone();
        let mut row = rows[0].to_vec();
        let middle = row.len() / 2;
        row[middle] ^= 1;
        rows[0] = row.into();
        Part::Rows(pb::SnapshotRows { rows })
    };

    let mut wrong = head.clone();
    wrong.applied.as_mut().unwrap().log_id.as_mut().unwrap().index += 1;
    let status = offer(&target, &wrong, |_| Vec::new()).await.unwrap_err();
    assert!(status.message().contains("its head does not fit"), "{status}");

    let status = offer(&target, &head, |_| vec![piece(0), piece(1), flipped(2), piece(3)]).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DataLoss);
    assert!(status.message().contains("a piece does not fit its digest"), "{status}");
    assert_eq!(target.consensus.tables().rows().count(), 1, "nothing of it is visible");

    let status = offer(&target, &head, |wanted| {
        assert_eq!(wanted[..2], [2, 3], "what was whole is kept, what was damaged is not");
        vec![piece(2), end.clone()]
    });
    let status = status.await.unwrap_err();
    assert!(status.message().contains("it has ended before its end"), "{status}");

    let (wanted, answer) =
        offer(&target, &head, |wanted| wanted.iter().map(|place| piece(*place as usize)).chain([end.clone()]).collect()).await.unwrap();
    assert_eq!(wanted, (3..bodies.len() as u32).collect::<Vec<_>>());
    assert!(matches!(answer, Some(Answer::Installed(vote)) if vote.term == 1_000), "it is installed");
    assert_eq!(rows(&target.consensus), rows(&source[0].consensus));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_no_pieces_or_means_another_server_is_refused() {
    let target = Server::start_on(2, TcpListener::bind("127.0.0.1:0").await.unwrap(), Storage::Memory).await;
    let source = cluster(1).await;
    let (head, _) = snapshot_of(&source[0].consensus, 2);
    let nameless = pb::SnapshotHead { pieces: Vec::new(), ..head.clone() };
    let status = offer(&target, &nameless, |_| Vec::new()).await.unwrap_err();
    assert!(status.message().contains("the same release"), "{status}");
    let status = offer(&target, &pb::SnapshotHead { to: 3, ..head }, |_| Vec::new()).await.unwrap_err();
    assert!(status.message().contains("server 3, but server 2"), "{status}");
}
