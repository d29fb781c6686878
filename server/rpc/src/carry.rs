//! Calls for whom holds the answer: carried to a server as they came, streams included.

use std::convert::Infallible;

use forward::{AGENT, DATACENTER, Forward};
use http::HeaderValue;
use http_body_util::BodyExt;
use service::{Error, Reason};
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};

use crate::status::status;

pub(crate) type Call = http::Request<AxumBody>;
pub(crate) type Answer = http::Response<AxumBody>;

/// Carries every call that `routes` has no service for.
///
/// `node` is this agent's, told to the server as the one that was asked.
pub(crate) fn everything_else(routes: Routes, forward: Forward, node: Option<HeaderValue>) -> Routes {
    let carrying = tower::service_fn(move |mut call: Call| {
        let forward = forward.clone();
        if let (false, Some(node)) = (call.headers().contains_key(AGENT), &node) {
            call.headers_mut().insert(AGENT, node.clone());
        }
        async move { Ok::<Answer, Infallible>(carry(&forward, call).await) }
    });
    routes.into_axum_router().fallback_service(carrying).into()
}

pub(crate) async fn carry(forward: &Forward, call: Call) -> Answer {
    let datacenter = call.headers().get(DATACENTER).and_then(|name| name.to_str().ok()).map(str::to_owned);
    let call = call.map(|body| body.map_err(Into::into).boxed_unsync());
    match forward.carry(datacenter.as_deref(), call).await {
        Ok(answer) => answer.map(AxumBody::new),
        Err(error) => refused(&error),
    }
}

/// Carries a call to the server at `address`.
pub(crate) async fn carry_to(forward: &Forward, address: &str, call: Call) -> Answer {
    match forward.carry_to(address, call.map(|body| body.map_err(Into::into).boxed_unsync())).await {
        Ok(answer) => answer.map(AxumBody::new),
        Err(error) => refused(&error),
    }
}

fn refused(error: &forward::Error) -> Answer {
    let text = error.to_string();
    let status = match error {
        forward::Error::UnknownDatacenter { name, known } => {
            status(Error::new(Reason::UnknownDatacenter, text).with("datacenter", name).with("known", known))
        }
        forward::Error::Unreachable { datacenter, why: _ } => {
            status(Error::new(Reason::DatacenterUnreachable, text).with("datacenter", datacenter))
        }
        forward::Error::NoServer | forward::Error::Broken { .. } | forward::Error::Loop => Status::new(Code::Unavailable, text),
    };
    status.into_http()
}
