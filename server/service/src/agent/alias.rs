//! Alias checks: the health of another instance or node, copied.
//!
//! What is registered here is looked at directly. Another node is followed in the catalog, wherever
//! that is: one question for each such node waits for its next change. Whatever happens on either
//! side, all aliases are judged anew; a storm of changes is taken together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use imbl::OrdMap;
use state::{Check, LogIndex, NodeView, Status, Str};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Agent;
use super::upstream::{Upstream, view_index};

/// The kind of these checks.
pub(super) const ALIAS: &str = "alias";

/// Shortest time between two looks at all aliases, so that ten thousand checks whose outputs change do
/// not cost a look each.
const LOOKS_APART: Duration = Duration::from_millis(50);

/// The pause before a catalog that could not be asked is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

impl Agent {
    /// Keeps alias checks in line with what they follow, until `stop`.
    pub(super) async fn follow_aliases(&self, stop: &CancellationToken) {
        let mut changes = self.inner.local.lock().check_changes();
        let mut others = Others::default();
        loop {
            changes.borrow_and_update();
            self.judge_aliases(&mut others);
            tokio::select! {
                () = stop.cancelled() => return,
                // The sender lives in the agent.
                _ = changes.changed() => {}
                () = others.changed() => {}
            }
            if stop.run_until_cancelled(sleep(LOOKS_APART)).await.is_none() {
                return;
            }
        }
    }

    fn judge_aliases(&self, others: &mut Others) {
        let mut local = self.inner.local.lock();
        // A persistent map: to hold on to it costs nothing.
        let own = local.checks().clone();
        let aliases = local.aliases();
        others.keep(aliases.iter().filter_map(|alias| other_node(alias)).collect(), &self.inner.upstream);
        let by_service = if aliases.is_empty() { BTreeMap::new() } else { by_service(&own) };
        let now = Instant::now();
        let mut push = false;
        for alias in &aliases {
            let verdict = match other_node(alias) {
                None => Some(judge_here(alias, &by_service, |id| local.service(id).is_some())),
                Some(node) => others.views.get(&node).map(|view| judge_there(alias, &node, view.as_deref())),
            };
            if let Some((status, output)) = verdict {
                push |= local.set_status(&alias.id, status, output, now, rand::random()).push;
            }
        }
        drop(local);
        if push {
            self.inner.changed.notify_one();
            self.inner.timer_set.notify_one();
        }
    }
}

/// The node that an alias follows when it is not this one, by its name in lower case.
fn other_node(alias: &Check) -> Option<Str> {
    let name = alias.definition.alias_node.as_deref().filter(|name| !name.is_empty())?;
    (!name.eq_ignore_ascii_case(&alias.node)).then(|| name.to_lowercase().into())
}

/// Other nodes, as they were seen last.
#[derive(Default)]
struct Others {
    views: BTreeMap<Str, Option<Arc<NodeView>>>,
    questions: BTreeMap<Str, AbortHandle>,
    under_way: JoinSet<(Str, Option<Arc<NodeView>>)>,
    /// Whom to ask again once something is heard of a node.
    upstream: Option<Upstream>,
}

impl Others {
    /// Follows these nodes and no others.
    fn keep(&mut self, names: BTreeSet<Str>, upstream: &Upstream) {
        self.questions.retain(|name, question| {
            let kept = names.contains(name);
            if !kept {
                question.abort();
            }
            kept
        });
        self.views.retain(|name, _| names.contains(name));
        if self.upstream.is_none() && !names.is_empty() {
            self.upstream = Some(upstream.clone());
        }
        for name in names.into_iter().filter(|name| !self.questions.contains_key(name)).collect::<Vec<_>>() {
            self.ask(name, None);
        }
    }

    fn ask(&mut self, name: Str, seen: Option<LogIndex>) {
        let Some(upstream) = self.upstream.clone() else { return };
        let subject = name.clone();
        let question = self.under_way.spawn(async move {
            loop {
                match upstream.follow(&subject, seen).await {
                    Ok(view) => return (subject, view),
                    Err(error) => tracing::debug!(node = &*subject, %error, "a node that an alias follows can't be read"),
                }
                sleep(ASK_AGAIN).await;
            }
        });
        self.questions.insert(name, question);
    }

    /// Completes when something was heard of one of them.
    async fn changed(&mut self) {
        loop {
            match self.under_way.join_next().await {
                None => std::future::pending().await,
                // A question that was taken back.
                Some(Err(_)) => {}
                Some(Ok((name, view))) => {
                    // A question that was taken back may have been answered before.
                    if !self.questions.contains_key(&name) {
                        continue;
                    }
                    self.ask(name.clone(), Some(view_index(view.as_ref())));
                    self.views.insert(name, view);
                    return;
                }
            }
        }
    }
}

/// The checks by the instance that they belong to; those of the node under the empty name.
fn by_service(checks: &OrdMap<Str, Arc<Check>>) -> BTreeMap<&str, Vec<&Check>> {
    let mut grouped: BTreeMap<&str, Vec<&Check>> = BTreeMap::new();
    checks.values().for_each(|check| grouped.entry(&check.service_id).or_default().push(check));
    grouped
}

/// The instance that an alias follows; empty for the node alone.
fn followed_service(alias: &Check) -> &str {
    alias.definition.alias_service.as_deref().unwrap_or_default()
}

fn judge_here(alias: &Check, checks: &BTreeMap<&str, Vec<&Check>>, is_here: impl Fn(&str) -> bool) -> (Status, Str) {
    let service = followed_service(alias);
    if !service.is_empty() && !is_here(service) {
        return missing(service, &alias.node);
    }
    let of = |owner: &str| checks.get(owner).into_iter().flatten().copied().filter(|check| check.id != alias.id);
    let own = (!service.is_empty()).then(|| of(service));
    worst(of("").chain(own.into_iter().flatten()))
}

fn judge_there(alias: &Check, name: &str, view: Option<&NodeView>) -> (Status, Str) {
    let service = followed_service(alias);
    match view {
        None => (Status::Critical, format!("node `{name}` is not registered").into()),
        Some(view) if !service.is_empty() && !view.services.contains_key(service) => missing(service, &view.node.name),
        Some(view) => {
            let decides = |check: &&Check| check.service_id.is_empty() || &*check.service_id == service;
            worst(view.checks.values().map(|check| &**check).filter(decides))
        }
    }
}

fn missing(service: &str, node: &str) -> (Status, Str) {
    (Status::Critical, format!("service `{service}` is not registered on node `{node}`").into())
}

fn worst<'a>(checks: impl Iterator<Item = &'a Check>) -> (Status, Str) {
    let rank = |status: Status| match status {
        Status::Critical => 2,
        Status::Warning => 1,
        _ => 0,
    };
    match checks.max_by_key(|check| rank(check.status)) {
        None => (Status::Passing, "No checks found.".into()),
        Some(check) if rank(check.status) == 0 => (Status::Passing, "All checks passing.".into()),
        Some(check) => (check.status, format!("Aliased check `{}` is {}: {}", check.name, check.status.as_str(), check.output).into()),
    }
}
