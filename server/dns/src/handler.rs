//! One question, one reply.
//!
//! Nearly every question is answered at once, from memory, on the task that received it. What has
//! to wait for somebody else, a recursor or the leader, is handed back as [`Pending`], to be waited
//! for elsewhere.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forward::{Forward, How, To};
use hickory_proto::op::{Header, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use http_body_util::{BodyExt, Limited};
use net::Network;
use service::discovery::Directory;
use service::{Caller, Consistency, Error, ReadOptions, Service};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::Answer;
use crate::answerer;
use crate::endpoints::EndpointCache;
use crate::limits::{self, Envelope, Room, Transport};
use crate::metrics::Metrics;
use crate::missing::{self, Missing};
use crate::options::DnsOptions;
use crate::question::{self, InZone, Lookup};
use crate::recurse::Recursors;
use crate::resolve::{Resolved, Resolver};

/// Most records that are taken over from a recursor to complete an alias over plain UDP.
const PLAIN_ALIAS_RECORDS_MAX: usize = 5;

/// How long a server may take to answer a question that was carried to it: until then one that is silent
/// is found out, and another one asked.
const CARRY: Duration = Duration::from_secs(4);

/// Largest answer taken from it, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Answers questions. Shared by all sockets.
pub(crate) struct Handler {
    service: Service,
    options: DnsOptions,
    endpoints: EndpointCache,
    recursors: Recursors,
    /// Carries what is answered elsewhere.
    forward: Option<Forward>,
    /// Questions that may yet wait.
    waiting: Arc<Semaphore>,
    pub(crate) metrics: Metrics,
}

/// What came of a question at once.
pub(crate) enum Outcome {
    /// The reply stands in the buffer.
    Replied,
    /// It is nothing that may be replied to.
    Ignored,
    /// Somebody else has to be waited for.
    Pending(Box<Pending>),
}

/// A question that waits.
pub(crate) struct Pending {
    request: Request,
    /// The request as it came.
    bytes: Vec<u8>,
    on: On,
    /// Its place among those that may wait.
    _place: OwnedSemaphorePermit,
}

enum On {
    /// The leader, for a fresh view.
    Leader(Lookup),
    /// A server, of the own datacenter or of the one that is named.
    Server(Option<String>),
    /// Recursors, for the whole answer.
    Recursors,
    /// Recursors, for what stands at the end of an alias.
    Alias(Answer, Name),
}

/// A request that could be read.
struct Request {
    message: Message,
    transport: Transport,
    /// How often it was carried.
    hops: u32,
    caller: Caller,
}

impl Request {
    fn query(&self) -> &Query {
        &self.message.queries[0]
    }

    fn room(&self, options: &DnsOptions) -> Room {
        Room::new(self.transport, self.message.edns.as_ref(), self.query().query_type(), options)
    }
}

impl Handler {
    pub(crate) fn new(service: Service, options: DnsOptions, forward: Option<Forward>, network: Network) -> Self {
        Handler {
            service,
            endpoints: EndpointCache::default(),
            recursors: Recursors::new(&options, network),
            forward,
            waiting: Arc::new(Semaphore::new(options.waiting_max)),
            metrics: Metrics::default(),
            options,
        }
    }

    pub(crate) fn options(&self) -> &DnsOptions {
        &self.options
    }

    /// Answers `bytes` into `out` if that takes no waiting. Never panics, whatever the bytes.
    pub(crate) fn answer(&self, bytes: &[u8], source: SocketAddr, transport: Transport, out: &mut Vec<u8>) -> Outcome {
        self.answer_carried(bytes, source, (transport, 0), out)
    }

    /// The same for a question that was carried here over so many hops.
    pub(crate) fn answer_carried(
        &self,
        bytes: &[u8],
        source: SocketAddr,
        (transport, hops): (Transport, u32),
        out: &mut Vec<u8>,
    ) -> Outcome {
        let Ok(header) = Header::read(&mut BinDecoder::new(bytes)) else { return Outcome::Ignored };
        // A reply to a reply could go back and forth for ever.
        if header.metadata.message_type == MessageType::Response {
            return Outcome::Ignored;
        }
        self.metrics.queries.increment(1);
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(_) => return self.reply_to_header(&header, Answer::code(ResponseCode::FormErr), out),
        };
        if let Some(code) = objection(&message) {
            return self.reply_to_message(&message, transport, Answer::code(code), out);
        }
        let caller = Caller { source: Some(source.ip()), ..Caller::default() };
        let request = Request { message, transport, hops, caller };
        let query = request.query();
        match question::read(query.name(), query.query_type(), self.options.zones()) {
            Lookup::Elsewhere => self.elsewhere(request, bytes, out),
            lookup => self.ours(request, lookup, bytes, out),
        }
    }

    /// Waits for whom the question waits for, and writes the reply to `out`.
    pub(crate) async fn wait(&self, pending: Pending, out: &mut Vec<u8>) {
        let Pending { request, bytes, on, _place } = pending;
        let on = match on {
            On::Leader(lookup) => {
                let options = self.read_options(&lookup);
                let directory = self.service.directory(&request.caller, &options).await;
                match self.goes_on(self.look_up(&request, &lookup, directory)) {
                    Ok(on) => on,
                    Err(answer) => return self.reply(&request, answer, out),
                }
            }
            On::Server(datacenter) => {
                self.carry(&request, &bytes, datacenter.as_deref(), out).await;
                return self.complete(&request, &bytes, out).await;
            }
            on => on,
        };
        match on {
            On::Alias(answer, target) => self.follow(&request, answer, target, out).await,
            On::Leader(_) | On::Server(_) | On::Recursors => match self.recursors.relay(&bytes, request.transport).await {
                Some(reply) => *out = reply,
                None => self.reply(&request, Answer::code(ResponseCode::ServFail), out),
            },
        }
    }

    /// Which server has the answer, unless this agent has.
    fn elsewhere_in_the_cluster(&self, lookup: &Lookup) -> Option<Option<String>> {
        let forward = self.forward.as_ref()?;
        let identity = self.service.identity();
        let named = match lookup {
            Lookup::Zone(InZone { datacenter: Some(datacenter), .. }) => Some(datacenter.as_str()),
            _ => None,
        };
        let named = named.filter(|name| !name.eq_ignore_ascii_case(&identity.datacenter));
        match (identity.server, named) {
            (false, _) => Some(None),
            // A datacenter that nobody knows has no names.
            (true, named) => named.map(str::to_lowercase).filter(|name| forward.knows(name)).map(Some),
        }
    }

    /// Has a server answer the question as it came.
    async fn carry(&self, request: &Request, bytes: &[u8], datacenter: Option<&str>, out: &mut Vec<u8>) {
        let Some(forward) = &self.forward else { return };
        match carried(forward, request, bytes, datacenter).await {
            Ok(answer) => *out = answer.to_vec(),
            Err(error) => {
                tracing::debug!(%error, "a dns question could not be carried to a server");
                self.reply(request, Answer::code(ResponseCode::ServFail), out);
            }
        }
    }

    /// Has our own recursors say what a server's answer leaves open.
    async fn complete(&self, request: &Request, bytes: &[u8], out: &mut Vec<u8>) {
        if self.recursors.is_empty() {
            return;
        }
        match Message::from_vec(out).ok().and_then(|reply| missing::of(reply, &self.options)) {
            Some(Missing::All) => {
                if let Some(reply) = self.recursors.relay(bytes, request.transport).await {
                    *out = reply;
                }
            }
            Some(Missing::Alias(answer, target)) => self.follow(request, answer, target, out).await,
            None => {}
        }
    }

    fn ours(&self, request: Request, lookup: Lookup, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        if let Some(datacenter) = self.elsewhere_in_the_cluster(&lookup) {
            return self.pend(request, bytes, On::Server(datacenter), out);
        }
        if !self.options.allow_stale {
            return self.pend(request, bytes, On::Leader(lookup), out);
        }
        let options = self.read_options(&lookup);
        let directory = self.service.directory_now(&request.caller, &options);
        match self.goes_on(self.look_up(&request, &lookup, directory)) {
            Ok(on) => self.pend(request, bytes, on, out),
            Err(answer) => self.replied(&request, answer, out),
        }
    }

    fn elsewhere(&self, request: Request, bytes: &[u8], out: &mut Vec<u8>) -> Outcome {
        if self.recursors.is_empty() {
            return self.replied(&request, Answer::code(ResponseCode::Refused), out);
        }
        self.pend(request, bytes, On::Recursors, out)
    }

    /// Where an answer goes on, if it does and there are recursors to ask; otherwise the answer.
    fn goes_on(&self, resolved: Option<Resolved>) -> Result<On, Answer> {
        match resolved {
            None if self.recursors.is_empty() => Err(Answer::no_name(self.options.domain.name(), &self.options.soa)),
            None => Ok(On::Recursors),
            Some(Resolved { answer, elsewhere: Some(target) }) if !self.recursors.is_empty() => Ok(On::Alias(answer, target)),
            Some(Resolved { answer, .. }) => Err(answer),
        }
    }

    /// Lets the question wait, if there is a place.
    fn pend(&self, request: Request, bytes: &[u8], on: On, out: &mut Vec<u8>) -> Outcome {
        match self.waiting.clone().try_acquire_owned() {
            Ok(place) => Outcome::Pending(Box::new(Pending { request, bytes: bytes.to_vec(), on, _place: place })),
            Err(_) => {
                self.metrics.overloaded.increment(1);
                self.replied(&request, Answer::code(ResponseCode::ServFail), out)
            }
        }
    }

    /// The answer from `directory`; `None` for an address that nobody here has.
    fn look_up(&self, request: &Request, lookup: &Lookup, directory: Result<Directory<'_>, Error>) -> Option<Resolved> {
        let zone = match lookup {
            Lookup::Zone(question) => &question.zone,
            Lookup::Reverse(_) | Lookup::Elsewhere => self.options.domain.name(),
        };
        let directory = match directory {
            Ok(directory) => directory,
            Err(error) => return Some(Answer::refused(&error, zone, &self.options.soa).into()),
        };
        self.metrics.staleness(directory.age());
        let query = request.query();
        let resolver = Resolver {
            directory: &directory,
            endpoints: &self.endpoints,
            options: &self.options,
            name: query.name(),
            query_type: query.query_type(),
            room: request.room(&self.options),
            depth: 0,
        };
        match lookup {
            Lookup::Zone(question) => Some(resolver.in_zone(question)),
            Lookup::Reverse(address) => resolver.reverse(*address).map(Resolved::from),
            Lookup::Elsewhere => None,
        }
    }

    /// Completes `answer`, whose last alias leads to `target`, with what recursors say of it.
    async fn follow(&self, request: &Request, mut answer: Answer, target: Name, out: &mut Vec<u8>) {
        let mut records = self.recursors.resolve(&target, request.query().query_type()).await;
        if request.transport == Transport::Udp && request.message.edns.is_none() {
            records.truncate(PLAIN_ALIAS_RECORDS_MAX);
        }
        answer.answers.extend(records);
        self.reply(request, answer, out);
    }

    fn read_options(&self, lookup: &Lookup) -> ReadOptions {
        let datacenter = match lookup {
            Lookup::Zone(InZone { datacenter: Some(datacenter), .. }) => Some(datacenter.as_str().into()),
            _ => None,
        };
        let (consistency, max_staleness) = match self.options.allow_stale {
            true => (Consistency::Stale, Some(self.options.max_stale)),
            false => (Consistency::Leased, None),
        };
        ReadOptions { datacenter, consistency, max_staleness, ..Default::default() }
    }

    fn replied(&self, request: &Request, answer: Answer, out: &mut Vec<u8>) -> Outcome {
        self.reply(request, answer, out);
        Outcome::Replied
    }

    fn reply(&self, request: &Request, answer: Answer, out: &mut Vec<u8>) {
        let envelope = Envelope { request: &request.message.metadata, query: Some(request.query()), edns: request.message.edns.as_ref() };
        self.write(&envelope, &answer, request.room(&self.options), out);
    }

    fn reply_to_message(&self, message: &Message, transport: Transport, answer: Answer, out: &mut Vec<u8>) -> Outcome {
        let envelope = Envelope { request: &message.metadata, query: message.queries.first(), edns: message.edns.as_ref() };
        self.write(&envelope, &answer, Room::new(transport, message.edns.as_ref(), RecordType::ZERO, &self.options), out);
        Outcome::Replied
    }

    fn reply_to_header(&self, header: &Header, answer: Answer, out: &mut Vec<u8>) -> Outcome {
        let envelope = Envelope { request: &header.metadata, query: None, edns: None };
        self.write(&envelope, &answer, Room::new(Transport::Udp, None, RecordType::ZERO, &self.options), out);
        Outcome::Replied
    }

    /// Writes the reply. A record that has no form on the wire is a defect of what was registered:
    /// SERVFAIL says that there is no answer, not that there are no instances.
    fn write(&self, envelope: &Envelope<'_>, answer: &Answer, room: Room, out: &mut Vec<u8>) {
        let Err(error) = limits::write(envelope, answer, room, &self.options, out) else { return };
        tracing::warn!(%error, query = ?envelope.query, "a dns answer can't be written, SERVFAIL is sent");
        let bare = Envelope { request: envelope.request, query: None, edns: None };
        let failure = Answer::code(ResponseCode::ServFail);
        limits::write(&bare, &failure, room, &self.options, out).expect("a header alone fits into every message");
    }
}

