//! What the contract has and this version does not serve: each call says so by its name.

use futures::stream::Empty;
use proto::v1;
use proto::v1::lock_service_server::LockService;
use proto::v1::session_service_server::SessionService;
use tonic::{Request, Response, Status, Streaming};

use crate::serve::Face;
use crate::status::{not_implemented, status};

/// Refuses a call that is still to come.
pub(crate) fn refuse<T>(call: &str) -> Result<Response<T>, Status> {
    Err(status(not_implemented(call)))
}

#[tonic::async_trait]
impl SessionService for Face {
    type KeepAliveStream = Empty<Result<v1::SessionServiceKeepAliveResponse, Status>>;

    async fn create(&self, _: Request<v1::SessionServiceCreateRequest>) -> Result<Response<v1::SessionServiceCreateResponse>, Status> {
        refuse("SessionService.Create")
    }

    async fn destroy(&self, _: Request<v1::SessionServiceDestroyRequest>) -> Result<Response<v1::SessionServiceDestroyResponse>, Status> {
        refuse("SessionService.Destroy")
    }

    async fn renew(&self, _: Request<v1::SessionServiceRenewRequest>) -> Result<Response<v1::SessionServiceRenewResponse>, Status> {
        refuse("SessionService.Renew")
    }

    async fn keep_alive(
        &self,
        _: Request<Streaming<v1::SessionServiceKeepAliveRequest>>,
    ) -> Result<Response<Self::KeepAliveStream>, Status> {
        refuse("SessionService.KeepAlive")
    }

    async fn get(&self, _: Request<v1::SessionServiceGetRequest>) -> Result<Response<v1::SessionServiceGetResponse>, Status> {
        refuse("SessionService.Get")
    }

    async fn list(&self, _: Request<v1::SessionServiceListRequest>) -> Result<Response<v1::SessionServiceListResponse>, Status> {
        refuse("SessionService.List")
    }
}

#[tonic::async_trait]
impl LockService for Face {
    type AcquireStream = Empty<Result<v1::LockServiceAcquireResponse, Status>>;
    type ObserveStream = Empty<Result<v1::LockServiceObserveResponse, Status>>;

    async fn acquire(&self, _: Request<v1::LockServiceAcquireRequest>) -> Result<Response<Self::AcquireStream>, Status> {
        refuse("LockService.Acquire")
    }

    async fn try_acquire(
        &self,
        _: Request<v1::LockServiceTryAcquireRequest>,
    ) -> Result<Response<v1::LockServiceTryAcquireResponse>, Status> {
        refuse("LockService.TryAcquire")
    }

    async fn release(&self, _: Request<v1::LockServiceReleaseRequest>) -> Result<Response<v1::LockServiceReleaseResponse>, Status> {
        refuse("LockService.Release")
    }

    async fn observe(&self, _: Request<v1::LockServiceObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        refuse("LockService.Observe")
    }
}
