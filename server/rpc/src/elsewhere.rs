//! Calls that came to a server and are for another one: for another datacenter, or for the leader.
//!
//! Which datacenter a call is for stands in its metadata, or in the options of its first message. To
//! look at the latter nothing is decoded: where the field lies is known from the contract, and the
//! few bytes before it are stepped over. Then the call is carried as it came, streams included: a stream
//! goes where its first message says, and a later one that says otherwise is refused by who answers it.
//!
//! An agent without a log does the same with the few calls that it answers by itself: what they ask of
//! another datacenter, or of a pool that it is not in, is for a server.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use forward::{DATACENTER, Forward, To};
use futures::future::{FutureExt, ready};
use futures::stream::{self, StreamExt};
use http::HeaderValue;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use proto::v1::{Consistency, GetRaftConfigurationRequest, ListCoordinatesRequest, Pool};
use service::Service;
use tonic::service::AxumBody;

use crate::carry::{Answer, Call, carry, told_who_was_asked};
use crate::late;

/// Calls that only the leader can answer.
const FOR_THE_LEADER: [&str; 3] =
    ["/lictor.v1.OperatorService/RemovePeer", "/lictor.v1.OperatorService/TransferLeader", "/lictor.v1.OperatorService/GetAutopilotState"];

/// A call that any server answers with what it believes, if that is asked for; the leader knows more.
const RAFT_CONFIGURATION: &str = "/lictor.v1.OperatorService/GetRaftConfiguration";

/// Bytes of a message in which its options are looked for.
const LOOKED_AT: usize = 64 << 10;

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// A call that every agent answers by itself, but for the pool between datacenters.
const COORDINATES: &str = "/lictor.v1.AgentService/ListCoordinates";

/// What the contract tells of each call.
#[derive(Debug)]
pub(crate) struct Places {
    /// Where it says which datacenter it is for: the numbers of the fields on the way.
    datacenter: HashMap<String, Vec<u32>>,
    /// Calls of one message that are answered by one.
    unary: HashSet<String>,
    /// Both sides send streams: whoever calls may wait for an answer before the first message is sent.
    conversations: HashSet<String>,
}

impl Places {
    /// Reads them out of the contract.
    pub(crate) fn of_the_contract() -> Self {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("the contract that is built in describes itself");
        let messages: HashMap<String, &DescriptorProto> = set
            .file
            .iter()
            .flat_map(|file| file.message_type.iter().map(|message| (format!(".{}.{}", file.package(), message.name()), message)))
            .collect();
        let (mut datacenter, mut unary, mut conversations) = (HashMap::new(), HashSet::new(), HashSet::new());
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let fields = messages.get(method.input_type()).and_then(|message| place(message, &messages));
                    let conversation = method.client_streaming() && method.server_streaming() && fields.is_some();
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    conversations.extend(conversation.then(|| path.clone()));
                    unary.extend((!method.client_streaming() && !method.server_streaming()).then(|| path.clone()));
                    datacenter.extend(fields.map(|fields| (path, fields)));
                }
            }
        }
        Places { datacenter, unary, conversations }
    }

    fn of(&self, path: &str) -> Option<&[u32]> {
        self.datacenter.get(path).map(Vec::as_slice)
    }

    /// Whether an answer that does not come means that none will: streams may begin whenever they like.
    pub(crate) fn is_answered_at_once(&self, path: &str) -> bool {
        self.unary.contains(path)
    }

    /// The datacenter that a call names, and the call as it was. Where both sides send streams only its metadata are
    /// looked at: its first message may wait for the answer to begin.
    pub(crate) async fn named(&self, call: Call) -> (Option<String>, Call) {
        let named = by_metadata(&call);
        match self.of(call.uri().path()).filter(|_| named.is_none() && !self.is_conversation(call.uri().path())) {
            Some(place) => look(call, |bytes| first_message(bytes, place)).await,
            None => (named, call),
        }
    }

    fn is_conversation(&self, path: &str) -> bool {
        self.conversations.contains(path)
    }
}

