//! `SessionService.KeepAlive`: each request renews one session and is answered; the end of a session
//! is told at once. One request is worked on at a time, so that a stream holds no backlog.

use std::collections::BTreeSet;
use std::pin::Pin;

use futures::stream::{self, Stream};
use proto::v1;
use proto::v1::session_service_keep_alive_response::State;
use service::session::SessionEnds;
use service::{Caller, Error, Reason, Service};
use state::SessionId;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::convert::common::{same_datacenter, session as session_id, wire_millis, write_to};
use crate::convert::session as convert;
use crate::serve::Face;
use crate::status::{shutting_down, status};

/// What a stream answers with.
pub(crate) type AliveStream = Pin<Box<dyn Stream<Item = Result<v1::SessionServiceKeepAliveResponse, Status>> + Send>>;

/// One stream.
struct Alive {
    service: Service,
    caller: Caller,
    requests: Streaming<v1::SessionServiceKeepAliveRequest>,
    ends: SessionEnds,
    /// The sessions that the stream keeps alive.
    kept: BTreeSet<SessionId>,
    /// Whether the first request, which says where the stream is for, has come.
    begun: bool,
    stop: CancellationToken,
}

/// Keeps sessions alive as `requests` ask.
pub(crate) fn stream(face: &Face, caller: Caller, requests: Streaming<v1::SessionServiceKeepAliveRequest>) -> AliveStream {
    let (service, stop) = (face.service.clone(), face.stop.clone());
    let ends = service.session_ends();
    let alive = Alive { service, caller, requests, ends, kept: BTreeSet::new(), begun: false, stop };
    Box::pin(stream::try_unfold(alive, |mut alive| async move {
        let answer = alive.next().await?;
        Ok(answer.map(|answer| (answer, alive)))
    }))
}

impl Alive {
    async fn next(&mut self) -> Result<Option<v1::SessionServiceKeepAliveResponse>, Status> {
        let stop = self.stop.clone();
        let request = tokio::select! {
            () = stop.cancelled() => return Err(shutting_down()),
            ended = self.ends.next(&self.kept) => return Ok(Some(self.ended(ended))),
            request = self.requests.message() => request?,
        };
        match request {
            Some(request) => self.renew(request).await.map(Some).map_err(status),
            None => Ok(None),
        }
    }

    async fn renew(&mut self, request: v1::SessionServiceKeepAliveRequest) -> Result<v1::SessionServiceKeepAliveResponse, Error> {
        let v1::SessionServiceKeepAliveRequest { session_id: text, options } = request;
        let id = session_id("session_id", &text)?;
        let datacenter = write_to(options);
        if std::mem::replace(&mut self.begun, true) {
            same_datacenter(&self.service, datacenter.as_deref())?;
        }
        let limit = self.service.limits().watches_per_stream_max;
        if !self.kept.contains(&id) && self.kept.len() >= limit {
            let message = format!("this stream keeps {limit} sessions alive already, which is the limit; open another");
            return Err(Error::new(Reason::TooManyWatches, message).with("limit", limit));
        }
        match self.service.session_renew(&self.caller, datacenter.as_deref(), id).await {
            Ok(done) => {
                self.kept.insert(id);
                let renewed = v1::SessionRenewed { valid_for: done.session.ttl_ms.map(wire_millis) };
                Ok(self.told(id, State::Renewed(renewed)))
            }
            Err(error) if error.reason == Reason::UnknownSession => Ok(self.ended(id)),
            Err(error) => Err(error),
        }
    }

    fn ended(&mut self, id: SessionId) -> v1::SessionServiceKeepAliveResponse {
        self.kept.remove(&id);
        let ended = convert::ended(id, self.service.session_end(id));
        self.told(id, State::Ended(ended))
    }

    fn told(&self, id: SessionId, state: State) -> v1::SessionServiceKeepAliveResponse {
        let applied_revision = self.service.revision();
        v1::SessionServiceKeepAliveResponse { session_id: id.to_string(), applied_revision, state: Some(state) }
    }
}
