//! The one logic behind the three faces.
//!
//! gRPC, HTTP and DNS parse, call a method of [`Service`], and print. Validation, authorization,
//! consistency, blocking and watching live here, once; whatever can be asked on two faces gets the
//! same answer.

pub mod agent;
pub mod answer;
pub mod autopilot;
pub mod catalog;
pub mod cluster;
pub mod discovery;
pub mod error;
pub mod event;
pub mod exec;
pub mod filter;
pub mod health;
pub mod host;
pub mod kv;
pub mod leader;
pub mod limits;
pub mod lock;
pub mod monitor;
pub mod read;
pub mod session;
pub mod snapshot;
pub mod status;
mod telemetry;
pub mod testing;
#[cfg(test)]
mod tests;
pub mod txn;
pub mod watch;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use consensus::{Consensus, Proposed};
use state::{Operation, Str};

pub use answer::{Answer, Blocking, Meta, ReadOptions};
pub use consensus::Consistency;
pub use error::{Error, Kind, Reason};
pub use limits::Limits;

/// Who asks, and from where. It travels with every request.
#[derive(Clone, Debug, Default)]
pub struct Caller {
    /// The secret presented, if any.
    pub token: Option<Arc<str>>,
    /// The address of the asking program.
    pub source: Option<IpAddr>,
    /// The node of the agent that was asked, when that agent has carried the request here.
    pub agent: Option<Arc<str>>,
}

/// What is asked for, for authorization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right<'a> {
    /// Read a key.
    KeyRead(&'a [u8]),
    /// Write a key, or everything under a prefix.
    KeyWrite(&'a [u8]),
    /// Read a node.
    NodeRead(&'a str),
    /// Write a node.
    NodeWrite(&'a str),
    /// Read a service.
    ServiceRead(&'a str),
    /// Write a service.
    ServiceWrite(&'a str),
    /// Read a session of a node.
    SessionRead(&'a str),
    /// Write a session of a node.
    SessionWrite(&'a str),
    /// Look at this agent.
    AgentRead,
    /// Change this agent.
    AgentWrite,
    /// Look at the cluster's workings.
    OperatorRead,
    /// Change them.
    OperatorWrite,
    /// Fire an event.
    EventWrite(&'a str),
}

/// Who this server is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The node's name.
    pub node_name: Str,
    /// The node's UUID.
    pub node_id: Str,
    /// The datacenter, lower case.
    pub datacenter: Str,
    /// The address that others reach this node at.
    pub address: Str,
    /// Whether it holds the log.
    pub server: bool,
    /// The port of the servers' own protocol; 0 when it is off.
    pub server_port: u16,
    /// The port of the pool between datacenters; 0 when it is off.
    pub wan_port: u16,
    /// Its number in the log.
    pub raft_id: u64,
    /// How many servers it begins a cluster with; 0 waits to be taken into one.
    pub expect: u32,
    /// The product's version.
    pub version: &'static str,
}

/// The tag by which a server says which cluster its data are of.
pub const CLUSTER_TAG: &str = "cluster";

/// The value of [`CLUSTER_TAG`] for the cluster with this number; `None` before it has one.
pub fn cluster_tag(number: u64) -> Option<String> {
    (number != 0).then(|| format!("{number:016x}"))
}

impl Identity {
    /// What it says of itself to its pools: of the cluster `cluster`, as [`cluster_tag`] has it, once it belongs to one.
    pub fn tags(&self, cluster: Option<String>) -> BTreeMap<String, String> {
        let role = if self.server { "consul" } else { "node" };
        let mut tags = vec![
            ("role", role.to_owned()),
            ("dc", self.datacenter.to_string()),
            ("id", self.node_id.to_string()),
            ("vsn", "2".to_owned()),
            ("build", self.version.to_owned()),
        ];
        if self.server {
            tags.push(("port", self.server_port.to_string()));
            if self.wan_port != 0 {
                tags.push(("wan_join_port", self.wan_port.to_string()));
            }
            tags.push(("raft_id", self.raft_id.to_string()));
            tags.extend(cluster.map(|cluster| (CLUSTER_TAG, cluster)));
            match self.expect {
                0 => {}
                1 => tags.push(("bootstrap", "1".to_owned())),
                expect => tags.push(("expect", expect.to_string())),
            }
        }
        tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

/// The service layer. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    identity: Identity,
    limits: Limits,
    consensus: Consensus,
    hub: Arc<watch::Hub>,
    agent: agent::Agent,
    pools: Option<cluster::Pools>,
    events: Arc<event::Book>,
    telemetry: telemetry::Telemetry,
    stability: autopilot::Stability,
}

impl Service {
    /// Puts the layer together. Without pools the agent is alone.
    pub fn new(
        identity: Identity,
        limits: Limits,
        consensus: Consensus,
        hub: Arc<watch::Hub>,
        agent: agent::Agent,
        pools: Option<cluster::Pools>,
    ) -> Self {
        Service {
            inner: Arc::new(Inner {
                identity,
                limits,
                consensus,
                hub,
                agent,
                pools,
                events: Arc::default(),
                telemetry: telemetry::Telemetry::new(),
                stability: autopilot::Stability::default(),
            }),
        }
    }

    /// Who this server is.
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The bounds that requests are held to.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Services and checks of this machine.
    pub fn agent(&self) -> &agent::Agent {
        &self.inner.agent
    }

    pub(crate) fn consensus(&self) -> &Consensus {
        &self.inner.consensus
    }

    pub(crate) fn telemetry(&self) -> &telemetry::Telemetry {
        &self.inner.telemetry
    }

    /// Proposes a command, and takes the time that it needs.
    pub(crate) async fn propose(&self, operation: Operation) -> Result<Proposed, Error> {
        let done = self.telemetry().proposal(&operation);
        let proposed = self.consensus().propose(operation).await?;
        done();
        Ok(proposed)
    }

    pub(crate) fn hub(&self) -> &Arc<watch::Hub> {
        &self.inner.hub
    }

    /// The one place where a request is allowed or refused. Access control is not configured, so
    /// that everything is allowed.
    pub(crate) fn authorize(&self, _caller: &Caller, _right: Right<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Refuses a request for a datacenter that this server does not know.
    pub fn check_datacenter(&self, datacenter: Option<&str>) -> Result<(), Error> {
        match datacenter {
            Some(name) if !name.is_empty() && !name.eq_ignore_ascii_case(&self.inner.identity.datacenter) => {
                Err(Error::unknown_datacenter(name, &self.inner.identity.datacenter))
            }
            _ => Ok(()),
        }
    }
}