/// The field `datacenter` of a message, or that of its `options`, or of what it is one of.
fn place(message: &DescriptorProto, messages: &HashMap<String, &DescriptorProto>) -> Option<Vec<u32>> {
    own_place(message, messages).or_else(|| {
        message.field.iter().filter(|field| field.oneof_index.is_some()).find_map(|field| {
            let inner = own_place(messages.get(field.type_name())?, messages)?;
            Some(std::iter::once(u32::try_from(field.number()).ok()?).chain(inner).collect())
        })
    })
}

fn own_place(message: &DescriptorProto, messages: &HashMap<String, &DescriptorProto>) -> Option<Vec<u32>> {
    let field = |message: &DescriptorProto, name: &str| message.field.iter().find(|field| field.name() == name).cloned();
    let number = |number: i32| u32::try_from(number).ok();
    if let Some(own) = field(message, "datacenter") {
        return Some(vec![number(own.number())?]);
    }
    let options = field(message, "options")?;
    let inner = field(messages.get(options.type_name())?, "datacenter")?;
    Some(vec![number(options.number())?, number(inner.number())?])
}

/// An agent's calls, those for elsewhere taken out.
#[derive(Clone)]
pub(crate) struct Elsewhere<S> {
    pub(crate) here: S,
    pub(crate) service: Service,
    pub(crate) forward: Forward,
    pub(crate) places: Arc<Places>,
}

impl<S> Elsewhere<S> {
    /// Takes them out of the calls that `here` gets.
    pub(crate) fn around(here: S, service: &Service, forward: &Forward, places: &Arc<Places>) -> Self {
        Elsewhere { here, service: service.clone(), forward: forward.clone(), places: places.clone() }
    }
}

impl<S> tower::Service<Call> for Elsewhere<S>
where
    S: tower::Service<Call, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.here.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        // The one that was polled is the one to be called.
        let next = self.here.clone();
        let mut here = std::mem::replace(&mut self.here, next);
        let (service, forward, places) = (self.service.clone(), self.forward.clone(), self.places.clone());
        let is_late = places.is_conversation(call.uri().path()) && !call.headers().contains_key(DATACENTER) && forward.is_federated();
        let answering = async move {
            match sort(&service, &forward, &places, call).await {
                Sorted::Here(call) => here.call(call).await,
                Sorted::Leader(address, call) => Ok(carry(&forward, &places, To::Address(&address), None, call).await),
                Sorted::Datacenter(name, mut call) => {
                    if let Ok(name) = HeaderValue::from_str(&name) {
                        call.headers_mut().insert(DATACENTER, name);
                    }
                    Ok(carry(&forward, &places, To::Datacenter(&name), Some(name.clone()), call).await)
                }
                Sorted::Server(datacenter, mut call) => {
                    told_who_was_asked(&mut call, service.identity().node_name.parse().ok().as_ref());
                    Ok(carry(&forward, &places, To::Server, datacenter, call).await)
                }
            }
        };
        match is_late {
            true => Box::pin(ready(Ok(late::answer(answering.map(|answer| answer.unwrap_or_else(|never| match never {})))))),
            false => Box::pin(answering),
        }
    }
}

/// Where a call belongs.
enum Sorted {
    Here(Call),
    Leader(String, Call),
    Datacenter(String, Call),
    /// To a server, which knows the way to the datacenter that is named.
    Server(Option<String>, Call),
}

