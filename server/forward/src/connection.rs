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
use tokio::time::timeout;

use crate::Body;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// While requests are under way: after this long without traffic the server is asked whether it is
/// still there, and has as long as `KEEPALIVE_ANSWER` to say so. A connection that nobody uses is not
/// looked at, so that agents by the thousand cost their servers nothing.
const KEEPALIVE: Duration = Duration::from_secs(1);
const KEEPALIVE_ANSWER: Duration = Duration::from_secs(2);

/// What may be under way unread on one stream, and on the whole connection, in bytes.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// A request that was not answered.
pub(crate) enum Failed {
    /// It never left, and here it is again.
    Unsent(Box<Request<Body>>, String),
    /// It may have arrived.
    Sent(String),
    /// It may have arrived, at a server that gives no sign of life.
    Silent,
    /// It may have arrived, at a server that lives and did not answer within this time.
    Late(Duration),
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

    /// Sends a request over the connection to `address`, and waits for its answer, with `patience` for
    /// as long.
    pub(crate) async fn send(
        &self,
        address: &str,
        mut request: Request<Body>,
        patience: Option<Duration>,
    ) -> Result<Response<Incoming>, Failed> {
        // A connection that was closed meanwhile is found out when it is used: once more with a new one.
        for _ in 0..2 {
            let mut sender = match self.connection(address).await {
                Ok(sender) => sender,
                Err(why) => return Err(Failed::Unsent(Box::new(request), why)),
            };
            let answer = sender.try_send_request(request);
            let answer = match patience {
                None => answer.await,
                Some(patience) => timeout(patience, answer).await.map_err(|_| Failed::Late(patience))?,
            };
            match answer {
                Ok(response) => return Ok(response),
                Err(mut error) => {
                    self.open.lock().remove(address);
                    match error.take_message() {
                        Some(back) => request = back,
                        None if error.error().is_timeout() => return Err(Failed::Silent),
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
        builder.timer(TokioTimer::new()).keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_ANSWER).keep_alive_while_idle(false);
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
