//! Reloading: what the configuration files define now replaces what they defined before.
//!
//! Whoever asks sends a request into a bounded channel; the process, which knows the files, reads them
//! again, brings the definitions here into line, and answers what is in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use state::{NodeInput, Str};
use tokio::sync::{mpsc, oneshot};

use super::model::{CheckRegistration, ServiceDefinition, Source};
use super::{Agent, validate};
use crate::error::{Error, Reason};
use crate::{Caller, Right};

/// Requests that may wait while one is served; each comes from a person or a tool that deploys.
const WAITING_MAX: usize = 16;

/// What a reload came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Keys that changed and are in force.
    pub applied: Vec<String>,
    /// Keys that changed and need a restart.
    pub restart_needed: Vec<String>,
}

/// Somebody asks for a reload and waits for the answer.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, Error>>;

/// What the configuration files defined last.
#[derive(Clone, Debug, Default)]
pub(super) struct Configured {
    services: BTreeMap<Str, ServiceDefinition>,
    checks: BTreeMap<Str, CheckRegistration>,
}

impl Configured {
    pub(super) fn note_service(&mut self, definition: &ServiceDefinition) {
        self.services.insert(definition.id().clone(), definition.clone());
    }

    pub(super) fn note_check(&mut self, check: &CheckRegistration) {
        self.checks.insert(check_id(check), check.clone());
    }
}

fn check_id(check: &CheckRegistration) -> Str {
    if check.id.is_empty() { check.name.clone() } else { check.id.clone() }
}

/// Both ends of the way to the process.
pub(super) fn channel() -> (mpsc::Sender<ReloadRequest>, mpsc::Receiver<ReloadRequest>) {
    mpsc::channel(WAITING_MAX)
}

impl Agent {
    /// How long a change of a check's output alone waits from now on before the catalog is told.
    pub fn set_output_interval(&self, interval: Duration) {
        self.inner.local.lock().set_output_interval(interval);
    }

    /// Whether the outputs of checks are dropped from now on.
    pub fn set_discard_output(&self, discard: bool) {
        self.inner.local.lock().set_discard_output(discard);
    }

    /// The facts about this node that the catalog is to show from now on. It is told at once, and
    /// again until it could be.
    pub fn set_node_meta(&self, meta: BTreeMap<Str, Str>) {
        let mut node = self.inner.node.write();
        *node = Arc::new(NodeInput { meta, ..(**node).clone() });
        drop(node);
        self.compare_everything();
    }

    /// Reads the configuration again and applies what can change while running: all of it, or with an
    /// error nothing.
    ///
    /// Errors: `INVALID_CONFIGURATION`, `OVERLOADED` while many wait for the same.
    pub async fn reload(&self, caller: &Caller) -> Result<Reloaded, Error> {
        self.authorize(caller, Right::AgentWrite)?;
        let (sender, answer) = oneshot::channel();
        let full = |_| Error::new(Reason::Overloaded, "a reload is under way, and others wait for the next; retry in a moment");
        self.inner.reloads.try_send(sender).map_err(full)?;
        answer.await.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the agent is stopping; nothing was reloaded")))
    }

    /// The requests for a reload, for the process to answer; `None` the second time.
    pub fn reload_requests(&self) -> Option<mpsc::Receiver<ReloadRequest>> {
        self.inner.reload_requests.lock().take()
    }

    /// Brings what the configuration defines into line: what is new is registered, what changed is
    /// replaced, what is gone is deregistered; all else, and what programs registered, goes on as it
    /// is. Says whether services and whether checks differ. Definitions that make no sense are refused
    /// before anything is changed; when one can't be registered, what was in force before is put back.
    pub async fn reconfigure(&self, services: Vec<ServiceDefinition>, checks: Vec<CheckRegistration>) -> Result<(bool, bool), Error> {
        self.check_definitions(&services, &checks)?;
        let mut next = Configured::default();
        services.iter().for_each(|definition| next.note_service(definition));
        checks.iter().for_each(|check| next.note_check(check));
        let last = self.inner.configured.lock().clone();
        let changed = (last.services != next.services, last.checks != next.checks);
        if let Err(error) = self.replace_configured(&last, &next).await {
            tracing::warn!(%error, "the new definitions could not be registered, those before are put back");
            if let Err(error) = self.replace_configured(&next, &last).await {
                tracing::error!(%error, "the definitions that were in force could not all be put back; reload again");
            }
            *self.inner.configured.lock() = last;
            return Err(error);
        }
        *self.inner.configured.lock() = next;
        Ok(changed)
    }

    async fn replace_configured(&self, last: &Configured, next: &Configured) -> Result<(), Error> {
        for (id, definition) in &next.services {
            if last.services.get(id) != Some(definition) {
                self.register_configured(definition.clone()).await?;
            }
        }
        for (id, check) in &next.checks {
            let owner_changed = last.services.get(&check.service_id) != next.services.get(&check.service_id);
            if owner_changed || last.checks.get(id) != Some(check) {
                self.register_configured_check(check.clone()).await?;
            }
        }
        // Last, because what is removed can't be put back as it was.
        self.remove_gone(last, next).await;
        Ok(())
    }

    fn check_definitions(&self, services: &[ServiceDefinition], checks: &[CheckRegistration]) -> Result<(), Error> {
        let options = &self.inner.options;
        for definition in services {
            validate::service(options, definition, Source::Config).map_err(|error| within("service", &definition.service.name, &error))?;
        }
        for check in checks {
            validate::check(options, check, Source::Config).map_err(|error| within("check", &check.name, &error))?;
            let owner = &check.service_id;
            let is_known = owner.is_empty()
                || services.iter().any(|service| service.id() == owner)
                || self.inner.local.lock().service(owner).is_some_and(|service| service.source == Source::Api);
            if !is_known {
                return Err(within("check", &check.name, &super::no_such_owner(owner)));
            }
        }
        Ok(())
    }

    /// Removes what the files defined and define no more. What a program has removed meanwhile is
    /// gone already.
    async fn remove_gone(&self, last: &Configured, next: &Configured) {
        let own = |definition: &ServiceDefinition| definition.check_ids();
        let kept: Vec<Str> = next.services.values().flat_map(own).chain(next.checks.keys().cloned()).collect();
        let had = last.services.values().flat_map(own).chain(last.checks.keys().cloned());
        for id in had.filter(|id| !kept.contains(id)) {
            said_if_failed(self.in_order(move |agent| agent.drop_check(id)).await);
        }
        for id in last.services.keys().filter(|id| !next.services.contains_key(*id)).cloned() {
            said_if_failed(self.in_order(move |agent| agent.drop_service(id)).await);
        }
        self.push_registration().await;
    }
}

fn said_if_failed(removed: Result<(), Error>) {
    if let Err(error) = removed
        && !matches!(error.reason, Reason::UnknownService | Reason::UnknownCheck)
    {
        tracing::warn!(%error, "what the configuration defines no more could not be removed");
    }
}

fn within(what: &str, name: &str, error: &Error) -> Error {
    Error::new(Reason::InvalidConfiguration, format!("{what} `{name}` of the configuration: {error}"))
}
