//! HTTP/2 connections to each server: the first is opened when it is needed, further ones when those that
//! are there carry as much as they may, and each is closed when it was of no use for a while.
//!
//! A connection carries no more requests than its window has room for, if nobody reads any of their
//! answers: whoever does not read is in nobody's way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::{Network, chain};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::Body;
use crate::body::{Answer, Progress, Upload};
use crate::line::{Line, Reader};

/// How long a server may take to accept a connection, and as long again to greet: a process that is
/// stopped accepts connections and says nothing.
const CONNECT: Duration = Duration::from_secs(1);

/// While requests are under way: after this long without traffic the server is asked whether it is
/// still there, and has as long as `KEEPALIVE_ANSWER` to say so. A connection that nobody uses is not
/// looked at, so that agents by the thousand cost their servers nothing.
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(2);

/// A request that waits has its connection looked at after `KEEPALIVE`, then after twice as long, and so
/// on up to this.
const LOOK_MAX: Duration = Duration::from_secs(8);

/// Requests at a time on one connection: fewer than a server takes, so that none waits unseen.
pub(crate) const REQUESTS: usize = 512;

/// What may be under way unread of one answer, in bytes.
const STREAM_WINDOW: u32 = 256 << 10;

/// The same for the whole connection: room for every answer, so that it holds none of them up.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * REQUESTS as u32;

/// Connections to one server: they bound what is under way to it, and the memory for what is unread to a gigabyte, if
/// thousands of programs ask for much and read nothing.
pub(crate) const CONNECTIONS: usize = 8;

/// A connection is closed that carried nothing for so long: another server was chosen meanwhile.
const UNUSED: Duration = Duration::from_secs(60);

/// A request that was not answered.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It never left, and here it is again.
    Unsent(Box<Request<Body>>, Why),
    /// It may have arrived.
    Sent(String),
    /// It may have arrived, at a server that gives no sign of life.
    Silent,
    /// It may have arrived, at a server that lives and did not answer within this time.
    Late(Duration),
}

/// Why a request did not leave.
#[derive(Clone, Debug)]
pub(crate) enum Why {
    /// As many as may be are under way to the server.
    Full,
    /// There is no connection to it.
    Unconnected(String),
}

/// The connections, by address. Clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    network: Network,
    servers: Arc<Mutex<HashMap<String, Server>>>,
}

/// The connections to one server.
#[derive(Default)]
struct Server {
    open: Vec<Connection>,
    /// The one that is being opened, and what came of it.
    opening: Option<watch::Receiver<Option<Result<(), Why>>>>,
}

#[derive(Clone)]
struct Connection {
    sender: SendRequest<Upload>,
    reader: Reader,
    places: Arc<Places>,
}

/// How many requests a connection may yet carry.
struct Places {
    free: Arc<Semaphore>,
    /// When one was taken or given back.
    used: Mutex<Instant>,
}

impl Places {
    fn new() -> Arc<Self> {
        Arc::new(Places { free: Arc::new(Semaphore::new(REQUESTS)), used: Mutex::new(Instant::now()) })
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        *self.used.lock() = Instant::now();
        Some(Slot { _permit: permit, places: self.clone() })
    }

    /// When it will have been of no use for too long; `None` while it is of use.
    fn unused(&self) -> Option<Instant> {
        (self.free.available_permits() == REQUESTS).then(|| *self.used.lock() + UNUSED)
    }
}

/// A request's place on its connection.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    places: Arc<Places>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        *self.places.used.lock() = Instant::now();
    }
}

impl Connections {
    pub(crate) fn new(network: Network) -> Self {
        Connections { network, servers: Arc::default() }
    }

    /// Sends a request over a connection to `address`, and waits for its answer: with `patience` until
    /// the server is late.
    pub(crate) async fn send(
        &self,
        address: &str,
        mut request: Request<Body>,
        patience: Option<Duration>,
        progress: &Progress,
    ) -> Result<Response<Answer>, Failed> {
        // A connection that was closed meanwhile is found out when it is used: once more with a new one.
        for _ in 0..2 {
            let late = patience.and_then(|patience| progress.late(patience));
            let seated = tokio::select! {
                seated = self.seat(address) => seated,
                () = until(late) => Err(Why::Unconnected("no connection was opened in time".into())),
            };
            let (mut connection, slot) = match seated {
                Ok((connection, slot)) => (connection, Arc::new(slot)),
                Err(why) => return Err(Failed::Unsent(Box::new(request), why)),
            };
            let on_its_way = request.map(|body| Upload::new(body, progress.clone(), slot.clone()));
            let answer = connection.sender.try_send_request(on_its_way);
            match wait(answer, &connection.reader, patience, progress).await.map_err(Failed::Late)? {
                Ok(response) => return Ok(response.map(|body| Answer::new(body, slot))),
                Err(mut error) => {
                    self.forget(address, &connection);
                    match error.take_message() {
                        Some(back) => request = back.map(Upload::into_body),
                        None if error.error().is_timeout() => return Err(Failed::Silent),
                        None => return Err(Failed::Sent(chain(error.error()))),
                    }
                }
            }
        }
        Err(Failed::Unsent(Box::new(request), Why::Unconnected("its connections close at once".into())))
    }

