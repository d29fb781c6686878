//! What a client gets for a question, over the whole service layer.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use proptest::prelude::*;
use state::{CheckInput, NodeInput, Registration, ServiceInput, Status, Str, Weights};

use super::*;
use crate::options::{ServiceTtl, Soa};

const CLIENT: &str = "127.0.0.1:5353";

/// A handler over a catalog of its own.
struct Fixture {
    handler: Handler,
}

impl Fixture {
    async fn new() -> Self {
        Fixture::with(DnsOptions::default()).await
    }

    async fn with(options: DnsOptions) -> Self {
        Fixture { handler: Handler::new(service::testing::dev().await, options, None, net::Network::host()) }
    }

    async fn register(&self, registration: Registration) {
        self.handler.service.catalog_register(&Caller::default(), None, registration).await.unwrap();
    }

    async fn node(&self, name: &str, address: &str) {
        self.register(on(name, address, None)).await;
    }

    /// Registers an instance `web` with an address of its own on a node of its own.
    async fn web(&self, node: &str, node_address: &str, address: &str) {
        let service = ServiceInput { name: "web".into(), address: address.into(), port: 80, ..Default::default() };
        self.register(on(node, node_address, Some(service))).await;
    }

    fn ask(&self, name: &str, query_type: RecordType) -> Message {
        self.send(&question(name, query_type), Transport::Udp)
    }

    fn ask_tcp(&self, name: &str, query_type: RecordType) -> Message {
        self.send(&question(name, query_type), Transport::Tcp)
    }

    fn send(&self, message: &Message, transport: Transport) -> Message {
        let mut out = Vec::new();
        let outcome = self.handler.answer(&message.to_vec().unwrap(), CLIENT.parse().unwrap(), transport, &mut out);
        assert!(matches!(outcome, Outcome::Replied));
        let reply = Message::from_vec(&out).unwrap();
        assert_eq!(reply.metadata.id, message.metadata.id);
        reply
    }
}

fn question(name: &str, query_type: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), query_type));
    message
}

fn with_edns(mut message: Message, payload: u16) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(payload);
    message.set_edns(edns);
    message
}

fn on(node: &str, address: &str, service: Option<ServiceInput>) -> Registration {
    let node = NodeInput { name: node.into(), address: address.into(), ..Default::default() };
    Registration { node, service, ..Default::default() }
}

fn check(service_id: &str, status: Status) -> CheckInput {
    CheckInput { name: format!("check of {service_id}").into(), service_id: service_id.into(), status, ..Default::default() }
}

fn addresses(records: &[Record]) -> BTreeSet<String> {
    let text = |record: &Record| match &record.data {
        RData::A(address) => IpAddr::from(address.0).to_string(),
        RData::AAAA(address) => IpAddr::from(address.0).to_string(),
        other => panic!("not an address: {other:?}"),
    };
    records.iter().map(text).collect()
}

fn set<const N: usize>(items: [&str; N]) -> BTreeSet<String> {
    items.map(str::to_owned).into()
}

/// `(weight, port, target)` of each SRV record.
fn targets(records: &[Record]) -> Vec<(u16, u16, String)> {
    let target = |record: &Record| match &record.data {
        RData::SRV(srv) => (srv.weight, srv.port, srv.target.to_ascii()),
        other => panic!("not an SRV record: {other:?}"),
    };
    records.iter().map(target).collect()
}

fn texts(records: &[Record]) -> Vec<String> {
    let text = |record: &Record| match &record.data {
        RData::TXT(text) => Some(String::from_utf8(text.txt_data.concat()).unwrap()),
        _ => None,
    };
    records.iter().filter_map(text).collect()
}

/// The code, and whether an SOA says how long to remember it.
fn verdict(message: &Message) -> (ResponseCode, bool) {
    assert!(message.answers.is_empty(), "{message}");
    (message.metadata.response_code, message.authorities.iter().any(|record| record.record_type() == RecordType::SOA))
}

const NO_NAME: (ResponseCode, bool) = (ResponseCode::NXDomain, true);
const NO_DATA: (ResponseCode, bool) = (ResponseCode::NoError, true);

