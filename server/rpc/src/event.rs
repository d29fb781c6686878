//! `EventService`: events to every agent of the datacenter.

use std::pin::Pin;

use futures::stream::{self, Stream};
use proto::v1;
use proto::v1::event_service_server::EventService;
use service::cluster::{Event, NewEvent};
use service::{Caller, Error};
use state::SessionId;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tonic::{Request, Response, Status};

use crate::caller::open;
use crate::convert::common::write_to;
use crate::serve::Face;
use crate::status::{answer, invalid, shutting_down};

/// The version of the shape.
const VERSION: u32 = 1;

fn event(event: Event) -> v1::Event {
    let Event { id, ltime, name, payload, node_filter, service_filter, tag_filter } = event;
    let id = SessionId(id).to_string();
    v1::Event { id, name, payload: payload.into(), node_filter, service_filter, tag_filter, version: VERSION, lamport_time: ltime }
}

/// A stream of events, and what it still has to tell of those that came before it.
struct Telling {
    face: Face,
    caller: Caller,
    name: Option<String>,
    news: Receiver<Event>,
    earlier: std::collections::VecDeque<v1::EventServiceSubscribeResponse>,
    last: u64,
}

impl Telling {
    async fn next(mut self) -> Result<Option<(v1::EventServiceSubscribeResponse, Telling)>, Status> {
        loop {
            if let Some(response) = self.earlier.pop_front() {
                return Ok(Some((response, self)));
            }
            let Some(news) = self.face.stop.clone().run_until_cancelled(self.news.recv()).await else { return Err(shutting_down()) };
            match news {
                Ok(new) if self.wants(&new) => {
                    self.last = self.last.max(new.ltime);
                    return Ok(Some((v1::EventServiceSubscribeResponse { event: Some(event(new)), gap: false }, self)));
                }
                Ok(_) => {}
                Err(RecvError::Closed) => return Ok(None),
                // What was missed is among those that are kept, unless there were very many.
                Err(RecvError::Lagged(_)) => {
                    let last = self.last;
                    let kept = self.face.service.events(&self.caller, self.name.as_deref()).map_err(crate::status::status)?;
                    let gap = kept.first().is_none_or(|first| first.ltime > last + 1);
                    let missed = kept.into_iter().filter(|kept| kept.ltime > last);
                    self.earlier = missed.map(|kept| v1::EventServiceSubscribeResponse { event: Some(event(kept)), gap: false }).collect();
                    if let Some(first) = self.earlier.front_mut() {
                        first.gap = gap;
                    }
                }
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        self.name.as_ref().is_none_or(|name| *name == event.name)
            && event.name != service::exec::EVENT
            && self.face.service.concerns_me(event)
    }
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
            Ok(v1::EventServiceFireResponse { event: Some(event(fired)) })
        })
        .await
    }

    async fn list(&self, request: Request<v1::EventServiceListRequest>) -> Result<Response<v1::EventServiceListResponse>, Status> {
        answer(async {
            let (caller, v1::EventServiceListRequest { name, datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let events = self.service.events(&caller, Some(&*name).filter(|name| !name.is_empty()))?;
            Ok(v1::EventServiceListResponse { events: events.into_iter().map(event).collect() })
        })
        .await
    }

    async fn subscribe(&self, request: Request<v1::EventServiceSubscribeRequest>) -> Result<Response<Self::SubscribeStream>, Status> {
        answer(async {
            let (caller, v1::EventServiceSubscribeRequest { name, after_id, datacenter }) = open(request)?;
            self.service.check_datacenter(Some(&datacenter))?;
            let name = Some(name).filter(|name| !name.is_empty());
            let news = self.service.subscribe_events(&caller)?;
            let mut earlier = std::collections::VecDeque::new();
            let mut last = 0;
            let kept = self.service.events(&caller, name.as_deref())?;
            if !after_id.is_empty() {
                let id: SessionId = after_id.parse().map_err(|_| invalid("after_id", "it is not the id of an event"))?;
                let known = kept.iter().position(|kept| kept.id == id.0);
                let missed = kept.iter().skip(known.map_or(0, |at| at + 1)).cloned();
                earlier = missed.map(|kept| v1::EventServiceSubscribeResponse { event: Some(event(kept)), gap: false }).collect();
                if let (None, Some(first)) = (known, earlier.front_mut()) {
                    first.gap = true;
                }
            }
            last = kept.last().map_or(last, |kept| kept.ltime);
            let telling = Telling { face: self.clone(), caller, name, news, earlier, last };
            let stream: Self::SubscribeStream = Box::pin(stream::try_unfold(telling, Telling::next));
            Ok::<_, Error>(stream)
        })
        .await
    }
}