    /// A place on a connection. Those who wait for one share what comes of opening it.
    async fn seat(&self, address: &str) -> Result<(Connection, Slot), Why> {
        for _ in 0..=CONNECTIONS {
            let mut opening = {
                let mut servers = self.servers.lock();
                let server = servers.entry(address.to_owned()).or_default();
                server.open.retain(|connection| !connection.sender.is_closed());
                if let Some(seated) = server.open.iter().find_map(|connection| Some((connection.clone(), connection.places.take()?))) {
                    return Ok(seated);
                }
                if server.open.len() >= CONNECTIONS {
                    return Err(Why::Full);
                }
                server.opening.get_or_insert_with(|| self.open(address)).clone()
            };
            let opened = match opening.wait_for(Option::is_some).await {
                Ok(opened) => opened.clone(),
                Err(_) => Some(Err(Why::Unconnected("opening a connection was given up".into()))),
            };
            if let Some(Err(why)) = opened {
                return Err(why);
            }
        }
        Err(Why::Full)
    }

    /// Opens a connection, whoever still waits for it.
    fn open(&self, address: &str) -> watch::Receiver<Option<Result<(), Why>>> {
        let (tell, told) = watch::channel(None);
        let (connections, address) = (self.clone(), address.to_owned());
        tokio::spawn(async move {
            let opened = connections.opened(&address).await;
            let result = opened.as_ref().map(|_| ()).map_err(Clone::clone);
            {
                let mut servers = connections.servers.lock();
                let server = servers.entry(address.clone()).or_default();
                server.opening = None;
                server.open.extend(opened.ok());
                if server.open.is_empty() {
                    servers.remove(&address);
                }
            }
            // Nobody may wait for it any more.
            let _ = tell.send(Some(result));
        });
        told
    }

    async fn opened(&self, address: &str) -> Result<Connection, Why> {
        let stream = self.network.connect(address, CONNECT).await.map_err(|error| Why::Unconnected(error.to_string()))?;
        let (line, heard, reader) = Line::new(stream);
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_ANSWER).keep_alive_while_idle(false);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let greeted = async {
            let (sender, driver) = builder.handshake(TokioIo::new(line)).await.map_err(|error| chain(&error))?;
            let (begins, begun) = oneshot::channel::<Arc<Places>>();
            let (connections, name) = (self.clone(), address.to_owned());
            tokio::spawn(async move {
                tokio::select! {
                    ended = driver => if let Err(error) = ended {
                        tracing::debug!(%error, server = name, "a connection to a server has ended");
                    },
                    () = connections.of_no_use(&name, begun) => {}
                }
            });
            heard.await.map_err(|_| "it closed the connection before it said anything".to_owned())?;
            Ok((sender, begins))
        };
        let greeted = timeout(CONNECT, greeted).await;
        let silent = || format!("it took the connection and said nothing within {CONNECT:?}: its process is stopped, or hangs");
        let (sender, begins) = greeted.map_err(|_| silent()).flatten().map_err(Why::Unconnected)?;
        let places = Places::new();
        // A connection that has ended meanwhile is found out when it is used.
        let _ = begins.send(places.clone());
        Ok(Connection { sender, reader, places })
    }

    /// Waits until a connection was of no use for too long, and takes it out.
    async fn of_no_use(&self, address: &str, begun: oneshot::Receiver<Arc<Places>>) {
        let Ok(places) = begun.await else { return };
        loop {
            sleep_until(places.unused().unwrap_or_else(|| Instant::now() + UNUSED)).await;
            let mut servers = self.servers.lock();
            // Places are taken under the lock.
            if places.unused().is_some_and(|at| at <= Instant::now()) {
                take_out(&mut servers, address, &places);
                return;
            }
        }
    }

    fn forget(&self, address: &str, connection: &Connection) {
        take_out(&mut self.servers.lock(), address, &connection.places);
    }

    /// How many connections are open to a server.
    #[cfg(test)]
    pub(crate) fn open_to(&self, address: &str) -> usize {
        self.servers.lock().get(address).map_or(0, |server| server.open.len())
    }
}

fn take_out(servers: &mut HashMap<String, Server>, address: &str, places: &Arc<Places>) {
    let Some(server) = servers.get_mut(address) else { return };
    server.open.retain(|connection| !Arc::ptr_eq(&connection.places, places));
    if server.open.is_empty() && server.opening.is_none() {
        servers.remove(address);
    }
}

/// Waits for an answer as long as `patience` lasts, and has the connection looked at meanwhile. An error
/// is the patience that was had.
async fn wait<T>(answer: impl Future<Output = T>, reader: &Reader, patience: Option<Duration>, progress: &Progress) -> Result<T, Duration> {
    tokio::pin!(answer);
    let mut pause = KEEPALIVE;
    let mut look = Instant::now() + pause;
    loop {
        let late = patience.and_then(|patience| progress.late(patience));
        tokio::select! {
            answer = &mut answer => return Ok(answer),
            () = sleep_until(look) => {
                reader.nudge();
                pause = LOOK_MAX.min(pause * 2);
                look = Instant::now() + pause;
            }
            () = until(late) => {
                // More of the body may have gone since.
                let late = patience.and_then(|patience| progress.late(patience));
                if late.is_some_and(|late| late <= Instant::now()) {
                    return Err(patience.unwrap_or_default());
                }
            }
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
