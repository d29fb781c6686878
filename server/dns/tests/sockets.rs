//! The DNS face over real sockets.
#![allow(clippy::unwrap_used, reason = "the message of a failed test")]

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use lictor_dns::{Answerer, DnsOptions, bind, serve};
use net::Network;
use service::{Caller, Service};
use state::{NodeInput, Registration, ServiceInput};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// No test waits longer for anything.
const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    addr: SocketAddr,
    service: Service,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(options: DnsOptions) -> Server {
        let service = service::testing::dev().await;
        let sockets = bind(&Network::host(), LOOPBACK, 2).await.unwrap();
        let addr = sockets.local_addr().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(serve(Answerer::new(service.clone(), options, None, Network::host()), sockets, stop.clone()));
        Server { addr, service, stop, task }
    }

    async fn register(&self, node: &str, address: &str) {
        let node = NodeInput { name: node.into(), address: address.into(), ..Default::default() };
        let service = Some(ServiceInput { name: "web".into(), port: 80, ..Default::default() });
        let registration = Registration { node, service, ..Default::default() };
        self.service.catalog_register(&Caller::default(), None, registration).await.unwrap();
    }

    async fn ask_udp(&self, message: &Message) -> Message {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        socket.send_to(&message.to_vec().unwrap(), self.addr).await.unwrap();
        let mut buffer = vec![0; 65_535];
        let (length, from) = timeout(DEADLINE, socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        assert_eq!(from, self.addr);
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn ask_tcp(&self, message: &Message) -> Message {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        write(&mut stream, message).await;
        read(&mut stream).await
    }
}

async fn write(stream: &mut TcpStream, message: &Message) {
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
}

async fn read(stream: &mut TcpStream) -> Message {
    let length = timeout(DEADLINE, stream.read_u16()).await.unwrap().unwrap();
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.unwrap();
    Message::from_vec(&bytes).unwrap()
}

fn question(name: &str, query_type: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), query_type));
    message
}

/// What a server of the wide world does with a question.
#[derive(Clone, Copy)]
enum Habit {
    /// Gives one address over TCP and says over UDP that there is more.
    TruncateUdp,
    /// Gives one address.
    Answer,
    /// Knows that the name does not exist.
    Deny,
    /// Does not know.
    Fail,
    /// Says nothing.
    Silent,
}

/// A server of the wide world on both transports.
async fn upstream(habit: Habit) -> SocketAddr {
    let tcp = TcpListener::bind(LOOPBACK).await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(addr).await.unwrap();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            if let Some(reply) = behave(habit, &buffer[..length], true) {
                udp.send_to(&reply.to_vec().unwrap(), from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let message = read(&mut stream).await;
            if let Some(reply) = behave(habit, &message.to_vec().unwrap(), false) {
                write(&mut stream, &reply).await;
            }
        }
    });
    addr
}

fn behave(habit: Habit, question: &[u8], udp: bool) -> Option<Message> {
    let question = Message::from_vec(question).unwrap();
    let mut reply = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
    // A flag that we know nothing about has to pass through.
    reply.metadata.authentic_data = true;
    reply.add_query(question.queries[0].clone());
    match habit {
        Habit::Silent => return None,
        Habit::Fail => reply.metadata.response_code = ResponseCode::ServFail,
        Habit::Deny => reply.metadata.response_code = ResponseCode::NXDomain,
        Habit::TruncateUdp if udp => reply.metadata.truncation = true,
        Habit::Answer | Habit::TruncateUdp => {
            let owner = question.queries[0].name().clone();
            reply.add_answer(Record::from_rdata(owner, 60, RData::A(Ipv4Addr::new(203, 0, 113, 1).into())));
        }
    }
    Some(reply)
}

fn recursing(recursors: Vec<SocketAddr>) -> DnsOptions {
    DnsOptions { recursors, recursor_timeout: Duration::from_millis(300), ..Default::default() }
}

fn addresses(message: &Message) -> BTreeSet<Ipv4Addr> {
    let address = |record: &Record| match &record.data {
        RData::A(address) => Some(address.0),
        _ => None,
    };
    message.answers.iter().filter_map(address).collect()
}

#[tokio::test]
async fn both_transports_answer_and_stop() {
    let server = Server::start(DnsOptions::default()).await;
    server.register("n1", "10.0.0.1").await;
    let message = question("web.service.consul.", RecordType::A);
    for reply in [server.ask_udp(&message).await, server.ask_tcp(&message).await] {
        assert_eq!(reply.metadata.id, message.metadata.id);
        assert_eq!(addresses(&reply), [Ipv4Addr::new(10, 0, 0, 1)].into());
    }
    // An idle connection does not hold up the end.
    let _idle = TcpStream::connect(server.addr).await.unwrap();
    server.stop.cancel();
    timeout(DEADLINE, server.task).await.unwrap().unwrap();
    bind(&Network::host(), server.addr, 2).await.unwrap();
}

