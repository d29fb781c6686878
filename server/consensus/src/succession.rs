//! Standing for election as soon as it may succeed, when the leader's process has ended.
//!
//! A leader that falls silent is given up after the longest election timeout and a random time on top,
//! because silence may be a pause or a lost packet. But when its streams break and its host says that
//! nobody listens where it lived, there is nothing to wait for except its lease: until that is over the
//! others refuse their votes, and it might still have answered reads by it. So the followers stand one
//! after the other from then on, and the random time is left out.
//!
//! It is a hint and no more: who is elected, and when, is decided by votes as ever.

use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::counter;
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::start::LEASE;
use crate::{Inner, status};

/// The looks at the place where the leader lived, after its stream broke: the pauses before each. Its
/// listening socket may be closed a little later than the stream.
const LOOKS: [Duration; 4] = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(50), Duration::from_millis(200)];

/// How long a look may take.
const LOOK: Duration = Duration::from_millis(300);

/// Between two followers that stand: longer than an election takes.
const TURN: Duration = Duration::from_millis(50);

/// How often a follower stands before it leaves the rest to the ordinary timeouts.
const ATTEMPTS: usize = 8;

/// A little after the lease: the others count from when they heard, not from when this server did.
const MARGIN: Duration = Duration::from_millis(10);

/// Told when a leader's stream ends.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Notify>);

impl Streams {
    /// A guard to be dropped with the stream.
    pub(crate) fn open(&self) -> OpenStream {
        OpenStream(self.0.clone())
    }
}

/// One stream from a leader, for as long as it lasts.
pub(crate) struct OpenStream(Arc<Notify>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// Looks after the leader whenever a stream has ended, until consensus stops. It holds on to nothing while it waits: what
/// consensus keeps open is closed with its last handle.
pub(crate) async fn run(inner: Weak<Inner>, streams: Streams, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = streams.0.notified() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let Some(leader) = *inner.leader.borrow() else { continue };
        if leader != inner.id && is_gone(&inner, leader).await {
            succeed(&inner, leader).await;
        }
    }
}

/// Whether the leader's host says that nobody listens where the leader lived.
async fn is_gone(inner: &Inner, leader: u64) -> bool {
    for pause in LOOKS {
        sleep(pause).await;
        let Some(address) = status::address_of(&inner.raft, &inner.peers, leader) else { return false };
        match inner.peers.network().connect(&address, LOOK).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                tracing::info!(leader, address, "the leader's process has ended: nobody listens there any more");
                counter!("consul_raft_leader_ended").increment(1);
                return true;
            }
            _ => {}
        }
    }
    false
}

/// Stands for election in this server's turn, once the lease is over.
async fn succeed(inner: &Inner, dead: u64) {
    let mut leader = inner.leader.clone();
    let replaced = async {
        // Without a sender consensus has stopped.
        let _ = leader.wait_for(|leader| *leader != Some(dead)).await;
    };
    let stand = async {
        sleep((LEASE + MARGIN).saturating_sub(inner.contact.age())).await;
        if inner.contact.age() < LEASE {
            return;
        }
        let voters: Vec<u64> = inner.raft.voter_ids().filter(|voter| *voter != dead).collect();
        let Some(turn) = voters.iter().position(|voter| *voter == inner.id) else { return };
        let round = TURN * u32::try_from(voters.len()).unwrap_or(1);
        sleep(TURN * u32::try_from(turn).unwrap_or(0)).await;
        for _ in 0..ATTEMPTS {
            if let Err(error) = inner.raft.trigger().elect(true).await {
                tracing::debug!(%error, "cannot stand for election");
                return;
            }
            sleep(round).await;
        }
    };
    tokio::select! {
        () = replaced => {}
        () = stand => {}
    }
}