/// Where a call belongs that an agent without a log could answer by itself.
async fn sort_without_log(own: &str, places: &Places, call: Call) -> Sorted {
    let is_elsewhere = |name: &str| !name.is_empty() && !name.eq_ignore_ascii_case(own);
    let path = call.uri().path().to_owned();
    let named = by_metadata(&call);
    if named.as_deref().is_some_and(is_elsewhere) && !is_of_this_agent(&path) {
        return Sorted::Server(named, call);
    }
    let Some(place) = places.of(&path) else { return Sorted::Here(call) };
    let (found, call) = look(call, |bytes| first_message(bytes, place)).await;
    if let Some(name) = found.filter(|name| is_elsewhere(name)) {
        return Sorted::Server(Some(name), call);
    }
    if path != COORDINATES {
        return Sorted::Here(call);
    }
    match look(call, of_the_wan_pool).await {
        (Some(()), call) => Sorted::Server(None, call),
        (None, call) => Sorted::Here(call),
    }
}

/// The datacenter that the metadata of a call name.
fn by_metadata(call: &Call) -> Option<String> {
    call.headers().get(DATACENTER)?.to_str().ok().map(str::to_owned)
}

/// Whether it is about the asked agent, whatever datacenter the metadata name.
fn is_of_this_agent(path: &str) -> bool {
    path.starts_with("/lictor.v1.AgentService/")
}

async fn sort(service: &Service, forward: &Forward, places: &Places, call: Call) -> Sorted {
    let own = &service.identity().datacenter;
    if !service.identity().server {
        return sort_without_log(own, places, call).await;
    }
    let is_elsewhere = |name: &str| !name.is_empty() && !name.eq_ignore_ascii_case(own);
    // What is about the asked agent itself says nothing of a datacenter.
    let place = places.of(call.uri().path());
    if let Some(name) = by_metadata(&call)
        && is_elsewhere(&name)
        && !is_of_this_agent(call.uri().path())
    {
        let name = name.to_lowercase();
        return Sorted::Datacenter(name, call);
    }
    let (place, call) = match place.filter(|_| forward.is_federated()) {
        Some(place) => look(call, |bytes| first_message(bytes, place)).await,
        None => (None, call),
    };
    if let Some(name) = place.filter(|name| is_elsewhere(name)) {
        return Sorted::Datacenter(name.to_lowercase(), call);
    }
    let (is_for_the_leader, call) = match call.uri().path() == RAFT_CONFIGURATION {
        true => {
            let (stale, call) = look(call, of_a_stale_configuration).await;
            (stale.is_none(), call)
        }
        false => (FOR_THE_LEADER.contains(&call.uri().path()), call),
    };
    if is_for_the_leader {
        let status = service.consensus_status();
        if let Some(address) = service.leader_address().filter(|_| status.leader != Some(status.id)) {
            return Sorted::Leader(address, call);
        }
    }
    Sorted::Here(call)
}

/// Looks for something in the first message of a call, and puts the call together again.
async fn look<T>(call: Call, find: impl Fn(&[u8]) -> Looked<T>) -> (Option<T>, Call) {
    let (parts, mut body) = call.into_parts();
    let (mut frames, mut seen) = (Vec::new(), Vec::new());
    let mut found = Looked::Unknown;
    while matches!(found, Looked::Unknown) && seen.len() < LOOKED_AT {
        let Some(frame) = body.frame().await else { break };
        if let Ok(frame) = &frame
            && let Some(data) = frame.data_ref()
        {
            seen.extend_from_slice(&data[..data.len().min(LOOKED_AT)]);
        }
        let broken = frame.is_err();
        frames.push(frame);
        if broken {
            break;
        }
        found = find(&seen);
    }
    let whole = stream::iter(frames).chain(BodyStream::new(body));
    let call = Call::from_parts(parts, AxumBody::new(StreamBody::new(whole)));
    match found {
        Looked::Found(found) => (Some(found), call),
        Looked::Unknown | Looked::Absent => (None, call),
    }
}

/// What is known after some bytes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Looked<T> {
    Found(T),
    Absent,
    /// More bytes are needed.
    Unknown,
}

