//! Service instances, and the prejoined view in which discovery reads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use crate::catalog::check::{Check, Status};
use crate::catalog::node::Node;
use crate::id::{LogIndex, Str};

/// One instance of a service on a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    /// The node it runs on.
    pub node: Str,
    /// Unique on its node.
    pub id: Str,
    /// The name by which it is found.
    pub name: Str,
    /// Labels by which instances are told apart.
    pub tags: Vec<Str>,
    /// Where it is reached; empty means the node's address.
    pub address: Str,
    /// 0 when it has none.
    pub port: u32,
    /// Unix socket instead of a port.
    pub socket_path: Str,
    /// Free pairs.
    pub meta: BTreeMap<Str, Str>,
    /// Further addresses by tag.
    pub tagged_addresses: BTreeMap<Str, ServiceAddress>,
    /// Share of the traffic.
    pub weights: Weights,
    /// Tags written through the catalog win over those of the owning agent.
    pub enable_tag_override: bool,
    /// Empty for an ordinary service.
    pub kind: Str,
    /// The index of the command that created it.
    pub create_index: LogIndex,
    /// The index of the last command that changed this row.
    pub modify_index: LogIndex,
}

/// An address with its port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAddress {
    /// An address or a host name.
    pub address: Str,
    /// 0 when it has none.
    pub port: u32,
}

/// How much traffic an instance takes in each state, for DNS SRV and load balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// While all its checks pass.
    pub passing: u32,
    /// While one of them warns.
    pub warning: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Weights { passing: 1, warning: 1 }
    }
}

/// An instance joined with its node and every check that decides on it.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// The machine.
    pub node: Arc<Node>,
    /// The instance.
    pub service: Arc<Service>,
    /// Checks of the node, then those of the instance.
    pub checks: Vec<Arc<Check>>,
    /// The worst status of `checks`; passing when there are none.
    pub status: Status,
}

impl Instance {
    /// Joins, and works out the worst status.
    pub fn new(node: Arc<Node>, service: Arc<Service>, checks: Vec<Arc<Check>>) -> Self {
        let status = checks.iter().map(|check| check.status).max().unwrap_or(Status::Passing);
        Instance { node, service, checks, status }
    }

    /// Whether the instance carries all of `tags`, compared without case.
    pub fn has_tags<T: AsRef<str>>(&self, tags: &[T]) -> bool {
        tags.iter().all(|wanted| self.service.tags.iter().any(|tag| tag.eq_ignore_ascii_case(wanted.as_ref())))
    }

    /// Where it is reached: its own address, else that of its node.
    pub fn address(&self) -> &Str {
        if self.service.address.is_empty() { &self.node.address } else { &self.service.address }
    }
}

/// All instances of one service.
#[derive(Clone, Debug, Default)]
pub struct ServiceView {
    /// By node name (in its compared form) and service id.
    pub instances: OrdMap<(Str, Str), Arc<Instance>>,
    /// How many instances carry each tag.
    pub tags: OrdMap<Str, u32>,
    /// The last command that changed anything a reader of this service can see.
    pub index: LogIndex,
}

impl ServiceView {
    /// The union of the instances' tags, sorted.
    pub fn tag_union(&self) -> Vec<Str> {
        self.tags.keys().cloned().collect()
    }
}

impl ServiceView {
    /// Adds or replaces an instance, keeping the count of tags.
    pub(crate) fn put(&mut self, node_key: &Str, instance: Arc<Instance>) {
        let old = self.instances.insert((node_key.clone(), instance.service.id.clone()), instance.clone());
        if old.as_ref().is_some_and(|old| old.service.tags == instance.service.tags) {
            return;
        }
        for tag in &instance.service.tags {
            *self.tags.entry(tag.clone()).or_insert(0) += 1;
        }
        old.iter().for_each(|old| self.forget_tags(old));
    }

    /// Removes an instance, keeping the count of tags.
    pub(crate) fn remove(&mut self, node_key: &Str, service_id: &Str) {
        if let Some(old) = self.instances.remove(&(node_key.clone(), service_id.clone())) {
            self.forget_tags(&old);
        }
    }

    fn forget_tags(&mut self, instance: &Instance) {
        for tag in &instance.service.tags {
            match self.tags.get_mut(tag) {
                Some(count) if *count > 1 => *count -= 1,
                _ => {
                    self.tags.remove(tag);
                }
            }
        }
    }
}

/// A service as the list of services shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSummary {
    /// The service's name.
    pub name: Str,
    /// The union of the tags of its instances, sorted.
    pub tags: Vec<Str>,
}
