//! What goes there and what comes back: both keep the request's place on its connection until they end.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Body;
use crate::connection::Slot;

/// How far the sending of a request's body has come. Clones share it.
#[derive(Clone)]
pub(crate) struct Progress {
    at: Arc<Mutex<At>>,
}

#[derive(Clone, Copy)]
enum At {
    /// Whoever asks has given nothing more yet.
    Asker,
    /// It is the server's turn, since then.
    Server(Instant),
}

impl Progress {
    pub(crate) fn since(start: Instant) -> Self {
        Progress { at: Arc::new(Mutex::new(At::Server(start))) }
    }

    fn note(&self, asker: bool) {
        let mut at = self.at.lock();
        match (asker, *at) {
            (true, _) => *at = At::Asker,
            (false, At::Asker) => *at = At::Server(Instant::now()),
            (false, At::Server(_)) => {}
        }
    }

    /// When a server is late that may take as long as `patience`: the time that whoever asks takes to
    /// send a body is not the server's.
    pub(crate) fn late(&self, patience: Duration) -> Option<Instant> {
        match *self.at.lock() {
            At::Asker => None,
            At::Server(since) => Some(since + patience),
        }
    }
}

/// A request's body on its way.
pub(crate) struct Upload {
    body: Body,
    progress: Progress,
    _slot: Arc<Slot>,
}

impl Upload {
    pub(crate) fn new(body: Body, progress: Progress, slot: Arc<Slot>) -> Self {
        Upload { body, progress, _slot: slot }
    }

    pub(crate) fn into_body(self) -> Body {
        self.body
    }
}

impl hyper::body::Body for Upload {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.progress.note(frame.is_pending());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer.
pub struct Answer {
    body: Incoming,
    _slot: Arc<Slot>,
}

impl Answer {
    pub(crate) fn new(body: Incoming, slot: Arc<Slot>) -> Self {
        Answer { body, _slot: slot }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.body.fmt(f)
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
