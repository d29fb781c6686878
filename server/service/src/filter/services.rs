//! The list of services, grouped from the instances that a filter chooses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use state::{Indexed, Str, Tables};

use super::{Filter, ServiceNode};
use crate::answer::{Answer, Blocking, ReadOptions};
use crate::catalog::{NodeMeta, has_meta};
use crate::error::Error;
use crate::watch::Target;
use crate::{Caller, Right, Service};

impl Service {
    /// Every service that has an instance which `filter` chooses on a node whose meta contains
    /// `meta`, with the union of the tags of those instances, by name. Since a filter may look at
    /// any field of an instance, a blocking call waits for a change of anything in the catalog.
    pub async fn catalog_services_filtered(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        meta: &NodeMeta,
        filter: &Filter,
    ) -> Result<Answer<BTreeMap<Str, Vec<Str>>>, Error> {
        let query = |tables: &Arc<Tables>| {
            let mut services: BTreeMap<Str, BTreeSet<Str>> = BTreeMap::new();
            for (name, view) in tables.services() {
                if self.authorize(caller, Right::ServiceRead(name)).is_err() {
                    continue;
                }
                let chosen = view.instances.values().filter(|row| has_meta(&row.node, meta) && filter.matches(&ServiceNode(row)));
                for row in chosen {
                    services.entry(row.service.name.clone()).or_default().extend(row.service.tags.iter().cloned());
                }
            }
            let services = services.into_iter().map(|(name, tags)| (name, tags.into_iter().collect())).collect();
            let newest = tables.services().map(|(_, view)| view.index).max().unwrap_or_default();
            Indexed::exact(services, tables.services_index().max(tables.nodes_index()).max(newest))
        };
        self.read(options, blocking, || Target::Catalog, query).await
    }
}
