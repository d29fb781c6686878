//! `HealthService`: who is fit for work.

use std::sync::Arc;

use proto::v1;
use proto::v1::health_service_server::HealthService;
use service::health::InstanceQuery;
use state::{Check, Instance};
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::catalog::{filter, instance_key};
use crate::convert::common::{meta, pairs, read_options, strs};
use crate::convert::{check, service as convert, watch as watching};
use crate::near::{self, Order};
use crate::page::page;
use crate::serve::Face;
use crate::status::answer;
use crate::watch::{self, Wrapped};

#[tonic::async_trait]
impl HealthService for Face {
    type WatchServiceStream = Wrapped<v1::WatchServiceResponse>;

    async fn list_service_instances(
        &self,
        request: Request<v1::HealthServiceListServiceInstancesRequest>,
    ) -> Result<Response<v1::HealthServiceListServiceInstancesResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::HealthServiceListServiceInstancesRequest { options, service, passing_only, tags, node_meta, filter: text, .. } =
                &request;
            let v1::HealthServiceListServiceInstancesRequest { near, page_size, page_token, .. } = &request;
            let near = near::node(&self.service, &caller, near);
            let filter = filter::<Instance>(text)?;
            let query = InstanceQuery {
                service: service.as_str().into(),
                tags: strs(tags.clone()),
                passing_only: *passing_only,
                node_meta: pairs(node_meta.clone()),
            };
            let mut found = self.service.health_service(&caller, &read_options(options.clone())?, None, &query).await?;
            found.value.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(&**row)));
            let size_max = self.service.limits().page_size_max;
            let order = Order::from(&self.service, &near);
            let (rows, next_page_token) = page(found.value, |row| instance_key(&order, row), *page_size, page_token, size_max)?;
            let instances = rows.iter().map(|row| convert::instance(row)).collect();
            Ok(v1::HealthServiceListServiceInstancesResponse { meta: Some(meta(found.meta)), instances, next_page_token })
        })
        .await
    }

    async fn list_checks(&self, request: Request<v1::ListChecksRequest>) -> Result<Response<v1::ListChecksResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::ListChecksRequest { options, target, node_meta, filter: text, near, page_size, page_token } = request;
            let near = near::node(&self.service, &caller, &near);
            let (filter, scope) = (filter::<Check>(&text)?, watching::checks_target(target)?);
            let mut found = self.service.health_checks(&caller, &read_options(options)?, None, &scope, &pairs(node_meta)).await?;
            found.value.retain(|row| filter.as_ref().is_none_or(|filter| filter.matches(&**row)));
            let order = Order::from(&self.service, &near);
            let key = |row: &Arc<Check>| order.key(&row.node, (row.node.to_lowercase(), row.id.to_string()));
            let (rows, next_page_token) = page(found.value, key, page_size, &page_token, self.service.limits().page_size_max)?;
            let checks = rows.iter().map(|row| check::check(row)).collect();
            Ok(v1::ListChecksResponse { meta: Some(meta(found.meta)), checks, next_page_token })
        })
        .await
    }

    async fn watch_service(&self, request: Request<v1::WatchServiceRequest>) -> Result<Response<Self::WatchServiceStream>, Status> {
        answer(async {
            let (caller, v1::WatchServiceRequest { options, service, resume_from, skip_snapshot }) = open(request)?;
            let (target, start) = (watching::service_target(service)?, watching::start(&resume_from, skip_snapshot)?);
            watch::single(self, &caller, target, &read_options(options)?, start).await
        })
        .await
    }
}
