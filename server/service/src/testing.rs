//! A whole service layer on throw-away storage, for the tests of the faces: real consensus, real
//! watches, no files and no ports.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use consensus::{Consensus, HistoryBounds, Member, Options, Start, Storage};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::agent::{Agent, AgentOptions};
use crate::cluster::Pools;
use crate::watch::Hub;
use crate::{Identity, Limits, Service};

/// Checks that may wait for a prober that is not there.
const CHANNEL: usize = 64;

/// A ready service with default limits: a server of datacenter `dc1` on node `dev`.
pub async fn dev() -> Service {
    dev_with(Limits::default()).await
}

/// A ready service with the given limits.
pub async fn dev_with(limits: Limits) -> Service {
    dev_in(None, limits, CancellationToken::new()).await
}

/// A ready service that is alone in a pool of its own, on a port of the loopback interface, and follows its events.
pub async fn dev_in_a_pool() -> Service {
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let sockets = gossip::Sockets::bind(&net::Network::host(), address).await.expect("the loopback interface has a free port");
    let options = gossip::Options {
        name: "dev".into(),
        node_id: "6f1d8a52-3a0c-4a5e-9f43-0d8b3f0a7c11".into(),
        advertise: address,
        tags: BTreeMap::new(),
        label: "lan:dc1".into(),
        bond: None,
        timing: gossip::Timing::local(),
        keyring: None,
        memory: None,
        keyring_file: None,
        rejoin_after_leave: false,
    };
    let lan = gossip::Pool::start(options, sockets).expect("its address is known");
    let pools = Pools { lan, wan: None, leave: Arc::new(|| Box::pin(async {})) };
    let stop = CancellationToken::new();
    let service = dev_in(Some(pools), Limits::default(), stop.clone()).await;
    tokio::spawn(service.follow_events(stop).expect("it takes part in a pool"));
    service
}

async fn dev_in(pools: Option<Pools>, limits: Limits, stop: CancellationToken) -> Service {
    let identity = Identity {
        node_name: "dev".into(),
        node_id: "6f1d8a52-3a0c-4a5e-9f43-0d8b3f0a7c11".into(),
        datacenter: "dc1".into(),
        address: "127.0.0.1".into(),
        server: true,
        server_port: 8300,
        wan_port: 0,
        raft_id: 1,
        expect: 1,
        version: "0.0.0",
    };
    let history = HistoryBounds { changes_max: limits.history_changes_max, bytes_max: limits.history_bytes_max };
    let hub = Hub::new(history.changes_max, history.bytes_max);
    tokio::spawn(hub.clone().run(stop.clone()));
    let member = Member { name: identity.node_name.to_string(), address: "127.0.0.1:8300".into() };
    let options = Options {
        id: 1,
        member,
        datacenter: "dc1".into(),
        start: Start::Alone,
        history,
        network: net::Network::host(),
        storage: Storage::Memory,
    };
    let consensus = Consensus::start(options, hub.clone()).await.expect("a quorum of one in memory always starts");
    consensus.ready().await.expect("a quorum of one in memory elects itself");
    let (prober, mut requests) = mpsc::channel(CHANNEL);
    let (reports, results) = mpsc::channel(CHANNEL);
    let node = state::NodeInput {
        id: identity.node_id.clone(),
        name: identity.node_name.clone(),
        address: identity.address.clone(),
        datacenter: identity.datacenter.clone(),
        ..Default::default()
    };
    let agent = Agent::new(AgentOptions::new(identity.clone(), node), (consensus.clone(), hub.clone()), prober).expect("nothing is loaded");
    tokio::spawn(agent.clone().run(results, stop));
    tokio::spawn(async move {
        while requests.recv().await.is_some() {}
        drop(reports);
    });
    Service::new(identity, limits, consensus, hub, agent, pools)
}
