//! Services and checks of this machine.
//!
//! The agent owns what is registered with it; the catalog shows a copy. A registration is stored,
//! its checks are handed to the prober, and the catalog is brought into line at once if it can be,
//! and again and again until it could.

mod model;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use consensus::Consensus;
use state::{Check, Status, Str, probe};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use model::{AgentOptions, CheckRegistration, LocalService, Scripts, ServiceDefinition, Source};

use crate::Caller;
use crate::error::{Error, Reason};

/// The local agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

#[allow(dead_code)]
struct Inner {
    options: AgentOptions,
    consensus: Consensus,
    prober: mpsc::Sender<probe::Request>,
}

impl Agent {
    /// An agent with what was registered before it was last stopped.
    pub fn new(options: AgentOptions, consensus: Consensus, prober: mpsc::Sender<probe::Request>) -> Result<Self, Error> {
        Ok(Agent { inner: Arc::new(Inner { options, consensus, prober }) })
    }

    /// Takes the prober's results and keeps the catalog in line, until `stop`.
    pub async fn run(self, _results: mpsc::Receiver<probe::Report>, stop: CancellationToken) {
        stop.cancelled().await;
    }

    /// Registers or replaces an instance with its checks.
    pub async fn register_service(
        &self,
        _caller: &Caller,
        _definition: ServiceDefinition,
        _replace_existing_checks: bool,
    ) -> Result<(), Error> {
        Err(Error::new(Reason::NotImplemented, "registration is not part of this build"))
    }

    /// Removes an instance with its checks.
    pub async fn deregister_service(&self, _caller: &Caller, _id: &str) -> Result<(), Error> {
        Err(Error::new(Reason::NotImplemented, "registration is not part of this build"))
    }

    /// The instances registered here, by id.
    pub fn services(&self, _caller: &Caller) -> BTreeMap<Str, LocalService> {
        BTreeMap::new()
    }

    /// One instance registered here.
    pub fn service(&self, _caller: &Caller, _id: &str) -> Option<LocalService> {
        None
    }

    /// The checks registered here, by id, with their definitions.
    pub fn checks(&self, _caller: &Caller) -> BTreeMap<Str, Arc<Check>> {
        BTreeMap::new()
    }

    /// Registers or replaces a check of this node or of an instance here, and says under which id.
    pub async fn register_check(&self, _caller: &Caller, _check: CheckRegistration) -> Result<Str, Error> {
        Err(Error::new(Reason::NotImplemented, "registration is not part of this build"))
    }

    /// Removes a check.
    pub async fn deregister_check(&self, _caller: &Caller, _id: &str) -> Result<(), Error> {
        Err(Error::new(Reason::NotImplemented, "registration is not part of this build"))
    }

    /// Reports the status of a TTL check, and says how long the report is good for.
    pub async fn update_ttl(&self, _caller: &Caller, _check_id: &str, _status: Status, _output: &str) -> Result<Duration, Error> {
        Err(Error::new(Reason::NotImplemented, "registration is not part of this build"))
    }
}
