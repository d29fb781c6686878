//! What is registered here and how it does: the agent's own truth, without IO.
//!
//! Every method takes the time it happens at, says what the prober must be told, and marks what the
//! catalog and the disk have not seen yet. Marks carry numbers from one growing counter, so that a
//! change made while an older one is being written stays marked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use state::anti_entropy::{self, Scope};
use state::deadlines::Deadlines;
use state::probe::{Probe, Report, Request, Run};
use state::{Check, NodeInput, NodeView, Operation, Service, Status, Str};
use tokio::sync::watch;
use tokio::time::Instant;

use super::alias::ALIAS;
use super::maintenance::MAINTENANCE;
use super::model::{AgentOptions, LocalService, Source};
use super::storage::CheckToStore;
use super::validate::NewCheck;

/// What the output of a TTL check says when nobody reported in time.
const TTL_EXPIRED: &str = "TTL expired";

/// How long a check may run that says nothing of it, in milliseconds.
const RESULT_WITHIN_MS: u64 = 30_000;

/// Who registered something, and with what secret.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Registrant {
    /// The secret with which it is written to the catalog.
    pub(super) token: Option<Arc<str>>,
    /// Who registered it.
    pub(super) source: Source,
}

/// Something that is to happen at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// The output of this check is to be written to the catalog.
    Output(Str),
    /// The instance of this check has been critical for too long.
    Reap(Str),
}

/// A change of a check that someone may be waiting for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// The catalog must be told at once.
    pub(super) push: bool,
    /// A timer was set that may be earlier than the others.
    pub(super) timer: bool,
}

/// A check beside its row.
#[derive(Clone, Debug)]
struct Runner {
    registrant: Registrant,
    run: Run,
    critical_since: Option<Instant>,
    /// Until then the check may show that it is well again, after a start: its instance is not taken
    /// away before.
    spared_until: Option<Instant>,
    /// Why nobody reports on it any more, where that is known.
    silence: Option<Str>,
}

/// Marks of what the catalog has not seen, each with the number of the change.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    services: BTreeMap<Str, u64>,
    checks: BTreeMap<Str, u64>,
}

impl Marks {
    /// Whether the catalog has seen everything.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.checks.is_empty()
    }

    fn scope(&self) -> Scope {
        Scope { services: self.services.keys().cloned().collect(), checks: self.checks.keys().cloned().collect() }
    }
}

/// Everything that is registered here.
pub(super) struct Local {
    output_interval: Duration,
    output_bytes_max: usize,
    discard_output: bool,
    services: OrdMap<Str, Arc<Service>>,
    registrants: BTreeMap<Str, Registrant>,
    checks: OrdMap<Str, Arc<Check>>,
    runners: BTreeMap<Str, Runner>,
    /// The ids of the checks that follow others.
    aliases: BTreeSet<Str>,
    marks: Marks,
    /// What was sent to the catalog, and is not known to have arrived.
    in_doubt: Scope,
    deferred: BTreeSet<Str>,
    unsaved: BTreeSet<Str>,
    /// Stored checks whose instance is not registered; it may come from the configuration.
    orphans: BTreeMap<Str, NewCheck>,
    timers: Deadlines<Instant, Timer>,
    counter: u64,
    /// Grows with each change of an instance.
    services_version: watch::Sender<u64>,
    /// Grows with each change of a check or an instance.
    checks_version: watch::Sender<u64>,
}

impl Local {
    /// Nothing registered yet.
    pub(super) fn new(options: &AgentOptions) -> Self {
        Local {
            output_interval: options.output_interval,
            output_bytes_max: options.output_bytes_max,
            discard_output: options.discard_output,
            services: OrdMap::new(),
            registrants: BTreeMap::new(),
            checks: OrdMap::new(),
            runners: BTreeMap::new(),
            aliases: BTreeSet::new(),
            marks: Marks::default(),
            in_doubt: Scope::default(),
            deferred: BTreeSet::new(),
            unsaved: BTreeSet::new(),
            orphans: BTreeMap::new(),
            timers: Deadlines::default(),
            counter: 0,
            services_version: watch::Sender::new(0),
            checks_version: watch::Sender::new(0),
        }
    }

    /// Tells of each change of an instance.
    pub(super) fn service_changes(&self) -> watch::Receiver<u64> {
        self.services_version.subscribe()
    }

