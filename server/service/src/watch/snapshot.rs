//! What a target shows at one moment, in pieces that each fit into one message.

use std::collections::VecDeque;
use std::sync::Arc;

use state::{LogIndex, ServiceSummary, Tables};

use super::delta::{CHUNK_BYTES_MAX, CHUNK_EVENTS_MAX, Event, split};
use super::target::Target;

/// A snapshot that is being sent. It holds the tables as they were, so that sending it may take
/// any time without blocking a writer; keys are read a piece at a time.
pub(crate) struct Snapshot {
    tables: Arc<Tables>,
    rest: Rest,
}

enum Rest {
    Keys { prefix: Box<[u8]>, after: Option<Vec<u8>>, done: bool },
    Pieces(VecDeque<Vec<Event>>),
}

impl Snapshot {
    pub(crate) fn new(target: &Target, tables: Arc<Tables>) -> Self {
        let rest = match target {
            Target::KvPrefix(prefix) => Rest::Keys { prefix: prefix.clone(), after: None, done: false },
            other => Rest::Pieces(split(rows(other, &tables)).into()),
        };
        Snapshot { tables, rest }
    }

    /// The moment that it shows.
    pub(crate) fn index(&self) -> LogIndex {
        self.tables.applied()
    }

    /// The next piece; `None` when all is sent.
    pub(crate) fn next_piece(&mut self) -> Option<Vec<Event>> {
        match &mut self.rest {
            Rest::Pieces(pieces) => pieces.pop_front(),
            Rest::Keys { prefix, after, done } => {
                if *done {
                    return None;
                }
                let mut piece = Vec::new();
                let mut bytes = 0;
                *done = true;
                for entry in self.tables.kv_range_after(prefix, after.as_deref()) {
                    if piece.len() == CHUNK_EVENTS_MAX || (bytes >= CHUNK_BYTES_MAX && !piece.is_empty()) {
                        *done = false;
                        break;
                    }
                    bytes += entry.key().len() + entry.value().len();
                    piece.push(Event::KvPut(entry.clone()));
                }
                if let Some(Event::KvPut(last)) = piece.last() {
                    *after = Some(last.key().to_vec());
                }
                if piece.is_empty() { None } else { Some(piece) }
            }
        }
    }
}

fn rows(target: &Target, tables: &Tables) -> Vec<Event> {
    let instances = |name: &str| {
        let view = tables.service(name).value.unwrap_or_default();
        let shown: Vec<_> = view.instances.values().filter(|instance| target.shows(instance)).cloned().collect();
        shown.into_iter().map(Event::InstancePut)
    };
    let services = || {
        let summary = |name: &state::Str, view: &state::ServiceView| {
            let name = view.instances.get_min().map_or_else(|| name.clone(), |(_, first)| first.service.name.clone());
            Event::ServicePut(Arc::new(ServiceSummary { name, tags: view.tag_union() }))
        };
        tables.services().map(move |(name, view)| summary(name, view))
    };
    let nodes = || tables.nodes().map(|view| Event::NodePut(view.node.clone()));
    match target {
        Target::KvKey(key) => tables.kv_get(key).value.map(Event::KvPut).into_iter().collect(),
        Target::KvPrefix(_) => Vec::new(),
        Target::Service { name, .. } => instances(name).collect(),
        Target::Services => services().collect(),
        Target::Nodes => nodes().collect(),
        Target::Node(name) => tables.node(name).map_or_else(Vec::new, |view| {
            let instances = view.services.values().filter_map(|service| {
                let service_view = tables.service(&service.name).value?;
                let found = service_view.instances.values().find(|row| Arc::ptr_eq(&row.service, service));
                found.cloned().map(Event::InstancePut)
            });
            std::iter::once(Event::NodePut(view.node.clone()))
                .chain(instances)
                .chain(view.checks.values().cloned().map(Event::CheckPut))
                .collect()
        }),
        Target::Checks(scope) => tables.checks().filter(|check| scope.contains(check)).cloned().map(Event::CheckPut).collect(),
        Target::Holder(id) => tables.session(*id).value.into_iter().map(Event::SessionPut).collect(),
        Target::Sessions => tables.sessions().cloned().map(Event::SessionPut).collect(),
        Target::Catalog => {
            let names: Vec<_> = tables.services().map(|(name, _)| name.clone()).collect();
            nodes().chain(names.iter().flat_map(|name| instances(name))).chain(services()).collect()
        }
    }
}
