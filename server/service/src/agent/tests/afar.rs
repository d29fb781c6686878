//! An agent without a log: the catalog it keeps in line is on a server.

use std::sync::atomic::{AtomicBool, Ordering};

use consensus::Remote;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;

/// A running agent, and whether it can reach its server.
async fn afar(set_up: impl FnOnce(&mut AgentOptions)) -> (Rig, Arc<AtomicBool>) {
    let service = testing::dev().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = tonic::transport::Server::builder().add_service(service.consensus().remote_service());
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    let reachable = Arc::new(AtomicBool::new(true));
    let candidates = {
        let reachable = reachable.clone();
        move || if reachable.load(Ordering::Relaxed) { vec![address.clone()] } else { Vec::new() }
    };
    let remote = Remote::new(net::Network::host(), Arc::new(candidates));
    let mut rig = Rig::over(service, remote.into(), None, set_up);
    rig.run();
    eventually("the first comparison is over", || rig.catalog()).await;
    (rig, reachable)
}

async fn status(rig: &Rig, status: Status) {
    rig.agent.update_ttl(&caller(), "service:web1", status, "").await.unwrap();
    assert_eq!(rig.catalog_check("service:web1").unwrap().status, status);
}

#[tokio::test]
async fn what_was_registered_a_moment_ago_can_be_deregistered() {
    let (rig, _) = afar(|_| {}).await;
    rig.register(with_checks([ttl("")])).await;
    assert_eq!(rig.catalog().unwrap().services.len(), 1);
    rig.agent.deregister_service(&caller(), "web1").await.unwrap();
    let view = rig.catalog().unwrap();
    assert_eq!((view.services.len(), view.checks.len()), (0, 0), "no comparison of everything is waited for");
}

#[tokio::test]
async fn a_check_that_comes_back_to_what_it_was_is_written() {
    let (rig, _) = afar(|_| {}).await;
    rig.register(with_checks([ttl("")])).await;
    for flip in [Status::Passing, Status::Critical, Status::Passing, Status::Critical] {
        status(&rig, flip).await;
    }
}

#[tokio::test]
async fn what_is_as_it_was_written_is_not_written_again() {
    let (rig, _) = afar(|_| {}).await;
    rig.register(with_checks([ttl("")])).await;
    let before = rig.service.consensus().tables().applied();
    rig.register(with_checks([ttl("")])).await;
    assert_eq!(rig.service.consensus().tables().applied(), before);
}

#[tokio::test]
async fn what_changed_while_no_server_could_be_reached_is_written_when_one_can() {
    let (rig, reachable) = afar(|_| {}).await;
    rig.register(with_checks([ttl("")])).await;
    status(&rig, Status::Passing).await;
    reachable.store(false, Ordering::Relaxed);
    rig.agent.update_ttl(&caller(), "service:web1", Status::Critical, "").await.unwrap();
    rig.agent.deregister_service(&caller(), "web1").await.unwrap();
    assert_eq!(rig.catalog_check("service:web1").unwrap().status, Status::Passing);
    reachable.store(true, Ordering::Relaxed);
    eventually("the instance is gone", || rig.catalog().filter(|view| view.services.is_empty())).await;
}
