//! Nodes: the machines of the fleet, and everything that is registered on one.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::catalog::check::Check;
use crate::catalog::service::Service;
use crate::id::{LogIndex, Str};

/// A machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Node {
    /// A UUID, or empty for a node that was registered without one.
    pub id: Str,
    /// Unique in the datacenter, compared without case.
    pub name: Str,
    /// Where its services are reached unless they say otherwise: an address or a host name.
    pub address: Str,
    /// The datacenter it belongs to.
    pub datacenter: Str,
    /// Further addresses by tag: `lan`, `wan`, `lan_ipv4` and so on.
    pub tagged_addresses: BTreeMap<Str, Str>,
    /// Free pairs.
    pub meta: BTreeMap<Str, Str>,
    /// The index of the command that created it.
    pub create_index: LogIndex,
    /// The index of the last command that changed this row.
    pub modify_index: LogIndex,
}

/// A node with all that is registered on it.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The node itself.
    pub node: Arc<Node>,
    /// Its service instances by id.
    pub services: OrdMap<Str, Arc<Service>>,
    /// Its checks, and those of its services, by id.
    pub checks: OrdMap<Str, Arc<Check>>,
    /// The last command that changed anything here, deletions included.
    pub index: LogIndex,
}

impl NodeView {
    /// The checks that decide on the instance `service_id`: those of the node, then its own.
    pub fn checks_of<'a>(&'a self, service_id: &'a str) -> impl Iterator<Item = &'a Arc<Check>> {
        let of = move |owner: &'a str| self.checks.values().filter(move |check| &*check.service_id == owner);
        of("").chain(of(service_id))
    }
}

/// The form of a node's name that is compared: names are equal without regard to case.
pub fn name_key(name: &str) -> Str {
    name.to_lowercase().into()
}
