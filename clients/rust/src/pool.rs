//! Connections: a few to the preferred server for calls, one more for watches, and the way to the
//! next server when one cannot serve.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use proto::v1::ErrorReason;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::dial::{self, Dial};
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::options::Options;

/// What may be under way unread on one stream, in bytes.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// What may be under way unread on one connection, in bytes: room for several full streams.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// What may be under way unread of one watch, in bytes.
const WATCH_STREAM_WINDOW: u32 = 64 * 1024;

/// Most watches on one connection: so few that readers who do not read cannot fill the window of
/// the connection and hold up the others, and fewer than the streams that a server allows.
const WATCHES_PER_CONNECTION: usize = 100;

/// All connections of a client. They are opened when first used, and again when they break.
pub(crate) struct Pool {
    servers: Vec<Server>,
    /// The server that answered last.
    preferred: AtomicUsize,
    /// The connection whose turn it is.
    turn: AtomicUsize,
    authorization: Option<MetadataValue<Ascii>>,
    /// The deadline as it is told to the server.
    deadline: MetadataValue<Ascii>,
    request_timeout: Duration,
    message_bytes_max: usize,
}

struct Server {
    address: String,
    endpoint: Endpoint,
    dial: Option<Dial>,
    calls: Vec<OnceLock<Channel>>,
    watches: Mutex<Vec<Lease>>,
}

/// A place on a connection for watches; given back when dropped.
#[derive(Clone)]
pub(crate) struct Lease {
    channel: Channel,
    /// Shared by all who are on the connection, and the list of connections.
    users: Arc<()>,
}

impl Lease {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn watches(&self) -> usize {
        Arc::strong_count(&self.users) - 1
    }
}

impl Pool {
    pub(crate) fn new(endpoints: &Endpoints, options: &Options) -> Result<Self, Error> {
        let servers = endpoints.uris()?.into_iter().zip(endpoints.addresses());
        let servers = servers.map(|(uri, address)| Ok(Server::new(address, endpoint(uri, options)?, options)));
        Ok(Pool {
            servers: servers.collect::<Result<_, Error>>()?,
            preferred: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            authorization: options.token.as_deref().map(authorization).transpose()?,
            deadline: deadline(options.request_timeout),
            request_timeout: options.request_timeout,
            message_bytes_max: options.message_bytes_max,
        })
    }

    /// Opens a connection to the first server that can be reached.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        let mut last = None;
        for (at, server) in self.servers.iter().enumerate() {
            match dial::now(&server.endpoint, server.dial.as_ref()).await {
                Ok(channel) => {
                    // A connection that was opened meanwhile is as good as this one.
                    let _ = server.calls[0].set(channel);
                    self.preferred.store(at, Ordering::Relaxed);
                    return Ok(());
                }
                Err(error) => last = Some(server.error(&Status::from_error(error.into()), self.request_timeout)),
            }
        }
        Err(last.expect("there is at least one endpoint, and each that did not connect has failed"))
    }

    /// Makes a call that is answered by one message, at the next server if one could not take it.
    pub(crate) async fn call<Q, R, F>(&self, message: Q, send: impl Fn(Channel, Request<Q>) -> F) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let deadline = || Some(self.deadline.clone());
        self.attempt(message, deadline, send).await
    }

    /// Makes a call that is answered by a stream, which may take any time once it has begun.
    pub(crate) async fn stream<Q, R, F>(&self, message: Q, send: impl Fn(Channel, Request<Q>) -> F) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        self.attempt(message, || None, send).await
    }

    async fn attempt<Q, R, F>(
        &self,
        message: Q,
        deadline: impl Fn() -> Option<MetadataValue<Ascii>>,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        Q: Clone,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        for _ in 1..self.servers.len() {
            let at = self.preferred();
            match self.once(at, message.clone(), &deadline, &send).await {
                Err(error) if was_not_taken(&error) => self.move_on(at),
                other => return other,
            }
        }
        let at = self.preferred();
        let answer = self.once(at, message, &deadline, &send).await;
        if answer.as_ref().is_err_and(was_not_taken) {
            self.move_on(at);
        }
        answer
    }

    async fn once<Q, R, F>(
        &self,
        at: usize,
        message: Q,
        deadline: &impl Fn() -> Option<MetadataValue<Ascii>>,
        send: &impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let server = &self.servers[at];
        let mut request = self.request(message);
        if let Some(deadline) = deadline() {
            request.metadata_mut().insert("grpc-timeout", deadline);
        }
        let turn = if server.calls.len() == 1 { 0 } else { self.turn.fetch_add(1, Ordering::Relaxed) % server.calls.len() };
        match send(server.channel(turn), request).await {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(server.error(&status, self.request_timeout)),
        }
    }

    /// A request with what every call carries.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }

    /// The position of the server that is asked at present.
    pub(crate) fn preferred(&self) -> usize {
        self.preferred.load(Ordering::Relaxed)
    }

    /// Turns away from the server at `from`, unless somebody did already.
    pub(crate) fn move_on(&self, from: usize) {
        let next = (from + 1) % self.servers.len();
        let _ = self.preferred.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A place for one watch on a connection to the server at `at`.
    pub(crate) fn lease(&self, at: usize) -> Lease {
        let server = &self.servers[at];
        let mut watches = server.watches.lock().expect("nothing under this lock panics");
        if let Some(lease) = watches.iter().find(|lease| lease.watches() < WATCHES_PER_CONNECTION) {
            return lease.clone();
        }
        watches.retain(|lease| lease.watches() > 0);
        let endpoint = server.endpoint.clone().initial_stream_window_size(WATCH_STREAM_WINDOW);
        let lease = Lease { channel: dial::lazily(&endpoint, server.dial.as_ref()), users: Arc::new(()) };
        watches.push(lease.clone());
        lease
    }

    /// Gives nobody a place on this connection any more.
    pub(crate) fn retire(&self, at: usize, lease: &Lease) {
        let mut watches = self.servers[at].watches.lock().expect("nothing under this lock panics");
        watches.retain(|other| !Arc::ptr_eq(&other.users, &lease.users));
    }

    /// A connection for calls to the preferred server.
    pub(crate) fn channel(&self) -> Channel {
        self.servers[self.preferred()].channel(0)
    }

    /// A connection to the preferred server for one call that may take long.
    pub(crate) fn patient_channel(&self, timeout: Duration) -> Channel {
        let server = &self.servers[self.preferred()];
        dial::lazily(&server.endpoint.clone().timeout(timeout), server.dial.as_ref())
    }

    /// What a status from the server at `at` means.
    pub(crate) fn error(&self, at: usize, status: &Status) -> Error {
        self.servers[at].error(status, self.request_timeout)
    }

    pub(crate) fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        self.request_timeout
    }
}

