//! Alias checks: the health of another instance or node, copied.
//!
//! What is registered here is looked at directly, what belongs to another node in the catalog.

use std::time::Duration;

use state::{Check, Status, Str, Tables};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Agent;

/// The kind of these checks.
pub(super) const ALIAS: &str = "alias";

/// How often the checks are looked at. Both sides are in memory, so that a look costs next to nothing.
const LOOK_EVERY: Duration = Duration::from_millis(500);

impl Agent {
    /// Keeps alias checks in line with what they follow, until `stop`.
    pub(super) async fn follow_aliases(&self, stop: &CancellationToken) {
        while stop.run_until_cancelled(sleep(LOOK_EVERY)).await.is_some() {
            let push = {
                let mut local = self.inner.local.lock();
                // A persistent map: to hold on to it costs nothing.
                let own = local.checks().clone();
                let mut aliases = own.values().filter(|check| &*check.kind == ALIAS).peekable();
                if aliases.peek().is_none() {
                    continue;
                }
                let tables = self.inner.upstream.tables();
                let now = Instant::now();
                let mut push = false;
                for alias in aliases {
                    let is_here = |id: &str| local.service(id).is_some();
                    let (status, output) = judge(alias, own.values().map(|check| &**check), is_here, &tables);
                    push |= local.set_status(&alias.id, status, output, now, rand::random()).push;
                }
                push
            };
            if push {
                self.inner.changed.notify_one();
                self.inner.timer_set.notify_one();
            }
        }
    }
}

/// The verdict on what `alias` follows: the worst of its checks.
fn judge<'a>(alias: &Check, own: impl Iterator<Item = &'a Check>, is_here: impl Fn(&str) -> bool, tables: &'a Tables) -> (Status, Str) {
    let node = alias.definition.alias_node.as_deref().filter(|node| !node.is_empty());
    let service = alias.definition.alias_service.as_deref().unwrap_or_default();
    let decides = |check: &&Check| check.id != alias.id && (check.service_id.is_empty() || &*check.service_id == service);
    match node.filter(|node| !node.eq_ignore_ascii_case(&alias.node)) {
        None if service.is_empty() || is_here(service) => worst(own.filter(decides)),
        None => missing(service, &alias.node),
        Some(name) => match tables.node(name) {
            Some(view) if service.is_empty() || view.services.contains_key(service) => {
                worst(view.checks.values().map(|check| &**check).filter(decides))
            }
            Some(_) => missing(service, name),
            None => (Status::Critical, format!("node `{name}` is not registered").into()),
        },
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
