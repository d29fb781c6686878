//! The DNS face: names in, the catalog's addresses out.
//!
//! A packet is read (`question`), looked up in one snapshot of the catalog (`resolve`), put in
//! records (`answer`), and fitted into a message (`limits`); `handler` joins the four. Names
//! outside our zones go to other servers (`recurse`). The sockets' loops (`udp`, `tcp`) call the
//! handler directly: answers come from memory, and handing a packet to another task would cost more
//! than the answer.

mod answer;
mod answerer;
mod bind;
mod endpoints;
mod handler;
mod limits;
mod metrics;
mod missing;
mod options;
mod question;
mod recurse;
mod resolve;
mod tcp;
mod udp;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use answerer::{Answerer, PATH};
pub use bind::{Sockets, bind};
pub use options::{BadDomain, DnsOptions, Domain, RecursorStrategy, ServiceTtl, Soa};

/// Answers questions on `sockets` until `stop`; questions that are waiting then are still answered.
pub async fn serve(answerer: Answerer, sockets: Sockets, stop: CancellationToken) {
    let tasks = TaskTracker::new();
    for socket in sockets.udp {
        tasks.spawn(udp::serve(answerer.clone(), Arc::from(socket), stop.clone()));
    }
    for listener in sockets.tcp {
        tasks.spawn(tcp::serve(answerer.clone(), listener, stop.clone()));
    }
    tasks.close();
    tasks.wait().await;
}