#[tokio::test]
async fn one_connection_carries_many_questions_in_order() {
    let server = Server::start(DnsOptions::default()).await;
    server.register("n1", "10.0.0.1").await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let questions: Vec<Message> = (0..20).map(|_| question("web.service.consul.", RecordType::SRV)).collect();
    for question in &questions {
        write(&mut stream, question).await;
    }
    for question in &questions {
        assert_eq!(read(&mut stream).await.metadata.id, question.metadata.id);
    }
}

#[tokio::test]
async fn a_thousand_instances_fit_into_tcp_and_are_cut_for_udp() {
    let server = Server::start(DnsOptions::default()).await;
    for at in 0..1000 {
        server.register(&format!("n{at}"), &format!("10.0.{}.{}", at / 250, at % 250)).await;
    }
    let mut message = question("web.service.consul.", RecordType::A);
    let reply = server.ask_tcp(&message).await;
    assert_eq!((addresses(&reply).len(), reply.metadata.truncation), (1000, false));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    let reply = server.ask_udp(&message).await;
    assert!(reply.metadata.truncation && addresses(&reply).len() > 50, "{}", reply.answers.len());
    // SRV with the records that explain it does not fit even here: it says so.
    let reply = server.ask_tcp(&question("web.service.consul.", RecordType::SRV)).await;
    assert!(reply.answers.len() > 500 && reply.to_vec().unwrap().len() <= 65_535);
    assert_eq!(reply.metadata.truncation, reply.answers.len() < 1000);
}

#[tokio::test]
async fn a_connection_with_an_oversized_question_is_closed() {
    let server = Server::start(DnsOptions::default()).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_u16(u16::MAX).await.unwrap();
    let mut rest = Vec::new();
    assert_eq!(timeout(DEADLINE, stream.read_to_end(&mut rest)).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let options = DnsOptions { tcp_idle_timeout: Duration::from_millis(50), ..Default::default() };
    let server = Server::start(options).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    assert_eq!(timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn other_names_are_asked_of_recursors_that_know() {
    let servers = vec![upstream(Habit::Silent).await, upstream(Habit::Fail).await, upstream(Habit::Answer).await];
    let server = Server::start(recursing(servers)).await;
    let message = question("www.example.com.", RecordType::A);
    for reply in [server.ask_udp(&message).await, server.ask_tcp(&message).await] {
        assert_eq!(reply.metadata.id, message.metadata.id);
        assert_eq!(addresses(&reply), [Ipv4Addr::new(203, 0, 113, 1)].into());
        assert!(reply.metadata.authentic_data, "the reply is passed on as it came");
    }
    assert!(server.ask_udp(&question("consul.", RecordType::SOA)).await.metadata.recursion_available);
}

#[tokio::test]
async fn that_a_name_does_not_exist_is_an_answer() {
    let server = Server::start(recursing(vec![upstream(Habit::Deny).await, upstream(Habit::Answer).await])).await;
    let reply = server.ask_udp(&question("nosuch.example.com.", RecordType::A)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn when_all_recursors_fail_so_do_we() {
    let server = Server::start(recursing(vec![upstream(Habit::Fail).await, upstream(Habit::Silent).await])).await;
    let reply = server.ask_udp(&question("www.example.com.", RecordType::A)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn a_truncated_reply_is_passed_on_and_asked_again_over_tcp() {
    let server = Server::start(recursing(vec![upstream(Habit::TruncateUdp).await])).await;
    let message = question("www.example.com.", RecordType::A);
    assert!(server.ask_udp(&message).await.metadata.truncation);
    assert_eq!(addresses(&server.ask_tcp(&message).await).len(), 1);
}

#[tokio::test]
async fn an_alias_is_completed_by_recursors() {
    let server = Server::start(recursing(vec![upstream(Habit::TruncateUdp).await])).await;
    server.register("outside", "www.example.com").await;
    for name in ["outside.node.consul.", "web.service.consul."] {
        let reply = server.ask_udp(&question(name, RecordType::A)).await;
        assert_eq!(reply.answers[0].data.to_string(), "www.example.com.", "{name}");
        assert_eq!(addresses(&reply), [Ipv4Addr::new(203, 0, 113, 1)].into(), "{name}");
    }
}

#[tokio::test]
async fn an_address_that_nobody_has_is_asked_of_recursors() {
    let server = Server::start(recursing(vec![upstream(Habit::Deny).await])).await;
    server.register("n1", "10.0.0.1").await;
    let own = server.ask_udp(&question("1.0.0.10.in-addr.arpa.", RecordType::PTR)).await;
    assert_eq!(own.answers[0].data.to_string(), "n1.node.dc1.consul.");
    let other = server.ask_udp(&question("1.0.0.192.in-addr.arpa.", RecordType::PTR)).await;
    assert_eq!((other.metadata.response_code, other.metadata.authentic_data), (ResponseCode::NXDomain, true));
}

#[tokio::test]
async fn questions_that_can_not_wait_fail_at_once() {
    let options = DnsOptions { waiting_max: 0, ..recursing(vec![upstream(Habit::Silent).await]) };
    let server = Server::start(options).await;
    let reply = server.ask_udp(&question("www.example.com.", RecordType::A)).await;
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(server.ask_udp(&question("consul.", RecordType::SOA)).await.metadata.response_code, ResponseCode::NoError);
}
