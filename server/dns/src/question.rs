//! What a name asks for.
//!
//! Names are read from the right: the zone, perhaps a datacenter, the word that says what kind of
//! thing is asked for, and left of it what it is called. Reading is pure: whether anything of that
//! name exists is for [`crate::resolve`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::rr::{Name, RecordType};

use crate::options::Domain;

/// What a name asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// A name in one of our zones.
    Zone(InZone),
    /// Whoever has this address (`in-addr.arpa`, `ip6.arpa`).
    Reverse(IpAddr),
    /// A name that others answer for.
    Elsewhere,
}

/// A name in one of our zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InZone {
    /// The zone as we write it, lower case.
    pub(crate) zone: Name,
    /// The datacenter named; `None` for this one.
    pub(crate) datacenter: Option<String>,
    /// What is asked for there.
    pub(crate) subject: Subject,
}

/// What is asked for in a zone. All names are in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// The zone itself.
    Apex,
    /// A node.
    Node(String),
    /// The instances of a service, perhaps only those with a tag.
    Service {
        /// The service's name.
        name: String,
        /// The tag.
        tag: Option<String>,
    },
    /// The result of a prepared query.
    Query,
    /// The address that the name spells in hexadecimal digits.
    Address(IpAddr),
    /// No shape that a name in the zone can have.
    Nothing,
}

/// Reads `name`. The zone that is listed first wins if one lies in the other.
pub(crate) fn read<'a>(name: &Name, query_type: RecordType, zones: impl IntoIterator<Item = &'a Domain>) -> Lookup {
    let Some(zone) = zones.into_iter().find(|zone| zone.name().zone_of(name)) else {
        return read_reverse(name).map_or(Lookup::Elsewhere, Lookup::Reverse);
    };
    let own = usize::from(name.num_labels()).saturating_sub(usize::from(zone.name().num_labels()));
    // Bytes that are no UTF-8 become U+FFFD, and find nothing.
    let labels: Vec<String> = name.iter().take(own).map(|label| String::from_utf8_lossy(label).to_lowercase()).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let (subject, datacenter) = read_labels(&labels, query_type).unwrap_or((Subject::Nothing, None));
    Lookup::Zone(InZone { zone: zone.name().clone(), datacenter: datacenter.map(str::to_owned), subject })
}

/// Reads the labels left of the zone: subject, kind, and the datacenter as `<dc>` or `<dc>.dc`.
fn read_labels<'a>(labels: &[&'a str], query_type: RecordType) -> Option<(Subject, Option<&'a str>)> {
    if labels.is_empty() {
        return Some((Subject::Apex, None));
    }
    let at = labels.iter().rposition(|label| is_kind(label) || (query_type == RecordType::SRV && label.starts_with('_')))?;
    let (subject, kind, place) = (&labels[..at], labels[at], &labels[at + 1..]);
    let datacenter = match place {
        [] => None,
        [datacenter] | [datacenter, "dc"] => Some(*datacenter),
        _ => return None,
    };
    let subject = match kind {
        "node" => Subject::Node(joined(subject)?),
        "service" => read_service(subject)?,
        "query" if !subject.is_empty() => Subject::Query,
        "addr" => Subject::Address(read_address(subject)?),
        // RFC 2782 without the word `service`.
        _ if kind.starts_with('_') => read_service(&labels[..=at])?,
        _ => return None,
    };
    Some((subject, datacenter))
}

fn is_kind(label: &str) -> bool {
    matches!(label, "node" | "service" | "query" | "addr")
}

/// `<service>`, `<tag>.<service>` or `_<service>._<tag>`.
fn read_service(labels: &[&str]) -> Option<Subject> {
    let (last, before) = labels.split_last()?;
    if let ([service], Some(tag)) = (before, last.strip_prefix('_'))
        && let Some(name) = service.strip_prefix('_')
    {
        let tag = (tag != "tcp").then(|| tag.to_owned());
        return Some(Subject::Service { name: name.to_owned(), tag });
    }
    Some(Subject::Service { name: (*last).to_owned(), tag: joined(before) })
}

/// Names and tags may contain dots, which on the wire separate labels.
fn joined(labels: &[&str]) -> Option<String> {
    (!labels.is_empty()).then(|| labels.join("."))
}

/// Eight hexadecimal digits are an IPv4 address, 32 an IPv6 address.
fn read_address(labels: &[&str]) -> Option<IpAddr> {
    let [digits] = labels else { return None };
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    match digits.len() {
        8 => Some(Ipv4Addr::from(u32::from_str_radix(digits, 16).ok()?).into()),
        32 => Some(Ipv6Addr::from(u128::from_str_radix(digits, 16).ok()?).into()),
        _ => None,
    }
}