#[tokio::test]
async fn a_service_is_found_at_its_own_address_or_at_its_nodes() {
    let fixture = Fixture::new().await;
    fixture.web("n1", "10.0.0.1", "").await;
    fixture.web("n2", "10.0.0.2", "192.168.0.2").await;
    fixture.web("n3", "10.0.0.3", "2001:db8::3").await;
    for name in ["web.service.consul.", "web.service.dc1.consul.", "web.service.dc1.dc.lictor.", "_web._tcp.service.consul."] {
        let reply = fixture.ask(name, RecordType::A);
        assert_eq!(addresses(&reply.answers), set(["10.0.0.1", "192.168.0.2"]), "{name}");
        assert!(reply.metadata.authoritative);
        assert!(reply.metadata.recursion_desired);
        assert!(!reply.metadata.recursion_available);
    }
    assert_eq!(addresses(&fixture.ask("web.service.consul.", RecordType::AAAA).answers), set(["2001:db8::3"]));
    let all = fixture.ask("web.service.consul.", RecordType::ANY);
    assert_eq!(addresses(&all.answers), set(["10.0.0.1", "192.168.0.2", "2001:db8::3"]));
}

#[tokio::test]
async fn a_tag_chooses_instances() {
    let fixture = Fixture::new().await;
    for (node, address, tag) in [("n1", "10.0.0.1", "Primary"), ("n2", "10.0.0.2", "v1.2")] {
        let service = ServiceInput { name: "db".into(), tags: vec![tag.into()], ..Default::default() };
        fixture.register(on(node, address, Some(service))).await;
    }
    for name in ["primary.db.service.consul.", "_db._primary.service.consul."] {
        assert_eq!(addresses(&fixture.ask(name, RecordType::A).answers), set(["10.0.0.1"]), "{name}");
    }
    assert_eq!(addresses(&fixture.ask("v1.2.db.service.consul.", RecordType::A).answers), set(["10.0.0.2"]));
    assert_eq!(verdict(&fixture.ask("other.db.service.consul.", RecordType::A)), NO_NAME);
}

#[tokio::test]
async fn the_case_of_the_question_is_echoed() {
    let fixture = Fixture::new().await;
    fixture.web("n1", "10.0.0.1", "").await;
    let reply = fixture.ask("wEb.SERVICE.Consul.", RecordType::A);
    assert_eq!(reply.queries[0].name().to_ascii(), "wEb.SERVICE.Consul.");
    assert_eq!(reply.answers[0].name.to_ascii(), "wEb.SERVICE.Consul.");
}

#[tokio::test]
async fn an_address_is_given_once_and_as_soon_as_it_changes() {
    let fixture = Fixture::new().await;
    fixture.web("n1", "10.0.0.1", "10.9.9.9").await;
    fixture.web("n2", "10.0.0.2", "10.9.9.9").await;
    assert_eq!(fixture.ask("web.service.consul.", RecordType::A).answers.len(), 1);
    fixture.web("n2", "10.0.0.2", "10.9.9.10").await;
    assert_eq!(addresses(&fixture.ask("web.service.consul.", RecordType::A).answers), set(["10.9.9.9", "10.9.9.10"]));
}

#[tokio::test]
async fn a_critical_instance_is_left_out() {
    let fixture = Fixture::new().await;
    for (node, status) in [("n1", Status::Passing), ("n2", Status::Warning), ("n3", Status::Critical)] {
        let service = ServiceInput { name: "web".into(), ..Default::default() };
        let address = format!("10.0.0.{}", &node[1..]);
        fixture.register(Registration { checks: vec![check("web", status)], ..on(node, &address, Some(service)) }).await;
    }
    assert_eq!(addresses(&fixture.ask("web.service.consul.", RecordType::A).answers), set(["10.0.0.1", "10.0.0.2"]));
    fixture.register(Registration { checks: vec![check("", Status::Critical)], ..on("n2", "10.0.0.2", None) }).await;
    assert_eq!(addresses(&fixture.ask("web.service.consul.", RecordType::A).answers), set(["10.0.0.1"]));
}

#[tokio::test]
async fn only_passing_leaves_out_what_warns() {
    let fixture = Fixture::with(DnsOptions { only_passing: true, ..Default::default() }).await;
    let service = ServiceInput { name: "web".into(), ..Default::default() };
    fixture.register(Registration { checks: vec![check("web", Status::Warning)], ..on("n1", "10.0.0.1", Some(service)) }).await;
    assert_eq!(verdict(&fixture.ask("web.service.consul.", RecordType::A)), NO_NAME);
}

