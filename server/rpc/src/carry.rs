//! Calls for whom holds the answer: carried to a server as they came, streams included.

use std::convert::Infallible;

use forward::{AGENT, DATACENTER, Forward};
use http::HeaderValue;
use http_body_util::BodyExt;
use tonic::service::{AxumBody, Routes};
use tonic::{Code, Status};

type Call = http::Request<AxumBody>;
type Answer = http::Response<AxumBody>;

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

async fn carry(forward: &Forward, call: Call) -> Answer {
    let datacenter = call.headers().get(DATACENTER).and_then(|name| name.to_str().ok()).map(str::to_owned);
    let call = call.map(|body| body.map_err(Into::into).boxed_unsync());
    match forward.carry(datacenter.as_deref(), call).await {
        Ok(answer) => answer.map(AxumBody::new),
        Err(error) => {
            let code = match error {
                forward::Error::UnknownDatacenter { .. } => Code::InvalidArgument,
                _ => Code::Unavailable,
            };
            Status::new(code, error.to_string()).into_http()
        }
    }
}
