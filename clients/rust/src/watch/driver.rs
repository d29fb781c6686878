//! The task behind a handle: connects, reads, and connects again.

use std::sync::Arc;
use std::time::Duration;

use proto::v1;
use proto::v1::watch_service_client::WatchServiceClient;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Streaming;

use super::event::WatchEvent;
use super::progress::{Progress, Step};
use super::{Target, WatchOptions};
use crate::error::Error;
use crate::pool::{Lease, Pool};

type Events = mpsc::Sender<Result<WatchEvent, Error>>;

/// Why a connection is left.
enum Left {
    /// The watch goes on with the next one.
    Lost(Error),
    /// The watch has ended.
    Ended(Option<Error>),
    /// Nobody listens any more.
    Dropped,
}

/// Keeps a watch going until its handle is dropped or the server refuses for good.
pub(crate) async fn run(pool: Arc<Pool>, target: Target, options: WatchOptions, events: Events) {
    let mut progress = Progress::new(target, &options);
    let mut pause = options.backoff_min;
    loop {
        let at = pool.preferred();
        let mut lively = false;
        let left = tokio::select! {
            left = connection(&pool, at, &mut progress, &options, &events, &mut lively) => left,
            () = events.closed() => Left::Dropped,
        };
        let error = match left {
            Left::Lost(error) => error,
            Left::Ended(error) => {
                if let Some(error) = error {
                    let _ = events.send(Err(error)).await;
                }
                return;
            }
            Left::Dropped => return,
        };
        pool.move_on(at);
        if lively {
            pause = options.backoff_min;
        }
        let retry_in = pause.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        pause = (pause * 2).min(options.backoff_max);
        let news = progress.lost().into_iter().chain([WatchEvent::Interrupted { error, retry_in }]);
        for event in news {
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(retry_in) => {}
            () = events.closed() => return,
        }
    }
}

/// Holds the watch on one connection. Sets `lively` once the server has told something.
async fn connection(pool: &Pool, at: usize, progress: &mut Progress, options: &WatchOptions, events: &Events, lively: &mut bool) -> Left {
    let lease = pool.lease(at);
    let mut messages = match timeout(options.silence_max, begin(pool, at, &lease, progress)).await {
        Ok(Ok(messages)) => messages,
        Ok(Err(error)) if error.is_transient() => return Left::Lost(error),
        Ok(Err(error)) => return Left::Ended(Some(error)),
        Err(_) => return silent(pool, at, &lease, options.silence_max),
    };
    loop {
        let message = match timeout(options.silence_max, messages.message()).await {
            Ok(Ok(Some(message))) => message,
            Ok(Ok(None)) => return Left::Lost(Error::Interrupted("the server ended the stream".into())),
            Ok(Err(status)) => {
                let error = pool.error(at, &status);
                return if error.is_transient() { Left::Lost(error) } else { Left::Ended(Some(error)) };
            }
            Err(_) => return silent(pool, at, &lease, options.silence_max),
        };
        match progress.take(message) {
            Step::Tell(event) => {
                *lively = true;
                if events.send(Ok(event)).await.is_err() {
                    return Left::Dropped;
                }
            }
            Step::Nothing => {}
            Step::Leave(error) => return Left::Lost(error),
            Step::End(error) => return Left::Ended(error),
        }
    }
}

/// Asks for the watch. The request side is closed at once, which keeps the watch.
async fn begin(pool: &Pool, at: usize, lease: &Lease, progress: &Progress) -> Result<Streaming<v1::WatchResponse>, Error> {
    let mut stub = WatchServiceClient::new(lease.channel()).max_decoding_message_size(pool.message_bytes_max());
    let request = pool.request(tokio_stream::once(progress.request()));
    let answer = stub.watch(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| pool.error(at, &status))
}

/// A connection that says nothing may be dead without knowing it: the next watch takes another.
fn silent(pool: &Pool, at: usize, lease: &Lease, silence: Duration) -> Left {
    pool.retire(at, lease);
    Left::Lost(Error::Interrupted(format!("the server has said nothing for {silence:?}")))
}
