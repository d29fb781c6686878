//! Whether this server is ready, as the standard gRPC health service tells it.

use std::time::Duration;

use proto::v1;
use service::{Caller, Consistency, ReadOptions, Service};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// Services whose status follows readiness; the empty name stands for the server as a whole.
const SERVICES: [&str; 8] = [
    "",
    v1::kv_service_server::SERVICE_NAME,
    v1::catalog_service_server::SERVICE_NAME,
    v1::health_service_server::SERVICE_NAME,
    v1::watch_service_server::SERVICE_NAME,
    v1::agent_service_server::SERVICE_NAME,
    v1::status_service_server::SERVICE_NAME,
    v1::operator_service_server::SERVICE_NAME,
];

/// How often to look while the server is not ready: somebody waits for it. Once it takes long, it is
/// somebody else who is waited for.
const LOOK_WHILE_STARTING: Duration = Duration::from_millis(1);
const LOOK_WHILE_WAITING: Duration = Duration::from_millis(20);

/// How long a server alone takes to start, at most.
const STARTING: Duration = Duration::from_secs(2);

/// How often to look while it is.
const LOOK_WHILE_SERVING: Duration = Duration::from_millis(500);

/// Says that nothing is served yet.
pub(crate) async fn not_serving(reporter: &HealthReporter) {
    set(reporter, ServingStatus::NotServing).await;
}

/// Follows whether `is_ready` until `stop`; then nothing is served any more.
pub(crate) async fn follow(is_ready: impl Fn() -> bool, reporter: HealthReporter, stop: CancellationToken) {
    let mut serving = false;
    let begun = Instant::now();
    loop {
        let ready = is_ready();
        if ready != serving {
            serving = ready;
            set(&reporter, if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        }
        let pause = match serving {
            true => LOOK_WHILE_SERVING,
            false if begun.elapsed() < STARTING => LOOK_WHILE_STARTING,
            false => LOOK_WHILE_WAITING,
        };
        if stop.run_until_cancelled(sleep(pause)).await.is_none() {
            return not_serving(&reporter).await;
        }
    }
}

/// Whether a leader is known and what was acknowledged before a restart can be read.
pub(crate) fn is_ready(service: &Service) -> bool {
    let caller = Caller::default();
    service.directory_now(&caller, &ReadOptions::with(Consistency::Stale)).is_ok() && service.consensus_status().leader.is_some()
}

async fn set(reporter: &HealthReporter, status: ServingStatus) {
    for name in SERVICES {
        reporter.set_service_status(name, status).await;
    }
}