#[tokio::test]
async fn srv_names_the_port_and_where_to_go() {
    let fixture = Fixture::new().await;
    let weights = Weights { passing: 7, warning: 2 };
    let service = |address: &str| ServiceInput { name: "web".into(), address: address.into(), port: 8080, weights, ..Default::default() };
    let mut at_node = on("n1", "10.0.0.1", Some(service("")));
    at_node.node.meta = [("rack".into(), "r1".into())].into();
    fixture.register(at_node).await;
    let reply = fixture.ask("_web._tcp.service.consul.", RecordType::SRV);
    assert_eq!(targets(&reply.answers), [(7, 8080, "n1.node.dc1.consul.".to_owned())]);
    assert_eq!(addresses(&reply.additionals[..1]), set(["10.0.0.1"]));
    assert_eq!(reply.additionals[0].name.to_ascii(), "n1.node.dc1.consul.");
    assert_eq!(texts(&reply.additionals), ["rack=r1"]);

    let warning = Registration { checks: vec![check("web", Status::Warning)], ..on("n1", "10.0.0.1", Some(service("10.9.0.1"))) };
    fixture.register(warning).await;
    let reply = fixture.ask("web.service.lictor.", RecordType::SRV);
    assert_eq!(targets(&reply.answers), [(2, 8080, "0a090001.addr.dc1.lictor.".to_owned())]);
    assert_eq!(addresses(&reply.additionals), set(["10.9.0.1"]));
    assert_eq!(addresses(&fixture.ask("0a090001.addr.dc1.lictor.", RecordType::A).answers), set(["10.9.0.1"]));

    fixture.web("n1", "10.0.0.1", "www.example.com").await;
    let reply = fixture.ask("_web._tcp.consul.", RecordType::SRV);
    assert_eq!(targets(&reply.answers), [(1, 80, "www.example.com.".to_owned())]);
}

#[tokio::test]
async fn a_node_is_found_with_its_meta() {
    let fixture = Fixture::new().await;
    let mut node = on("Box-1", "10.0.0.1", None);
    node.node.meta = [("os".into(), "linux".into()), ("rfc1035-note".into(), "as is".into())].into();
    fixture.register(node).await;
    let reply = fixture.ask("box-1.node.consul.", RecordType::A);
    assert_eq!(addresses(&reply.answers), set(["10.0.0.1"]));
    assert_eq!(texts(&reply.additionals), ["os=linux", "as is"]);
    let reply = fixture.ask("box-1.node.consul.", RecordType::TXT);
    assert_eq!(texts(&reply.answers), ["os=linux", "as is"]);
    assert!(reply.additionals.is_empty());
    assert_eq!(fixture.ask("box-1.node.consul.", RecordType::ANY).answers.len(), 3);
    assert_eq!(verdict(&fixture.ask("box-1.node.consul.", RecordType::AAAA)), NO_DATA);
    assert_eq!(verdict(&fixture.ask("box-1.node.consul.", RecordType::MX)), NO_DATA);
    assert_eq!(verdict(&fixture.ask("box-2.node.consul.", RecordType::A)), NO_NAME);
}

#[tokio::test]
async fn a_name_for_an_address_is_an_alias() {
    let fixture = Fixture::new().await;
    fixture.node("real", "10.0.0.1").await;
    fixture.node("inner", "real.node.consul").await;
    fixture.node("outer", "www.example.com").await;
    let reply = fixture.ask("inner.node.consul.", RecordType::A);
    assert_eq!(reply.answers[0].data.to_string(), "real.node.consul.");
    assert_eq!(addresses(&reply.answers[1..]), set(["10.0.0.1"]));
    let reply = fixture.ask("outer.node.consul.", RecordType::CNAME);
    assert_eq!(reply.answers[0].data.to_string(), "www.example.com.");
    // Nobody to ask what the name stands for: the alias alone is the answer.
    assert_eq!(fixture.ask("outer.node.consul.", RecordType::A).answers.len(), 1);
}

