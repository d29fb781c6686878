//! The health of instances here as one status: what load balancers look at.

use std::sync::Arc;

use state::{Check, Status};

use super::maintenance::is_maintenance;
use super::model::LocalService;
use super::{Agent, unknown_service};
use crate::Caller;
use crate::error::Error;

/// What several checks come to, from best to worst: the worst of them counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aggregate {
    /// Fit for work.
    #[default]
    Passing,
    /// Works, but somebody should look.
    Warning,
    /// Not fit for work.
    Critical,
    /// Taken out of work by an operator.
    Maintenance,
}

impl Aggregate {
    /// What one check comes to.
    fn of(check: &Check) -> Self {
        match check.status {
            Status::Critical if is_maintenance(check) => Aggregate::Maintenance,
            Status::Critical => Aggregate::Critical,
            Status::Warning => Aggregate::Warning,
            Status::Passing => Aggregate::Passing,
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Aggregate::Passing => "passing",
            Aggregate::Warning => "warning",
            Aggregate::Critical => "critical",
            Aggregate::Maintenance => "maintenance",
        }
    }
}

/// An instance here with the checks that decide on it: its own and those of the node.
#[derive(Clone, Debug)]
pub struct InstanceHealth {
    /// The instance.
    pub service: LocalService,
    /// The checks.
    pub checks: Vec<Arc<Check>>,
    /// What they come to; passing without any.
    pub status: Aggregate,
}

impl Agent {
    /// How the instance with this id does.
    ///
    /// Errors: `UNKNOWN_SERVICE`.
    pub fn health_by_id(&self, caller: &Caller, id: &str) -> Result<InstanceHealth, Error> {
        let service = self.service(caller, id).ok_or_else(|| unknown_service(id))?;
        Ok(self.judge(caller, service))
    }

    /// How each instance of the service of this name does, by id; none when there is no such service here.
    pub fn health_by_name(&self, caller: &Caller, name: &str) -> Vec<InstanceHealth> {
        let named = self.services(caller).into_values().filter(|service| *service.row.name == *name);
        named.map(|service| self.judge(caller, service)).collect()
    }

    fn judge(&self, caller: &Caller, service: LocalService) -> InstanceHealth {
        let decides = |check: &Arc<Check>| check.service_id.is_empty() || check.service_id == service.row.id;
        let checks: Vec<Arc<Check>> = self.checks(caller).into_values().filter(decides).collect();
        let status = checks.iter().map(|check| Aggregate::of(check)).max().unwrap_or_default();
        InstanceHealth { service, checks, status }
    }
}
