//! Questions on connections: each with its length before it, answered in order (RFC 7766).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::{Listener, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answerer::Answerer;
use crate::handler::Outcome;
use crate::limits::Transport;

/// Largest question read, in bytes.
const QUESTION_BYTES_MAX: usize = 4096;

/// The pause after a failure to accept, which mostly means that there are no file handles left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections until `stop`, then waits for those that are open to give their last reply.
pub(crate) async fn serve(answerer: Answerer, listener: Box<dyn Listener>, stop: CancellationToken) {
    let open = Arc::new(Semaphore::new(answerer.handler().options().tcp_connections_max));
    let connections = TaskTracker::new();
    while let Some((stream, source, permit)) = accept(&*listener, &open, &stop).await {
        let (answerer, stop) = (answerer.clone(), stop.clone());
        connections.spawn(async move {
            if let Err(error) = converse(&answerer, stream, source, &stop).await {
                tracing::debug!(%source, %error, "a dns connection ended");
            }
            drop(permit);
        });
    }
    connections.close();
    connections.wait().await;
}

/// The next connection, once there may be one more; `None` at `stop`.
async fn accept(
    listener: &dyn Listener,
    open: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(Stream, SocketAddr, OwnedSemaphorePermit)> {
    let next = async {
        let permit = open.clone().acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, source)) => return Some((stream, source, permit)),
                Err(error) => {
                    tracing::warn!(%error, "a dns connection can't be accepted; trying again");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(next).await.flatten()
}

/// Answers one question after the other, until the client is done, idle, or wrong.
async fn converse(answerer: &Answerer, stream: Stream, source: SocketAddr, stop: &CancellationToken) -> io::Result<()> {
    let idle = answerer.handler().options().tcp_idle_timeout;
    let mut stream = BufReader::new(stream);
    let (mut question, mut reply) = (Vec::new(), Vec::new());
    loop {
        let read = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            read = timeout(idle, read_question(&mut stream, &mut question)) => read,
        };
        match read {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(()),
        }
        let handler = answerer.handler();
        match handler.answer(&question, source, Transport::Tcp, &mut reply) {
            Outcome::Replied => {}
            Outcome::Ignored => return Ok(()),
            Outcome::Pending(pending) => handler.wait(*pending, &mut reply).await,
        }
        timeout(idle, write_reply(&mut stream, &reply)).await??;
    }
}

async fn read_question(stream: &mut BufReader<Stream>, question: &mut Vec<u8>) -> io::Result<()> {
    let length = usize::from(stream.read_u16().await?);
    if length > QUESTION_BYTES_MAX {
        let message = format!("a question of {length} bytes is larger than the {QUESTION_BYTES_MAX} that are read");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    question.resize(length, 0);
    stream.read_exact(question).await.map(|_| ())
}

async fn write_reply(stream: &mut BufReader<Stream>, reply: &[u8]) -> io::Result<()> {
    let length = u16::try_from(reply.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let mut framed = Vec::with_capacity(reply.len() + 2);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(reply);
    stream.write_all(&framed).await
}