#[tokio::test]
async fn aliases_in_a_circle_end() {
    let fixture = Fixture::new().await;
    fixture.node("a", "b.node.consul").await;
    fixture.node("b", "a.node.consul").await;
    let reply = fixture.ask("a.node.consul.", RecordType::A);
    assert!((1..10).contains(&reply.answers.len()));
    // A service whose address is its own name is reached at its node.
    fixture.web("n1", "10.0.0.1", "web.service.consul").await;
    assert_eq!(addresses(&fixture.ask("web.service.consul.", RecordType::A).answers), set(["10.0.0.1"]));
}

#[tokio::test]
async fn an_address_leads_back_to_its_name() {
    let fixture = Fixture::new().await;
    fixture.web("n1", "10.0.0.1", "10.9.0.1").await;
    fixture.node("n6", "2001:db8::6").await;
    let nibbles = "6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa.";
    for (question, target) in [
        ("1.0.0.10.in-addr.arpa.", "n1.node.dc1.consul."),
        ("1.0.9.10.in-addr.arpa.", "web.service.dc1.consul."),
        (nibbles, "n6.node.dc1.consul."),
    ] {
        assert_eq!(fixture.ask(question, RecordType::PTR).answers[0].data.to_string(), target);
    }
    assert_eq!(verdict(&fixture.ask("9.9.9.9.in-addr.arpa.", RecordType::PTR)), NO_NAME);
}

#[tokio::test]
async fn the_zone_has_an_soa_and_servers() {
    let fixture =
        Fixture::with(DnsOptions { soa: Soa { min_ttl: Duration::from_secs(30), ..Default::default() }, ..Default::default() }).await;
    for name in ["consul.", "anything.at.all.consul."] {
        let reply = fixture.ask(name, RecordType::SOA);
        assert_eq!((reply.answers[0].record_type(), reply.answers[0].ttl), (RecordType::SOA, 30), "{name}");
        assert_eq!(reply.answers[0].name.to_ascii(), "consul.");
    }
    let reply = fixture.ask("consul.", RecordType::NS);
    assert_eq!((reply.metadata.response_code, reply.answers.len(), reply.authorities.len()), (ResponseCode::NoError, 0, 0));
    let servers = ServiceInput { name: "consul".into(), port: 8300, ..Default::default() };
    fixture.register(on("s1", "10.0.0.1", Some(servers))).await;
    let reply = fixture.ask("lictor.", RecordType::NS);
    assert_eq!(reply.answers[0].data.to_string(), "s1.node.dc1.lictor.");
    assert_eq!(addresses(&reply.additionals), set(["10.0.0.1"]));
}

