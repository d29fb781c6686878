//! Changes, as the history keeps them.

use std::sync::Arc;

use proto::storage::v1 as pb;
use state::{Change, ChangeBatch, Instance, LogIndex, ServiceSummary};

use crate::encode::{Malformed, catalog, check, from_strs, kv, session, to_strs};

pub(super) fn from_batch(batch: &ChangeBatch) -> pb::ChangeBatch {
    let changes = batch.changes.iter().map(|change| pb::Change { change: Some(from_change(change)) });
    pb::ChangeBatch { index: batch.index.0, changes: changes.collect() }
}

pub(super) fn to_batch(batch: pb::ChangeBatch) -> Result<ChangeBatch, Malformed> {
    let changes = batch.changes.into_iter().map(|change| to_change(change.change.ok_or(Malformed::Unknown("change"))?));
    Ok(ChangeBatch { index: LogIndex(batch.index), changes: changes.collect::<Result<_, _>>()? })
}

fn from_change(change: &Change) -> pb::change::Change {
    match change {
        Change::KvPut { entry } => pb::change::Change::KvPut(kv::from_entry(entry)),
        Change::KvDelete { entry } => pb::change::Change::KvDelete(kv::from_entry(entry)),
        Change::Node { before, after } => {
            let side = |node: &Option<Arc<_>>| node.as_ref().map(|node| catalog::from_node(node, LogIndex::ZERO));
            pb::change::Change::Node(pb::NodeChange { before: side(before), after: side(after) })
        }
        Change::Instance { before, after } => {
            let side = |instance: &Option<Arc<_>>| instance.as_ref().map(|instance| from_instance(instance));
            pb::change::Change::Instance(pb::InstanceChange { before: side(before), after: side(after) })
        }
        Change::Check { before, after } => {
            let side = |check: &Option<Arc<_>>| check.as_ref().map(|check| check::from_check(check));
            pb::change::Change::Check(pb::CheckChange { before: side(before), after: side(after) })
        }
        Change::Service { before, after } => {
            let side = |summary: &Option<Arc<_>>| summary.as_ref().map(|summary| from_summary(summary));
            pb::change::Change::Service(pb::ServiceChange { before: side(before), after: side(after) })
        }
        Change::Session { before, after, end } => {
            let side = |row: &Option<Arc<_>>| row.as_ref().map(|row| session::from_row(row));
            let change = pb::SessionChange { before: side(before), after: side(after), end: session::from_end(*end).into() };
            pb::change::Change::Session(change)
        }
    }
}

fn to_change(change: pb::change::Change) -> Result<Change, Malformed> {
    match change {
        pb::change::Change::KvPut(entry) => Ok(Change::KvPut { entry: kv::to_entry(&entry)? }),
        pb::change::Change::KvDelete(entry) => Ok(Change::KvDelete { entry: kv::to_entry(&entry)? }),
        pb::change::Change::Node(pb::NodeChange { before, after }) => {
            let (before, after) = sides(before, after, |node| Ok(catalog::to_node(node).0))?;
            Ok(Change::Node { before, after })
        }
        pb::change::Change::Instance(pb::InstanceChange { before, after }) => {
            let (before, after) = sides(before, after, to_instance)?;
            Ok(Change::Instance { before, after })
        }
        pb::change::Change::Check(pb::CheckChange { before, after }) => {
            let (before, after) = sides(before, after, check::to_check)?;
            Ok(Change::Check { before, after })
        }
        pb::change::Change::Service(pb::ServiceChange { before, after }) => {
            let (before, after) = sides(before, after, |summary| Ok(to_summary(summary)))?;
            Ok(Change::Service { before, after })
        }
        pb::change::Change::Session(pb::SessionChange { before, after, end }) => {
            let (before, after) = sides(before, after, session::to_row)?;
            Ok(Change::Session { before, after, end: session::to_end(end, "end")? })
        }
    }
}

/// A row before and after, shared.
type Sides<T> = (Option<Arc<T>>, Option<Arc<T>>);

/// Converts both sides, at least one of which must be set.
fn sides<P, T>(before: Option<P>, after: Option<P>, convert: impl Fn(P) -> Result<T, Malformed>) -> Result<Sides<T>, Malformed> {
    if before.is_none() && after.is_none() {
        return Err(Malformed::Missing("after"));
    }
    let shared = |side: Option<P>| side.map(|side| convert(side).map(Arc::new)).transpose();
    Ok((shared(before)?, shared(after)?))
}

fn from_instance(instance: &Instance) -> pb::Instance {
    pb::Instance {
        node: Some(catalog::from_node(&instance.node, LogIndex::ZERO)),
        service: Some(catalog::from_service(&instance.service)),
        checks: instance.checks.iter().map(|check| check::from_check(check)).collect(),
    }
}

fn to_instance(instance: pb::Instance) -> Result<Instance, Malformed> {
    let (node, _) = catalog::to_node(instance.node.ok_or(Malformed::Missing("node"))?);
    let service = catalog::to_service(instance.service.ok_or(Malformed::Missing("service"))?);
    let checks = instance.checks.into_iter().map(|check| check::to_check(check).map(Arc::new));
    Ok(Instance::new(Arc::new(node), Arc::new(service), checks.collect::<Result<_, _>>()?))
}

fn from_summary(summary: &ServiceSummary) -> pb::ServiceSummary {
    pb::ServiceSummary { name: summary.name.to_string(), tags: from_strs(&summary.tags) }
}

fn to_summary(summary: pb::ServiceSummary) -> ServiceSummary {
    ServiceSummary { name: summary.name.into(), tags: to_strs(summary.tags) }
}
