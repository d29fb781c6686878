//! `CatalogService`: what runs where.

use proto::v1;
use proto::v1::catalog_service_server::CatalogService;
use proto::v1::get_node_request::Node as Which;
use service::filter::{Filter, Selectable, ServiceNode};
use service::watch::Target;
use service::{Caller, Consistency, Error, ReadOptions};
use state::{Deregistration, Instance, Registration, Service as ServiceRow};
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::convert::common::{fence as proof, local_meta, meta, pairs, read_options, strs, write_meta, write_to};
use crate::convert::{check, node, service as convert, watch as watching};
use crate::near::{self, Order};
use crate::page::{RowKey, page};
use crate::serve::Face;
use crate::status::{answer, invalid};
use crate::watch::{self, Wrapped};

/// The filter of a request; empty takes every row.
pub(crate) fn filter<T: Selectable>(text: &str) -> Result<Option<Filter>, Error> {
    if text.is_empty() { Ok(None) } else { Filter::compile::<T>(text).map(Some) }
}

/// What instances are ordered by.
pub(crate) fn instance_key(order: &Order<'_>, instance: &impl AsRef<Instance>) -> RowKey {
    let instance = instance.as_ref();
    order.key(&instance.node.name, (instance.node.name.to_lowercase(), instance.service.id.to_string()))
}

#[tonic::async_trait]
impl CatalogService for Face {
    type WatchServicesStream = Wrapped<v1::WatchServicesResponse>;
    type WatchNodesStream = Wrapped<v1::WatchNodesResponse>;

    async fn register(&self, request: Request<v1::RegisterRequest>) -> Result<Response<v1::RegisterResponse>, Status> {
        answer(async {
            let (caller, v1::RegisterRequest { options, node, service, checks, skip_node_update, fence }) = open(request)?;
            let fence = proof(fence)?;
            let node = node::input(node.ok_or_else(|| invalid("node", "it is missing"))?);
            let checks: Result<_, Error> = checks.into_iter().map(check::input).collect();
            let registration = Registration { node, skip_node_update, service: service.map(convert::input), checks: checks? };
            let index = self.service.catalog_register_if(&caller, write_to(options).as_deref(), registration, fence).await?;
            Ok(v1::RegisterResponse { meta: Some(write_meta(&self.service, index)) })
        })
        .await
    }

    async fn deregister(&self, request: Request<v1::DeregisterRequest>) -> Result<Response<v1::DeregisterResponse>, Status> {
        answer(async {
            let (caller, v1::DeregisterRequest { options, node, part, fence }) = open(request)?;
            let fence = proof(fence)?;
            let (service_id, check_id) = match part {
                None => (None, None),
                Some(v1::deregister_request::Part::ServiceId(id)) => (Some(id.into()), None),
                Some(v1::deregister_request::Part::CheckId(id)) => (None, Some(id.into())),
            };
            let what = Deregistration { node: node.into(), service_id, check_id };
            let (index, removed) = self.service.catalog_deregister_if(&caller, write_to(options).as_deref(), what, fence).await?;
            Ok(v1::DeregisterResponse { meta: Some(write_meta(&self.service, index)), deregistered: removed > 0 })
        })
        .await
    }

    async fn list_datacenters(
        &self,
        request: Request<v1::ListDatacentersRequest>,
    ) -> Result<Response<v1::ListDatacentersResponse>, Status> {
        answer(async {
            let (caller, v1::ListDatacentersRequest {}) = open(request)?;
            let datacenters = self.service.catalog_datacenters(&caller).iter().map(ToString::to_string).collect();
            Ok::<_, Error>(v1::ListDatacentersResponse { meta: Some(local_meta(&self.service)), datacenters })
        })
        .await
    }

