//! The agent's side: comes when it is called, runs the program, brings what it prints.

use std::convert::Infallible;
use std::sync::Arc;

use forward::{Forward, How, To};
use http_body_util::BodyExt;
use proto::internal::v1 as pb;
use proto::internal::v1::exec_work_service_client::ExecWorkServiceClient;
use proto::internal::v1::work_request::Say;
use service::exec::Call;
use service::{Caller, Error, Service};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use crate::exec::process;

/// Most programs at a time on one agent.
const PROGRAMS_MAX: usize = 16;

/// Pieces of output under way to the server; then the program waits.
const WAITING: usize = 16;

/// What an agent says that runs nothing.
const OFF: &str = "remote execution is off on this agent; set `disable_remote_exec = false` in its configuration to allow it";

/// Follows calls until `stop`. Without `enabled` they are answered with a refusal.
///
/// # Errors
/// The agent takes part in no pool.
pub fn follow(
    service: Service,
    forward: Forward,
    enabled: bool,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
    let mut events = service.exec_feed(&Caller::default())?;
    let places = Arc::new(Semaphore::new(PROGRAMS_MAX));
    Ok(async move {
        loop {
            // What was missed is told to the caller as missing.
            let Some(event) = stop.run_until_cancelled(events.next()).await else { return };
            let Some(call) = Call::read(&event).filter(|_| service.concerns_me(&event)) else { continue };
            let (service, forward, places, stop) = (service.clone(), forward.clone(), places.clone(), stop.clone());
            tokio::spawn(async move {
                let place = places.try_acquire().ok();
                let refusal = match (enabled, place.is_some()) {
                    (false, _) => Some(OFF.to_owned()),
                    (true, false) => {
                        Some(format!("{PROGRAMS_MAX} programs run on this agent at a time, and as many are under way; try later"))
                    }
                    (true, true) => None,
                };
                let work = attend(&service, &forward, &call, refusal);
                if let Some(Err(error)) = stop.run_until_cancelled(work).await {
                    tracing::warn!(server = call.server, "a program could not be run for a server: {}", error.message());
                }
            });
        }
    })
}

/// Goes to the server, and does what it asks for.
async fn attend(service: &Service, forward: &Forward, call: &Call, refusal: Option<String>) -> Result<(), Status> {
    let address = service.exec_server(&call.server).ok_or_else(|| Status::not_found("it is no living server of this pool"))?;
    let forward = forward.clone();
    let transport = tower::service_fn(move |request: http::Request<Body>| {
        let (forward, address) = (forward.clone(), address.clone());
        async move {
            let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
            Ok::<_, Infallible>(match forward.carry(To::Address(&address), request, How::default()).await {
                Ok(response) => response.map(Body::new),
                Err(error) => Status::unavailable(error.told(None, false)).into_http(),
            })
        }
    });
    let (says, stream) = mpsc::channel(WAITING);
    let hello = pb::WorkHello { run_id: call.id.to_vec().into(), node: service.identity().node_name.to_string() };
    let say = |say: Say| pb::WorkRequest { say: Some(say) };
    // They fit: nothing was said before.
    let _ = says.try_send(say(Say::Hello(hello)));
    let refused = refusal.is_some();
    if let Some(why) = refusal {
        let _ = says.try_send(say(Say::Refused(pb::WorkRefused { why })));
    }
    let mut client = ExecWorkServiceClient::new(transport);
    let mut answers = client.work(ReceiverStream::new(stream)).await?.into_inner();
    if refused {
        drop(says);
        // Until the server has heard it.
        while answers.message().await?.is_some() {}
        return Ok(());
    }
    let job = answers.message().await?.ok_or_else(|| Status::cancelled("the run is over"))?;
    tracing::info!(server = call.server, program = job.args.join(" "), "runs a program on request");
    let gone = async {
        // The server says nothing more; its stream ends when nobody wants the program any more.
        while let Ok(Some(_)) = answers.message().await {}
    };
    tokio::select! {
        () = gone => Ok(()),
        () = process::run(&job, &says) => {
            drop(says);
            while let Ok(Some(_)) = answers.message().await {}
            Ok(())
        }
    }
}
