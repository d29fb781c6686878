//! The catalog follows the pool: whoever is alive is a node in it, with a check `serfHealth` that
//! passes; whoever fails keeps the node and the check turns critical; whoever leaves is taken out.
//!
//! What an agent says of its own node (metadata, tagged addresses) is not touched here.

use std::collections::BTreeMap;

use gossip::{Member, Status as Alive};
use state::anti_entropy::SERVER_SERVICE;
use state::catalog::register::SERF_HEALTH;
use state::{CheckInput, Deregistration, NodeInput, NodeView, Operation, Registration, ServiceInput, Status, Str, Tables};

use crate::{CLUSTER_TAG, cluster_tag};

/// What `serfHealth` says of a member that answers, and of one that does not.
const ALIVE: &str = "Agent alive and reachable";
const FAILED: &str = "Agent not live or unreachable";

/// What has to be written for the catalog to show `members` of `datacenter`.
pub(super) fn operations(tables: &Tables, members: &[Member], datacenter: &str) -> Vec<Operation> {
    let here = members.iter().filter(|member| member.tags.get("dc").is_none_or(|dc| dc == datacenter));
    let cluster = cluster_tag(tables.meta().cluster);
    let is_foreign = |member: &Member| cluster.is_some() && member.tags.get(CLUSTER_TAG).is_some_and(|tag| Some(tag) != cluster.as_ref());
    here.flat_map(|member| match member.status {
        // A server of another cluster: nobody is to find it here.
        _ if is_foreign(member) => Vec::from_iter(forget(tables, &member.name)),
        Alive::Alive | Alive::Leaving => {
            let mut due = give_way(tables, &member.name, &member.node_id, |name| is_up(members, name));
            due.extend(show_alive(tables, member, datacenter));
            due
        }
        Alive::Failed => Vec::from_iter(show_failed(tables, &member.name)),
        Alive::Left => Vec::from_iter(forget(tables, &member.name)),
    })
    .collect()
}

fn is_up(members: &[Member], name: &str) -> bool {
    members.iter().any(|member| member.name == name && matches!(member.status, Alive::Alive | Alive::Leaving))
}

/// Nodes that count as alive although a living one has their name by now, as after a restore, or their id, as after it was
/// renamed: they are no more, unless `is_up` says so, and must say so before name and id can be given away.
pub(super) fn give_way(tables: &Tables, name: &str, id: &str, is_up: impl Fn(&str) -> bool) -> Vec<Operation> {
    if id.is_empty() {
        return Vec::new();
    }
    let is_same = |view: &NodeView| view.node.id.is_empty() || view.node.id.eq_ignore_ascii_case(id);
    let of_that_name = tables.node(name).filter(|view| !is_same(view));
    let of_that_id = tables.node_of_id(id).filter(|view| !view.node.name.eq_ignore_ascii_case(name) && !is_up(&view.node.name));
    of_that_name.into_iter().chain(of_that_id).filter_map(|view| show_failed(tables, &view.node.name)).collect()
}

/// Takes out a node that the pool no longer knows; nothing when it is none of the pool's.
pub(super) fn forget(tables: &Tables, name: &str) -> Option<Operation> {
    let view = tables.node(name)?;
    // A node that was registered from outside has no such check.
    view.checks
        .contains_key(SERF_HEALTH)
        .then(|| Operation::Deregister(Deregistration { node: view.node.name.clone(), service_id: None, check_id: None }))
}

fn show_alive(tables: &Tables, member: &Member, datacenter: &str) -> Option<Operation> {
    let view = tables.node(&member.name);
    let address = member.address.to_string();
    let same_node = view.is_some_and(|view| *view.node.address == *address && view.node.id.eq_ignore_ascii_case(&member.node_id));
    let passing = view.and_then(|view| view.checks.get(SERF_HEALTH)).is_some_and(|check| check.status == Status::Passing);
    let service = server_service(member);
    let served = service.as_ref().is_none_or(|service| {
        let known = view.and_then(|view| view.services.get(SERVER_SERVICE));
        known.is_some_and(|known| known.port == service.port && known.meta == service.meta)
    });
    if same_node && passing && served {
        return None;
    }
    let kept = view.map(|view| (view.node.tagged_addresses.clone(), view.node.meta.clone()));
    let (tagged_addresses, meta) = kept.filter(|_| same_node).unwrap_or_else(|| (tagged(&address), BTreeMap::new()));
    let node = NodeInput {
        id: member.node_id.as_str().into(),
        name: member.name.as_str().into(),
        address: address.as_str().into(),
        datacenter: datacenter.into(),
        tagged_addresses,
        meta,
    };
    Some(register(node, same_node, service, Status::Passing, ALIVE))
}

/// Turns a node's check critical; nothing when it is none of the pool's, or is critical.
pub(super) fn show_failed(tables: &Tables, name: &str) -> Option<Operation> {
    let view = tables.node(name)?;
    let check = view.checks.get(SERF_HEALTH)?;
    if check.status == Status::Critical {
        return None;
    }
    let node =
        NodeInput { name: view.node.name.clone(), id: view.node.id.clone(), address: view.node.address.clone(), ..NodeInput::default() };
    Some(register(node, true, None, Status::Critical, FAILED))
}

fn register(node: NodeInput, skip_node_update: bool, service: Option<ServiceInput>, status: Status, output: &str) -> Operation {
    let health =
        CheckInput { id: SERF_HEALTH.into(), name: "Serf Health Status".into(), status, output: output.into(), ..CheckInput::default() };
    Operation::Register(Box::new(Registration { node, skip_node_update, service, checks: vec![health] }))
}