/// Whether it asks for coordinates in the pool between datacenters.
fn of_the_wan_pool(bytes: &[u8]) -> Looked<()> {
    whole_message(bytes, |request: &ListCoordinatesRequest| request.pool() == Pool::Wan)
}

/// Whether it asks for the quorum as the asked server knows it.
fn of_a_stale_configuration(bytes: &[u8]) -> Looked<()> {
    whole_message(bytes, |request: &GetRaftConfigurationRequest| {
        request.options.as_ref().is_some_and(|options| options.consistency() == Consistency::Stale)
    })
}

/// Whether the first message of a call is one of those that are looked for.
fn whole_message<M: Message + Default>(bytes: &[u8], is_wanted: impl Fn(&M) -> bool) -> Looked<()> {
    let Some((prefix, message)) = bytes.split_at_checked(PREFIX) else { return Looked::Unknown };
    let length = (&prefix[1..]).get_u32() as usize;
    let Some(message) = message.get(..length) else { return Looked::Unknown };
    match M::decode(message) {
        Ok(request) if prefix[0] == 0 && is_wanted(&request) => Looked::Found(()),
        _ => Looked::Absent,
    }
}

fn first_message(bytes: &[u8], place: &[u32]) -> Looked<String> {
    let Some((prefix, message)) = bytes.split_at_checked(PREFIX) else { return Looked::Unknown };
    let length = (&prefix[1..]).get_u32() as usize;
    if prefix[0] != 0 {
        return Looked::Absent;
    }
    let whole = message.len() >= length;
    match text_at(&message[..message.len().min(length)], place) {
        Ok(Some(text)) => Looked::Found(text),
        Ok(None) if whole => Looked::Absent,
        Ok(None) => Looked::Unknown,
        Err(Short) if whole => Looked::Absent,
        Err(Short) => Looked::Unknown,
    }
}

/// The bytes end before a field does.
#[derive(Debug)]
struct Short;

/// The text at a place, if a message has it. Fields are looked at as they come; the first one counts.
fn text_at(mut message: &[u8], place: &[u32]) -> Result<Option<String>, Short> {
    let Some((wanted, rest)) = place.split_first() else {
        return Ok(std::str::from_utf8(message).ok().map(str::to_owned));
    };
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let (number, kind) = (key >> 3, key & 7);
        let length = match kind {
            0 => {
                varint(&mut message)?;
                0
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).map_err(|_| Short)?,
            5 => 4,
            // Groups are no part of the contract.
            _ => return Ok(None),
        };
        let (value, left) = message.split_at_checked(length).ok_or(Short)?;
        if kind == 2 && number == u64::from(*wanted) {
            return text_at(value, rest);
        }
        message = left;
    }
    Ok(None)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Short> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first().ok_or(Short)?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Short)
}

/// The bytes of a message as they travel, for tests.
#[cfg(test)]
fn framed(message: &impl Message) -> bytes::Bytes {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.into()
}

#[cfg(test)]
mod tests {
    use proto::v1;

    use super::*;

