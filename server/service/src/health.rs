//! Health: checks, and the instances that may be used.

use std::sync::Arc;

use state::{Check, Indexed, Instance, Status, Str, Tables};

use crate::answer::{Answer, Blocking, ReadOptions};
use crate::catalog::{NodeMeta, has_meta};
use crate::error::Error;
use crate::watch::{CheckScope, Target};
use crate::{Caller, Right, Service};

/// Which instances of a service are asked for.
#[derive(Clone, Debug, Default)]
pub struct InstanceQuery {
    /// The service's name.
    pub service: Str,
    /// Tags that an instance must carry, all of them, compared without case.
    pub tags: Vec<Str>,
    /// Only instances whose every check, and every check of their node, passes.
    pub passing_only: bool,
    /// Pairs that the node's meta must contain.
    pub node_meta: NodeMeta,
}

impl Service {
    /// The instances of a service, each with its node and the checks that decide on it.
    pub async fn health_service(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        query: &InstanceQuery,
    ) -> Result<Answer<Vec<Arc<Instance>>>, Error> {
        let keep = |instance: &Instance| {
            (!query.passing_only || instance.status == Status::Passing)
                && instance.has_tags(&query.tags)
                && has_meta(&instance.node, &query.node_meta)
        };
        self.instances(caller, options, blocking, &query.service, keep).await
    }

    /// The checks of a node, of a service, of a status, or all.
    pub async fn health_checks(
        &self,
        caller: &Caller,
        options: &ReadOptions,
        blocking: Option<Blocking>,
        scope: &CheckScope,
        meta: &NodeMeta,
    ) -> Result<Answer<Vec<Arc<Check>>>, Error> {
        match scope {
            CheckScope::Node(name) if name.is_empty() => return Err(Error::invalid("missing node name")),
            CheckScope::Service(name) if name.is_empty() => return Err(Error::invalid("missing service name")),
            _ => {}
        }
        let query = |tables: &Arc<Tables>| {
            let kept = |check: &&Arc<Check>| {
                let on = || tables.node(&check.node).is_some_and(|view| has_meta(&view.node, meta));
                scope.contains(check) && (meta.is_empty() || on()) && self.authorize(caller, Right::NodeRead(&check.node)).is_ok()
            };
            match scope {
                CheckScope::Node(name) => match tables.node(name) {
                    Some(view) => Indexed::exact(view.checks.values().filter(kept).cloned().collect(), view.index),
                    None => Indexed::exact(Vec::new(), tables.nodes_index()),
                },
                CheckScope::Service(name) => tables.service(name).map(|view| {
                    let view = view.unwrap_or_default();
                    view.instances.values().flat_map(|instance| &instance.checks).filter(kept).cloned().collect()
                }),
                CheckScope::Status(_) | CheckScope::Any => {
                    Indexed::exact(tables.checks().filter(kept).cloned().collect(), tables.checks_index())
                }
            }
        };
        self.read(options, blocking, || Target::Checks(scope.clone()), query).await
    }
}
