//! Sessions whose leader is killed or stopped: none ends before its TTL, and none lives on for long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use harness::{Node, PATIENCE, eventually};
use lictor_client::{Client, ReadOptions, v1};

use super::amount;
use crate::cluster::fleet::Fleet;

const TTL: Duration = Duration::from_millis(2_000);

/// Sessions of one round, begun at different times.
const SESSIONS: usize = 12;

/// How late something may be seen here that happened in time there: two busy cores, and polling.
const SEEN_LATE: Duration = Duration::from_millis(1_500);

fn leads(node: &Node) -> Option<String> {
    let answer = node.http().try_send("GET", "/v1/status/leader", &[], b"").ok()?;
    Some(answer.text().trim_matches('"').to_owned()).filter(|at| !at.is_empty())
}

/// The sessions that a server knows of, once it knows of everything up to `revision`.
async fn sessions(client: &Client, revision: u64) -> Option<Vec<String>> {
    let list = client.sessions().list("", &ReadOptions::stale().at_least(revision)).await.ok()?;
    Some(list.value.into_iter().map(|session| session.id).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_in_time_although_its_leader_does_not_live_to_see_it() {
    let rounds = amount("LICTOR_EXPIRY_ROUNDS", 3);
    let mut fleet = Fleet::with("dc1", 3, 0, |setup| setup.config("session_ttl_min = \"1s\""));
    let (mut earliest, mut latest) = (Duration::MAX, Duration::ZERO);
    for round in 0..rounds {
        let at = eventually!(PATIENCE, leads(&fleet.servers[round % 3]), "somebody leads in round {round}");
        let old = fleet.servers.iter().position(|node| at.starts_with(&node.setup().address().to_string())).unwrap();
        let others = [(old + 1) % 3, (old + 2) % 3];
        let client = Client::connect(fleet.servers[others[0]].addresses().grpc).await.unwrap();
        // The last renewal was sent at some time, and answered before it is noted here.
        let mut renewed: BTreeMap<String, Instant> = BTreeMap::new();
        let mut begun_at = 0;
        for n in 0..SESSIONS {
            let ttl = Some(TTL.try_into().unwrap());
            let request = v1::SessionServiceCreateRequest { ttl, ignore_node_failure: true, ..Default::default() };
            let mut sent = Instant::now();
            let session = client.sessions().create(request).await.unwrap();
            tokio::time::sleep(Duration::from_millis(60)).await;
            if n % 2 == 0 {
                let again = Instant::now();
                if let Err(error) = client.sessions().renew(&session.id, "").await {
                    assert!(sent.elapsed() >= TTL, "round {round}: not renewed after {:?}: {error}", sent.elapsed());
                    continue;
                }
                sent = again;
            }
            begun_at = begun_at.max(session.create_index);
            renewed.insert(session.id, sent);
        }
        if round % 2 == 0 {
            fleet.servers[old].kill()
        } else {
            fleet.servers[old].pause()
        }
        let watched = &fleet.servers[others[1]];
        let observer = Client::connect(watched.addresses().grpc).await.unwrap();
        let mut elected: Option<Instant> = None;
        let mut left = renewed.clone();
        let begun = Instant::now();
        while !left.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "round {round}: {left:?} live for ever");
            if elected.is_none() && leads(watched).is_some_and(|now| now != at) {
                elected = Some(Instant::now());
            }
            if let Some(list) = sessions(&observer, begun_at).await {
                let seen = Instant::now();
                left.retain(|id, sent| {
                    if list.contains(id) {
                        return true;
                    }
                    let lived = seen - *sent;
                    assert!(lived >= TTL, "round {round}: a session ended {lived:?} after its renewal was sent");
                    earliest = earliest.min(lived);
                    if let Some(elected) = elected {
                        let after = seen.saturating_duration_since(elected);
                        assert!(after <= TTL + Duration::from_secs(1) + SEEN_LATE, "round {round}: lived for {after:?} after the election");
                        latest = latest.max(after);
                    }
                    false
                });
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(elected.is_some(), "round {round}: sessions end once somebody leads");
        if round % 2 == 0 { fleet.servers[old].restart() } else { fleet.servers[old].resume() }
    }
    println!(
        "{rounds} rounds: sessions lived for at least {earliest:?} after their renewal was sent, and at most {latest:?} after the election"
    );
}
