//! The face over a real service and a real connection.

mod agent;
mod catalog;
mod client;
mod event;
mod face;
mod holder;
mod kv;
mod limits;
mod lock;
mod session;
mod watch;

use std::net::SocketAddr;
use std::time::Duration;

use lictor_client::Client;
use service::{Limits, Service};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::{Error, RpcOptions, serve};

/// Longer than anything here can take, so that a fault fails instead of hanging.
const DEADLINE: Duration = Duration::from_secs(20);

/// A server on a free port of the loopback interface, stopped when dropped.
struct Server {
    service: Service,
    address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
    _guard: DropGuard,
}

impl Server {
    async fn start() -> Self {
        Self::start_with(Limits::default(), |_| {}).await
    }

    async fn start_with(limits: Limits, adjust: impl FnOnce(&mut RpcOptions)) -> Self {
        let service = service::testing::dev_with(limits).await;
        let mut options = RpcOptions::new(service.limits());
        adjust(&mut options);
        Self::serve(service, options, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    async fn serve(service: Service, options: RpcOptions, address: SocketAddr) -> Self {
        let listener = net::Network::host().listen(address).await.unwrap();
        let address = listener.local_address().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(service.clone(), options, listener, stop.clone()));
        Server { service, address, _guard: stop.clone().drop_guard(), stop, task }
    }

    /// A connection for generated clients.
    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    /// The client of the product.
    async fn client(&self) -> Client {
        Client::connect(self.address).await.unwrap()
    }
}

/// What `work` gives, which must come in time.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("an answer in time")
}

/// The code and the reason of a refusal.
fn refused(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}
