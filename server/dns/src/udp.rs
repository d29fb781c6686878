//! Questions in packets.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use net::Datagrams;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answerer::Answerer;
use crate::handler::{Handler, Outcome, Pending};
use crate::limits::Transport;

/// Packets that are answered before others on this thread have their turn.
const BATCH: usize = 64;

/// Largest question read, in bytes: with EDNS and its options well below this.
const QUESTION_BYTES_MAX: usize = 4096;

/// Answers what comes in on `socket` until `stop`, then waits for questions that still wait.
pub(crate) async fn serve(answerer: Answerer, socket: Arc<dyn Datagrams>, stop: CancellationToken) {
    let waiting = TaskTracker::new();
    let mut buffers = Buffers { question: vec![0; QUESTION_BYTES_MAX], reply: Vec::with_capacity(QUESTION_BYTES_MAX) };
    let stopped = stop.cancelled();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => break,
            ready = poll_fn(|cx| socket.poll_readable(cx)) => {
                if let Err(error) = ready {
                    tracing::error!(%error, "the dns udp socket failed; dns over udp stops on this socket");
                    break;
                }
            }
        }
        if answer_batch(&answerer.handler(), &socket, &mut buffers, &waiting).await {
            tokio::task::yield_now().await;
        }
    }
    waiting.close();
    waiting.wait().await;
}

struct Buffers {
    question: Vec<u8>,
    reply: Vec<u8>,
}

/// Answers what there is, up to a batch, and says whether there may be more.
async fn answer_batch(handler: &Arc<Handler>, socket: &Arc<dyn Datagrams>, buffers: &mut Buffers, waiting: &TaskTracker) -> bool {
    for _ in 0..BATCH {
        let (length, source) = match socket.try_receive(&mut buffers.question) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            // An ICMP message about an earlier reply: nothing is wrong with this socket.
            Err(error) => {
                tracing::debug!(%error, "receiving a dns packet failed");
                continue;
            }
        };
        match handler.answer(&buffers.question[..length], source, Transport::Udp, &mut buffers.reply) {
            Outcome::Replied => send(&**socket, &buffers.reply, source).await,
            Outcome::Ignored => {}
            Outcome::Pending(pending) => _ = waiting.spawn(wait(handler.clone(), socket.clone(), *pending, source)),
        }
    }
    true
}

async fn wait(handler: Arc<Handler>, socket: Arc<dyn Datagrams>, pending: Pending, source: SocketAddr) {
    let mut reply = Vec::new();
    handler.wait(pending, &mut reply).await;
    send(&*socket, &reply, source).await;
}

async fn send(socket: &dyn Datagrams, reply: &[u8], source: SocketAddr) {
    let sent = match socket.try_send(reply, source) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.send(reply, source).await,
        sent => sent,
    };
    if let Err(error) = sent {
        tracing::debug!(%source, %error, "a dns reply can't be sent");
    }
}
