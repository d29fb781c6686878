//! The leader's own entry in the catalog: its node, whether it is alive, and the service by which
//! servers are found.

use std::collections::BTreeMap;

use consensus::Consensus;
use state::anti_entropy::SERVER_SERVICE;
use state::catalog::register::SERF_HEALTH;
use state::{CheckInput, NodeInput, Operation, Outcome, Registration, ServiceInput, Status, Str};

use crate::Identity;
use crate::error::Error;
use crate::leader::members::give_way;

/// Registers this server: its node as `node` describes it, the check `serfHealth` as passing, and the
/// service `consul` at the port of the servers' own protocol.
///
/// Writes nothing where the catalog says so already. Safe to repeat; to be called when this server
/// starts; the leader does the same for all members. Errors: those of a write.
pub async fn reconcile_self(consensus: &Consensus, identity: &Identity, node: &NodeInput) -> Result<(), Error> {
    let registration = Operation::Register(Box::new(self_registration(identity, node)));
    // Whatever it was called before.
    let former = give_way(&consensus.tables(), &node.name, &node.id, |_| false);
    for operation in former.into_iter().chain([registration]) {
        if let Outcome::Refused(refusal) = consensus.propose(operation).await?.outcome {
            return Err(refusal.into());
        }
    }
    Ok(())
}

fn self_registration(identity: &Identity, node: &NodeInput) -> Registration {
    let meta: [(&str, &str); 2] = [("non_voter", "false"), ("version", identity.version)];
    let service = ServiceInput {
        id: SERVER_SERVICE.into(),
        name: SERVER_SERVICE.into(),
        port: u32::from(identity.server_port),
        meta: meta.into_iter().map(|(key, value)| (Str::from(key), Str::from(value))).collect::<BTreeMap<_, _>>(),
        ..Default::default()
    };
    let alive = CheckInput {
        id: SERF_HEALTH.into(),
        name: "Serf Health Status".into(),
        status: Status::Passing,
        output: "Agent alive and reachable".into(),
        ..Default::default()
    };
    Registration { node: node.clone(), skip_node_update: false, service: Some(service), checks: vec![alive] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn the_leader_is_found_in_its_own_catalog() {
        let service = testing::dev().await;
        let identity = service.identity().clone();
        let node = NodeInput { name: "leader".into(), address: "127.0.0.1".into(), datacenter: "dc1".into(), ..Default::default() };
        for _ in 0..2 {
            reconcile_self(service.consensus(), &identity, &node).await.unwrap();
        }
        let tables = service.consensus().tables();
        let view = tables.node("leader").unwrap();
        assert_eq!(view.services[SERVER_SERVICE].port, 8300);
        assert_eq!((view.checks[SERF_HEALTH].status, &*view.checks[SERF_HEALTH].output), (Status::Passing, "Agent alive and reachable"));
        assert_eq!(view.checks[SERF_HEALTH].create_index, view.index, "the second time nothing was written");
    }
}