/// The service by which a server is found.
fn server_service(member: &Member) -> Option<ServiceInput> {
    (member.tags.get("role").map(String::as_str) == Some("consul")).then(|| {
        let tag = |name: &str| member.tags.get(name).cloned().unwrap_or_default();
        let meta = [("non_voter", "false".to_owned()), ("version", tag("build"))];
        ServiceInput {
            id: SERVER_SERVICE.into(),
            name: SERVER_SERVICE.into(),
            port: tag("port").parse().unwrap_or_default(),
            meta: meta.into_iter().map(|(key, value)| (Str::from(key), value.into())).collect(),
            ..ServiceInput::default()
        }
    })
}

fn tagged(address: &str) -> BTreeMap<Str, Str> {
    let family = if address.contains(':') { ["lan_ipv6", "wan_ipv6"] } else { ["lan_ipv4", "wan_ipv4"] };
    ["lan", "wan"].into_iter().chain(family).map(|tag| (tag.into(), address.into())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn member(name: &str, status: Alive, role: &str) -> Member {
        let tags = [("role", role), ("dc", "dc1"), ("port", "8300"), ("build", "9.9")];
        Member {
            name: name.into(),
            node_id: String::new(),
            address: "10.0.0.7".parse().unwrap(),
            port: 8301,
            tags: tags.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
            status,
        }
    }

    async fn apply(service: &crate::Service, members: &[Member]) -> usize {
        let operations = operations(&service.consensus().tables(), members, "dc1");
        let count = operations.len();
        for operation in operations {
            service.consensus().propose(operation).await.unwrap();
        }
        count
    }

    #[tokio::test]
    async fn the_catalog_follows_a_member_through_its_life() {
        let service = testing::dev().await;
        let alive = [member("a", Alive::Alive, "node"), member("s", Alive::Alive, "consul")];
        assert_eq!(apply(&service, &alive).await, 2);
        assert_eq!(apply(&service, &alive).await, 0, "nothing is written twice");
        let tables = service.consensus().tables();
        assert_eq!(tables.node("s").unwrap().services[SERVER_SERVICE].port, 8300);
        assert!(tables.node("a").unwrap().services.is_empty());
        let failed = [member("a", Alive::Failed, "node"), member("stranger", Alive::Failed, "node")];
        assert_eq!(apply(&service, &failed).await, 1, "who was never there is not registered as failed");
        assert_eq!(service.consensus().tables().node("a").unwrap().checks[SERF_HEALTH].status, Status::Critical);
        assert_eq!(apply(&service, &failed).await, 0);
        assert_eq!(apply(&service, &alive[..1]).await, 1, "it came back");
        assert_eq!(apply(&service, &[member("a", Alive::Left, "node")]).await, 1);
        assert!(service.consensus().tables().node("a").is_none());
    }

    #[tokio::test]
    async fn a_member_takes_its_name_from_a_node_that_is_alive_only_in_the_catalog() {
        let service = testing::dev().await;
        let with_id = |id: &str| Member { node_id: id.into(), ..member("a", Alive::Alive, "node") };
        apply(&service, &[with_id("11111111-0000-0000-0000-000000000000")]).await;
        assert_eq!(apply(&service, &[with_id("22222222-0000-0000-0000-000000000000")]).await, 2);
        let tables = service.consensus().tables();
        let view = tables.node("a").unwrap();
        assert_eq!((&view.node.id[..1], view.checks[SERF_HEALTH].status), ("2", Status::Passing));
    }

    #[tokio::test]
    async fn a_server_of_another_cluster_is_not_found_here() {
        let service = testing::dev().await;
        let mut foreign = member("s", Alive::Alive, "consul");
        assert_eq!(apply(&service, std::slice::from_ref(&foreign)).await, 1, "it does not belong to any yet");
        foreign.tags.insert(CLUSTER_TAG.into(), "another".into());
        assert_eq!(apply(&service, std::slice::from_ref(&foreign)).await, 1);
        assert!(service.consensus().tables().node("s").is_none());
        foreign.tags.insert(CLUSTER_TAG.into(), cluster_tag(service.consensus().tables().meta().cluster).unwrap());
        assert_eq!(apply(&service, &[foreign]).await, 1, "it is one of ours");
    }

    #[tokio::test]
    async fn a_member_with_another_name_takes_what_it_has_with_it() {
        let service = testing::dev().await;
        let named = |name: &str| Member { node_id: "11111111-0000-0000-0000-000000000000".into(), ..member(name, Alive::Alive, "node") };
        apply(&service, &[named("before")]).await;
        let kept = ServiceInput { name: "web".into(), ..ServiceInput::default() };
        let before = NodeInput { name: "before".into(), ..NodeInput::default() };
        let registration = Registration { node: before, skip_node_update: true, service: Some(kept), checks: Vec::new() };
        service.consensus().propose(Operation::Register(Box::new(registration))).await.unwrap();
        apply(&service, &[named("after")]).await;
        let tables = service.consensus().tables();
        assert!(tables.node("before").is_none(), "it has one name");
        let view = tables.node("after").unwrap();
        assert!(view.services.contains_key("web") && view.checks[SERF_HEALTH].status == Status::Passing);
    }

    #[tokio::test]
    async fn nodes_of_others_and_members_of_elsewhere_are_left_alone() {
        let service = testing::dev().await;
        let node = NodeInput { name: "outside".into(), address: "10.1.1.1".into(), datacenter: "dc1".into(), ..NodeInput::default() };
        let registration = Registration { node, skip_node_update: false, service: None, checks: Vec::new() };
        service.consensus().propose(Operation::Register(Box::new(registration))).await.unwrap();
        assert!(forget(&service.consensus().tables(), "outside").is_none());
        let mut elsewhere = member("b", Alive::Alive, "node");
        elsewhere.tags.insert("dc".into(), "dc2".into());
        assert_eq!(apply(&service, &[elsewhere]).await, 0);
    }
}