fn read_reverse(name: &Name) -> Option<IpAddr> {
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// The label that [`Subject::Address`] reads back.
pub(crate) fn address_label(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("{:08x}", u32::from(address)),
        IpAddr::V6(address) => format!("{:032x}", u128::from(address)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(name: &str, query_type: RecordType) -> Lookup {
        let zones: [Domain; 2] = ["consul".parse().unwrap(), "corp.example".parse().unwrap()];
        // Not parsed as text, which allows fewer letters than the wire does.
        let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
        read(&Name::from_labels(labels).unwrap(), query_type, &zones)
    }

    fn subject(name: &str) -> (Subject, Option<String>) {
        match ask(name, RecordType::A) {
            Lookup::Zone(question) => (question.subject, question.datacenter),
            other => panic!("{name}: {other:?}"),
        }
    }

    fn service(name: &str, tag: Option<&str>) -> Subject {
        Subject::Service { name: name.to_owned(), tag: tag.map(str::to_owned) }
    }

    #[test]
    fn every_form_is_read() {
        for (name, expected) in [
            ("consul.", Subject::Apex),
            ("web1.node.consul.", Subject::Node("web1".into())),
            ("web1.rack2.node.consul.", Subject::Node("web1.rack2".into())),
            ("web.service.consul.", service("web", None)),
            ("WEB.Service.Consul.", service("web", None)),
            ("web.service.corp.example.", service("web", None)),
            ("primary.web.service.consul.", service("web", Some("primary"))),
            ("v1.2.web.service.consul.", service("web", Some("v1.2"))),
            ("_web._tcp.service.consul.", service("web", None)),
            ("_web._udp.service.consul.", service("web", Some("udp"))),
            ("_web._primary.service.consul.", service("web", Some("primary"))),
            ("_odd.web.service.consul.", service("web", Some("_odd"))),
            ("x.query.consul.", Subject::Query),
            ("c0a80001.addr.consul.", Subject::Address("192.168.0.1".parse().unwrap())),
            ("20010db8000000000000000000000001.addr.consul.", Subject::Address("2001:db8::1".parse().unwrap())),
        ] {
            assert_eq!(subject(name), (expected, None), "{name}");
        }
    }

    #[test]
    fn a_datacenter_may_follow_the_kind() {
        for name in ["web.service.dc2.consul.", "web.service.DC2.dc.consul."] {
            assert_eq!(subject(name), (service("web", None), Some("dc2".into())), "{name}");
        }
        assert_eq!(subject("n.node.dc2.consul."), (Subject::Node("n".into()), Some("dc2".into())));
    }

    #[test]
    fn other_shapes_are_nothing() {
        for name in [
            "foo.consul.",
            "a.b.c.consul.",
            "service.consul.",
            "node.consul.",
            "query.consul.",
            "addr.consul.",
            "web.service.a.b.consul.",
            "web.service.x.peer.consul.",
            "c0a8001.addr.consul.",
            "+0a80001.addr.consul.",
            "a.c0a80001.addr.consul.",
            "_web._tcp.consul.",
        ] {
            assert_eq!(subject(name), (Subject::Nothing, None), "{name}");
        }
    }

    #[test]
    fn the_word_service_may_be_missing_for_srv() {
        let Lookup::Zone(question) = ask("_web._tcp.dc2.consul.", RecordType::SRV) else { panic!("in the zone") };
        assert_eq!((question.subject, question.datacenter), (service("web", None), Some("dc2".into())));
    }

    #[test]
    fn addresses_are_read_backwards() {
        assert_eq!(ask("1.0.168.192.in-addr.arpa.", RecordType::PTR), Lookup::Reverse("192.168.0.1".parse().unwrap()));
        let nibbles = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.IP6.arpa.";
        assert_eq!(ask(nibbles, RecordType::PTR), Lookup::Reverse("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn what_is_not_ours_is_elsewhere() {
        for name in ["example.com.", "notconsul.", "168.192.in-addr.arpa.", "x.1.0.168.192.in-addr.arpa.", "."] {
            assert_eq!(ask(name, RecordType::A), Lookup::Elsewhere, "{name}");
        }
    }

    proptest! {
        #[test]
        fn an_address_label_reads_back(address: IpAddr) {
            let name = format!("{}.addr.consul.", address_label(address));
            prop_assert_eq!(subject(&name), (Subject::Address(address), None));
        }

        #[test]
        fn any_labels_are_read(labels in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..20), 0..10), srv: bool) {
            let words = labels.iter().map(Vec::as_slice).chain([b"consul".as_slice()]);
            let name = Name::from_labels(words).unwrap();
            let zones: [Domain; 1] = ["consul".parse().unwrap()];
            let query_type = if srv { RecordType::SRV } else { RecordType::A };
            prop_assert!(matches!(read(&name, query_type, &zones), Lookup::Zone(_)));
        }

        #[test]
        fn a_service_and_its_tag_are_found_whatever_they_are_called(service in "[a-z0-9-]{1,20}", tag in "[a-z0-9-]{1,20}(\\.[a-z0-9-]{1,20})?") {
            let name = format!("{tag}.{service}.service.consul.");
            prop_assert_eq!(subject(&name), (super::tests::service(&service, Some(&tag)), None));
        }
    }
}
