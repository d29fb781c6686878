//! Servers by address, and what each does with a request.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, ready};
use gossip::{Member, Status};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use net::{Datagrams, Exchange, Listener, Medium, Network, Stream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::task::AbortHandle;

use crate::servers::Servers;
use crate::{Body, Forward, full};

pub(super) type Answering = BoxFuture<'static, Response<Body>>;

/// A server.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) address: String,
    state: Arc<State>,
}

struct State {
    answer: Box<dyn Fn(Request<Incoming>) -> Answering + Send + Sync>,
    stopped: AtomicBool,
    heard: AtomicUsize,
    connections: Mutex<Vec<AbortHandle>>,
}

impl Machine {
    /// Its process is stopped: connections are accepted, and nothing is said.
    pub(super) fn stop(&self) {
        self.state.stopped.store(true, Ordering::Relaxed);
    }

    /// Its connections break.
    pub(super) fn die(&self) {
        self.state.connections.lock().drain(..).for_each(|connection| connection.abort());
    }

    /// Bytes that have come in.
    pub(super) fn heard(&self) -> usize {
        self.state.heard.load(Ordering::Relaxed)
    }

    /// Connections that were opened.
    pub(super) fn connections(&self) -> usize {
        self.state.connections.lock().len()
    }
}

/// The servers of datacenter `dc1`.
#[derive(Clone, Default)]
pub(super) struct World {
    machines: Arc<Mutex<HashMap<String, Machine>>>,
}

impl World {
    /// A further server, that does `answer` with requests.
    pub(super) fn server(&self, answer: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static) -> Machine {
        let mut machines = self.machines.lock();
        let state =
            State { answer: Box::new(answer), stopped: AtomicBool::new(false), heard: AtomicUsize::new(0), connections: Mutex::default() };
        let machine = Machine { address: format!("10.0.0.{}:8300", machines.len() + 1), state: Arc::new(state) };
        machines.insert(machine.address.clone(), machine.clone());
        machine
    }

    pub(super) fn network(&self) -> Network {
        Network::new(self.clone())
    }

    /// Carries to these servers, the first of them first.
    pub(super) fn forward(&self, first: &Machine) -> Forward {
        let machines = self.machines.clone();
        let lan = move || machines.lock().keys().map(|address| member(address.parse().unwrap())).collect();
        let forward = Forward::to(Servers::new("dc1", lan, None::<fn() -> Vec<Member>>), || 0, self.network());
        forward.shared.choice.keep("dc1", &first.address);
        forward
    }
}

fn member(address: SocketAddr) -> Member {
    let tags = [("role", "consul"), ("dc", "dc1"), ("port", "8300")];
    Member {
        name: address.ip().to_string(),
        node_id: String::new(),
        address: address.ip(),
        port: 8301,
        tags: tags.map(|(tag, value)| (tag.to_owned(), value.to_owned())).into(),
        status: Status::Alive,
    }
}

/// An answer with this text.
pub(super) fn says(text: &'static str) -> Answering {
    ready(Response::new(full(Bytes::from_static(text.as_bytes())))).boxed()
}

/// No answer ever.
pub(super) fn waits() -> Answering {
    std::future::pending().boxed()
}

impl Medium for World {
    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Stream>> {
        let Some(machine) = self.machines.lock().get(&address).cloned() else {
            return ready(Err(io::ErrorKind::ConnectionRefused.into())).boxed();
        };
        let (here, there) = tokio::io::duplex(64 << 10);
        let state = machine.state.clone();
        let wire = Wire { stream: there, state: state.clone() };
        let service = service_fn(move |request| {
            let answer = (state.answer)(request);
            async move { Ok::<_, io::Error>(answer.await) }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(1024);
        let serving = tokio::spawn(async move {
            let _ = builder.serve_connection(TokioIo::new(wire), service).await;
        });
        machine.state.connections.lock().push(serving.abort_handle());
        ready(Ok(Box::new(here) as Stream)).boxed()
    }

    fn connect_local(&self, _: PathBuf) -> BoxFuture<'static, io::Result<Stream>> {
        unsupported()
    }

    fn listen(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        unsupported()
    }

    fn datagrams(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Datagrams>>> {
        unsupported()
    }

    fn shared_datagrams(&self, _: SocketAddr, _: usize) -> BoxFuture<'static, io::Result<Vec<Box<dyn Datagrams>>>> {
        unsupported()
    }

    fn exchange(&self, _: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Exchange>>> {
        unsupported()
    }

    fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        unsupported()
    }
}

fn unsupported<T: Send + 'static>() -> BoxFuture<'static, io::Result<T>> {
    ready(Err(io::ErrorKind::Unsupported.into())).boxed()
}

/// A server's end of a connection. A process that is stopped is never woken again.
struct Wire {
    stream: DuplexStream,
    state: Arc<State>,
}

impl Wire {
    fn is_stopped(&self) -> bool {
        self.state.stopped.load(Ordering::Relaxed)
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_stopped() {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.state.heard.fetch_add(buffer.filled().len() - before, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_stopped() { Poll::Pending } else { Pin::new(&mut self.stream).poll_write(context, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
