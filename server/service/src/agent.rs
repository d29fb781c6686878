//! Services and checks of this machine.
//!
//! The agent owns what is registered with it; the catalog shows a copy. A registration is stored,
//! its checks are handed to the prober, and the catalog is brought into line at once if it can be,
//! and again and again until it could.
//!
//! ```text
//!   faces ──▶ register ──▶ storage ──▶ local ──▶ prober ──▶ reports ──▶ local ──▶ sync ──▶ catalog
//! ```

mod alias;
mod health;
mod local;
mod maintenance;
mod model;
mod reload;
mod reports;
mod servers;
mod storage;
mod stored;
mod sync;
#[cfg(test)]
mod tests;
mod upstream;
mod validate;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use state::probe::{Report, Request};
use state::{Check, NodeInput, Status, Str};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

pub use health::{Aggregate, InstanceHealth};
pub use model::{AgentOptions, CheckRegistration, LocalService, Scripts, ServiceDefinition, Source};
pub use reload::{ReloadRequest, Reloaded};
pub use upstream::Upstream;

use crate::error::{Error, Reason};
use crate::{Caller, Right};
use local::Local;
use reload::Configured;
use storage::{Batch, Storage};
use validate::NewCheck;

/// The local agent. Cheap to clone.
#[derive(Clone)]
pub struct Agent {
    inner: Arc<Inner>,
}

struct Inner {
    options: AgentOptions,
    upstream: Upstream,
    prober: mpsc::Sender<Request>,
    storage: Option<Storage>,
    /// Never held across an await.
    local: Mutex<Local>,
    /// Held while a registration goes to disk, to memory and to the prober, so that all three see
    /// registrations in one order.
    registering: tokio::sync::Mutex<()>,
    /// Held while the catalog is written, so that an older state never overtakes a newer one.
    pushing: tokio::sync::Mutex<()>,
    /// The catalog must be told something.
    changed: Notify,
    /// The next comparison with the catalog is to be one of everything.
    whole_wanted: AtomicBool,
    /// This node as the catalog is to show it now.
    node: RwLock<Arc<NodeInput>>,
    /// A timer was set.
    timer_set: Notify,
    /// What the configuration files defined last.
    configured: Mutex<Configured>,
    reloads: mpsc::Sender<ReloadRequest>,
    /// Until the process takes it.
    reload_requests: Mutex<Option<mpsc::Receiver<ReloadRequest>>>,
}

impl Agent {
    /// An agent with what was registered before it was last stopped. Reads files: blocks shortly.
    ///
    /// Nothing runs before [`Agent::run`]. Fails when the data directory can't be read or written.
    pub fn new(options: AgentOptions, upstream: impl Into<Upstream>, prober: mpsc::Sender<Request>) -> Result<Self, Error> {
        let storage = options.data_dir.as_deref().map(Storage::open).transpose()?;
        let mut local = Local::new(&options);
        if let Some(storage) = &storage {
            restore(&mut local, storage, &options.node.name)?;
        }
        let (reloads, reload_requests) = reload::channel();
        let inner = Inner {
            upstream: upstream.into(),
            prober,
            storage,
            local: Mutex::new(local),
            registering: tokio::sync::Mutex::new(()),
            pushing: tokio::sync::Mutex::new(()),
            changed: Notify::new(),
            whole_wanted: AtomicBool::new(false),
            node: RwLock::new(Arc::new(options.node.clone())),
            timer_set: Notify::new(),
            configured: Mutex::default(),
            reloads,
            reload_requests: Mutex::new(Some(reload_requests)),
            options,
        };
        Ok(Agent { inner: Arc::new(inner) })
    }

    /// Takes the prober's results and keeps the catalog in line, until `stop`; then saves what the
    /// checks have come to. To be run once.
    pub async fn run(self, results: mpsc::Receiver<Report>, stop: CancellationToken) {
        tokio::join!(self.start_checks(), self.take_reports(results, &stop), self.keep_in_sync(&stop), self.follow_aliases(&stop));
    }

