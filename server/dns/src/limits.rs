//! Fits an answer into a message.
//!
//! Answers come first: as many as there is room for, whole. Additional records follow as far as
//! they fit, and only those that explain an answer that was kept. The TC bit is set exactly when
//! the transport cut answers off (RFC 2181 §9): a client that asks again with more room gets more.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, Header, HeaderCounts, Metadata, Query};
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use hickory_proto::rr::{Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use crate::answer::Answer;
use crate::options::DnsOptions;

/// Most bytes over UDP to a client that does not say how much it takes (RFC 1035 §4.2.1).
const PLAIN_UDP_BYTES: usize = 512;

/// Most bytes of DNS in one UDP packet: 64 KiB without the headers of IPv6, UDP and an option.
const UDP_BYTES_MAX: usize = 65_535 - 68;

/// Most bytes over TCP, whose length stands in two bytes.
const TCP_BYTES_MAX: usize = 65_535;

/// Most answers over UDP to a client without EDNS, whatever is configured.
const PLAIN_UDP_ANSWERS_MAX: usize = 8;

/// Most SRV answers over TCP; each has records that explain it.
const TCP_SRV_ANSWERS_MAX: usize = 1024;

/// The header of a message, in bytes.
const HEADER_BYTES: usize = 12;

/// The smallest answer, in bytes: a pointer to its name, ten bytes of numbers, and an IPv4 address.
const ANSWER_BYTES_MIN: usize = 16;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// How much an answer may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// Most bytes of the whole message.
    pub(crate) bytes: usize,
    /// Most answers. More than fit into `bytes` is possible, fewer is not.
    pub(crate) answers: usize,
}

impl Room {
    /// The room on a transport for a client that sent `edns`.
    pub(crate) fn new(transport: Transport, edns: Option<&Edns>, query_type: RecordType, options: &DnsOptions) -> Room {
        let bytes = match (transport, edns) {
            (Transport::Tcp, _) => TCP_BYTES_MAX,
            (Transport::Udp, None) => PLAIN_UDP_BYTES,
            (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(PLAIN_UDP_BYTES, UDP_BYTES_MAX),
        };
        let limit = match transport {
            Transport::Udp if edns.is_none() => options.udp_answer_limit.clamp(1, PLAIN_UDP_ANSWERS_MAX),
            Transport::Tcp if query_type == RecordType::SRV => TCP_SRV_ANSWERS_MAX,
            Transport::Udp | Transport::Tcp => usize::MAX,
        };
        // One more than can fit, so that it shows when not all do.
        Room { bytes, answers: limit.min((bytes - HEADER_BYTES) / ANSWER_BYTES_MIN + 1) }
    }
}

/// What a reply repeats of its request.
#[derive(Debug)]
pub(crate) struct Envelope<'a> {
    /// Id, operation and flags of the request.
    pub(crate) request: &'a Metadata,
    /// The question, if it could be read.
    pub(crate) query: Option<&'a Query>,
    /// The request's EDNS record.
    pub(crate) edns: Option<&'a Edns>,
}

/// Writes `answer` to `out`, whose former contents are dropped, in at most `room.bytes`.
///
/// Fails only if not even the question fits, or if a record has no form on the wire.
pub(crate) fn write(
    envelope: &Envelope<'_>,
    answer: &Answer,
    room: Room,
    options: &DnsOptions,
    out: &mut Vec<u8>,
) -> Result<(), ProtoError> {
    out.clear();
    let edns = envelope.edns.map(|edns| edns_record(edns, answer)).transpose()?.unwrap_or_default();
    let mut encoder = BinEncoder::new(out);
    encoder.set_max_size(room.bytes.saturating_sub(edns.len()) as u16);
    if options.disable_compression {
        encoder.set_name_encoding(NameEncoding::Uncompressed);
    }
    let header = encoder.place::<Header>()?;
    if let Some(query) = envelope.query {
        query.emit(&mut encoder)?;
    }
    let answers = write_fitting(&mut encoder, answer.answers.iter())?;
    let authorities = write_fitting(&mut encoder, answer.authorities.iter())?;
    let explaining = answer.additionals.iter().filter(|(of, _)| *of < answers).map(|(_, record)| record);
    let additionals = write_fitting(&mut encoder, explaining)?;
    encoder.set_max_size(room.bytes as u16);
    encoder.emit_vec(&edns)?;

    let mut metadata = Metadata::response_from_request(envelope.request);
    metadata.response_code = answer.code;
    metadata.authoritative = answer.authoritative;
    metadata.recursion_available = !options.recursors.is_empty();
    metadata.truncation = options.enable_truncate && (answer.cut || answers < answer.answers.len());
    let counts = HeaderCounts {
        queries: u16::from(envelope.query.is_some()),
        answers: answers as u16,
        authorities: authorities as u16,
        additionals: additionals as u16 + u16::from(!edns.is_empty()),
    };
    header.replace(&mut encoder, Header { metadata, counts })
}

/// Writes records until one does not fit, and says how many it wrote.
fn write_fitting<'a>(encoder: &mut BinEncoder<'_>, records: impl Iterator<Item = &'a Record>) -> Result<usize, ProtoError> {
    let mut written = 0;
    for record in records {
        let start = encoder.offset();
        match record.emit(encoder) {
            Ok(()) => written += 1,
            Err(ProtoError::MaxBufferSizeExceeded(_)) => {
                encoder.set_offset(start);
                encoder.trim();
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

/// The EDNS record of the reply: the client's size and DO bit (RFC 3225), and its subnet, about
/// which no answer depends (RFC 7871 §7.2.1).
fn edns_record(request: &Edns, answer: &Answer) -> Result<Vec<u8>, ProtoError> {
    let mut reply = Edns::new();
    reply.set_max_payload(request.max_payload().max(PLAIN_UDP_BYTES as u16));
    reply.set_dnssec_ok(request.flags().dnssec_ok);
    reply.set_rcode_high(answer.code.high());
    if let Some(EdnsOption::Subnet(subnet)) = request.option(EdnsCode::Subnet) {
        let mut subnet = *subnet;
        subnet.set_scope_prefix(0);
        reply.options_mut().insert(EdnsOption::Subnet(subnet));
    }
    reply.to_bytes()
}

#[cfg(test)]
mod tests;
