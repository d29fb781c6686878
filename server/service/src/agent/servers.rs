//! A server that appears may hold a catalog that has lost what is registered here: its disk may be new.
//! So everything is compared soon, rather than at the next interval.

use std::collections::BTreeSet;

use gossip::{Pool, Status};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Agent;
use crate::leader::{Described, described};

/// The servers that were alive at the last look, by their numbers in the log.
#[derive(Default)]
struct Alive(BTreeSet<u64>);

impl Alive {
    /// Looks again: whether one is alive that was not.
    fn look(&mut self, servers: &[Described]) -> bool {
        let alive = servers.iter().filter(|server| server.status == Status::Alive);
        let before = std::mem::replace(&mut self.0, alive.map(|server| server.id).collect());
        !self.0.is_subset(&before)
    }
}

impl Agent {
    /// Has everything compared with the catalog, after a short time by chance, whenever `pool` tells of
    /// a server of this datacenter that was not alive before. Ends with `stop`.
    pub async fn follow_servers(self, pool: Pool, stop: CancellationToken) {
        let datacenter = self.inner.options.identity.datacenter.clone();
        let mut changes = pool.changes();
        let mut alive = Alive::default();
        alive.look(&described(&pool.members(), &datacenter));
        let follow = async {
            while changes.changed().await.is_ok() {
                changes.borrow_and_update();
                if alive.look(&described(&pool.members(), &datacenter)) {
                    sleep(self.pause_for_server()).await;
                    // Those that came meanwhile are compared with as well.
                    changes.borrow_and_update();
                    alive.look(&described(&pool.members(), &datacenter));
                    self.compare_everything();
                }
            }
        };
        stop.run_until_cancelled(follow).await;
    }
}

#[cfg(test)]
mod tests {
    use consensus::Member;

    use super::*;

    fn server(id: u64, status: Status) -> Described {
        Described { id, server: Member { name: "s".into(), address: "10.0.0.1:8300".into() }, status, expect: 1 }
    }

    #[test]
    fn a_server_appears_when_it_is_new_or_back_or_has_begun_anew() {
        let mut alive = Alive::default();
        assert!(alive.look(&[server(1, Status::Alive)]));
        assert!(!alive.look(&[server(1, Status::Alive)]));
        assert!(alive.look(&[server(1, Status::Alive), server(2, Status::Alive)]), "a new one");
        assert!(!alive.look(&[server(1, Status::Failed), server(2, Status::Alive)]));
        assert!(alive.look(&[server(1, Status::Alive), server(2, Status::Alive)]), "it is back");
        assert!(alive.look(&[server(1, Status::Alive), server(3, Status::Alive)]), "its disk is new");
    }
}
