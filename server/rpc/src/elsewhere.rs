//! Calls that came to a server and are for another one: for another datacenter, or for the leader.
//!
//! Which datacenter a call is for stands in its metadata, or in the options of its first message. To
//! look at the latter nothing is decoded: where the field lies is known from the contract, and the
//! few bytes before it are stepped over. Then the call is carried as it came, streams included.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use forward::{DATACENTER, Forward};
use futures::StreamExt;
use futures::stream;
use http::HeaderValue;
use http_body_util::{BodyExt, BodyStream, StreamBody};
use prost::Message;
use prost_types::{DescriptorProto, FileDescriptorSet};
use service::Service;
use tonic::service::AxumBody;

use crate::carry::{Answer, Call, carry, carry_to};

/// Calls that only the leader can answer.
const FOR_THE_LEADER: [&str; 3] =
    ["/lictor.v1.OperatorService/RemovePeer", "/lictor.v1.OperatorService/TransferLeader", "/lictor.v1.OperatorService/GetAutopilotState"];

/// Bytes of a message in which its options are looked for.
const LOOKED_AT: usize = 64 << 10;

/// The bytes before a message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// Where each call says which datacenter it is for: the numbers of the fields on the way.
#[derive(Debug)]
pub(crate) struct Places(HashMap<String, Vec<u32>>);

impl Places {
    /// Reads them out of the contract.
    pub(crate) fn of_the_contract() -> Self {
        let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).expect("the contract that is built in describes itself");
        let messages: HashMap<String, &DescriptorProto> = set
            .file
            .iter()
            .flat_map(|file| file.message_type.iter().map(|message| (format!(".{}.{}", file.package(), message.name()), message)))
            .collect();
        let mut places = HashMap::new();
        for file in &set.file {
            for service in &file.service {
                for method in &service.method {
                    let place = messages.get(method.input_type()).and_then(|message| place(message, &messages));
                    let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                    places.extend(place.map(|place| (path, place)));
                }
            }
        }
        Places(places)
    }

    fn of(&self, path: &str) -> Option<&[u32]> {
        self.0.get(path).map(Vec::as_slice)
    }
}

/// The field `datacenter` of a message, or that of its `options`.
fn place(message: &DescriptorProto, messages: &HashMap<String, &DescriptorProto>) -> Option<Vec<u32>> {
    let field = |message: &DescriptorProto, name: &str| message.field.iter().find(|field| field.name() == name).cloned();
    let number = |number: i32| u32::try_from(number).ok();
    if let Some(own) = field(message, "datacenter") {
        return Some(vec![number(own.number())?]);
    }
    let options = field(message, "options")?;
    let inner = field(messages.get(options.type_name())?, "datacenter")?;
    Some(vec![number(options.number())?, number(inner.number())?])
}

/// A server's calls, those for elsewhere taken out.
#[derive(Clone)]
pub(crate) struct Elsewhere<S> {
    pub(crate) here: S,
    pub(crate) service: Service,
    pub(crate) forward: Forward,
    pub(crate) places: Arc<Places>,
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
        Box::pin(async move {
            match sort(&service, &forward, &places, call).await {
                Sorted::Here(call) => here.call(call).await,
                Sorted::Leader(address, call) => Ok(carry_to(&forward, &address, call).await),
                Sorted::Datacenter(name, mut call) => {
                    if let Ok(name) = HeaderValue::from_str(&name) {
                        call.headers_mut().insert(DATACENTER, name);
                    }
                    Ok(carry(&forward, call).await)
                }
            }
        })
    }
}

/// Where a call belongs.
enum Sorted {
    Here(Call),
    Leader(String, Call),
    Datacenter(String, Call),
}

async fn sort(service: &Service, forward: &Forward, places: &Places, call: Call) -> Sorted {
    let own = &service.identity().datacenter;
    let is_elsewhere = |name: &str| !name.is_empty() && !name.eq_ignore_ascii_case(own);
    // What is about the asked agent itself says nothing of a datacenter.
    let place = places.of(call.uri().path());
    let named = call.headers().get(DATACENTER).and_then(|name| name.to_str().ok());
    if let Some(name) = named {
        let is_of_this_agent = call.uri().path().starts_with("/lictor.v1.AgentService/");
        if is_elsewhere(name) && !is_of_this_agent {
            let name = name.to_lowercase();
            return Sorted::Datacenter(name, call);
        }
    }
    let (place, call) = match place.filter(|_| forward.is_federated()) {
        Some(place) => look(place, call).await,
        None => (None, call),
    };
    if let Some(name) = place.filter(|name| is_elsewhere(name)) {
        return Sorted::Datacenter(name.to_lowercase(), call);
    }
    if FOR_THE_LEADER.contains(&call.uri().path()) {
        let status = service.consensus_status();
        if let Some(address) = service.leader_address().filter(|_| status.leader != Some(status.id)) {
            return Sorted::Leader(address, call);
        }
    }
    Sorted::Here(call)
}

/// Looks for the datacenter in the first message of a call, and puts the call together again.
async fn look(place: &[u32], call: Call) -> (Option<String>, Call) {
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
        found = first_message(&seen, place);
    }
    let whole = stream::iter(frames).chain(BodyStream::new(body));
    let call = Call::from_parts(parts, AxumBody::new(StreamBody::new(whole)));
    match found {
        Looked::Found(name) => (Some(name), call),
        Looked::Unknown | Looked::Absent => (None, call),
    }
}

/// What is known of a field after some bytes of a message.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    Found(String),
    Absent,
    /// More bytes are needed.
    Unknown,
}

fn first_message(bytes: &[u8], place: &[u32]) -> Looked {
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
        for path in FOR_THE_LEADER {
            assert!(places.of(path).is_some(), "{path} is in the contract, and can be for another datacenter");
        }
    }

    #[test]
    fn bytes_that_mean_nothing_are_left_to_whoever_decodes_them() {
        for bytes in [&b""[..], b"\0\0\0\0\x01\xff", b"\0\0\0\0\x02\x0a\x7f", b"\x01\0\0\0\0", b"\0\0\0\0\x01\x0b"] {
            assert!(!matches!(first_message(bytes, &[1, 1]), Looked::Found(_)), "{bytes:?}");
        }
    }
}