impl Server {
    fn new(address: &str, endpoint: Endpoint, options: &Options) -> Self {
        let calls = std::iter::repeat_with(OnceLock::new).take(options.connections.max(1)).collect();
        Server { address: address.to_owned(), endpoint, dial: options.dial.clone(), calls, watches: Mutex::default() }
    }

    fn channel(&self, turn: usize) -> Channel {
        self.calls[turn].get_or_init(|| dial::lazily(&self.endpoint, self.dial.as_ref())).clone()
    }

    fn error(&self, status: &Status, timeout: Duration) -> Error {
        Error::from_status(status, &self.address, timeout)
    }
}

/// Whether another server may do what this one did not begin.
fn was_not_taken(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        other => matches!(other.reason(), Some(ErrorReason::NotLeader | ErrorReason::NotReady | ErrorReason::ShuttingDown)),
    }
}

fn endpoint(uri: tonic::transport::Uri, options: &Options) -> Result<Endpoint, Error> {
    let own = concat!("lictor-rust/", env!("CARGO_PKG_VERSION"));
    let agent = options.user_agent.as_ref().map_or_else(|| own.to_owned(), |name| format!("{name} {own}"));
    let endpoint =
        Endpoint::from(uri).user_agent(agent).map_err(|error| Error::InvalidOption { name: "user_agent", problem: error.to_string() })?;
    Ok(endpoint
        .connect_timeout(options.connect_timeout)
        .timeout(options.request_timeout)
        .http2_keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .tcp_nodelay(true))
}

fn authorization(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let value = MetadataValue::try_from(format!("Bearer {token}"));
    let problem = "a token consists of visible ASCII characters".to_owned();
    let mut value = value.map_err(|_| Error::InvalidOption { name: "token", problem })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A duration as gRPC writes it: at most eight digits and a unit.
fn deadline(timeout: Duration) -> MetadataValue<Ascii> {
    let text = match timeout.as_millis() {
        millis @ 0..100_000_000 => format!("{}m", millis.max(1)),
        _ => format!("{}S", timeout.as_secs().min(99_999_999)),
    };
    MetadataValue::try_from(text).expect("digits and a letter are visible ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_at_most_eight_digits() {
        for (timeout, expected) in [
            (Duration::ZERO, "1m"),
            (Duration::from_secs(30), "30000m"),
            (Duration::from_secs(100_000), "100000S"),
            (Duration::MAX, "99999999S"),
        ] {
            assert_eq!(deadline(timeout), expected);
        }
    }

    #[test]
    fn a_token_that_cannot_travel_is_refused() {
        let options = Options { token: Some("a\nb".into()), ..Options::default() };
        let error = Pool::new(&Endpoints::default(), &options).err().expect("a line break is no token");
        assert!(error.to_string().contains("`token`"), "{error}");
    }
}
