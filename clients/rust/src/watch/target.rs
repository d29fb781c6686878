//! What can be watched.

use bytes::Bytes;
use proto::v1;
use proto::v1::checks_target::Selection;
use proto::v1::watch_target::Target as Wire;

/// What a watch looks at. It need not exist yet.
///
/// ```
/// use lictor_client::Target;
///
/// let key = Target::key("config/colour");
/// let tree = Target::prefix("config/");
/// let usable = Target::service("web").passing_only().tag("primary");
/// # let _ = (key, tree, usable);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Target(Wire);

impl Target {
    /// One key.
    pub fn key(key: impl AsRef<[u8]>) -> Self {
        Target(Wire::KvKey(Bytes::copy_from_slice(key.as_ref())))
    }

    /// The keys under a prefix; empty is every key.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        Target(Wire::KvPrefix(Bytes::copy_from_slice(prefix.as_ref())))
    }

    /// The instances of one service, each with its node and checks.
    pub fn service(name: impl Into<String>) -> Self {
        Target(Wire::Service(v1::ServiceTarget { name: name.into(), ..v1::ServiceTarget::default() }))
    }

    /// Of a service, only instances that are passing: one that stops passing is told as deleted.
    /// Without meaning for other targets.
    pub fn passing_only(mut self) -> Self {
        if let Wire::Service(service) = &mut self.0 {
            service.passing_only = true;
        }
        self
    }

    /// Of a service, only instances that have this tag, and those asked for before. Without
    /// meaning for other targets.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        if let Wire::Service(service) = &mut self.0 {
            service.tags.push(tag.into());
        }
        self
    }

    /// One node and what runs on it.
    pub fn node(name: impl Into<String>) -> Self {
        Target(Wire::Node(name.into()))
    }

    /// A choice of checks.
    pub fn checks(selection: Selection) -> Self {
        Target(Wire::Checks(v1::ChecksTarget { selection: Some(selection) }))
    }

    /// The names and tags of all services.
    pub fn services() -> Self {
        Target(Wire::Services(v1::AllServices {}))
    }

    /// All nodes, without what runs on them.
    pub fn nodes() -> Self {
        Target(Wire::Nodes(v1::AllNodes {}))
    }

    pub(crate) fn wire(&self) -> v1::WatchTarget {
        v1::WatchTarget { target: Some(self.0.clone()) }
    }
}
