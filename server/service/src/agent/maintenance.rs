//! Maintenance mode: a critical check that nobody runs takes the node, or one instance, out of every
//! answer that asks for healthy instances. It is kept like any check, so that it outlives a restart.

use state::{Check, Status, Str};

use super::model::Source;
use super::validate::NewCheck;
use super::{Agent, unknown_service};
use crate::error::Error;
use crate::{Caller, Right};

/// The kind of these checks. No program registers one by itself.
pub(super) const MAINTENANCE: &str = "maintenance";

/// The check of the node.
const NODE_CHECK: &str = "_node_maintenance";

/// Begins the id of an instance's check; the instance's id follows.
const SERVICE_CHECK: &str = "_service_maintenance:";

/// Whether a check is that of the maintenance mode.
pub(super) fn is_maintenance(check: &Check) -> bool {
    &*check.id == NODE_CHECK || check.id.starts_with(SERVICE_CHECK)
}

impl Agent {
    /// Takes the node, or with a `service_id` that instance, out of work, or back into it. Durable on
    /// return. To switch on what is on changes its reason; to switch off what is off does nothing.
    ///
    /// Errors: `UNKNOWN_SERVICE`.
    pub async fn set_maintenance(&self, caller: &Caller, service_id: &str, enabled: bool, reason: &str) -> Result<(), Error> {
        let check = self.maintenance_check(caller, service_id, reason)?;
        let id = check.row.id.clone();
        let is_on = self.inner.local.lock().checks().contains_key(&id);
        match (enabled, is_on) {
            (true, _) => self.in_order(move |agent| agent.put_check(check)).await?,
            (false, true) => self.in_order(move |agent| agent.drop_check(id)).await?,
            (false, false) => return Ok(()),
        }
        tracing::info!(service_id, enabled, reason, "maintenance mode was set");
        self.push_registration().await;
        Ok(())
    }

    fn maintenance_check(&self, caller: &Caller, service_id: &str, reason: &str) -> Result<NewCheck, Error> {
        let node = &self.inner.options.node.name;
        let (id, name, token): (Str, &str, _) = match service_id {
            "" => {
                self.authorize(caller, Right::NodeWrite(node))?;
                (NODE_CHECK.into(), "Node Maintenance Mode", caller.token.clone())
            }
            id => {
                let service = self.inner.local.lock().service(id).ok_or_else(|| unknown_service(id))?;
                self.authorize(caller, Right::ServiceWrite(&service.row.name))?;
                (format!("{SERVICE_CHECK}{id}").into(), "Service Maintenance Mode", service.token)
            }
        };
        let notes = if reason.is_empty() { "maintenance mode was switched on without a reason" } else { reason };
        let row = Check {
            node: node.clone(),
            id,
            name: name.into(),
            status: Status::Critical,
            notes: notes.into(),
            service_id: service_id.into(),
            kind: MAINTENANCE.into(),
            ..Default::default()
        };
        Ok(NewCheck { row, status: Some(Status::Critical), token, source: Source::Api, critical_since: None })
    }
}
