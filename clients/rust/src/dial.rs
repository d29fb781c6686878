//! How connections are opened, when that is not left to the system.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Bytes in order, both ways.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

type Dialling = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Opens connections to servers in place of the system: through a tunnel, or on a network that a test
/// has made up. Clones are the same one.
///
/// ```
/// use lictor_client::{Dial, Options};
/// use tokio::net::TcpStream;
///
/// let dial = Dial::new(|address| async move { TcpStream::connect(address).await });
/// let options = Options { dial: Some(dial), ..Options::default() };
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct Dial {
    open: Arc<dyn Fn(String) -> Dialling + Send + Sync>,
}

impl Dial {
    /// Opens a connection to each `host:port` by `open`, which may take as long as
    /// [`Options::connect_timeout`](crate::Options::connect_timeout) says.
    pub fn new<F, S>(open: impl Fn(String) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Dial {
            open: Arc::new(move |address| {
                let opening = open(address);
                Box::pin(async move { Ok(Box::new(opening.await?) as Box<dyn Wire>) })
            }),
        }
    }
}

impl fmt::Debug for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dial")
    }
}

/// A connection that is opened when it is first used.
pub(crate) fn lazily(endpoint: &Endpoint, dial: Option<&Dial>) -> Channel {
    match dial {
        None => endpoint.connect_lazy(),
        Some(dial) => endpoint.connect_with_connector_lazy(connector(dial)),
    }
}

/// A connection, opened now.
pub(crate) async fn now(endpoint: &Endpoint, dial: Option<&Dial>) -> Result<Channel, tonic::transport::Error> {
    match dial {
        None => endpoint.connect().await,
        Some(dial) => endpoint.connect_with_connector(connector(dial)).await,
    }
}

fn connector(dial: &Dial) -> impl tower::Service<Uri, Response = TokioIo<Box<dyn Wire>>, Error = io::Error, Future: Send> + Send + use<> {
    let open = dial.open.clone();
    service_fn(move |uri: Uri| {
        let opening = open(uri.authority().map(ToString::to_string).unwrap_or_default());
        async move { opening.await.map(TokioIo::new) }
    })
}