/// A question as a request to a server.
fn post(request: &Request, bytes: Bytes) -> Result<http::Request<forward::Body>, http::Error> {
    let transport = if request.transport == Transport::Udp { "udp" } else { "tcp" };
    http::Request::post(answerer::PATH)
        .header(http::header::CONTENT_TYPE, "application/dns-message")
        .header(answerer::TRANSPORT, transport)
        .header(forward::HOPS, request.hops)
        .body(forward::full(bytes))
}

/// The answer of a server, of the own datacenter or of the one that is named.
async fn carried(forward: &Forward, request: &Request, bytes: &[u8], datacenter: Option<&str>) -> Result<Bytes, String> {
    let bytes = Bytes::copy_from_slice(bytes);
    let question = post(request, bytes.clone()).map_err(|error| error.to_string())?;
    let how = How { patience: Some(CARRY), again: Some(bytes), datacenter: datacenter.map(str::to_owned) };
    let answer = forward.carry(datacenter.map_or(To::Server, To::Datacenter), question, how).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status() != http::StatusCode::OK {
        return Err(format!("the server answered {}", answer.status()));
    }
    let whole = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let whole = tokio::time::timeout(CARRY, whole).await.map_err(|_| "the server's answer breaks off".to_owned())?;
    Ok(whole.map_err(|error| error.to_string())?.to_bytes())
}

/// Why a message that could be read is not looked at further.
fn objection(message: &Message) -> Option<ResponseCode> {
    if message.metadata.op_code != OpCode::Query {
        return Some(ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else { return Some(ResponseCode::FormErr) };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return Some(ResponseCode::BADVERS);
    }
    if matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR) {
        return Some(ResponseCode::NotImp);
    }
    let known_class = matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
    (!known_class).then_some(ResponseCode::Refused)
}

#[cfg(test)]
mod tests;