    /// Registers or replaces an instance with its checks.
    ///
    /// Checks that it had before stay, unless `replace_existing_checks` is set and they are not among
    /// the new ones; a check of the same id keeps the status it has reached, unless one is given. On
    /// return the registration is durable, and the catalog shows it if it could be written: otherwise
    /// that is tried again until it succeeds.
    pub async fn register_service(
        &self,
        caller: &Caller,
        definition: ServiceDefinition,
        replace_existing_checks: bool,
    ) -> Result<(), Error> {
        let (service, checks) = validate::service(&self.inner.options, &definition, Source::Api)?;
        self.authorize(caller, Right::ServiceWrite(&service.row.name))?;
        self.in_order(move |agent| agent.put_service(service, checks, replace_existing_checks)).await?;
        self.push_registration().await;
        Ok(())
    }

    /// Registers an instance that the configuration defines, in place of one that was stored under
    /// its id. It is not stored: what is gone from the configuration is gone after a restart.
    ///
    /// To be called before [`Agent::run`], so that the first comparison with the catalog finds
    /// everything that is to be there.
    pub async fn register_configured(&self, definition: ServiceDefinition) -> Result<(), Error> {
        let (service, checks) = validate::service(&self.inner.options, &definition, Source::Config)?;
        self.inner.configured.lock().note_service(&definition);
        self.in_order(move |agent| agent.put_service(service, checks, false)).await?;
        self.push_registration().await;
        Ok(())
    }

    /// Registers a check that the configuration defines, as [`Agent::register_configured`] does an
    /// instance; the instance it belongs to, if any, comes first.
    pub async fn register_configured_check(&self, check: CheckRegistration) -> Result<(), Error> {
        self.inner.configured.lock().note_check(&check);
        let check = validate::check(&self.inner.options, &check, Source::Config)?;
        self.in_order(move |agent| agent.put_check(check)).await?;
        self.push_registration().await;
        Ok(())
    }

    /// Removes an instance with its checks.
    pub async fn deregister_service(&self, caller: &Caller, id: &str) -> Result<(), Error> {
        let service = self.inner.local.lock().service(id).ok_or_else(|| unknown_service(id))?;
        self.authorize(caller, Right::ServiceWrite(&service.row.name))?;
        let id = service.row.id.clone();
        self.in_order(move |agent| agent.drop_service(id)).await?;
        self.push_registration().await;
        Ok(())
    }

    /// The instances registered here, by id.
    pub fn services(&self, caller: &Caller) -> BTreeMap<Str, LocalService> {
        let mut services = self.inner.local.lock().services();
        services.retain(|_, service| self.authorize(caller, Right::ServiceRead(&service.row.name)).is_ok());
        services
    }

    /// One instance registered here and the digest of what can be seen of it. With `known` this waits
    /// until the digest is another, for `wait` at most.
    pub async fn service_once_changed(
        &self,
        caller: &Caller,
        id: &str,
        known: Option<&str>,
        wait: Duration,
    ) -> Option<(LocalService, String)> {
        let deadline = Instant::now() + wait;
        let mut changes = self.inner.local.lock().service_changes();
        loop {
            changes.borrow_and_update();
            let service = self.service(caller, id)?;
            let hash = service.content_hash();
            let is_new = known != Some(&*hash);
            if is_new || !matches!(timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
                return Some((service, hash));
            }
        }
    }

    /// Where registrations are kept; `None` in memory only.
    pub fn data_dir(&self) -> Option<PathBuf> {
        self.inner.options.data_dir.clone()
    }

    /// This node as the catalog is to show it.
    pub fn node(&self) -> Arc<NodeInput> {
        self.inner.node.read().clone()
    }

    /// One instance registered here.
    pub fn service(&self, caller: &Caller, id: &str) -> Option<LocalService> {
        let service = self.inner.local.lock().service(id)?;
        self.authorize(caller, Right::ServiceRead(&service.row.name)).is_ok().then_some(service)
    }

    /// The checks registered here, by id, with their definitions.
    pub fn checks(&self, caller: &Caller) -> BTreeMap<Str, Arc<Check>> {
        let checks = self.inner.local.lock().checks().clone();
        let readable = |check: &Check| match &*check.service_name {
            "" => self.authorize(caller, Right::NodeRead(&check.node)),
            name => self.authorize(caller, Right::ServiceRead(name)),
        };
        checks.into_iter().filter(|(_, check)| readable(check).is_ok()).collect()
    }

    /// Registers or replaces a check of this node or of an instance here, and says under which id.
    /// On return it is durable, as with [`Agent::register_service`].
    pub async fn register_check(&self, caller: &Caller, check: CheckRegistration) -> Result<Str, Error> {
        let check = validate::check(&self.inner.options, &check, Source::Api)?;
        let id = check.row.id.clone();
        self.authorize_check(caller, &check.row.service_id)?;
        self.in_order(move |agent| agent.put_check(check)).await?;
        self.push_registration().await;
        Ok(id)
    }

