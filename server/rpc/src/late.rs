//! An answer whose head is given before it is known who answers.
//!
//! A client may wait for the head of the answer before it sends the first message of its stream, and
//! that message says whom the stream is for. So the head, which is the same from everybody, goes out
//! at once; what follows is passed on from whoever answers.

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, DATE};
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame};
use http_body_util::{BodyStream, StreamBody};
use tonic::service::AxumBody;
use tonic::{Code, Status};

use crate::carry::Answer;

/// The status of a call, which an answer without messages has in its head.
const STATUS: &str = "grpc-status";

/// What a message that breaks off is told as.
type Broken = <AxumBody as Body>::Error;

/// An answer that begins now and goes on as `work` answers. `work` ends when the answer is dropped.
pub(crate) fn answer(work: impl Future<Output = Answer> + Send + 'static) -> Answer {
    let mut answer = Answer::new(AxumBody::new(StreamBody::new(stream::once(work).flat_map(rest))));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    answer
}

/// What is left of an answer whose head is gone: its messages, and its status at the end.
fn rest(answer: Answer) -> impl Stream<Item = Result<Frame<Bytes>, Broken>> {
    let (head, body) = answer.into_parts();
    let status = match (head.headers.contains_key(STATUS), head.status.is_success()) {
        (true, _) => Some(trailers(head.headers)),
        (false, true) => None,
        (false, false) => {
            let refused = Status::new(Code::Unavailable, format!("the server that the stream was carried to answers {}", head.status));
            Some(trailers(refused.into_http::<()>().into_parts().0.headers))
        }
    };
    BodyStream::new(body).chain(stream::iter(status.map(|status| Ok(Frame::trailers(status)))))
}

/// A head as the end of an answer.
fn trailers(mut head: HeaderMap) -> HeaderMap {
    for name in [CONTENT_TYPE, CONTENT_LENGTH, DATE] {
        head.remove(name);
    }
    head
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn the_head_is_there_before_the_answer_is() {
        let (send, wait) = tokio::sync::oneshot::channel::<Answer>();
        let answer = answer(async move { wait.await.unwrap() });
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/grpc");
        assert!(send.send(Answer::new(AxumBody::from("messages"))).is_ok());
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "messages");
    }

    #[tokio::test]
    async fn a_refusal_that_is_a_head_alone_comes_at_the_end() {
        let refusals = [
            (Status::not_found("no such datacenter").into_http(), "5"),
            (http::Response::builder().status(503).body(AxumBody::empty()).unwrap(), "14"),
        ];
        for (refused, code) in refusals {
            let collected = answer(async move { refused }).into_body().collect().await.unwrap();
            let trailers = collected.trailers().expect("a status");
            assert_eq!(trailers[STATUS], code);
            assert!(!trailers.contains_key(CONTENT_TYPE));
        }
    }
}
