//! Answers that are ready together leave together.
//!
//! A call that has its answer wakes the task of its connection, and the runtime runs that task next:
//! before the other calls that are ready too. Left alone, the connection would send each answer with
//! a system call of its own, and many calls at once would cost mostly that. So what is written is
//! gathered here, and goes out one turn of the scheduler later, when every task that was ready has
//! had its say. When no other is ready, that is at once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that may wait: what is beyond them waits for the socket, as it would without this.
const GATHERED_MAX: usize = 64 * 1024;

/// Room that an idle connection keeps.
const KEPT: usize = 4 * 1024;

/// A stream whose flush is put off by one turn.
///
/// It is made for HTTP/2, whose connection reads and then flushes in each turn of its task: a flush
/// asks for another turn, reading shows that it has come, and the next flush sends.
pub(crate) struct Gather<S> {
    stream: S,
    waiting: Vec<u8>,
    sent: usize,
    flush: Flush,
}

/// How far the flush of what waits has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    /// Nobody has asked for one.
    Idle,
    /// The task has asked for its next turn.
    Asked,
    /// The turn has come.
    Due,
}

impl<S> Gather<S> {
    /// Around a stream.
    pub(crate) fn new(stream: S) -> Self {
        Gather { stream, waiting: Vec::new(), sent: 0, flush: Flush::Idle }
    }

    fn room(&self) -> usize {
        GATHERED_MAX.saturating_sub(self.waiting.len())
    }
}

impl<S: AsyncWrite + Unpin> Gather<S> {
    /// Sends all that waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.waiting.len() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.waiting[self.sent..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                bytes => self.sent += bytes,
            }
        }
        self.waiting.clear();
        self.waiting.shrink_to(KEPT);
        self.sent = 0;
        self.flush = Flush::Idle;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.flush == Flush::Asked {
            self.flush = Flush::Due;
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.room() == 0 {
            ready!(self.poll_send(cx))?;
        }
        let taken = buf.len().min(self.room());
        self.waiting.extend_from_slice(&buf[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.room() == 0 {
            ready!(self.poll_send(cx))?;
        }
        let before = self.waiting.len();
        for buf in bufs {
            let taken = buf.len().min(self.room());
            self.waiting.extend_from_slice(&buf[..taken]);
        }
        Poll::Ready(Ok(self.waiting.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Says that all is sent when it soon will be: the connection has nothing to wait for, and its
    /// task is polled again.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waiting.is_empty() {
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        if self.flush == Flush::Due {
            ready!(self.poll_send(cx))?;
            return Pin::new(&mut self.stream).poll_flush(cx);
        }
        self.flush = Flush::Asked;
        // A task that wakes itself goes to the end of its queue.
        cx.waker().wake_by_ref();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    /// What has come in at the other end, without waiting for more.
    fn received(other: &mut DuplexStream) -> Vec<u8> {
        let mut buffer = [0; 1024];
        let mut read = ReadBuf::new(&mut buffer);
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let _ = Pin::new(other).poll_read(&mut cx, &mut read);
        read.filled().to_vec()
    }

    /// One turn of a connection: reads, writes, flushes.
    async fn turn(gather: &mut Gather<DuplexStream>, words: &[&str]) {
        poll_fn(|cx| {
            let mut buffer = [0; 16];
            let nothing = Pin::new(&mut *gather).poll_read(cx, &mut ReadBuf::new(&mut buffer));
            assert!(nothing.is_pending());
            for word in words {
                assert!(Pin::new(&mut *gather).poll_write(cx, word.as_bytes()).is_ready());
                assert!(Pin::new(&mut *gather).poll_flush(cx).is_ready());
            }
            assert!(Pin::new(&mut *gather).poll_flush(cx).is_ready());
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_written_in_one_turn_leaves_together_in_the_next() {
        let (stream, mut other) = duplex(1024);
        let mut gather = Gather::new(stream);
        turn(&mut gather, &["one ", "two "]).await;
        assert_eq!(received(&mut other), b"", "the others may still have something to say");
        turn(&mut gather, &["three"]).await;
        assert_eq!(received(&mut other), b"one two three");
        turn(&mut gather, &["four"]).await;
        assert_eq!(received(&mut other), b"");
    }

    #[tokio::test]
    async fn a_flush_asks_for_the_turn_in_which_it_sends() {
        let (stream, mut other) = duplex(1024);
        let mut gather = Gather::new(stream);
        let woken = std::sync::Arc::new(Woken::default());
        let waker = woken.clone().into();
        let mut cx = Context::from_waker(&waker);
        assert!(Pin::new(&mut gather).poll_write(&mut cx, b"word").is_ready());
        assert!(Pin::new(&mut gather).poll_flush(&mut cx).is_ready());
        assert!(woken.0.load(std::sync::atomic::Ordering::SeqCst), "nobody else would send it");
        turn(&mut gather, &[]).await;
        assert_eq!(received(&mut other), b"word");
    }

    #[tokio::test]
    async fn nothing_is_lost_when_the_connection_ends() {
        let (stream, mut other) = duplex(1024);
        let mut gather = Gather::new(stream);
        gather.write_all(b"last words").await.unwrap();
        gather.shutdown().await.unwrap();
        let mut said = String::new();
        other.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "last words");
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_is_waited_for() {
        let (stream, mut other) = duplex(16);
        let mut gather = Gather::new(stream);
        let sent: Vec<u8> = (0..4 * GATHERED_MAX).map(|at| at as u8).collect();
        let copy = sent.clone();
        let writer = tokio::spawn(async move {
            gather.write_all(&copy).await.unwrap();
            assert!(gather.waiting.len() <= GATHERED_MAX);
            gather.shutdown().await.unwrap();
        });
        let mut read = Vec::new();
        other.read_to_end(&mut read).await.unwrap();
        writer.await.unwrap();
        assert_eq!(read, sent);
    }

    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }
}
