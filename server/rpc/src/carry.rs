//! Calls for whom holds the answer: carried to a server as they came, streams included.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use forward::{AGENT, Forward, How, To};
use futures::stream::{self, StreamExt};
use http::HeaderValue;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use proto::v1::ErrorReason;
use service::{Error, Reason};
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::elsewhere::Places;
use crate::status::{because, status};

pub(crate) type Call = http::Request<AxumBody>;
pub(crate) type Answer = http::Response<AxumBody>;

/// Calls that only read, by the word that their names begin with.
const READS: [&str; 6] = ["Get", "List", "Watch", "Subscribe", "Observe", "Save"];

/// Most bytes of a call that are kept, so that it can be made once more.
const KEPT: usize = 64 << 10;

/// Carries every call that `routes` has no service for.
///
/// `node` is this agent's, told to the server as the one that was asked.
pub(crate) fn everything_else(routes: Routes, forward: Forward, places: Arc<Places>, node: Option<HeaderValue>) -> Routes {
    let carrying = tower::service_fn(move |mut call: Call| {
        let (forward, places) = (forward.clone(), places.clone());
        told_who_was_asked(&mut call, node.as_ref());
        async move {
            let (datacenter, call) = places.named(call).await;
            Ok::<Answer, Infallible>(carry(&forward, &places, To::Server, datacenter, call).await)
        }
    });
    routes.into_axum_router().fallback_service(carrying).into()
}

/// Notes the agent that a call came to first.
pub(crate) fn told_who_was_asked(call: &mut Call, node: Option<&HeaderValue>) {
    if let (false, Some(node)) = (call.headers().contains_key(AGENT), node) {
        call.headers_mut().insert(AGENT, node.clone());
    }
}

/// Carries a call that names `datacenter`, and answers what came back. One of one message that only reads
/// is made once more when the server that had it dies.
pub(crate) async fn carry(forward: &Forward, places: &Places, to: To<'_>, datacenter: Option<String>, call: Call) -> Answer {
    let path = call.uri().path().to_owned();
    let (reads, at_once) = (only_reads(&path), places.is_answered_at_once(&path));
    let (again, call) = if reads && at_once { kept(call).await } else { (None, call) };
    let call = call.map(|body| body.map_err(Into::into).boxed_unsync());
    let how = How { patience: at_once.then_some(forward::ANSWER), again, datacenter: datacenter.clone() };
    match forward.carry(to, call, how).await {
        Ok(answer) => answer.map(AxumBody::new),
        Err(error) => refused(&error, datacenter.as_deref(), reads).into_http(),
    }
}

/// All that a call says, unless that is much, and the call as it was.
async fn kept(call: Call) -> (Option<Bytes>, Call) {
    let (parts, mut body) = call.into_parts();
    let (mut frames, mut bytes) = (Vec::new(), BytesMut::new());
    let ended = loop {
        let Some(frame) = body.frame().await else { break true };
        let data = frame.as_ref().ok().and_then(|frame| frame.data_ref()).filter(|data| bytes.len() + data.len() <= KEPT);
        let goes_on = data.map(|data| bytes.extend_from_slice(data)).is_some();
        frames.push(frame);
        if !goes_on {
            break false;
        }
    };
    let whole = stream::iter(frames).chain(BodyStream::new(body));
    (ended.then(|| bytes.freeze()), Call::from_parts(parts, AxumBody::new(StreamBody::new(whole))))
}

fn only_reads(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    READS.iter().any(|word| name.starts_with(word))
}

fn refused(error: &forward::Error, asked: Option<&str>, reads: bool) -> Status {
    let (text, datacenter) = (error.told(asked, reads), error.datacenter().unwrap_or_default());
    match error {
        forward::Error::UnknownDatacenter { name, known } => {
            status(Error::new(Reason::UnknownDatacenter, text).with("datacenter", name).with("known", known))
        }
        forward::Error::Full { limit, .. } => status(Error::new(Reason::Overloaded, text).with("limit", limit)),
        error if error.is_in_doubt() && !reads => {
            let values = HashMap::from([("datacenter".to_owned(), datacenter.to_owned())]);
            let details = ErrorDetails::with_error_info(ErrorReason::OutcomeUnknown.code(), proto::ERROR_DOMAIN, values);
            because(ErrorReason::OutcomeUnknown.code(), Status::with_error_details(Code::Unavailable, text, details))
        }
        _ => status(Error::new(Reason::DatacenterUnreachable, text).with("datacenter", datacenter)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datacenter_that_does_not_answer_is_named_and_only_a_write_is_in_doubt() {
        let broken = forward::Error::Broken { datacenter: "dc2".into(), server: "10.0.0.1:8300".into(), why: "reset".into() };
        for (path, reason, in_doubt) in [
            ("/lictor.v1.KvService/Get", "DATACENTER_UNREACHABLE", false),
            ("/lictor.v1.CatalogService/ListNodes", "DATACENTER_UNREACHABLE", false),
            ("/lictor.v1.KvService/Put", "OUTCOME_UNKNOWN", true),
            ("/lictor.v1.OperatorService/TransferLeader", "OUTCOME_UNKNOWN", true),
        ] {
            let told = refused(&broken, Some("dc2"), only_reads(path));
            let info = told.get_details_error_info().expect("a refusal has an ErrorInfo");
            assert_eq!((info.reason.as_str(), &*info.metadata["datacenter"]), (reason, "dc2"), "{path}");
            assert_eq!((told.code(), told.message().contains("may or may not")), (Code::Unavailable, in_doubt), "{path}");
        }
    }

    #[tokio::test]
    async fn what_a_call_says_is_kept_unless_it_is_much() {
        for (said, is_kept) in [(10, true), (KEPT, true), (KEPT + 1, false)] {
            let said = Bytes::from(vec![7; said]);
            let (again, call) = kept(Call::new(AxumBody::from(said.clone()))).await;
            assert_eq!(again.is_some(), is_kept);
            assert!(again.is_none_or(|again| again == said));
            assert_eq!(call.into_body().collect().await.unwrap().to_bytes(), said);
        }
    }
}