    /// Tells of each change of a check or an instance.
    pub(super) fn check_changes(&self) -> watch::Receiver<u64> {
        self.checks_version.subscribe()
    }

    fn services_changed(&self) {
        self.services_version.send_modify(|version| *version += 1);
        self.checks_changed();
    }

    fn checks_changed(&self) {
        self.checks_version.send_modify(|version| *version += 1);
    }

    /// Whether outputs are dropped from now on. What is there goes with the next result of each check.
    pub(super) fn set_discard_output(&mut self, discard: bool) {
        self.discard_output = discard;
    }

    /// How long outputs that change wait from now on; what waits already keeps its time.
    pub(super) fn set_output_interval(&mut self, interval: Duration) {
        self.output_interval = interval;
    }

    /// One instance.
    pub(super) fn service(&self, id: &str) -> Option<LocalService> {
        let row = self.services.get(id)?.clone();
        let Registrant { token, source } = self.registrants.get(id).cloned().unwrap_or_default();
        Some(LocalService { row, token, source })
    }

    /// The instances by id.
    pub(super) fn services(&self) -> BTreeMap<Str, LocalService> {
        self.services.keys().filter_map(|id| Some((id.clone(), self.service(id)?))).collect()
    }

    /// The checks by id.
    pub(super) fn checks(&self) -> &OrdMap<Str, Arc<Check>> {
        &self.checks
    }

    /// The checks that follow others.
    pub(super) fn aliases(&self) -> Vec<Arc<Check>> {
        self.aliases.iter().filter_map(|id| self.checks.get(id).cloned()).collect()
    }

    /// The ids of the checks of an instance, those that wait for it included.
    pub(super) fn check_ids_of(&self, service_id: &str) -> Vec<Str> {
        let registered = self.checks.values().filter(|check| &*check.service_id == service_id).map(|check| check.id.clone());
        let waiting = self.orphans.iter().filter(|(_, check)| &*check.row.service_id == service_id).map(|(id, _)| id.clone());
        registered.chain(waiting).collect()
    }

    /// Keeps a stored check until its instance is registered.
    pub(super) fn put_orphan(&mut self, check: NewCheck) {
        self.orphans.insert(check.row.id.clone(), check);
    }

    /// The check as it is to be stored, should it be registered now.
    fn stored_check(&self, id: &str) -> Option<CheckToStore> {
        let (row, runner) = (self.checks.get(id)?.clone(), self.runners.get(id)?);
        Some(CheckToStore { row, registrant: runner.registrant.clone(), critical_since: runner.critical_since })
    }

    /// `new` as it will stand: what an earlier registration for the same instance has reached is
    /// kept, unless a status is given.
    pub(super) fn merged(&self, new: &NewCheck) -> Check {
        let mut row = new.row.clone();
        if let Some(service) = self.services.get(&row.service_id) {
            row.service_name = service.name.clone();
            row.service_tags = service.tags.clone();
        }
        if let Some(old) = self.checks.get(&row.id).filter(|old| old.service_id == row.service_id && new.status.is_none()) {
            row.status = old.status;
            row.output = old.output.clone();
        }
        row
    }

    /// Registers or replaces an instance, and the checks that waited for it.
    pub(super) fn put_service(&mut self, service: LocalService, now: Instant) -> Vec<Request> {
        let id = service.row.id.clone();
        self.copy_to_checks(&id, &service.row.name, &service.row.tags);
        self.registrants.insert(id.clone(), Registrant { token: service.token, source: service.source });
        self.services.insert(id.clone(), service.row);
        let number = self.number();
        self.marks.services.insert(id.clone(), number);
        self.services_changed();
        let waited: Vec<NewCheck> = self.orphans.values().filter(|check| check.row.service_id == id).cloned().collect();
        waited.into_iter().filter_map(|check| self.put_check(check, now)).collect()
    }

    /// Tells the checks of an instance its name and tags.
    fn copy_to_checks(&mut self, service_id: &Str, name: &Str, tags: &[Str]) {
        let own = self.checks.values().filter(|check| check.service_id == *service_id);
        let copy = |check: &Arc<Check>| Check { service_name: name.clone(), service_tags: tags.to_vec(), ..(**check).clone() };
        let copies: Vec<Check> = own.map(copy).collect();
        for check in copies {
            self.checks.insert(check.id.clone(), Arc::new(check));
        }
    }

