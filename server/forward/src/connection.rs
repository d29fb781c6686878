//! One HTTP/2 connection to each server, opened when first needed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use net::{Network, chain};
use parking_lot::Mutex;

use crate::Body;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// After this long without traffic the server is asked whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(3);

/// What may be under way unread on one stream, and on the whole connection, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A request that was not answered.
pub(crate) enum Failed {
    /// It never left, and here it is again.
    Unsent(Box<Request<Body>>, String),
    /// It may have arrived.
    Sent(String),
}

/// The connections, by address.
pub(crate) struct Connections {
    network: Network,
    open: Arc<Mutex<HashMap<String, SendRequest<Body>>>>,
}

impl Connections {
    pub(crate) fn new(network: Network) -> Self {
        Connections { network, open: Arc::default() }
    }

    /// Sends a request over the connection to `address`.
    pub(crate) async fn send(&self, address: &str, mut request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        // A connection that was closed meanwhile is found out when it is used: once more with a new one.
        for _ in 0..2 {
            let mut sender = match self.connection(address).await {
                Ok(sender) => sender,
                Err(why) => return Err(Failed::Unsent(Box::new(request), why)),
            };
            match sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => {
                    self.open.lock().remove(address);
                    match error.take_message() {
                        Some(back) => request = back,
                        None => return Err(Failed::Sent(chain(error.error()))),
                    }
                }
            }
        }
        Err(Failed::Unsent(Box::new(request), "its connections close at once".into()))
    }

    async fn connection(&self, address: &str) -> Result<SendRequest<Body>, String> {
        let known = self.open.lock().get(address).filter(|sender| !sender.is_closed()).cloned();
        if let Some(sender) = known {
            return Ok(sender);
        }
        let stream = self.network.connect(address, CONNECT).await.map_err(|error| error.to_string())?;
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE).keep_alive_while_idle(true);
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        let name = address.to_owned();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, server = name, "a connection to a server has ended");
            }
        });
        self.open.lock().insert(address.to_owned(), sender.clone());
        Ok(sender)
    }
}
