//! `WatchService`, and the watches that other services offer.
//!
//! A stream is a future that is polled only while its connection has room: what a client does not
//! read is not made, so that a slow reader leaves its changes in the history, from which the layer
//! below lets it catch up or resets it. There is no task and no queue here.

mod message;

use std::pin::Pin;

use futures::FutureExt;
use futures::stream::{self, Stream};
use proto::v1::watch_service_server::WatchService;
use proto::{Encoded, shared::Wraps, v1};
use service::watch::{Start, Target, WatchEvent, WatchStream};
use service::{Caller, Error, ReadOptions, Service};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::caller::open;
use crate::convert::common::{read_options, same_datacenter};
use crate::convert::watch as convert;
use crate::serve::Face;
use crate::status::{answer, invalid, shutting_down, status};

/// The only watch of a stream that holds one; its messages carry 0 instead.
const SINGLE: u64 = 1;

/// The messages of a stream with many watches.
pub(crate) type Messages = Pin<Box<dyn Stream<Item = Result<Encoded<v1::WatchResponse>, Status>> + Send>>;

/// The messages of a stream with one watch, each inside a message of type `W`.
pub(crate) type Wrapped<W> = Pin<Box<dyn Stream<Item = Result<Encoded<W>, Status>> + Send>>;

#[tonic::async_trait]
impl WatchService for Face {
    type WatchStream = Messages;

    async fn watch(&self, request: Request<Streaming<v1::WatchRequest>>) -> Result<Response<Messages>, Status> {
        answer(async {
            let (caller, requests) = open(request)?;
            let watches = self.service.watch_stream(&caller);
            let many = Many { watches, requests: Some(requests), begun: false, service: self.service.clone(), stop: self.stop.clone() };
            let messages: Messages = Box::pin(stream::try_unfold(many, |mut many| async move {
                let message = many.next().await?;
                Ok(message.map(|message| (message, many)))
            }));
            Ok(messages)
        })
        .await
    }
}

/// A stream with many watches.
struct Many {
    watches: WatchStream,
    /// What the client still asks for; `None` once it has closed its side.
    requests: Option<Streaming<v1::WatchRequest>>,
    /// Whether the first of them, which says where the stream is for, has come.
    begun: bool,
    service: Service,
    stop: CancellationToken,
}

/// What happens next on a stream.
enum Next {
    Event(WatchEvent),
    Request(Result<Option<v1::WatchRequest>, Status>),
    Stop,
}

impl Many {
    /// The next message; `None` when there is no watch and none can come.
    async fn next(&mut self) -> Result<Option<Encoded<v1::WatchResponse>>, Status> {
        loop {
            if self.requests.is_none() && self.watches.is_empty() {
                // Nothing can begin any more; what is left to say is there already.
                let last = self.watches.next().now_or_never();
                return Ok(last.map(|event| message::encode(&self.service, event, None)));
            }
            let requests = &mut self.requests;
            let request = async {
                match requests {
                    Some(requests) => requests.message().await,
                    None => std::future::pending().await,
                }
            };
            let next = tokio::select! {
                biased;
                () = self.stop.cancelled() => Next::Stop,
                request = request => Next::Request(request),
                event = self.watches.next() => Next::Event(event),
            };
            match next {
                Next::Event(event) => return Ok(Some(message::encode(&self.service, event, None))),
                Next::Request(Ok(Some(request))) => {
                    if let Some(refused) = self.take(request).await? {
                        return Ok(Some(refused));
                    }
                }
                Next::Request(Ok(None)) => self.requests = None,
                Next::Request(Err(error)) => return Err(error),
                Next::Stop => return Err(shutting_down()),
            }
        }
    }

    /// Does what the client asks for. A watch that cannot be served is told as cancelled; a request
    /// that belongs to no watch ends the stream.
    async fn take(&mut self, request: v1::WatchRequest) -> Result<Option<Encoded<v1::WatchResponse>>, Status> {
        let v1::WatchRequest { request } = request;
        let first = !std::mem::replace(&mut self.begun, true);
        match request.ok_or_else(|| status(invalid("request", "it asks for nothing")))? {
            v1::watch_request::Request::Cancel(v1::WatchCancel { watch_id }) => {
                self.watches.cancel(watch_id);
                Ok(None)
            }
            v1::watch_request::Request::Create(create) => {
                let watch_id = create.watch_id;
                if watch_id == 0 || self.watches.contains(watch_id) {
                    let problem = format_args!("`{watch_id}` is 0 or in use on this stream; choose another number");
                    return Err(status(invalid("watch_id", problem)));
                }
                Ok(self.create(create, first).await.err().map(|error| message::cancelled(watch_id, Some(error))))
            }
        }
    }

    async fn create(&mut self, create: v1::WatchCreate, first: bool) -> Result<(), Error> {
        let v1::WatchCreate { watch_id, target, resume_from, skip_snapshot, options } = create;
        let (target, options) = (convert::target(target)?, read_options(options)?);
        if !first {
            same_datacenter(&self.service, options.datacenter.as_deref())?;
        }
        let start = convert::start(&resume_from, skip_snapshot)?;
        self.watches.create(watch_id, target, &options, start).await
    }
}

/// A stream with one watch. A watch that cannot be served is a refused call.
pub(crate) async fn single<W>(
    face: &Face,
    caller: &Caller,
    target: Target,
    options: &ReadOptions,
    start: Start,
) -> Result<Wrapped<W>, Error>
where
    W: Wraps<v1::WatchResponse> + 'static,
{
    let mut watches = face.service.watch_stream(caller);
    watches.create(SINGLE, target, options, start).await?;
    let one = (watches, face.service.clone(), face.stop.clone());
    Ok(Box::pin(stream::try_unfold(one, |(mut watches, service, stop)| async move {
        let Some(event) = stop.run_until_cancelled(watches.next()).await else { return Err(shutting_down()) };
        match event {
            WatchEvent::Cancelled { watch_id: _, error: Some(error) } => Err(status(error)),
            WatchEvent::Cancelled { watch_id: _, error: None } => Ok(None),
            event => {
                let message = message::encode(&service, event, Some(0)).wrapped();
                Ok(Some((message, (watches, service, stop))))
            }
        }
    })))
}