    /// Registers or replaces a check. A check that is run as before goes on without a break.
    pub(super) fn put_check(&mut self, new: NewCheck, now: Instant) -> Option<Request> {
        let row = Arc::new(self.merged(&new));
        let id = row.id.clone();
        self.orphans.remove(&id);
        if &*row.kind == ALIAS {
            self.aliases.insert(id.clone());
        } else {
            self.aliases.remove(&id);
        }
        let old = self.checks.insert(id.clone(), row.clone());
        let as_before = old.is_some_and(|old| old.definition == row.definition && old.service_id == row.service_id);
        let goes_on = as_before && new.status.is_none() && &*row.kind != "ttl";
        let number = self.number();
        let registrant = Registrant { token: new.token, source: new.source };
        let runner = self.runners.entry(id.clone()).or_insert_with(|| Runner {
            registrant: registrant.clone(),
            run: Run(0),
            critical_since: None,
            spared_until: None,
            silence: None,
        });
        runner.registrant = registrant;
        if let Some(since) = new.critical_since {
            runner.critical_since = Some(since);
            runner.spared_until = Some(now + first_result_within(&row));
        }
        if !goes_on {
            runner.run = Run(number);
        }
        self.marks.checks.insert(id.clone(), number);
        self.watch_critical(&id, now);
        self.checks_changed();
        if goes_on { None } else { self.start(&row, Run(number)) }
    }

    /// What the prober must be told to run everything that is registered.
    pub(super) fn starts(&self) -> Vec<Request> {
        self.checks.values().filter_map(|check| self.start(check, self.runners.get(&check.id)?.run)).collect()
    }

    /// What the prober must be told to run a check; `None` where there is nothing to run.
    fn start(&self, row: &Check, run: Run) -> Option<Request> {
        if matches!(&*row.kind, ALIAS | MAINTENANCE) {
            return None;
        }
        let output_bytes_max = self.output_bytes(row);
        let definition = row.definition.clone();
        Some(Request::Start(Box::new(Probe { check_id: row.id.clone(), run, definition, output_bytes_max })))
    }

    /// Removes an instance with its checks; `None` if it is not registered.
    pub(super) fn remove_service(&mut self, id: &str) -> Option<Vec<Request>> {
        let (id, _) = self.services.remove_with_key(id)?;
        self.registrants.remove(&id);
        let stops = self.check_ids_of(&id).iter().filter_map(|check| self.remove_check(check)).collect();
        let number = self.number();
        self.marks.services.insert(id, number);
        self.services_changed();
        Some(stops)
    }

    /// Removes a check; `None` if it is not registered.
    pub(super) fn remove_check(&mut self, id: &str) -> Option<Request> {
        self.orphans.remove(id);
        let (id, _) = self.checks.remove_with_key(id)?;
        self.runners.remove(&id);
        self.aliases.remove(&id);
        self.deferred.remove(&id);
        self.unsaved.remove(&id);
        self.timers.remove(&Timer::Output(id.clone()));
        self.timers.remove(&Timer::Reap(id.clone()));
        let number = self.number();
        self.marks.checks.insert(id.clone(), number);
        self.checks_changed();
        Some(Request::Stop { check_id: id, run: Run(number) })
    }

    /// Takes a result of the prober. One of an older run changes nothing.
    pub(super) fn take_report(&mut self, report: Report, now: Instant, chance: f64) -> Changed {
        if self.runners.get(&report.check_id).is_none_or(|runner| runner.run != report.run) {
            return Changed::default();
        }
        let Some(row) = self.checks.get(&report.check_id) else { return Changed::default() };
        let silence = self.runners.get(&report.check_id).and_then(|runner| runner.silence.as_deref());
        let output = if report.expired { expired_output(&row.output, silence) } else { report.output };
        self.set_status(&report.check_id, report.status, output, now, chance)
    }

