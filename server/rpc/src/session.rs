//! `SessionService`: whether somebody is still there.

mod alive;

use std::sync::Arc;

use proto::v1;
use proto::v1::session_service_server::SessionService;
use service::session::SessionWritten;
use tonic::{Request, Response, Status, Streaming};

use crate::caller::open;
use crate::convert::common::{meta, read_options, session as session_id, wire_millis, write_meta, write_to};
use crate::convert::session as convert;
use crate::page::page;
use crate::serve::Face;
use crate::status::answer;

#[tonic::async_trait]
impl SessionService for Face {
    type KeepAliveStream = alive::AliveStream;

    async fn create(
        &self,
        request: Request<v1::SessionServiceCreateRequest>,
    ) -> Result<Response<v1::SessionServiceCreateResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let (options, new) = convert::new(request)?;
            let SessionWritten { index, session } = self.service.session_create(&caller, write_to(options).as_deref(), new).await?;
            let meta = Some(write_meta(&self.service, index));
            Ok(v1::SessionServiceCreateResponse { meta, session: Some(convert::session(&session)) })
        })
        .await
    }

    async fn destroy(
        &self,
        request: Request<v1::SessionServiceDestroyRequest>,
    ) -> Result<Response<v1::SessionServiceDestroyResponse>, Status> {
        answer(async {
            let (caller, v1::SessionServiceDestroyRequest { options, session_id: id }) = open(request)?;
            let id = session_id("session_id", &id)?;
            let (index, destroyed) = self.service.session_destroy(&caller, write_to(options).as_deref(), id, false).await?;
            Ok(v1::SessionServiceDestroyResponse { meta: Some(write_meta(&self.service, index)), destroyed })
        })
        .await
    }

    async fn renew(&self, request: Request<v1::SessionServiceRenewRequest>) -> Result<Response<v1::SessionServiceRenewResponse>, Status> {
        answer(async {
            let (caller, v1::SessionServiceRenewRequest { options, session_id: id }) = open(request)?;
            let id = session_id("session_id", &id)?;
            let SessionWritten { index, session } = self.service.session_renew(&caller, write_to(options).as_deref(), id).await?;
            Ok(v1::SessionServiceRenewResponse {
                meta: Some(write_meta(&self.service, index)),
                valid_for: session.ttl_ms.map(wire_millis),
                session: Some(convert::session(&session)),
            })
        })
        .await
    }

    async fn keep_alive(
        &self,
        request: Request<Streaming<v1::SessionServiceKeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        answer(async {
            let (caller, requests) = open(request)?;
            Ok(alive::stream(self, caller, requests))
        })
        .await
    }

    async fn get(&self, request: Request<v1::SessionServiceGetRequest>) -> Result<Response<v1::SessionServiceGetResponse>, Status> {
        answer(async {
            let (caller, v1::SessionServiceGetRequest { options, session_id: id }) = open(request)?;
            let id = session_id("session_id", &id)?;
            let found = self.service.session_get(&caller, &read_options(options)?, None, id).await?;
            let session = found.value.as_deref().map(convert::session);
            Ok(v1::SessionServiceGetResponse { meta: Some(meta(found.meta)), session })
        })
        .await
    }

    async fn list(&self, request: Request<v1::SessionServiceListRequest>) -> Result<Response<v1::SessionServiceListResponse>, Status> {
        answer(async {
            let (caller, v1::SessionServiceListRequest { options, node, page_size, page_token }) = open(request)?;
            let node = Some(node.as_str()).filter(|node| !node.is_empty());
            let found = self.service.session_list(&caller, &read_options(options)?, None, node).await?;
            let key = |row: &Arc<state::Session>| (row.id.to_string(), String::new());
            let (rows, next_page_token) = page(found.value, key, page_size, &page_token, self.service.limits().page_size_max)?;
            let sessions = rows.iter().map(|row| convert::session(row)).collect();
            Ok(v1::SessionServiceListResponse { meta: Some(meta(found.meta)), sessions, next_page_token })
        })
        .await
    }
}
