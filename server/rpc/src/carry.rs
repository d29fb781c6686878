//! Calls for whom holds the answer: carried to a server as they came, streams included.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use forward::{AGENT, Forward};
use http::HeaderValue;
use http_body_util::BodyExt;
use proto::v1::ErrorReason;
use service::{Error, Reason};
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::elsewhere::Places;
use crate::status::status;

pub(crate) type Call = http::Request<AxumBody>;
pub(crate) type Answer = http::Response<AxumBody>;

/// Calls that only read, by the word that their names begin with.
const READS: [&str; 6] = ["Get", "List", "Watch", "Subscribe", "Observe", "Save"];

/// Where a call is carried to.
pub(crate) enum To<'a> {
    /// A server of the own datacenter.
    Server,
    /// A server of another one.
    Datacenter(&'a str),
    /// The server at this address.
    Address(&'a str),
}

/// Carries every call that `routes` has no service for.
///
/// `node` is this agent's, told to the server as the one that was asked.
pub(crate) fn everything_else(routes: Routes, forward: Forward, places: Arc<Places>, node: Option<HeaderValue>) -> Routes {
    let carrying = tower::service_fn(move |mut call: Call| {
        let (forward, places) = (forward.clone(), places.clone());
        told_who_was_asked(&mut call, node.as_ref());
        async move { Ok::<Answer, Infallible>(carry(&forward, &places, To::Server, call).await) }
    });
    routes.into_axum_router().fallback_service(carrying).into()
}

/// Notes the agent that a call came to first.
pub(crate) fn told_who_was_asked(call: &mut Call, node: Option<&HeaderValue>) {
    if let (false, Some(node)) = (call.headers().contains_key(AGENT), node) {
        call.headers_mut().insert(AGENT, node.clone());
    }
}

pub(crate) async fn carry(forward: &Forward, places: &Places, to: To<'_>, call: Call) -> Answer {
    let path = call.uri().path().to_owned();
    let patience = places.is_answered_at_once(&path).then_some(forward::ANSWER);
    let call = call.map(|body| body.map_err(Into::into).boxed_unsync());
    let answer = match to {
        To::Server => forward.carry(None, call, patience).await,
        To::Datacenter(name) => forward.carry(Some(name), call, patience).await,
        To::Address(address) => forward.carry_to(address, call, patience).await,
    };
    match answer {
        Ok(answer) => answer.map(AxumBody::new),
        Err(error) => refused(&error, only_reads(&path)).into_http(),
    }
}

fn only_reads(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    READS.iter().any(|word| name.starts_with(word))
}

fn refused(error: &forward::Error, reads: bool) -> Status {
    let (text, datacenter) = (error.told(reads), error.datacenter().unwrap_or_default());
    match error {
        forward::Error::UnknownDatacenter { name, known } => {
            status(Error::new(Reason::UnknownDatacenter, text).with("datacenter", name).with("known", known))
        }
        forward::Error::NoServer | forward::Error::Loop => Status::new(Code::Unavailable, text),
        error if error.is_in_doubt() && !reads => {
            let values = HashMap::from([("datacenter".to_owned(), datacenter.to_owned())]);
            let details = ErrorDetails::with_error_info(ErrorReason::OutcomeUnknown.code(), proto::ERROR_DOMAIN, values);
            Status::with_error_details(Code::Unavailable, text, details)
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
            let told = refused(&broken, only_reads(path));
            let info = told.get_details_error_info().expect("a refusal has an ErrorInfo");
            assert_eq!((info.reason.as_str(), &*info.metadata["datacenter"]), (reason, "dc2"), "{path}");
            assert_eq!((told.code(), told.message().contains("may or may not")), (Code::Unavailable, in_doubt), "{path}");
        }
    }
}
