//! What can be watched, and which changes concern it.

use std::sync::Arc;

use state::{Change, Check, Instance, SessionId, Status, Str};

use super::delta::Event;

/// What a watcher asks for. Names of nodes and services are in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One key, present or absent.
    KvKey(Box<[u8]>),
    /// Every key that starts with the prefix.
    KvPrefix(Box<[u8]>),
    /// The instances of a service.
    Service {
        /// Its name.
        name: Str,
        /// Only instances whose every check passes.
        passing_only: bool,
        /// Only instances that carry all these tags.
        tags: Vec<Str>,
    },
    /// The list of services with their tags.
    Services,
    /// One node and all that is on it.
    Node(Str),
    /// The list of nodes.
    Nodes,
    /// Checks.
    Checks(CheckScope),
    /// Everything in the catalog.
    Catalog,
    /// Sessions.
    Sessions,
    /// What one session holds: each grant of a lock to it, and its end.
    Holder(SessionId),
}

/// Which checks are meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CheckScope {
    /// Those of a node and of all its services.
    Node(Str),
    /// Those of a service's instances.
    Service(Str),
    /// Those in a status.
    Status(Status),
    /// All.
    Any,
}

impl CheckScope {
    /// Whether `check` is meant.
    pub fn contains(&self, check: &Check) -> bool {
        match self {
            CheckScope::Node(name) => check.node.eq_ignore_ascii_case(name),
            CheckScope::Service(name) => check.service_name.eq_ignore_ascii_case(name),
            CheckScope::Status(status) => check.status == *status,
            CheckScope::Any => true,
        }
    }

    fn normalized(self) -> Self {
        match self {
            CheckScope::Node(name) => CheckScope::Node(name.to_lowercase().into()),
            CheckScope::Service(name) => CheckScope::Service(name.to_lowercase().into()),
            other => other,
        }
    }
}

impl Target {
    /// All instances of a service.
    pub fn service(name: &str) -> Self {
        Target::Service { name: name.to_lowercase().into(), passing_only: false, tags: Vec::new() }
    }

    /// The same target in the one form in which equal targets are equal.
    pub fn normalized(self) -> Self {
        match self {
            Target::Service { name, passing_only, tags } => {
                let mut tags: Vec<Str> = tags.iter().map(|tag| tag.to_lowercase().into()).collect();
                tags.sort();
                tags.dedup();
                Target::Service { name: name.to_lowercase().into(), passing_only, tags }
            }
            Target::Node(name) => Target::Node(name.to_lowercase().into()),
            Target::Checks(scope) => Target::Checks(scope.normalized()),
            other => other,
        }
    }

    /// What a watcher of this target sees of `change`; `None` when it sees nothing of it.
    pub(crate) fn project(&self, change: &Change) -> Option<Event> {
        match (self, change) {
            (Target::KvKey(key), Change::KvPut { entry }) if **key == *entry.key() => Some(Event::KvPut(entry.clone())),
            (Target::KvKey(key), Change::KvDelete { entry }) if **key == *entry.key() => Some(Event::KvDelete(entry.clone())),
            (Target::KvPrefix(prefix), Change::KvPut { entry }) if entry.key().starts_with(prefix) => Some(Event::KvPut(entry.clone())),
            (Target::KvPrefix(prefix), Change::KvDelete { entry }) if entry.key().starts_with(prefix) => {
                Some(Event::KvDelete(entry.clone()))
            }
            (Target::Service { .. } | Target::Node(_) | Target::Catalog, Change::Instance { before, after }) => {
                seen(before, after, |instance| self.shows(instance), Event::InstancePut, Event::InstanceDelete)
            }
            (Target::Services | Target::Catalog, Change::Service { before, after }) => {
                seen(before, after, |_| true, Event::ServicePut, Event::ServiceDelete)
            }
            (Target::Nodes | Target::Catalog, Change::Node { before, after }) => {
                seen(before, after, |_| true, Event::NodePut, Event::NodeDelete)
            }
            (Target::Node(name), Change::Node { before, after }) => {
                seen(before, after, |node| node.name.eq_ignore_ascii_case(name), Event::NodePut, Event::NodeDelete)
            }
            (Target::Node(name), Change::Check { before, after }) => {
                seen(before, after, |check| check.node.eq_ignore_ascii_case(name), Event::CheckPut, Event::CheckDelete)
            }
            (Target::Checks(scope), Change::Check { before, after }) => {
                seen(before, after, |check| scope.contains(check), Event::CheckPut, Event::CheckDelete)
            }
            (Target::Holder(id), Change::KvPut { entry }) if entry.session() == Some(*id) => Some(Event::KvPut(entry.clone())),
            (Target::Holder(id), Change::Session { before, after, .. }) => {
                seen(before, after, |session| session.id == *id, Event::SessionPut, Event::SessionDelete)
            }
            (Target::Sessions, Change::Session { before, after, .. }) => {
                seen(before, after, |_| true, Event::SessionPut, Event::SessionDelete)
            }
            _ => None,
        }
    }

    /// Whether a watcher of this target sees the instance at all.
    pub(crate) fn shows(&self, instance: &Instance) -> bool {
        match self {
            Target::Service { name, passing_only, tags } => {
                instance.service.name.eq_ignore_ascii_case(name)
                    && (!passing_only || instance.status == Status::Passing)
                    && instance.has_tags(tags)
            }
            Target::Node(name) => instance.node.name.eq_ignore_ascii_case(name),
            _ => true,
        }
    }
}

/// An appearance or update, a disappearance, or nothing, as seen through a filter.
fn seen<T>(
    before: &Option<Arc<T>>,
    after: &Option<Arc<T>>,
    shows: impl Fn(&T) -> bool,
    put: fn(Arc<T>) -> Event,
    delete: fn(Arc<T>) -> Event,
) -> Option<Event> {
    match (before.as_ref().filter(|row| shows(row)), after.as_ref().filter(|row| shows(row))) {
        (_, Some(after)) => Some(put(after.clone())),
        (Some(before), None) => Some(delete(before.clone())),
        (None, None) => None,
    }
}
