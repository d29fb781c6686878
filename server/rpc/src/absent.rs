//! What the contract has and this version does not serve: each call says so by its name.

use futures::stream::Empty;
use proto::v1;
use proto::v1::lock_service_server::LockService;
use tonic::{Request, Response, Status};

use crate::serve::Face;
use crate::status::{not_implemented, status};

/// Refuses a call that is still to come.
pub(crate) fn refuse<T>(call: &str) -> Result<Response<T>, Status> {
    Err(status(not_implemented(call)))
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
