//! `LockService`: one at a time, or so many.

use std::pin::Pin;

use futures::stream::{self, Stream};
use proto::v1;
use proto::v1::lock_service_server::LockService;
use service::lock::{LockStream, LockWatch, LockWish};
use state::LogIndex;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::convert::common::{meta_at, read_options, session as session_id, wire_fence, write_meta, write_to};
use crate::convert::lock as convert;
use crate::serve::Face;
use crate::status::{answer, shutting_down, status};

/// What a lock stream answers with.
type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl LockService for Face {
    type AcquireStream = Messages<v1::LockServiceAcquireResponse>;
    type ObserveStream = Messages<v1::LockServiceObserveResponse>;

    async fn acquire(&self, request: Request<v1::LockServiceAcquireRequest>) -> Result<Response<Self::AcquireStream>, Status> {
        answer(async {
            let (caller, v1::LockServiceAcquireRequest { options, key, holder, value, slots }) = open(request)?;
            let holder = convert::holder(holder)?;
            // The session is set by the holder.
            let wish = LockWish { key: key.into(), slots, session: state::SessionId([0; 16]), value: value.into() };
            let lock = self.service.lock_stream(&caller, write_to(options), wish, holder).await?;
            let waiting = Waiting { face: self.clone(), lock, stop: self.stop.clone() };
            let messages: Self::AcquireStream = Box::pin(stream::try_unfold(waiting, |mut waiting| async move {
                let message = waiting.next().await?;
                Ok(message.map(|message| (message, waiting)))
            }));
            Ok(messages)
        })
        .await
    }

    async fn try_acquire(
        &self,
        request: Request<v1::LockServiceTryAcquireRequest>,
    ) -> Result<Response<v1::LockServiceTryAcquireResponse>, Status> {
        answer(async {
            let (caller, v1::LockServiceTryAcquireRequest { options, key, session_id: id, value, slots }) = open(request)?;
            let wish = LockWish { key: key.into(), slots, session: session_id("session_id", &id)?, value: value.into() };
            let grant = self.service.lock_try_acquire(&caller, write_to(options).as_deref(), wish).await?;
            let meta = Some(write_meta(&self.service, grant.index));
            Ok(v1::LockServiceTryAcquireResponse { meta, fence: Some(wire_fence(&grant.fence)) })
        })
        .await
    }

    async fn release(&self, request: Request<v1::LockServiceReleaseRequest>) -> Result<Response<v1::LockServiceReleaseResponse>, Status> {
        answer(async {
            let (caller, v1::LockServiceReleaseRequest { options, key, session_id: id, fencing_token }) = open(request)?;
            let (id, token) = (session_id("session_id", &id)?, LogIndex(fencing_token));
            let index = self.service.lock_release(&caller, write_to(options).as_deref(), &key, id, token).await?;
            Ok(v1::LockServiceReleaseResponse { meta: Some(write_meta(&self.service, index)) })
        })
        .await
    }

    async fn observe(&self, request: Request<v1::LockServiceObserveRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        answer(async {
            let (caller, v1::LockServiceObserveRequest { options, key, semaphore }) = open(request)?;
            let watch = self.service.lock_watch(&caller, &read_options(options)?, key.into(), semaphore).await?;
            let looking = Looking { face: self.clone(), watch, semaphore };
            let messages: Self::ObserveStream = Box::pin(stream::try_unfold(looking, |mut looking| async move {
                let message = looking.next().await?;
                Ok(Some((message, looking)))
            }));
            Ok(messages)
        })
        .await
    }
}

/// Somebody who waits for a lock or holds it.
struct Waiting {
    face: Face,
    lock: LockStream,
    stop: CancellationToken,
}

impl Waiting {
    async fn next(&mut self) -> Result<Option<v1::LockServiceAcquireResponse>, Status> {
        match self.stop.run_until_cancelled(self.lock.next()).await {
            Some(event) => Ok(event.map(|event| convert::event(&self.face.service, event))),
            None => {
                self.lock.keep();
                Err(shutting_down())
            }
        }
    }
}

/// Somebody who looks on.
struct Looking {
    face: Face,
    watch: LockWatch,
    semaphore: bool,
}

impl Looking {
    async fn next(&mut self) -> Result<v1::LockServiceObserveResponse, Status> {
        let Some(seen) = self.face.stop.run_until_cancelled(self.watch.next()).await else { return Err(shutting_down()) };
        let seen = seen.map_err(status)?;
        let meta = Some(meta_at(&self.face.service, seen.index));
        let holders: Vec<v1::LockHolder> = seen.holders.iter().map(convert::seen).collect();
        let holder = holders.first().filter(|_| !self.semaphore).cloned();
        Ok(v1::LockServiceObserveResponse { meta, holder, holders })
    }
}
