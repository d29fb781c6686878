//! What an answer says, and the records it is said in.

use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record};
use service::{Error, Kind};
use state::Node;

use crate::options::{Soa, seconds};

/// Longest character-string in a TXT record, in bytes (RFC 1035 §3.3.14).
const TXT_STRING_MAX: usize = 255;

/// What an answer says, before it is fitted into a message.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Whether the question could be answered.
    pub(crate) code: ResponseCode,
    /// Whether we answer for the zone.
    pub(crate) authoritative: bool,
    /// Records that answer, in the order of preference.
    pub(crate) answers: Vec<Record>,
    /// Whether answers were left out because the transport carries no more of them.
    pub(crate) cut: bool,
    /// The zone's SOA, in answers that say "no".
    pub(crate) authorities: Vec<Record>,
    /// Records that may be helpful, each with the place in `answers` of the one that it explains.
    pub(crate) additionals: Vec<(usize, Record)>,
}

impl Answer {
    /// An answer that says nothing but `code`.
    pub(crate) fn code(code: ResponseCode) -> Self {
        Answer { code, ..Default::default() }
    }

    /// An answer for a zone of ours, with no records yet.
    pub(crate) fn from_zone() -> Self {
        Answer { authoritative: true, ..Default::default() }
    }

    /// The name exists, but has no record of that type (NODATA, RFC 2308 §2.2).
    pub(crate) fn no_data(zone: &Name, soa: &Soa) -> Self {
        Answer { authorities: vec![soa_record(zone, soa)], ..Answer::from_zone() }
    }

    /// The name does not exist.
    pub(crate) fn no_name(zone: &Name, soa: &Soa) -> Self {
        Answer { code: ResponseCode::NXDomain, ..Answer::no_data(zone, soa) }
    }

    /// A refusal of the service layer. Only what certainly does not exist is said not to: to be
    /// unable to answer is another thing.
    pub(crate) fn refused(error: &Error, zone: &Name, soa: &Soa) -> Self {
        match error.kind() {
            Kind::NotFound | Kind::PermissionDenied | Kind::Unauthenticated => Answer::no_name(zone, soa),
            Kind::InvalidArgument | Kind::TooLarge => Answer::no_name(zone, soa),
            Kind::Unimplemented => Answer::code(ResponseCode::NotImp),
            Kind::FailedPrecondition | Kind::Conflict | Kind::Overloaded | Kind::OutOfRange => Answer::code(ResponseCode::ServFail),
            Kind::Unavailable | Kind::DeadlineExceeded | Kind::Internal => Answer::code(ResponseCode::ServFail),
        }
    }
}

/// The zone's SOA. Its serial is the time, so that it never stands still.
pub(crate) fn soa_record(zone: &Name, soa: &Soa) -> Record {
    let below = |label: &str| zone.prepend_label(label).unwrap_or_else(|_| zone.clone());
    let serial = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32);
    let [refresh, retry, expire] = [soa.refresh, soa.retry, soa.expire].map(|timer| seconds(timer).cast_signed());
    let data = SOA::new(below("ns"), below("hostmaster"), serial, refresh, retry, expire, seconds(soa.min_ttl));
    Record::from_rdata(zone.clone(), seconds(soa.min_ttl), RData::SOA(data))
}

/// An A or an AAAA record.
pub(crate) fn address_record(owner: Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    };
    Record::from_rdata(owner, ttl, data)
}

/// A CNAME record.
pub(crate) fn alias_record(owner: Name, ttl: u32, target: Name) -> Record {
    Record::from_rdata(owner, ttl, RData::CNAME(CNAME(target)))
}

/// An NS record.
pub(crate) fn server_record(owner: Name, ttl: u32, server: Name) -> Record {
    Record::from_rdata(owner, ttl, RData::NS(NS(server)))
}

/// A PTR record.
pub(crate) fn pointer_record(owner: Name, ttl: u32, target: Name) -> Record {
    Record::from_rdata(owner, ttl, RData::PTR(PTR(target)))
}

