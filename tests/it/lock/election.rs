//! One of many leads: each recipe of `docs/locks.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{PATIENCE, eventually};
use lictor_client::{Client, SessionOptions};
use tokio::task::JoinHandle;

use crate::cluster::fleet::Fleet;

/// A candidate that leads until it is aborted.
async fn candidate(client: Client, name: usize, leading: Arc<AtomicUsize>, most: Arc<AtomicUsize>) {
    let session = SessionOptions { lock_delay: Some(Duration::ZERO), ignore_node_failure: true, ..SessionOptions::default() };
    let election = client.election("service/grpc/leader").session(session);
    loop {
        let Ok(lock) = election.campaign(name.to_string()).await else { continue };
        most.fetch_max(leading.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let guard = Leads(leading.clone());
        lock.lost().await;
        drop(guard);
    }
}

/// Counted while it lives.
struct Leads(Arc<AtomicUsize>);

impl Drop for Leads {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_four_candidates_one_leads_and_another_takes_over() {
    let fleet = Fleet::start("dc1", 1, 1);
    // By way of an agent without a log, as applications do.
    let grpc = fleet.clients[0].addresses().grpc;
    let (leading, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut candidates: Vec<JoinHandle<()>> = Vec::new();
    for name in 0..4 {
        let client = Client::connect(grpc).await.unwrap();
        candidates.push(tokio::spawn(candidate(client, name, leading.clone(), most.clone())));
    }
    let mut observed = Client::connect(grpc).await.unwrap().election("service/grpc/leader").observe();
    let mut terms = Vec::new();
    while terms.len() < 4 {
        let holders = tokio::time::timeout(PATIENCE, observed.next()).await.expect("somebody leads, again and again").unwrap();
        let Some(holder) = holders.first() else { continue };
        assert!(terms.last().is_none_or(|last| *last < holder.fencing_token), "tokens grow");
        terms.push(holder.fencing_token);
        let name: usize = String::from_utf8_lossy(&holder.value).parse().unwrap();
        eventually!(PATIENCE, leading.load(Ordering::SeqCst) == 1, "{name} knows that it leads");
        // It ends in mid-work; dropping its lock gives it back.
        candidates[name].abort();
    }
    assert_eq!(most.load(Ordering::SeqCst), 1, "never two at once");
}
