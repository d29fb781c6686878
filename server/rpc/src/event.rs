//! `EventService`: events to every agent of the datacenter.

use std::pin::Pin;

use futures::stream::{self, Stream};
use proto::v1;
use proto::v1::event_service_server::EventService;
use service::Error;
use service::event::subscription::{Subscription, Told};
use service::event::{Event, NewEvent, Selection};
use state::SessionId;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::convert::common::write_to;
use crate::serve::Face;
use crate::status::{answer, invalid, shutting_down};

/// The version of the shape.
const VERSION: u32 = 1;

fn event(event: &Event) -> v1::Event {
    let Event { id, ltime, name, payload, node_filter, service_filter, tag_filter } = event.clone();
    let id = SessionId(id).to_string();
    v1::Event { id, name, payload: payload.into(), node_filter, service_filter, tag_filter, version: VERSION, lamport_time: ltime }
}

/// The next event of a stream that lasts until the face stops.
async fn told(
    (stop, mut events): (CancellationToken, Subscription),
) -> Result<Option<(v1::EventServiceSubscribeResponse, (CancellationToken, Subscription))>, Status> {
    let Some(Told { event: next, gap }) = stop.run_until_cancelled(events.next()).await else { return Err(shutting_down()) };
    Ok(Some((v1::EventServiceSubscribeResponse { event: Some(event(&next)), gap }, (stop, events))))
}

#[tonic::async_trait]
impl EventService for Face {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<v1::EventServiceSubscribeResponse, Status>> + Send>>;

    async fn fire(&self, request: Request<v1::EventServiceFireRequest>) -> Result<Response<v1::EventServiceFireResponse>, Status> {
        answer(async {
            let (caller, request) = open(request)?;
            let v1::EventServiceFireRequest { options, name, payload, node_filter, service_filter, tag_filter } = request;
            self.service.check_datacenter(write_to(options).as_deref())?;
            let new = NewEvent { name, payload: payload.to_vec(), node_filter, service_filter, tag_filter };
            let fired = self.service.fire_event(&caller, new)?;
            Ok(v1::EventServiceFireResponse { event: Some(event(&fired)) })
        })
        .await
    }

    async fn list(&self, request: Request<v1::EventServiceListRequest>) -> Result<Response<v1::EventServiceListResponse>, Status> {
        answer(async {
            let (caller, v1::EventServiceListRequest { name, datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let mut events = self.service.events(&caller, &Selection::named(name))?;
            let last_id = events.last().map(|last| SessionId(last.event.id).to_string()).unwrap_or_default();
            events.sort_by_key(|arrived| (arrived.event.ltime, arrived.event.id));
            Ok(v1::EventServiceListResponse { events: events.iter().map(|arrived| event(&arrived.event)).collect(), last_id })
        })
        .await
    }

    async fn subscribe(&self, request: Request<v1::EventServiceSubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        answer(async {
            let (caller, v1::EventServiceSubscribeRequest { name, after_id, datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let after: Option<SessionId> = match after_id.as_str() {
                "" => None,
                id => Some(id.parse().map_err(|_| invalid("after_id", "it is not the id of an event"))?),
            };
            let events = self.service.subscribe_events(&caller, &name, after.map(|id| id.0))?;
            let stream: Self::SubscribeStream = Box::pin(stream::try_unfold((self.stop.clone(), events), told));
            Ok::<_, Error>(stream)
        })
        .await
    }
}
