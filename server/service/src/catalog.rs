//! The catalog: nodes and services, written and listed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use consensus::Proposed;
use state::{
    Deregistration, Fence, Indexed, Instance, LogIndex, Node, NodeInput, NodeView, Operation, Outcome, Registration, Service as ServiceRow,
    Str, Tables,
};

use crate::answer::{Answer, Blocking, ReadOptions};
use crate::error::Error;
use crate::watch::Target;
use crate::{Caller, Right, Service};

/// Pairs that a node's meta must contain, all of them.
pub type NodeMeta = BTreeMap<Str, Str>;

impl Service {
    /// Upserts a node, and on it perhaps a service and checks. Repeating it changes nothing.
    pub async fn catalog_register(&self, caller: &Caller, datacenter: Option<&str>, request: Registration) -> Result<LogIndex, Error> {
        self.catalog_register_if(caller, datacenter, request, None).await
    }

    /// The same, only while a lock is held: `STALE_FENCE` otherwise.
    pub async fn catalog_register_if(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        mut request: Registration,
        fence: Option<Fence>,
    ) -> Result<LogIndex, Error> {
        self.check_datacenter(datacenter)?;
        self.check_registration(&request)?;
        self.authorize(caller, Right::NodeWrite(&request.node.name))?;
        if let Some(service) = &mut request.service {
            self.authorize(caller, Right::ServiceWrite(&service.name))?;
            if service.id.is_empty() {
                service.id = service.name.clone();
            }
        }
        if request.node.datacenter.is_empty() {
            request.node.datacenter = self.identity().datacenter.clone();
        }
        self.check_datacenter(Some(&request.node.datacenter))?;
        self.propose_catalog(Operation::Register(Box::new(request)), fence).await.map(|(index, _)| index)
    }

    /// Removes a check, a service with its checks, or a node with all that is on it. Removing what
    /// is not there succeeds; the number says how much was removed.
    pub async fn catalog_deregister(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        request: Deregistration,
    ) -> Result<(LogIndex, u64), Error> {
        self.catalog_deregister_if(caller, datacenter, request, None).await
    }

    /// The same, only while a lock is held: `STALE_FENCE` otherwise.
    pub async fn catalog_deregister_if(
        &self,
        caller: &Caller,
        datacenter: Option<&str>,
        request: Deregistration,
        fence: Option<Fence>,
    ) -> Result<(LogIndex, u64), Error> {
        self.check_datacenter(datacenter)?;
        if request.node.is_empty() {
            return Err(Error::invalid("must provide node"));
        }
        self.authorize(caller, Right::NodeWrite(&request.node))?;
        self.propose_catalog(Operation::Deregister(request), fence).await
    }