    async fn list_nodes(&self, request: Request<v1::ListNodesRequest>) -> Result<Response<v1::ListNodesResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::ListNodesRequest { options, node_meta, filter: text, near, page_size, page_token } = request;
            let near = near::node(&self.service, &caller, &near);
            let filter = filter::<state::Node>(&text)?;
            let mut found = self.service.catalog_nodes(&caller, &read_options(options)?, None, &pairs(node_meta)).await?;
            found.value.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(&**row)));
            let order = Order::from(&self.service, &near);
            let key = |row: &std::sync::Arc<state::Node>| order.key(&row.name, (row.name.to_lowercase(), String::new()));
            let (rows, next_page_token) = page(found.value, key, page_size, &page_token, self.service.limits().page_size_max)?;
            let nodes = rows.iter().map(|row| node::node(row)).collect();
            Ok(v1::ListNodesResponse { meta: Some(meta(found.meta)), nodes, next_page_token })
        })
        .await
    }

    async fn list_services(&self, request: Request<v1::ListServicesRequest>) -> Result<Response<v1::ListServicesResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::ListServicesRequest { options, node_meta, filter: text, page_size, page_token } = request;
            let (read, node_meta) = (read_options(options)?, pairs(node_meta));
            let found = match filter::<ServiceNode<'_>>(&text)? {
                Some(filter) => self.service.catalog_services_filtered(&caller, &read, None, &node_meta, &filter).await?,
                None => self.service.catalog_services(&caller, &read, None, &node_meta).await?,
            };
            let rows: Vec<_> = found.value.into_iter().collect();
            let key = |(name, _): &(state::Str, Vec<state::Str>)| (name.to_lowercase(), String::new());
            let (rows, next_page_token) = page(rows, key, page_size, &page_token, self.service.limits().page_size_max)?;
            let count = |name: &str| instances_of(self, &caller, name);
            let services: Result<_, Error> = rows.iter().map(|(name, tags)| Ok(convert::summary(name, tags, Some(count(name)?)))).collect();
            Ok(v1::ListServicesResponse { meta: Some(meta(found.meta)), services: services?, next_page_token })
        })
        .await
    }

    async fn list_service_instances(
        &self,
        request: Request<v1::ListServiceInstancesRequest>,
    ) -> Result<Response<v1::ListServiceInstancesResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::ListServiceInstancesRequest { options, service, tags, node_meta, filter: text, near, page_size, page_token } = request;
            let near = near::node(&self.service, &caller, &near);
            let filter = filter::<ServiceNode<'_>>(&text)?;
            let (read, tags, node_meta) = (read_options(options)?, strs(tags), pairs(node_meta));
            let mut found = self.service.catalog_service(&caller, &read, None, &service, &tags, &node_meta).await?;
            found.value.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(&ServiceNode(row))));
            let size_max = self.service.limits().page_size_max;
            let order = Order::from(&self.service, &near);
            let (rows, next_page_token) = page(found.value, |row| instance_key(&order, row), page_size, &page_token, size_max)?;
            let instances = rows.iter().map(|row| convert::instance_without_checks(row)).collect();
            Ok(v1::ListServiceInstancesResponse { meta: Some(meta(found.meta)), instances, next_page_token })
        })
        .await
    }

    async fn get_node(&self, request: Request<v1::GetNodeRequest>) -> Result<Response<v1::GetNodeResponse>, Status> {
        answer(async {
            let (caller, v1::GetNodeRequest { options, node: which, filter: text }) = open(request)?;
            let which = which.ok_or_else(|| invalid("node", "it is missing; give a name or an id"))?;
            let filter = filter::<ServiceRow>(&text)?;
            let (Which::Name(text) | Which::Id(text)) = &which;
            let found = self.service.catalog_node(&caller, &read_options(options)?, None, text).await?;
            let mut response = v1::GetNodeResponse { meta: Some(meta(found.meta)), ..v1::GetNodeResponse::default() };
            if let Some(view) = found.value.filter(|view| is_meant(&which, &view.node)) {
                let chosen = view.services.values().filter(|row| filter.as_ref().is_none_or(|filter| filter.matches(&***row)));
                response.services = chosen.map(|row| convert::service(row)).collect();
                response.checks = view.checks.values().map(|row| check::check(row)).collect();
                response.node = Some(node::node(&view.node));
            }
            Ok(response)
        })
        .await
    }

    async fn watch_services(&self, request: Request<v1::WatchServicesRequest>) -> Result<Response<Self::WatchServicesStream>, Status> {
        answer(async {
            let (caller, v1::WatchServicesRequest { options, resume_from, skip_snapshot }) = open(request)?;
            let start = watching::start(&resume_from, skip_snapshot)?;
            watch::single(self, &caller, Target::Services, &read_options(options)?, start).await
        })
        .await
    }

    async fn watch_nodes(&self, request: Request<v1::WatchNodesRequest>) -> Result<Response<Self::WatchNodesStream>, Status> {
        answer(async {
            let (caller, v1::WatchNodesRequest { options, resume_from, skip_snapshot }) = open(request)?;
            let start = watching::start(&resume_from, skip_snapshot)?;
            watch::single(self, &caller, Target::Nodes, &read_options(options)?, start).await
        })
        .await
    }
}

/// The layer below finds a node by either; the contract says which one is meant.
fn is_meant(which: &Which, node: &state::Node) -> bool {
    match which {
        Which::Name(name) => node.name.eq_ignore_ascii_case(name),
        Which::Id(id) => node.id.to_lowercase().starts_with(&id.to_lowercase()),
    }
}

/// How many instances a service has at this moment.
fn instances_of(face: &Face, caller: &Caller, name: &str) -> Result<usize, Error> {
    let directory = face.service.directory_now(caller, &ReadOptions::with(Consistency::Stale))?;
    Ok(directory.service(name)?.map_or(0, |view| view.instances.len()))
}
