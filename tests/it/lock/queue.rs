//! Many who wait for one lock.

use std::collections::HashMap;
use std::time::Duration;

use harness::Node;
use lictor_client::{Client, v1};
use tokio::sync::mpsc;
use v1::lock_service_acquire_request::Holder;
use v1::lock_service_acquire_response::State;
use v1::lock_service_client::LockServiceClient;

use super::amount;

/// Streams on one connection.
const TOGETHER: usize = 250;

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_who_wait_each_release_wakes_exactly_one() {
    let count = amount("LICTOR_LOCK_WAITERS", 1_000);
    let node = Node::dev();
    let client = node.client().await;
    let (tell, mut told) = mpsc::channel(count);
    let mut order = Vec::new();
    let mut tasks = Vec::new();
    let mut connection = None;
    for n in 0..count {
        if n % TOGETHER == 0 {
            connection = Some(Client::connect(node.addresses().grpc).await.unwrap());
        }
        let channel = connection.as_ref().unwrap().channel();
        let request = v1::SessionServiceCreateRequest { ignore_node_failure: true, ..Default::default() };
        let session = client.sessions().create(request).await.unwrap().id;
        let holder = Some(Holder::SessionId(session.clone()));
        let request = v1::LockServiceAcquireRequest { key: "busy".into(), holder, ..Default::default() };
        // The stream begins once the place is taken: so the order is known.
        let mut stream = LockServiceClient::new(channel).acquire(request).await.unwrap().into_inner();
        order.push(session.clone());
        let tell = tell.clone();
        tasks.push(tokio::spawn(async move {
            while let Ok(Some(message)) = stream.message().await {
                match message.state.unwrap() {
                    State::Granted(granted) => tell.send((session.clone(), granted.fence.unwrap().token)).await.unwrap(),
                    State::Lost(_) => return,
                    State::Queued(_) | State::Extended(_) => {}
                }
            }
        }));
    }
    let mut observed = client.observe_lock("busy");
    let holders = observed.next().await.unwrap();
    assert_eq!((holders[0].session_id.as_str(), holders[0].waiting), (order[0].as_str(), count as u64 - 1));

    let mut last = 0;
    let mut grants: HashMap<String, usize> = HashMap::new();
    for session in &order {
        let (granted, token) = tokio::time::timeout(Duration::from_secs(30), told.recv()).await.expect("the next one is told").unwrap();
        assert_eq!(&granted, session, "first come, first served");
        assert!(token > last, "tokens grow");
        last = token;
        *grants.entry(granted).or_default() += 1;
        assert!(told.try_recv().is_err(), "nobody else is told");
        let release = v1::LockServiceReleaseRequest { key: "busy".into(), session_id: session.clone(), ..Default::default() };
        LockServiceClient::new(client.channel()).release(release).await.unwrap();
    }
    assert!(grants.len() == count && grants.values().all(|times| *times == 1));
    for task in tasks {
        task.await.unwrap();
    }
}