    /// Removes a check.
    pub async fn deregister_check(&self, caller: &Caller, id: &str) -> Result<(), Error> {
        let check = self.inner.local.lock().checks().get(id).cloned().ok_or_else(|| unknown_check(id))?;
        self.authorize_check(caller, &check.service_id)?;
        let id = check.id.clone();
        self.in_order(move |agent| agent.drop_check(id)).await?;
        self.push_registration().await;
        Ok(())
    }

    /// Reports the status of a TTL check, and says how long the report is good for. In force when
    /// answered; a change of status has been written to the catalog if it could be.
    pub async fn update_ttl(&self, caller: &Caller, check_id: &str, status: Status, output: &str) -> Result<Duration, Error> {
        let check = self.inner.local.lock().checks().get(check_id).cloned().ok_or_else(|| unknown_check(check_id))?;
        self.authorize_check(caller, &check.service_id)?;
        let updated = self.inner.local.lock().update_ttl(check_id, status, output, Instant::now(), rand::random());
        let (renewal, ttl, changed) = updated.ok_or_else(|| not_ttl(check_id))?;
        self.tell_prober([renewal]).await;
        if changed.timer {
            self.inner.timer_set.notify_one();
        }
        if changed.push {
            self.push_registration().await;
        }
        Ok(ttl)
    }

    /// Takes note of why nobody reports on these TTL checks any more. Their time goes on as it was; when
    /// it is over, the output names the cause.
    pub fn heartbeats_ended<'a>(&self, check_ids: impl IntoIterator<Item = &'a str>, cause: &str) {
        let cause = Str::from(cause);
        let mut local = self.inner.local.lock();
        check_ids.into_iter().for_each(|id| local.note_silence(id, &cause));
    }

    /// The one place where a request to the agent is allowed or refused. Access control is not
    /// configured, so that everything is allowed.
    fn authorize(&self, _caller: &Caller, _right: Right<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Whether the caller may write a check of this instance, or of the node.
    fn authorize_check(&self, caller: &Caller, service_id: &str) -> Result<(), Error> {
        if service_id.is_empty() {
            return self.authorize(caller, Right::NodeWrite(&self.inner.options.node.name));
        }
        let service = self.inner.local.lock().service(service_id).ok_or_else(|| no_such_owner(service_id))?;
        self.authorize(caller, Right::ServiceWrite(&service.row.name))
    }

    /// Runs one registration or removal after the other, each to its end even if its caller leaves.
    async fn in_order<F, W>(&self, work: F) -> Result<(), Error>
    where
        F: FnOnce(Agent) -> W,
        W: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let agent = self.clone();
        let work = work(self.clone());
        let done = tokio::spawn(async move {
            let _turn = agent.inner.registering.lock().await;
            work.await
        });
        done.await.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the agent is stopping; the registration may not be stored")))
    }

    async fn put_service(self, service: LocalService, checks: Vec<NewCheck>, replace: bool) -> Result<(), Error> {
        let id = service.row.id.clone();
        let (dropped, batch) = {
            let local = self.inner.local.lock();
            let kept = |check: &Str| checks.iter().any(|new| new.row.id == *check);
            let old = local.check_ids_of(&id).into_iter();
            let dropped: Vec<Str> = if replace { old.filter(|check| !kept(check)).collect() } else { Vec::new() };
            let batch = Batch { removed_checks: dropped.clone(), ..Batch::default() };
            (dropped, batch.with(&local, Some(&service), &checks))
        };
        self.store(batch).await?;
        let requests = {
            let mut local = self.inner.local.lock();
            let now = Instant::now();
            let mut requests: Vec<Request> = dropped.iter().filter_map(|check| local.remove_check(check)).collect();
            requests.extend(local.put_service(service, now));
            requests.extend(checks.into_iter().filter_map(|check| local.put_check(check, now)));
            requests
        };
        self.registered(requests).await;
        Ok(())
    }

    async fn put_check(self, check: NewCheck) -> Result<(), Error> {
        let owner = &check.row.service_id;
        if !owner.is_empty() && self.inner.local.lock().service(owner).is_none() {
            return Err(no_such_owner(owner));
        }
        let batch = Batch::default().with(&self.inner.local.lock(), None, std::slice::from_ref(&check));
        self.store(batch).await?;
        let request = self.inner.local.lock().put_check(check, Instant::now());
        self.registered(request).await;
        Ok(())
    }

    async fn drop_service(self, id: Str) -> Result<(), Error> {
        let removed_checks = self.inner.local.lock().check_ids_of(&id);
        self.store(Batch { removed_services: vec![id.clone()], removed_checks, ..Batch::default() }).await?;
        let requests = self.inner.local.lock().remove_service(&id).ok_or_else(|| unknown_service(&id))?;
        self.registered(requests).await;
        Ok(())
    }

    async fn drop_check(self, id: Str) -> Result<(), Error> {
        self.store(Batch { removed_checks: vec![id.clone()], ..Batch::default() }).await?;
        let request = self.inner.local.lock().remove_check(&id).ok_or_else(|| unknown_check(&id))?;
        self.registered([request]).await;
        Ok(())
    }

    /// Makes a batch durable, if there is a data directory.
    async fn store(&self, batch: Batch) -> Result<(), Error> {
        let Some(storage) = self.inner.storage.clone() else { return Ok(()) };
        let written = tokio::task::spawn_blocking(move || storage.write(&batch)).await;
        written.unwrap_or_else(|_| Err(Error::new(Reason::Internal, "the agent is stopping; the registration may not be stored")))
    }

    /// Hands what was restored to the prober. A check that was started before is not started twice:
    /// the number of its run is known.
    async fn start_checks(&self) {
        let _turn = self.inner.registering.lock().await;
        let starts = self.inner.local.lock().starts();
        self.tell_prober(starts).await;
    }

    /// Tells everyone that what is registered has changed.
    async fn registered(&self, requests: impl IntoIterator<Item = Request>) {
        self.tell_prober(requests).await;
        self.inner.timer_set.notify_one();
        self.inner.changed.notify_one();
    }

    /// The prober always takes requests, so this waits shortly at most. When it has ended, so has the
    /// agent.
    async fn tell_prober(&self, requests: impl IntoIterator<Item = Request>) {
        for request in requests {
            if self.inner.prober.send(request).await.is_err() {
                return;
            }
        }
    }
}

