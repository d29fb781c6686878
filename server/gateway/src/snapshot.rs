//! `/v1/snapshot`: everything there is, as a file.

use std::convert::Infallible;

use axum::body::Body;
use futures::stream;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt;

use crate::Gateway;
use crate::reply::{Content, Reply};
use crate::request::Ask;
use crate::status::{Fault, Outcome};

/// `GET /v1/snapshot`
pub(crate) async fn save(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (options, _) = ask.reading()?;
    let saving = gateway.service.save_snapshot(&ask.caller, &options).await?;
    let pieces = stream::unfold(saving.value, |mut saving| async move { Some((Ok::<_, Infallible>(saving.next().await?), saving)) });
    let reply = Reply { content: Content::Stream(Body::from_stream(pieces)), ..Reply::empty() };
    Ok(reply.with(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")).at(&saving.meta))
}

/// `PUT /v1/snapshot`
pub(crate) async fn restore(gateway: &Gateway, ask: &Ask, mut body: Body) -> Outcome<Reply> {
    let mut restoring = gateway.service.begin_restore(&ask.caller, ask.datacenter())?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Fault::bad(format!("the request body could not be read: {error}; nothing was changed")))?;
        if let Ok(data) = frame.into_data() {
            gateway.service.restore_more(&mut restoring, &data).await?;
        }
    }
    gateway.service.finish_restore(restoring).await?;
    Ok(Reply::empty())
}
