//! Asks other servers for what is not ours.
//!
//! A question is relayed as it came, byte for byte but for its id, and so is the reply: flags,
//! options and record types that are unknown here pass through. Each question has a socket of its
//! own, hence a port that an outsider would have to guess together with the id.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, Record, RecordType};
use net::Network;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::limits::Transport;
use crate::options::{DnsOptions, RecursorStrategy};

/// What we tell a recursor that we take over UDP: what passes nearly every network in one piece.
const OWN_PAYLOAD_BYTES: u16 = 1232;

/// Where the flags stand in a message.
const FLAGS: usize = 2;

/// The header of a message, in bytes.
const HEADER_BYTES: usize = 12;

/// The servers to ask.
#[derive(Debug)]
pub(crate) struct Recursors {
    servers: Vec<SocketAddr>,
    strategy: RecursorStrategy,
    timeout: Duration,
    network: Network,
}

impl Recursors {
    pub(crate) fn new(options: &DnsOptions, network: Network) -> Self {
        let (servers, strategy) = (options.recursors.clone(), options.recursor_strategy);
        Recursors { servers, strategy, timeout: options.recursor_timeout, network }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Relays a question over the transport that it came on, and returns the reply. A reply cut
    /// short over UDP is passed on as it is: the client asks again over TCP, and that is relayed
    /// over TCP. `None` when no server gave a usable reply.
    pub(crate) async fn relay(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        for server in self.order() {
            match timeout(self.timeout, self.ask(server, question, transport)).await {
                Ok(Ok(reply)) if is_usable(&reply) => return Some(reply),
                Ok(Ok(_)) => tracing::debug!(%server, "recursor could not answer"),
                Ok(Err(error)) => tracing::debug!(%server, %error, "recursor failed"),
                Err(_) => tracing::debug!(%server, after = ?self.timeout, "recursor did not answer in time"),
            }
        }
        None
    }

    /// The answers of the first server that has any; over TCP when they do not fit into a packet.
    pub(crate) async fn resolve(&self, name: &Name, query_type: RecordType) -> Vec<Record> {
        let mut message = Message::query();
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(name.clone(), query_type));
        let mut edns = Edns::new();
        edns.set_max_payload(OWN_PAYLOAD_BYTES);
        message.set_edns(edns);
        let Ok(question) = message.to_vec() else { return Vec::new() };
        let mut reply = self.relay(&question, Transport::Udp).await;
        if reply.as_deref().is_some_and(is_truncated) {
            reply = self.relay(&question, Transport::Tcp).await.or(reply);
        }
        reply.and_then(|reply| Message::from_vec(&reply).ok()).map_or_else(Vec::new, |message| message.answers)
    }

    fn order(&self) -> Vec<SocketAddr> {
        let mut servers = self.servers.clone();
        if self.strategy == RecursorStrategy::Random {
            servers.shuffle(&mut rand::rng());
        }
        servers
    }

    /// Asks one server under an id of our own, and gives the reply the id of the question.
    async fn ask(&self, server: SocketAddr, question: &[u8], transport: Transport) -> io::Result<Vec<u8>> {
        let (Some(id), true) = (question.get(..FLAGS), question.len() >= HEADER_BYTES) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the question is shorter than a header"));
        };
        let mut sent = question.to_vec();
        let own = rand::random::<[u8; 2]>();
        sent[..FLAGS].copy_from_slice(&own);
        let mut reply = match transport {
            Transport::Udp => self.ask_udp(server, &sent).await?,
            Transport::Tcp => self.ask_tcp(server, &sent).await?,
        };
        reply[..FLAGS].copy_from_slice(id);
        Ok(reply)
    }

    async fn ask_udp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let exchange = self.network.exchange(server).await?;
        exchange.send(question).await?;
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let length = exchange.receive(&mut buffer).await?;
            if answers(question, &buffer[..length]) {
                buffer.truncate(length);
                return Ok(buffer);
            }
        }
    }

    async fn ask_tcp(&self, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
        let mut stream = self.network.connect(&server.to_string(), self.timeout).await?;
        let length = u16::try_from(question.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let mut framed = length.to_be_bytes().to_vec();
        framed.extend_from_slice(question);
        stream.write_all(&framed).await?;
        let mut reply = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut reply).await?;
        if answers(question, &reply) {
            Ok(reply)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the reply answers another question"))
        }
    }
}

/// Whether `reply` is one to `question`: the same id, and the same name, type and class.
fn answers(question: &[u8], reply: &[u8]) -> bool {
    if reply.len() < HEADER_BYTES || reply[..FLAGS] != question[..FLAGS] {
        return false;
    }
    let (Ok(asked), Ok(answered)) = (Message::from_vec(question), Message::from_vec(reply)) else { return false };
    let is_response = answered.metadata.message_type == MessageType::Response;
    is_response && (answered.queries == asked.queries || answered.queries.is_empty())
}

/// Whether the server knew: that a name does not exist is knowledge, SERVFAIL or REFUSED is not.
fn is_usable(reply: &[u8]) -> bool {
    let code = u16::from(reply[FLAGS + 1] & 0x0f);
    code == u16::from(ResponseCode::NoError) || code == u16::from(ResponseCode::NXDomain)
}

fn is_truncated(reply: &[u8]) -> bool {
    reply[FLAGS] & 0x02 != 0
}