/// Puts back what was registered before the agent was stopped.
fn restore(local: &mut Local, storage: &Storage, node: &Str) -> Result<(), Error> {
    let (services, checks) = storage.load()?;
    let now = Instant::now();
    for service in services {
        local.put_service(service.into_local(node), now);
    }
    for check in checks {
        let critical_since = check.critical_for().map(|ago| now.checked_sub(ago).unwrap_or(now));
        let (row, token) = check.into_check(node);
        let is_orphan = !row.service_id.is_empty() && local.service(&row.service_id).is_none();
        let check = NewCheck { row, status: None, token, source: Source::Api, critical_since };
        if is_orphan {
            tracing::warn!(
                check_id = &*check.row.id,
                service_id = &*check.row.service_id,
                "the check waits for its service to be registered"
            );
            local.put_orphan(check);
        } else {
            local.put_check(check, now);
        }
    }
    local.unmark();
    Ok(())
}

/// Whether the configuration may define this instance.
pub fn verify_service(options: &AgentOptions, definition: &ServiceDefinition) -> Result<(), Error> {
    validate::service(options, definition, Source::Config).map(drop)
}

/// Whether the configuration may define this check.
pub fn verify_check(options: &AgentOptions, check: &CheckRegistration) -> Result<(), Error> {
    validate::check(options, check, Source::Config).map(drop)
}

/// No instance is registered here under this id.
pub fn unknown_service(id: &str) -> Error {
    let message = format!("Unknown service ID {id:?}. Ensure that the service ID is passed, not the service name.");
    Error::new(Reason::UnknownService, message).with("service_id", id)
}

fn no_such_owner(id: &str) -> Error {
    Error::new(Reason::UnknownService, format!("ServiceID {id:?} does not exist")).with("service_id", id)
}

fn unknown_check(id: &str) -> Error {
    let message = format!("Unknown check ID {id:?}. Ensure that the check ID is passed, not the check name.");
    Error::new(Reason::UnknownCheck, message).with("check_id", id)
}

fn not_ttl(id: &str) -> Error {
    Error::new(Reason::CheckNotTtl, format!("CheckID {id:?} does not have associated TTL")).with("check_id", id)
}
