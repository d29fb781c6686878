//! One HTTP probe: 2xx passes, 429 warns, everything else is critical.
//!
//! Each probe opens a connection of its own and asks once. The connection is driven by the same task
//! that waits for the answer, so that a probe is one future: dropping it closes everything.

use std::future::poll_fn;
use std::pin::pin;

use ::http::{Request, Response};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use net::{Network, Stream, chain};
use state::Status;
use tokio::time::{Instant, timeout_at};
use url::Host;

use crate::connect::{Peer, Tls};
use crate::plan::{Ask, Plan};
use crate::schedule::Finding;
use crate::tail::Tail;

/// Most redirects followed.
const REDIRECTS_MAX: usize = 10;

/// Most bytes read of a body; the connection is then closed. A target that answers for ever is none
/// the less passing: it answered.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// Most bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// An answer, as far as a check looks at it.
struct Answer {
    status: u16,
    line: String,
    location: Option<String>,
    body: Tail,
}

/// Asks, and judges the answer. Takes no longer than the plan allows.
pub(crate) async fn probe(network: &Network, plan: &Plan) -> Finding {
    let title = plan.title();
    let deadline = Instant::now() + plan.timeout;
    let answer = match &plan.ask {
        Ok(ask) => follow(network, ask.clone(), plan, deadline).await,
        Err(fault) => Err(fault.clone()),
    };
    match answer {
        Ok(answer) => {
            let output = format!("{title}: {} Output: {}", answer.line, answer.body.into_text());
            Finding { status: verdict(answer.status), output: output.into() }
        }
        Err(fault) => Finding { status: Status::Critical, output: format!("{title}: {fault}").into() },
    }
}

fn verdict(status: u16) -> Status {
    match status {
        200..=299 => Status::Passing,
        429 => Status::Warning,
        _ => Status::Critical,
    }
}

/// Asks, and asks again where a redirect points.
async fn follow(network: &Network, mut ask: Ask, plan: &Plan, deadline: Instant) -> Result<Answer, String> {
    for _ in 0..=REDIRECTS_MAX {
        let follow = ask.follow;
        let answer = exchange(network, &ask, plan, deadline).await?;
        let next = answer.location.as_deref().filter(|_| follow).and_then(|location| ask.redirected(answer.status, location));
        match next {
            Some(next) => ask = next,
            None => return Ok(answer),
        }
    }
    Err(format!("stopped after {REDIRECTS_MAX} redirects"))
}

/// One request and its answer.
async fn exchange(network: &Network, ask: &Ask, plan: &Plan, deadline: Instant) -> Result<Answer, String> {
    let late = |_| format!("no answer within {:?}", plan.timeout);
    let stream = timeout_at(deadline, connect(network, ask, deadline)).await.map_err(late)??;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|cause| chain(&cause))?;
    let asking = async {
        let response = timeout_at(deadline, sender.send_request(request(ask)?)).await.map_err(late)?;
        let response = response.map_err(|cause| format!("no answer: {}", chain(&cause)))?;
        Ok(read(response, plan.output_bytes_max, deadline).await)
    };
    alongside(connection, asking).await
}

fn request(ask: &Ask) -> Result<Request<Full<Bytes>>, String> {
    let target = &ask.url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::builder().method(ask.method.clone()).uri(target);
    if let Some(headers) = request.headers_mut() {
        *headers = ask.headers.clone();
        headers.insert(::http::header::HOST, ask.host());
    }
    request.body(Full::new(ask.body.clone())).map_err(|cause| format!("can't be asked: {cause}"))
}

/// Reads the head, and of the body what fits. A body that breaks off or takes too long is reported as
/// far as it came: the status has been answered.
async fn read(response: Response<Incoming>, output_bytes_max: usize, deadline: Instant) -> Answer {
    let status = response.status();
    let reason = response.extensions().get::<hyper::ext::ReasonPhrase>().map(|reason| String::from_utf8_lossy(reason.as_bytes()));
    let reason = reason.or_else(|| status.canonical_reason().map(Into::into)).unwrap_or_default();
    let line = format!("{} {reason}", status.as_str()).trim_end().to_owned();
    let location = response.headers().get(::http::header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut tail = Tail::new(output_bytes_max);
    let mut body = response.into_body();
    while let Ok(Some(Ok(frame))) = timeout_at(deadline, body.frame()).await {
        if let Ok(data) = frame.into_data() {
            tail.push(&data);
        }
        if tail.written() >= BODY_BYTES_MAX {
            break;
        }
    }
    Answer { status: status.as_u16(), line, location, body: tail }
}

/// Runs `work` while `connection` is driven along with it, however early that ends.
async fn alongside<C: Future, W: Future>(connection: C, work: W) -> W::Output {
    let mut connection = pin!(connection);
    let mut work = pin!(work);
    let mut ended = false;
    poll_fn(|context| {
        ended = ended || connection.as_mut().poll(context).is_ready();
        work.as_mut().poll(context)
    })
    .await
}

async fn connect(network: &Network, ask: &Ask, deadline: Instant) -> Result<Stream, String> {
    let port = ask.url.port_or_known_default().unwrap_or(80);
    let host = match ask.url.host() {
        Some(Host::Ipv6(address)) => address.to_string(),
        Some(host) => host.to_string(),
        None => return Err("the URL has no host".to_owned()),
    };
    let tls = (ask.url.scheme() != "http").then(|| Tls {
        name: ask.server_name.clone().unwrap_or_else(|| host.clone()),
        any_certificate: ask.any_certificate,
        protocol: None,
    });
    Peer { host, port, tls }.connect(network, deadline).await
}