    #[test]
    fn a_datacenter_is_found_wherever_the_contract_has_it() {
        let places = Places::of_the_contract();
        let options = |name: &str| Some(v1::WriteOptions { datacenter: name.into() });
        let put = v1::PutRequest { options: options("dc2"), value: vec![7; 100_000].into(), ..Default::default() };
        let place = places.of("/lictor.v1.KvService/Put").unwrap();
        assert_eq!(first_message(&framed(&put), place), Looked::Found("dc2".into()));
        assert_eq!(first_message(&framed(&put)[..3], place), Looked::Unknown);
        let here = v1::PutRequest { value: vec![7; 100].into(), ..Default::default() };
        assert_eq!(first_message(&framed(&here), place), Looked::Absent);
        assert_eq!(first_message(&framed(&here)[..50], place), Looked::Unknown);
        let state = v1::GetAutopilotStateRequest { datacenter: "dc3".into() };
        let place = places.of("/lictor.v1.OperatorService/GetAutopilotState").unwrap();
        assert_eq!(first_message(&framed(&state), place), Looked::Found("dc3".into()));
        assert!(places.of("/lictor.v1.StatusService/GetVersion").is_none());
        let options = Some(v1::ReadOptions { datacenter: "dc4".into(), ..Default::default() });
        let create = v1::WatchCreate { watch_id: 1, options, ..Default::default() };
        let watch = v1::WatchRequest { request: Some(v1::watch_request::Request::Create(create)) };
        let place = places.of("/lictor.v1.WatchService/Watch").unwrap();
        assert_eq!(first_message(&framed(&watch), place), Looked::Found("dc4".into()));
        let cancel = v1::watch_request::Request::Cancel(v1::WatchCancel { watch_id: 1 });
        assert_eq!(first_message(&framed(&v1::WatchRequest { request: Some(cancel) }), place), Looked::Absent);
        let mut conversations: Vec<&str> = places.conversations.iter().map(String::as_str).collect();
        conversations.sort_unstable();
        assert_eq!(conversations, ["/lictor.v1.SessionService/KeepAlive", "/lictor.v1.WatchService/Watch"]);
        for path in FOR_THE_LEADER {
            assert!(places.of(path).is_some(), "{path} is in the contract, and can be for another datacenter");
        }
        for (path, at_once) in [("KvService/Put", true), ("KvService/List", false), ("OperatorService/RestoreSnapshot", false)] {
            assert_eq!(places.is_answered_at_once(&format!("/lictor.v1.{path}")), at_once, "{path}");
        }
    }

    #[tokio::test]
    async fn an_agent_without_a_log_leaves_to_a_server_what_is_not_here() {
        async fn is_here(path: &str, message: &impl Message, header: Option<&str>) -> bool {
            let body = AxumBody::new(http_body_util::Full::new(framed(message)));
            let mut call = Call::new(body);
            *call.uri_mut() = path.parse().unwrap();
            if let Some(name) = header {
                call.headers_mut().insert(DATACENTER, name.parse().unwrap());
            }
            match sort_without_log("dc1", &Places::of_the_contract(), call).await {
                Sorted::Here(call) => {
                    let left = call.into_body().collect().await.unwrap().to_bytes();
                    assert_eq!(left, framed(message), "{path}: nothing is lost");
                    true
                }
                _ => false,
            }
        }
        let fire =
            |name: &str| v1::EventServiceFireRequest { options: Some(v1::WriteOptions { datacenter: name.into() }), ..Default::default() };
        let path = "/lictor.v1.EventService/Fire";
        assert!(is_here(path, &fire("DC1"), None).await && is_here(path, &fire(""), Some("dc1")).await);
        assert!(!is_here(path, &fire("dc2"), None).await && !is_here(path, &fire(""), Some("dc2")).await);
        let coordinates = |pool: Pool, name: &str| ListCoordinatesRequest { pool: pool.into(), datacenter: name.into() };
        assert!(is_here(COORDINATES, &coordinates(Pool::Lan, ""), None).await);
        assert!(!is_here(COORDINATES, &coordinates(Pool::Wan, ""), None).await);
        assert!(!is_here(COORDINATES, &coordinates(Pool::Lan, "dc2"), None).await);
        assert!(is_here("/lictor.v1.AgentService/GetInfo", &v1::GetInfoRequest {}, Some("dc2")).await, "it is about this agent");
    }

    #[test]
    fn bytes_that_mean_nothing_are_left_to_whoever_decodes_them() {
        for bytes in [&b""[..], b"\0\0\0\0\x01\xff", b"\0\0\0\0\x02\x0a\x7f", b"\x01\0\0\0\0", b"\0\0\0\0\x01\x0b"] {
            assert!(!matches!(first_message(bytes, &[1, 1]), Looked::Found(_)), "{bytes:?}");
        }
    }
}
