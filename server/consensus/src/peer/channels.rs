//! Connections to the other servers, one for each address, made when first needed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use net::Network;
use parking_lot::{Mutex, RwLock};
use proto::internal::v1::peer_service_client::PeerServiceClient;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::peer::MESSAGE_MAX;
use crate::peer::news::Awaited;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_millis(1000);

/// After this long without traffic a connection is tried, and given up when nothing comes back for
/// as long again: a host that vanished closes nothing.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// What may be under way unread on one stream, in bytes: a batch of entries does not wait for a
/// window to open.
const STREAM_WINDOW: u32 = 4 << 20;

/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// The other servers: where they live and the connections to them. Clones share both.
#[derive(Clone)]
pub struct Peers {
    shared: Arc<Shared>,
}

struct Shared {
    network: Network,
    addresses: RwLock<HashMap<u64, String>>,
    channels: Mutex<HashMap<String, Channel>>,
    awaited: Awaited,
}

impl Peers {
    /// Nobody is known yet; connections go over `network`.
    pub(crate) fn new(network: Network) -> Self {
        Peers { shared: Arc::new(Shared { network, addresses: RwLock::default(), channels: Mutex::default(), awaited: Awaited::new() }) }
    }

    /// The network that they are reached through.
    pub(crate) fn network(&self) -> &Network {
        &self.shared.network
    }

    /// What somebody at one of them waits for.
    pub(crate) fn awaited(&self) -> &Awaited {
        &self.shared.awaited
    }

    /// Says where servers live now, by their numbers in the log. Where nothing is said, the address
    /// in the log counts.
    pub fn set_addresses(&self, addresses: HashMap<u64, String>) {
        let gone: Vec<String> = {
            let mut known = self.shared.addresses.write();
            let gone = known.values().filter(|old| !addresses.values().any(|new| new == *old)).cloned().collect();
            *known = addresses;
            gone
        };
        let mut channels = self.shared.channels.lock();
        for address in gone {
            channels.remove(&address);
        }
    }

    /// Where the server lives: as gossip says, else as `logged` says.
    pub(crate) fn address(&self, id: u64, logged: &str) -> String {
        self.shared.addresses.read().get(&id).cloned().unwrap_or_else(|| logged.to_owned())
    }

    /// A client for the server at `address`. An error means that nothing was sent.
    pub(crate) async fn client(&self, address: &str) -> Result<PeerServiceClient<Channel>, tonic::transport::Error> {
        Ok(client_of(self.channel(address).await?))
    }

    /// The same over a connection of its own, for what is large: nothing waits behind it.
    pub(crate) async fn client_apart(&self, address: &str) -> Result<PeerServiceClient<Channel>, tonic::transport::Error> {
        Ok(client_of(open(&self.shared.network, address).await?))
    }

    /// The connection to `address`. An error means that nothing was sent.
    pub(crate) async fn channel(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        let known = self.shared.channels.lock().get(address).cloned();
        if let Some(channel) = known {
            return Ok(channel);
        }
        let channel = open(&self.shared.network, address).await?;
        self.shared.channels.lock().insert(address.to_owned(), channel.clone());
        Ok(channel)
    }

    /// Forgets the connection: the next request opens another.
    pub(crate) fn drop_connection(&self, address: &str) {
        self.shared.channels.lock().remove(address);
    }
}

fn client_of(channel: Channel) -> PeerServiceClient<Channel> {
    PeerServiceClient::new(channel).max_decoding_message_size(MESSAGE_MAX).max_encoding_message_size(MESSAGE_MAX)
}

async fn open(network: &Network, address: &str) -> Result<Channel, tonic::transport::Error> {
    let (network, target) = (network.clone(), address.to_owned());
    let connector = tower::service_fn(move |_: Uri| {
        let (network, target) = (network.clone(), target.clone());
        async move { network.connect(&target, CONNECT).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    endpoint.connect_with_connector(connector).await
}

/// Whether the request that failed with `status` never left: no connection could be opened.
pub(crate) fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        if cause.is::<tonic::ConnectError>() {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return error.kind() == io::ErrorKind::ConnectionRefused;
        }
        source = cause.source();
    }
    false
}