/// An SRV record. All instances have the same priority: none is spare.
pub(crate) fn srv_record(owner: Name, ttl: u32, weight: u16, port: u16, target: Name) -> Record {
    Record::from_rdata(owner, ttl, RData::SRV(SRV::new(1, weight, port, target)))
}

/// The node's meta, one TXT record a pair.
pub(crate) fn meta_records<'a>(owner: &'a Name, ttl: u32, node: &'a Node) -> impl Iterator<Item = Record> + 'a {
    node.meta.iter().map(move |(key, value)| {
        let text = meta_text(key, value);
        let strings = if text.is_empty() { vec![&[][..]] } else { text.as_bytes().chunks(TXT_STRING_MAX).collect() };
        Record::from_rdata(owner.clone(), ttl, RData::TXT(TXT::from_bytes(strings)))
    })
}

/// A pair as text: `key=value` with the key quoted (RFC 1464 §2), or, for keys that begin with
/// `rfc1035-`, the bare value.
fn meta_text(key: &str, value: &str) -> String {
    if key.to_ascii_lowercase().starts_with("rfc1035-") {
        return value.to_owned();
    }
    let mut text = String::with_capacity(key.len() + value.len() + 1);
    let last = key.trim_end_matches([' ', '\t']).len();
    let mut leading = true;
    for (at, letter) in key.char_indices() {
        let space = matches!(letter, ' ' | '\t');
        leading &= space;
        if matches!(letter, '=' | '`') || (space && (leading || at >= last)) {
            text.push('`');
        }
        text.push(letter);
    }
    text + "=" + value
}

/// The name of a node in a zone; `None` when DNS cannot spell it.
pub(crate) fn node_name(node: &str, datacenter: &str, zone: &Name) -> Option<Name> {
    name_below(node.split('.').chain(["node", datacenter]), zone)
}

/// The name of a service in a zone; `None` when DNS cannot spell it.
pub(crate) fn service_name(service: &str, datacenter: &str, zone: &Name) -> Option<Name> {
    name_below([service, "service", datacenter].into_iter(), zone)
}

/// A name that spells an address in a zone.
pub(crate) fn address_name(address: IpAddr, datacenter: &str, zone: &Name) -> Option<Name> {
    name_below([crate::question::address_label(address).as_str(), "addr", datacenter].into_iter(), zone)
}

fn name_below<'a>(labels: impl Iterator<Item = &'a str>, zone: &'a Name) -> Option<Name> {
    Name::from_labels(labels.map(str::as_bytes).chain(zone.iter())).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_is_quoted_as_rfc_1464_says() {
        for (key, value, text) in [
            ("color", "blue", "color=blue"),
            ("a=b", "c", "a`=b=c"),
            ("back`tick", "", "back``tick="),
            (" lead", "x", "` lead=x"),
            ("trail \t", "x", "trail` `\t=x"),
            ("in side", "a=b", "in side=a=b"),
            ("rfc1035-spf", "v=spf1 -all", "v=spf1 -all"),
        ] {
            assert_eq!(meta_text(key, value), text);
        }
    }

    #[test]
    fn a_long_value_is_split_into_strings_that_fit() {
        let node = Node { meta: [("k".into(), "x".repeat(300).into())].into(), ..Default::default() };
        let owner = Name::from_ascii("n.").unwrap();
        let records: Vec<Record> = meta_records(&owner, 0, &node).collect();
        let RData::TXT(text) = &records[0].data else { panic!("a TXT record") };
        assert_eq!(text.txt_data.iter().map(|string| string.len()).collect::<Vec<_>>(), [255, 47]);
    }

    #[test]
    fn a_name_that_dns_cannot_spell_is_none() {
        let zone = Name::from_ascii("consul.").unwrap();
        assert_eq!(node_name("a.b", "dc1", &zone).unwrap().to_ascii(), "a.b.node.dc1.consul.");
        assert_eq!(node_name("a..b", "dc1", &zone), None);
        assert_eq!(node_name(&"x".repeat(64), "dc1", &zone), None);
    }
}
