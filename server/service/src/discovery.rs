//! Discovery: one snapshot, taken without waiting, in which every part of an answer is looked up.
//!
//! DNS asks a hundred thousand times a second and puts one answer together from several rows. A
//! [`Directory`] is that snapshot: it shares the tables instead of copying instances out of them.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use state::{Instance, Node, NodeView, ServiceView, Status, Str, Tables};

use crate::answer::ReadOptions;
use crate::error::{Error, Reason};
use crate::{Caller, Right, Service};

/// The service under whose name the servers of the cluster register themselves.
pub const SERVERS: &str = "consul";

/// A snapshot of the catalog that one caller may look around in.
pub struct Directory<'a> {
    tables: Arc<Tables>,
    datacenter: Str,
    age: Duration,
    access: Option<(&'a Service, &'a Caller)>,
}

impl Service {
    /// A directory as fresh as `options` ask.
    ///
    /// Fails with `UNKNOWN_DATACENTER`, or with a reason of the kind `Unavailable` when this server
    /// cannot vouch for what it would answer.
    pub async fn directory<'a>(&'a self, caller: &'a Caller, options: &ReadOptions) -> Result<Directory<'a>, Error> {
        let tables = self.snapshot(options).await?;
        let (_, age) = self.consensus().contact();
        Ok(Directory { tables, datacenter: self.identity().datacenter.clone(), age, access: Some((self, caller)) })
    }

    /// The same without waiting: for stale reads, which need nobody else. A read that would have to
    /// wait is refused with `NOT_READY`.
    pub fn directory_now<'a>(&'a self, caller: &'a Caller, options: &ReadOptions) -> Result<Directory<'a>, Error> {
        self.directory(caller, options).now_or_never().unwrap_or_else(|| {
            let message = "this read has to wait for other servers, and its caller does not wait; ask for a stale read";
            Err(Error::new(Reason::NotReady, message))
        })
    }
}

impl Directory<'_> {
    /// A directory over tables at hand, in which everything may be read.
    pub fn open(tables: Arc<Tables>, datacenter: impl Into<Str>) -> Directory<'static> {
        Directory { tables, datacenter: datacenter.into(), age: Duration::ZERO, access: None }
    }

    /// The datacenter that it describes, lower case.
    pub fn datacenter(&self) -> &Str {
        &self.datacenter
    }

    /// How long ago this server heard from its leader; zero on the leader.
    pub fn age(&self) -> Duration {
        self.age
    }

    /// A service with all its instances, by name without regard to case.
    pub fn service(&self, name: &str) -> Result<Option<Arc<ServiceView>>, Error> {
        self.allow(Right::ServiceRead(name))?;
        Ok(self.tables.service(name).value)
    }

    /// A node with everything on it, by name without regard to case.
    pub fn node(&self, name: &str) -> Result<Option<&Arc<NodeView>>, Error> {
        self.allow(Right::NodeRead(name))?;
        Ok(self.tables.node(name))
    }

    /// The first node, by name, that is reached at `address`. Looks at every node.
    pub fn node_at(&self, address: IpAddr) -> Option<&Arc<Node>> {
        let nodes = self.tables.nodes().map(|view| &view.node);
        nodes.filter(|node| is_at(&node.address, address)).find(|node| self.allow(Right::NodeRead(&node.name)).is_ok())
    }

    /// The name of the first service, by name, that has an instance with an `address` of its own.
    /// Looks at every instance.
    pub fn service_at(&self, address: IpAddr) -> Option<Str> {
        let instances = self.tables.services().flat_map(|(_, view)| view.instances.values());
        let mut names = instances.filter(|instance| is_at(&instance.service.address, address)).map(|instance| &instance.service.name);
        names.find(|name| self.allow(Right::ServiceRead(name)).is_ok()).cloned()
    }

    fn allow(&self, right: Right<'_>) -> Result<(), Error> {
        self.access.map_or(Ok(()), |(service, caller)| service.authorize(caller, right))
    }
}

/// Whether an instance is handed out: one that is critical never is, and with `passing_only`
/// neither is one that warns. The checks of its node count as its own.
pub fn is_usable(instance: &Instance, passing_only: bool) -> bool {
    match instance.status {
        Status::Passing => true,
        Status::Warning => !passing_only,
        Status::Critical => false,
    }
}

/// The share of the traffic that an instance takes in its present state.
pub fn weight(instance: &Instance) -> u32 {
    match instance.status {
        Status::Passing => instance.service.weights.passing,
        Status::Warning | Status::Critical => instance.service.weights.warning,
    }
}

fn is_at(text: &str, address: IpAddr) -> bool {
    !text.is_empty() && text.parse() == Ok(address)
}