    async fn propose_catalog(&self, operation: Operation, fence: Option<Fence>) -> Result<(LogIndex, u64), Error> {
        let operation = match fence {
            Some(fence) => Operation::Fenced { fence, operation: Box::new(operation) },
            None => operation,
        };
        let Proposed { index, outcome } = self.propose(operation).await?;
        match outcome {
            Outcome::Done { removed, .. } => Ok((index, removed)),
            Outcome::Txn(_) | Outcome::Session(_) | Outcome::Lock(_) => Ok((index, 0)),
            Outcome::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// The datacenters that can be asked, nearest first.
    pub fn catalog_datacenters(&self, _caller: &Caller) -> Vec<Str> {
        self.datacenters().iter().map(|name| name.as_str().into()).collect()
    }

    /// The nodes whose meta contains `meta`, by name.
    pub async fn catalog_nodes(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        meta: &NodeMeta,
    ) -> Result<Answer<Vec<Arc<Node>>>, Error> {
        let query = |tables: &Arc<Tables>| {
            let nodes = tables.nodes().map(|view| &view.node).filter(|node| has_meta(node, meta));
            let readable = nodes.filter(|node| self.authorize(caller, Right::NodeRead(&node.name)).is_ok());
            Indexed::exact(readable.cloned().collect(), tables.nodes_index())
        };
        self.read(options, blocking, || Target::Nodes, query).await
    }

    /// A node with everything on it, by name, by id, or by a unique prefix of its id.
    pub async fn catalog_node(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        name_or_id: &str,
    ) -> Result<Answer<Option<Arc<NodeView>>>, Error> {
        if name_or_id.is_empty() {
            return Err(Error::invalid("missing node name"));
        }
        self.authorize(caller, Right::NodeRead(name_or_id))?;
        let query = |tables: &Arc<Tables>| match tables.find_node(name_or_id) {
            Some(view) => Indexed::exact(Some(view.clone()), view.index),
            None => Indexed { value: None, index: tables.nodes_index(), changed: tables.nodes_index() },
        };
        self.read(options, blocking, || Target::Node(name_or_id.into()), query).await
    }

    /// Every service with the union of its tags, by name. With `meta`, only instances on nodes
    /// that carry it count.
    pub async fn catalog_services(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        meta: &NodeMeta,
    ) -> Result<Answer<BTreeMap<Str, Vec<Str>>>, Error> {
        let query = |tables: &Arc<Tables>| {
            let mut services = list_services(tables, meta);
            services.retain(|name, _| self.authorize(caller, Right::ServiceRead(name)).is_ok());
            Indexed::exact(services, tables.services_index().max(if meta.is_empty() { LogIndex::ZERO } else { tables.nodes_index() }))
        };
        self.read(options, blocking, || if meta.is_empty() { Target::Services } else { Target::Catalog }, query).await
    }

    /// The instances of a service that carry all of `tags` (without regard to case) on nodes whose
    /// meta contains `meta`, whatever their health.
    pub async fn catalog_service(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        name: &str,
        tags: &[Str],
        meta: &NodeMeta,
    ) -> Result<Answer<Vec<Arc<Instance>>>, Error> {
        self.instances(caller, options, blocking, name, |instance| instance.has_tags(tags) && has_meta(&instance.node, meta)).await
    }

    /// The instances of a service that pass `keep`.
    pub(crate) async fn instances(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        name: &str,
        keep: impl Fn(&Instance) -> bool,
    ) -> Result<Answer<Vec<Arc<Instance>>>, Error> {
        if name.is_empty() {
            return Err(Error::invalid("missing service name"));
        }
        self.authorize(caller, Right::ServiceRead(name))?;
        let query = |tables: &Arc<Tables>| {
            tables.service(name).map(|view| {
                let view = view.unwrap_or_default();
                view.instances.values().filter(|instance| keep(instance)).cloned().collect()
            })
        };
        self.read(options, blocking, || Target::service(name), query).await
    }

    /// What a registration must have before the state machine sees it.
    fn check_registration(&self, request: &Registration) -> Result<(), Error> {
        check_node(&request.node, !request.skip_node_update)?;
        if let Some(service) = &request.service {
            check_service(service)?;
        }
        for check in &request.checks {
            if check.id.is_empty() && check.name.is_empty() {
                return Err(Error::invalid("a check needs a name or an id"));
            }
        }
        Ok(())
    }
}

/// What a node must have; its address only where its row is written.
pub(crate) fn check_node(node: &NodeInput, is_written: bool) -> Result<(), Error> {
    if node.name.is_empty() {
        return Err(Error::invalid("must provide node"));
    }
    if node.address.is_empty() && is_written {
        return Err(Error::invalid("must provide address if SkipNodeUpdate is not set"));
    }
    if !node.id.is_empty() && node.id.parse::<state::SessionId>().is_err() {
        return Err(Error::invalid(format!("bad node ID: `{}` is not a UUID", node.id)));
    }
    Ok(())
}

/// What a service must have, from whatever side it is registered.
pub(crate) fn check_service(service: &state::ServiceInput) -> Result<(), Error> {
    if service.name.is_empty() {
        return Err(Error::invalid("must provide service name (Service.Service) when service ID is provided"));
    }
    if service.address.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified()) {
        return Err(Error::invalid("invalid service address: an unspecified address cannot be reached; leave it empty for the node's"));
    }
    if service.port > u32::from(u16::MAX) {
        return Err(Error::invalid(format!("invalid service port: `{}` is above 65535", service.port)));
    }
    Ok(())
}

/// Whether the node's meta contains all of `wanted`.
pub(crate) fn has_meta(node: &Node, wanted: &NodeMeta) -> bool {
    wanted.iter().all(|(key, value)| node.meta.get(key) == Some(value))
}

fn list_services(tables: &Tables, meta: &NodeMeta) -> BTreeMap<Str, Vec<Str>> {
    let mut services: BTreeMap<Str, Vec<Str>> = BTreeMap::new();
    for (_, view) in tables.services() {
        let named = |instance: &Instance| instance.service.name.clone();
        if meta.is_empty() {
            if let Some((_, first)) = view.instances.get_min() {
                services.insert(named(first), view.tag_union());
            }
            continue;
        }
        let rows: Vec<&ServiceRow> =
            view.instances.values().filter(|instance| has_meta(&instance.node, meta)).map(|instance| &*instance.service).collect();
        if let Some(first) = rows.first() {
            let tags: std::collections::BTreeSet<Str> = rows.iter().flat_map(|row| row.tags.iter().cloned()).collect();
            services.insert(first.name.clone(), tags.into_iter().collect());
        }
    }
    services
}
