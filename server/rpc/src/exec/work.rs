//! The server's side of a member at work: hands out the program, takes in what it prints.

use std::pin::Pin;

use futures::Stream;
use proto::internal::v1 as pb;
use proto::internal::v1::exec_work_service_server::{ExecWorkService, ExecWorkServiceServer};
use proto::internal::v1::work_request::Say;
use proto::v1;
use proto::v1::exec_service_run_response::News;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::exec::{Run, Runs};

/// Serves members; to be added to the servers' own port.
pub fn service(runs: Runs) -> ExecWorkServiceServer<impl ExecWorkService> {
    ExecWorkServiceServer::new(Desk { runs })
}

struct Desk {
    runs: Runs,
}

#[tonic::async_trait]
impl ExecWorkService for Desk {
    type WorkStream = Pin<Box<dyn Stream<Item = Result<pb::WorkResponse, Status>> + Send>>;

    async fn work(&self, request: Request<Streaming<pb::WorkRequest>>) -> Result<Response<Self::WorkStream>, Status> {
        let mut said = request.into_inner();
        let Some(Say::Hello(hello)) = said.message().await?.and_then(|message| message.say) else {
            return Err(Status::invalid_argument("the first message says who comes"));
        };
        let run = self.runs.get(&hello.run_id).filter(|run| run.admit(&hello.node));
        let run = run.ok_or_else(|| Status::not_found("there is no such run, or it does not wait for this node"))?;
        let (sender, receiver) = mpsc::channel(1);
        let job = pb::WorkResponse { args: run.args.clone(), shell: run.shell, timeout_ms: run.timeout.as_millis() as u64 };
        // It fits: nothing was sent before.
        let _ = sender.try_send(Ok(job));
        tokio::spawn(async move {
            tokio::select! {
                () = run.over.cancelled() => {}
                () = take_in(&run, &hello.node, &mut said) => {}
            }
            // The answer ends here, and with it the program, if it still runs.
            drop(sender);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// Passes on what a member says, to its end.
async fn take_in(run: &Run, node: &str, said: &mut Streaming<pb::WorkRequest>) {
    loop {
        let news = match said.message().await {
            Ok(Some(pb::WorkRequest { say: Some(say) })) => news(say),
            Ok(Some(pb::WorkRequest { say: None })) => None,
            Ok(None) => Some(missing("its stream ended before the program did")),
            Err(error) => Some(missing(error.message())),
        };
        let Some(news) = news else { continue };
        let last = matches!(news, News::Ended(_) | News::Refused(_) | News::Missing(_));
        if run.said.send((node.to_owned(), news)).await.is_err() || last {
            return;
        }
    }
}

fn missing(why: &str) -> News {
    News::Missing(v1::ExecMissing { why: why.to_owned() })
}

fn news(say: Say) -> Option<News> {
    Some(match say {
        Say::Hello(_) => return None,
        Say::Refused(pb::WorkRefused { why }) => {
            News::Refused(v1::Refusal { reason: v1::ErrorReason::ExecDisabled.into(), message: why, metadata: Default::default() })
        }
        Say::Begun(pb::WorkBegun {}) => News::Begun(v1::ExecBegun {}),
        Say::Output(pb::WorkOutput { data, stderr }) => News::Output(v1::ExecOutput { data, stderr }),
        Say::Ended(pb::WorkEnded { code, timed_out, bytes_dropped }) => News::Ended(v1::ExecEnded { code, timed_out, bytes_dropped }),
    })
}
