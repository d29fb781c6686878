//! What only the leader does. Each duty is run when this server becomes the leader, and ends with its
//! leadership.

pub mod reconcile;

use std::time::Duration;

use state::NodeInput;
use tokio_util::sync::CancellationToken;

pub use reconcile::reconcile_self;

use crate::Service;

/// The pause before a duty that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Does the leader's duties whenever this server leads, until `stop`. `node` is this machine as the
/// catalog is to show it.
pub async fn run(service: Service, node: NodeInput, stop: CancellationToken) {
    let mut leader = service.consensus().leader();
    let own = service.consensus().id();
    loop {
        let led = stop.run_until_cancelled(leader.wait_for(|leader| *leader == Some(own))).await;
        if !matches!(led, Some(Ok(_))) {
            return;
        }
        drop(led);
        while let Err(error) = reconcile_self(service.consensus(), service.identity(), &node).await {
            tracing::warn!(%error, "this server is not in its own catalog yet; trying again");
            if stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return;
            }
        }
        let lost = stop.run_until_cancelled(leader.wait_for(|leader| *leader != Some(own))).await;
        if !matches!(lost, Some(Ok(_))) {
            return;
        }
        drop(lost);
    }
}
