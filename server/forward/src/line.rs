//! A connection's bytes, and what they tell: whether the server has said anything yet.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use net::Stream;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

/// The bytes of a connection.
pub(crate) struct Line {
    stream: Stream,
    first: Option<oneshot::Sender<()>>,
    reader: Reader,
}

/// The task that reads from a connection.
#[derive(Clone, Default)]
pub(crate) struct Reader {
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Reader {
    /// Has the connection look after itself once more.
    ///
    /// Hyper asks a server for a sign of life only while requests are under way, and finds that out in
    /// passing: a request that is just being sent when it looks is not seen, and nothing makes it look
    /// again at a connection on which nothing comes in.
    pub(crate) fn nudge(&self) {
        if let Some(waker) = &*self.waker.lock() {
            waker.wake_by_ref();
        }
    }

    fn is(&self, context: &Context<'_>) {
        let mut known = self.waker.lock();
        if !known.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *known = Some(context.waker().clone());
        }
    }
}

impl Line {
    /// Also what is told once the first byte has come in, and the task that reads.
    pub(crate) fn new(stream: Stream) -> (Self, oneshot::Receiver<()>, Reader) {
        let (first, heard) = oneshot::channel();
        let reader = Reader::default();
        (Line { stream, first: Some(first), reader: reader.clone() }, heard, reader)
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.reader.is(context);
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before
            && let Some(first) = self.first.take()
        {
            // Whoever opens the connection may have given up.
            let _ = first.send(());
        }
        read
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