#[tokio::test]
async fn no_is_said_in_the_right_way() {
    let fixture = Fixture::new().await;
    fixture.web("n1", "10.0.0.1", "").await;
    for name in ["nosuch.service.consul.", "foo.consul.", "a.b.c.consul.", "consul.", "q.query.consul.", "web.service.dc9.consul."] {
        assert_eq!(verdict(&fixture.ask(name, RecordType::A)), NO_NAME, "{name}");
    }
    assert_eq!(verdict(&fixture.ask("web.service.consul.", RecordType::AAAA)), NO_DATA);
    assert_eq!(verdict(&fixture.ask("www.example.com.", RecordType::A)), (ResponseCode::Refused, false));
    assert_eq!(verdict(&fixture.ask("consul.", RecordType::AXFR)), (ResponseCode::NotImp, false));
    let mut update = question("consul.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    assert_eq!(verdict(&fixture.send(&update, Transport::Udp)), (ResponseCode::NotImp, false));
    let mut two = question("web.service.consul.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("x.consul.").unwrap(), RecordType::A));
    assert_eq!(verdict(&fixture.send(&two, Transport::Udp)), (ResponseCode::FormErr, false));
}

#[tokio::test]
async fn an_unknown_edns_version_is_refused() {
    let fixture = Fixture::new().await;
    let mut message = with_edns(question("consul.", RecordType::SOA), 1232);
    message.edns.as_mut().unwrap().set_version(1);
    let reply = fixture.send(&message, Transport::Udp);
    // On the wire it has the number of BADSIG, as which it is read back.
    assert_eq!(u16::from(reply.metadata.response_code), u16::from(ResponseCode::BADVERS));
    assert_eq!(reply.edns.unwrap().version(), 0);
}

#[test]
fn an_unavailable_service_is_never_taken_for_an_absent_one() {
    use service::Reason;
    let zone = Name::from_ascii("consul.").unwrap();
    for reason in [Reason::NotReady, Reason::NoLeader, Reason::TooStale, Reason::Deadline, Reason::Overloaded, Reason::Internal] {
        let answer = Answer::refused(&Error::new(reason, "not now"), &zone, &Soa::default());
        assert_eq!((answer.code, answer.authorities.len()), (ResponseCode::ServFail, 0), "{reason:?}");
    }
}

#[tokio::test]
async fn a_cut_answer_says_so_and_tcp_has_it_all() {
    let fixture = Fixture::new().await;
    for at in 1..=50 {
        fixture.web(&format!("n{at}"), &format!("10.0.0.{at}"), "").await;
    }
    let plain = fixture.ask("web.service.consul.", RecordType::A);
    assert_eq!((plain.answers.len(), plain.metadata.truncation), (3, true));
    let small = fixture.send(&with_edns(question("web.service.consul.", RecordType::A), 512), Transport::Udp);
    assert!(small.metadata.truncation && (20..50).contains(&small.answers.len()));
    let large = fixture.send(&with_edns(question("web.service.consul.", RecordType::A), 4096), Transport::Udp);
    assert_eq!((large.answers.len(), large.metadata.truncation), (50, false));
    let tcp = fixture.ask_tcp("web.service.consul.", RecordType::A);
    assert_eq!((addresses(&tcp.answers).len(), tcp.metadata.truncation), (50, false));
    let srv = fixture.ask("web.service.consul.", RecordType::SRV);
    assert_eq!((srv.answers.len(), srv.additionals.len(), srv.metadata.truncation), (3, 3, true));
}

#[tokio::test]
async fn a_record_limit_is_no_truncation() {
    let fixture = Fixture::with(DnsOptions { a_record_limit: 2, ..Default::default() }).await;
    for at in 1..=5 {
        fixture.web(&format!("n{at}"), &format!("10.0.0.{at}"), "").await;
    }
    for transport in [Transport::Udp, Transport::Tcp] {
        let reply = fixture.send(&question("web.service.consul.", RecordType::A), transport);
        assert_eq!((reply.answers.len(), reply.metadata.truncation), (2, false));
    }
    assert_eq!(fixture.ask_tcp("web.service.consul.", RecordType::SRV).answers.len(), 5);
}

#[tokio::test]
async fn every_instance_has_its_turn() {
    let fixture = Fixture::with(DnsOptions { udp_answer_limit: 1, ..Default::default() }).await;
    for at in 1..=4 {
        fixture.web(&format!("n{at}"), &format!("10.0.0.{at}"), "").await;
    }
    // Missing one of four in 400 draws has a chance of 4 × 0.75^400, below 10^-49.
    let seen: BTreeSet<String> = (0..400).flat_map(|_| addresses(&fixture.ask("web.service.consul.", RecordType::A).answers)).collect();
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn answers_live_as_long_as_configured() {
    let fixture = Fixture::with(DnsOptions {
        node_ttl: Duration::from_secs(20),
        service_ttl: ServiceTtl::new([("web", Duration::from_secs(10))]),
        ..Default::default()
    })
    .await;
    fixture.web("n1", "10.0.0.1", "").await;
    assert_eq!(fixture.ask("web.service.consul.", RecordType::A).answers[0].ttl, 10);
    assert_eq!(fixture.ask("WEB.service.consul.", RecordType::SRV).answers[0].ttl, 10);
    assert_eq!(fixture.ask("n1.node.consul.", RecordType::A).answers[0].ttl, 20);
}

#[tokio::test]
async fn without_stale_reads_the_leader_is_asked() {
    let fixture = Fixture::with(DnsOptions { allow_stale: false, ..Default::default() }).await;
    fixture.web("n1", "10.0.0.1", "").await;
    let bytes = question("web.service.consul.", RecordType::A).to_vec().unwrap();
    let mut out = Vec::new();
    let outcome = fixture.handler.answer(&bytes, CLIENT.parse().unwrap(), Transport::Udp, &mut out);
    let Outcome::Pending(pending) = outcome else { panic!("the leader is waited for") };
    fixture.handler.wait(*pending, &mut out).await;
    assert_eq!(addresses(&Message::from_vec(&out).unwrap().answers), set(["10.0.0.1"]));
}

#[tokio::test]
async fn what_is_no_question_gets_no_answer() {
    let fixture = Fixture::new().await;
    let mut response = question("consul.", RecordType::SOA);
    response.metadata.message_type = MessageType::Response;
    for bytes in [vec![], vec![0; 11], response.to_vec().unwrap()] {
        let outcome = fixture.handler.answer(&bytes, CLIENT.parse().unwrap(), Transport::Udp, &mut Vec::new());
        assert!(matches!(outcome, Outcome::Ignored), "{bytes:?}");
    }
    let mut out = Vec::new();
    let mut broken = question("consul.", RecordType::SOA).to_vec().unwrap();
    broken.pop();
    fixture.handler.answer(&broken, CLIENT.parse().unwrap(), Transport::Udp, &mut out);
    let reply = Message::from_vec(&out).unwrap();
    assert_eq!((reply.metadata.id, reply.metadata.response_code), (u16::from_be_bytes([broken[0], broken[1]]), ResponseCode::FormErr));
}

/// Text as people register it: names, addresses, and things that are neither.
fn registered() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z0-9.-]{0,12}", "\\PC{0,20}", any::<IpAddr>().prop_map(|address| address.to_string()), "[a-z]{60,70}"]
}

prop_compose! {
    fn registration()(
        node in "[a-c]|\\PC{1,70}", node_address in registered(), service in "[a-b]", address in registered(), port: u16,
        tags in proptest::collection::vec(registered(), 0..2), meta in proptest::collection::btree_map(registered(), "\\PC{0,300}", 0..3),
    ) -> Registration {
        let service = ServiceInput {
            id: node.as_str().into(), name: service.into(), address: address.into(), port: port.into(),
            tags: tags.into_iter().map(Str::from).collect(), ..Default::default()
        };
        let mut registration = on(&node, if node_address.is_empty() { "x" } else { &node_address }, Some(service));
        registration.node.meta = meta.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        registration
    }
}

#[test]
fn anything_registered_can_be_asked_for() {
    let names = ["a.service.consul.", "b.service.consul.", "a.node.consul.", "_a._tcp.consul.", "consul.", "1.0.0.10.in-addr.arpa."];
    let types = [RecordType::A, RecordType::AAAA, RecordType::SRV, RecordType::TXT, RecordType::ANY, RecordType::CNAME, RecordType::NS];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    proptest!(ProptestConfig::with_cases(64), |(registrations in proptest::collection::vec(registration(), 1..8))| {
        for registration in registrations {
            // Some are refused, which is as good for this purpose.
            _ = runtime.block_on(fixture.handler.service.catalog_register(&Caller::default(), None, registration));
        }
        for (name, query_type) in names.iter().flat_map(|name| types.map(|query_type| (name, query_type))) {
            let reply = fixture.ask(name, query_type);
            prop_assert_ne!(reply.metadata.response_code, ResponseCode::ServFail, "{} {}", name, query_type);
            fixture.ask_tcp(name, query_type);
        }
    });
}

#[test]
fn any_bytes_are_survived() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fixture = runtime.block_on(Fixture::new());
    let valid = with_edns(question("web.service.consul.", RecordType::SRV), 1232).to_vec().unwrap();
    let damaged = proptest::collection::vec((0..valid.len(), any::<u8>()), 0..6).prop_map(move |damage| {
        let mut bytes = valid.clone();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes
    });
    let bytes = prop_oneof![proptest::collection::vec(any::<u8>(), 0..600), damaged];
    proptest!(ProptestConfig::with_cases(4096), |(bytes in bytes, tcp: bool)| {
        let transport = if tcp { Transport::Tcp } else { Transport::Udp };
        let mut out = Vec::new();
        if let Outcome::Replied = fixture.handler.answer(&bytes, CLIENT.parse().unwrap(), transport, &mut out) {
            let reply = Message::from_vec(&out).unwrap();
            prop_assert_eq!(reply.metadata.message_type, MessageType::Response);
            prop_assert_eq!(&out[..2], &bytes[..2]);
        }
    });
}

#[test]
fn a_question_that_was_carried_here_says_so_when_it_is_carried_on() {
    let message = question("web.service.dc2.consul.", RecordType::A);
    let bytes = Bytes::from(message.to_vec().unwrap());
    let request = Request { message, transport: Transport::Udp, hops: 2, caller: Caller::default() };
    assert_eq!(forward::hops(post(&request, bytes).unwrap().headers()), 2);
}