    /// Takes a report on a TTL check; `None` if it has no TTL. The catalog's copy of the check, when
    /// it changed, is marked; the prober is to be told that the time begins anew.
    pub(super) fn update_ttl(
        &mut self,
        id: &str,
        status: Status,
        output: &str,
        now: Instant,
        chance: f64,
    ) -> Option<(Request, Duration, Changed)> {
        let row = self.checks.get(id)?.clone();
        let ttl = Duration::from_millis(row.definition.ttl_ms.filter(|_| &*row.kind == "ttl")?);
        let number = self.number();
        let runner = self.runners.get_mut(id)?;
        runner.run = Run(number);
        runner.silence = None;
        let output = first_bytes(output, self.output_bytes(&row));
        let changed = self.set_status(id, status, output, now, chance);
        Some((Request::Renew { check_id: row.id.clone(), run: Run(number) }, ttl, changed))
    }

    /// Takes note of why nobody reports on a TTL check any more: told when its time is over, unless
    /// somebody reports after all.
    pub(super) fn note_silence(&mut self, id: &str, cause: &Str) {
        if let Some(runner) = self.runners.get_mut(id) {
            runner.silence = Some(cause.clone());
        }
    }

    /// Takes over a status and an output, whoever found them.
    pub(super) fn set_status(&mut self, id: &str, status: Status, output: Str, now: Instant, chance: f64) -> Changed {
        let Some(old) = self.checks.get(id).cloned() else { return Changed::default() };
        let output = if self.discard_output { Str::default() } else { output };
        if old.status == status && old.output == output {
            return Changed::default();
        }
        let id = old.id.clone();
        let row = Check { status, output, ..(*old).clone() };
        self.checks.insert(id.clone(), Arc::new(row));
        self.unsaved.insert(id.clone());
        let push = old.status != status || self.output_interval.is_zero();
        if push {
            let number = self.number();
            self.marks.checks.insert(id.clone(), number);
        } else {
            self.defer_output(&id, now, chance);
        }
        self.watch_critical(&id, now);
        self.checks_changed();
        Changed { push, timer: true }
    }

    /// Writes the output later: after the interval, give or take half of it. A deferral that is
    /// under way stands, so that an ever-changing text is written once in that time.
    fn defer_output(&mut self, id: &Str, now: Instant, chance: f64) {
        if self.marks.checks.contains_key(id) || !self.deferred.insert(id.clone()) {
            return;
        }
        let wait = self.output_interval.mul_f64(0.5 + chance);
        self.timers.set(Timer::Output(id.clone()), now + wait);
    }

    /// Since when a check is critical.
    pub(super) fn critical_since(&self, id: &str) -> Option<Instant> {
        self.runners.get(id)?.critical_since
    }

    /// Starts, keeps or stops the clock after which a critical check takes its instance away.
    fn watch_critical(&mut self, id: &Str, now: Instant) {
        let (Some(row), Some(runner)) = (self.checks.get(id), self.runners.get_mut(id)) else { return };
        let timer = Timer::Reap(id.clone());
        let after = row.definition.deregister_critical_after_ms.filter(|_| !row.service_id.is_empty());
        runner.critical_since = (row.status == Status::Critical).then(|| runner.critical_since.unwrap_or(now));
        match (after, runner.critical_since) {
            (Some(after), Some(since)) => {
                let due = since + Duration::from_millis(after);
                self.timers.set(timer, runner.spared_until.map_or(due, |spared| due.max(spared)));
            }
            _ => {
                self.timers.remove(&timer);
            }
        }
    }

    /// When the next timer is due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Takes what is due: marks outputs that are to be written, and says which instances must go,
    /// each with the check at fault.
    pub(super) fn take_due(&mut self, now: Instant) -> (Changed, Vec<(Str, Str)>) {
        let mut changed = Changed::default();
        let mut reaped = Vec::new();
        while let Some(timer) = self.timers.due(now) {
            match timer {
                Timer::Output(id) => {
                    self.deferred.remove(&id);
                    let number = self.number();
                    self.marks.checks.insert(id, number);
                    changed.push = true;
                }
                Timer::Reap(id) => reaped.extend(self.checks.get(&id).map(|check| (check.service_id.clone(), id))),
            }
        }
        (changed, reaped)
    }

    /// Forgets what is marked: a full comparison is to follow.
    pub(super) fn unmark(&mut self) {
        self.marks = Marks::default();
    }

    /// What the catalog has not seen.
    pub(super) fn marks(&self) -> &Marks {
        &self.marks
    }

