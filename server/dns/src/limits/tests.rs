use std::net::{Ipv4Addr, Ipv6Addr};

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::ClientSubnet;
use hickory_proto::rr::rdata::{SRV, TXT};
use hickory_proto::rr::{Name, RData};
use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = Name> {
    proptest::collection::vec("[a-zA-Z0-9_-]{1,30}", 1..5)
        .prop_map(|labels| Name::from_labels(labels.iter().map(|label| label.as_bytes())).unwrap())
}

fn data() -> impl Strategy<Value = RData> {
    prop_oneof![
        any::<Ipv4Addr>().prop_map(|address| RData::A(address.into())),
        any::<Ipv6Addr>().prop_map(|address| RData::AAAA(address.into())),
        (any::<u16>(), any::<u16>(), name()).prop_map(|(weight, port, target)| RData::SRV(SRV::new(1, weight, port, target))),
        "[ -~]{0,200}".prop_map(|text| RData::TXT(TXT::new(vec![text]))),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    (name(), any::<u16>(), data()).prop_map(|(owner, ttl, data)| Record::from_rdata(owner, ttl.into(), data))
}

prop_compose! {
    fn an_answer()(
        answers in proptest::collection::vec(record(), 0..40),
        authorities in proptest::collection::vec(record(), 0..2),
        additionals in proptest::collection::vec((0_usize..40, record()), 0..40),
        cut: bool,
    ) -> Answer {
        Answer { answers, authorities, additionals, cut, ..Answer::from_zone() }
    }
}

prop_compose! {
    fn edns()(payload: u16, dnssec_ok: bool, subnet: bool) -> Edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(dnssec_ok);
        if subnet {
            edns.options_mut().insert(EdnsOption::Subnet(ClientSubnet::new([10, 1, 2, 0].into(), 24, 7)));
        }
        edns
    }
}

fn transport() -> impl Strategy<Value = Transport> {
    prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
}

/// The reply's bytes and what they say.
fn reply(query: &Query, answer: &Answer, edns: Option<&Edns>, room: Room, options: &DnsOptions) -> (Vec<u8>, Message) {
    let request = Message::query().metadata;
    let mut out = b"left over".to_vec();
    write(&Envelope { request: &request, query: Some(query), edns }, answer, room, options, &mut out).unwrap();
    let message = Message::from_vec(&out).unwrap();
    (out, message)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_reply_fits_and_reads_back(
        asked in name(), answer in an_answer(), edns in proptest::option::of(edns()), transport in transport(), compress: bool,
    ) {
        let options = DnsOptions { disable_compression: !compress, ..Default::default() };
        let query = Query::query(asked, RecordType::A);
        let room = Room::new(transport, edns.as_ref(), RecordType::A, &options);
        let (bytes, message) = reply(&query, &answer, edns.as_ref(), room, &options);

        prop_assert!(bytes.len() <= room.bytes, "{} bytes in {}", bytes.len(), room.bytes);
        prop_assert_eq!(&message.queries, std::slice::from_ref(&query));
        let kept = message.answers.len();
        prop_assert_eq!(&message.answers[..], &answer.answers[..kept]);
        prop_assert_eq!(message.metadata.truncation, answer.cut || kept < answer.answers.len());

        let explaining: Vec<&Record> = answer.additionals.iter().filter(|(of, _)| *of < kept).map(|(_, record)| record).collect();
        prop_assert!(message.additionals.len() <= explaining.len());
        prop_assert!(message.additionals.iter().zip(explaining).all(|(sent, meant)| sent == meant));

        prop_assert_eq!(message.edns.is_some(), edns.is_some());
        if let (Some(sent), Some(asked)) = (message.edns, edns) {
            prop_assert_eq!(sent.flags().dnssec_ok, asked.flags().dnssec_ok);
            prop_assert_eq!(sent.max_payload(), asked.max_payload().max(512));
            let scope = sent.option(EdnsCode::Subnet).map(|option| matches!(option, EdnsOption::Subnet(subnet) if subnet.scope_prefix() == 0));
            prop_assert_eq!(scope, asked.option(EdnsCode::Subnet).map(|_| true));
        }
    }

    #[test]
    fn with_room_for_all_nothing_is_left_out(asked in name(), answer in an_answer()) {
        let options = DnsOptions::default();
        let room = Room::new(Transport::Tcp, None, RecordType::A, &options);
        let answer = Answer { cut: false, ..answer };
        let (_, message) = reply(&Query::query(asked, RecordType::A), &answer, None, room, &options);
        prop_assert_eq!(message.answers, answer.answers);
        prop_assert_eq!(message.authorities, answer.authorities);
        prop_assert!(!message.metadata.truncation);
    }
}

#[test]
fn without_edns_a_packet_is_small() {
    let options = DnsOptions { udp_answer_limit: 100, ..Default::default() };
    let room = Room::new(Transport::Udp, None, RecordType::A, &options);
    assert_eq!(room, Room { bytes: 512, answers: 8 });
    let none = DnsOptions { udp_answer_limit: 0, ..Default::default() };
    assert_eq!(Room::new(Transport::Udp, None, RecordType::A, &none).answers, 1);
}

#[test]
fn the_clients_size_counts_within_reason() {
    let options = DnsOptions::default();
    for (asked, given) in [(0, 512), (100, 512), (1232, 1232), (u16::MAX, 65_467)] {
        let mut edns = Edns::new();
        edns.set_max_payload(asked);
        assert_eq!(Room::new(Transport::Udp, Some(&edns), RecordType::A, &options).bytes, given, "{asked}");
    }
}

#[test]
fn the_tc_bit_can_be_turned_off() {
    let options = DnsOptions { enable_truncate: false, ..Default::default() };
    let answer = Answer { cut: true, ..Answer::from_zone() };
    let room = Room::new(Transport::Udp, None, RecordType::A, &options);
    let query = Query::query(Name::from_ascii("web.service.consul.").unwrap(), RecordType::A);
    assert!(!reply(&query, &answer, None, room, &options).1.metadata.truncation);
}