    /// What must be written to bring `catalog` into line: everything, or what is marked.
    pub(super) fn differences(&self, node: &NodeInput, catalog: Option<&NodeView>, whole: bool) -> Vec<Operation> {
        let Local { services, checks, deferred, in_doubt, .. } = self;
        let local = anti_entropy::Local { node, services, checks, deferred, in_doubt };
        if whole { anti_entropy::diff(&local, catalog) } else { anti_entropy::diff_of(&local, catalog, &self.marks.scope()) }
    }

    /// Takes note of what is about to be written: until there is an answer, nobody knows whether it was.
    pub(super) fn write_begins(&mut self, operation: &Operation) {
        self.in_doubt.add(&Scope::of(operation));
    }

    /// The catalog has answered.
    pub(super) fn write_ended(&mut self, operation: &Operation) {
        self.in_doubt.remove(&Scope::of(operation));
    }

    /// Takes over the tags that were changed in the catalog, but not those of an instance whose own
    /// registration is still to be written.
    pub(super) fn take_overridden_tags(&mut self, catalog: &NodeView) {
        for (id, tags) in anti_entropy::overridden_tags(&self.services, catalog) {
            if self.marks.services.contains_key(&id) {
                continue;
            }
            if let Some(service) = self.services.get(&id).cloned() {
                self.copy_to_checks(&id, &service.name, &tags);
                self.services.insert(id, Arc::new(Service { tags, ..(*service).clone() }));
                self.services_changed();
            }
        }
    }

    /// Takes off the marks that were `seen` before a push, but for what `failed` and for what has
    /// been marked anew since.
    pub(super) fn settle(&mut self, seen: &Marks, failed: &Scope) {
        let Marks { services, checks } = &mut self.marks;
        services.retain(|id, number| seen.services.get(id) != Some(number) || failed.services.contains(id));
        checks.retain(|id, number| seen.checks.get(id) != Some(number) || failed.checks.contains(id));
        for id in seen.checks.keys().filter(|id| !failed.checks.contains(*id) && !self.marks.checks.contains_key(*id)) {
            self.timers.remove(&Timer::Output(id.clone()));
            self.deferred.remove(id);
        }
    }

    /// Checks whose status on disk is old; takes the marks off. What the configuration defines is not
    /// on disk.
    pub(super) fn take_unsaved(&mut self) -> Vec<CheckToStore> {
        let ids = std::mem::take(&mut self.unsaved);
        let stored = ids.iter().filter_map(|id| self.stored_check(id));
        stored.filter(|check| check.registrant.source == Source::Api).collect()
    }

    /// Marks statuses that could not be written to disk.
    pub(super) fn mark_unsaved(&mut self, ids: impl IntoIterator<Item = Str>) {
        self.unsaved.extend(ids);
    }

    /// Whether a status on disk is old.
    pub(super) fn has_unsaved(&self) -> bool {
        !self.unsaved.is_empty()
    }

    fn output_bytes(&self, row: &Check) -> usize {
        let own = row.definition.output_max_bytes.filter(|bytes| *bytes > 0);
        own.map_or(self.output_bytes_max, |bytes| (bytes as usize).min(self.output_bytes_max))
    }

    fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

/// How long a check that was just started may take to its first result.
fn first_result_within(row: &Check) -> Duration {
    let d = &row.definition;
    let ms = match d.ttl_ms {
        Some(ttl_ms) => ttl_ms,
        None => d.interval_ms.unwrap_or_default().saturating_add(d.timeout_ms.unwrap_or(RESULT_WITHIN_MS)),
    };
    Duration::from_millis(ms)
}

/// What a TTL check says once its time is over, with what is known of the cause and what it said last.
fn expired_output(last: &str, silence: Option<&str>) -> Str {
    let cause = silence.map(|cause| format!(": {cause}")).unwrap_or_default();
    match last {
        "" => format!("{TTL_EXPIRED}{cause}").into(),
        last if last.starts_with(TTL_EXPIRED) => last.into(),
        last => format!("{TTL_EXPIRED}{cause}; the last report was: {last}").into(),
    }
}

/// The first `most` bytes of a text, and a word on what was cut off.
fn first_bytes(text: &str, most: usize) -> Str {
    if text.len() <= most {
        return text.into();
    }
    let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{} ... (captured {end} of {} bytes)", &text[..end], text.len()).into()
}
