//! What no client should send: it is refused with words, and the agent serves on.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use harness::{Node, PATIENCE, eventually};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Whether every face answers as if nothing had happened.
#[track_caller]
fn serves(node: &mut Node) {
    assert!(node.is_running(), "the agent has ended:\n{}", node.log().text());
    node.put("/v1/kv/alive", "yes").expect(200);
    assert_eq!(node.get("/v1/kv/alive?raw").expect(200).text(), "yes");
    assert_eq!(node.dig(&["consul", "SOA"]).status, "NOERROR");
    assert_eq!(node.cli(&["kv", "get", "alive"]).success().stdout, "yes\n");
}

#[test]
fn paths_that_try_to_climb_reach_nothing() {
    let mut node = Node::dev();
    node.put("/v1/kv/secret", "x").expect(200);
    for path in ["//v1/kv/secret", "/v1//kv/secret", "/v1/kv/../kv/secret", "/v1/./kv/secret"] {
        let response = node.get(path);
        assert_eq!((response.status, response.header("location")), (301, Some("/v1/kv/secret")), "{path}");
    }
    for path in ["/../../etc/passwd", "/v1/kv/../../../etc/passwd"] {
        let response = node.get(path);
        assert!(matches!(response.status, 301 | 400 | 404), "{path}: {}", response.status);
        assert!(!response.text().contains("root:"), "{path}");
    }
    // Encoded, they are names like any other, and stay names.
    for path in ["/v1/kv/%2e%2e%2fsecret", "/v1/kv/a%2f..%2fsecret"] {
        assert!(matches!(node.get(path).status, 301 | 404), "{path}");
    }
    for path in ["/v1/kv/a%00b", "/v1/kv/a%0Ab", "/v1/kv/a%7Fb"] {
        let refused = node.get(path);
        assert_eq!(refused.status, 400, "{path}: {}", refused.text());
    }
    for path in ["/v1/kv/a%zzb", "/v1/kv/a%2"] {
        assert_eq!(node.get(path).status, 400, "{path}");
    }
    assert!(node.get("/v1/none").expect(404).text().contains("Invalid URL path"));
    node.get("/none").expect(404);
    node.get(&format!("/v1/kv/{}", "k".repeat(60_000)));
    serves(&mut node);
}

#[test]
fn bodies_that_are_no_json_are_named() {
    let mut node = Node::dev();
    let deep = "[".repeat(100_000);
    let long = format!("{{\"Name\": \"{}\"", "x".repeat(100_000));
    for body in ["", "{", "null", "[]", "7", "\"x\"", "{\"Name\": }", "{\"Name\": \"\\ud800\"}", "\u{0}", &deep, &long] {
        for path in ["/v1/agent/service/register", "/v1/agent/check/register", "/v1/catalog/register", "/v1/catalog/deregister", "/v1/txn"]
        {
            let response = node.put(path, body);
            let nothing_to_do = path == "/v1/txn" && ["[]", "null"].contains(&body);
            assert!((400..=500).contains(&response.status) || nothing_to_do, "{path} {body:.40}: {}", response.status);
            assert!(nothing_to_do || !response.text().is_empty(), "{path} {body:.40} is refused without a word");
        }
    }
    for (path, body, part) in [
        ("/v1/agent/service/register", r#"{"Name": "w", "Potr": 1}"#, "Potr"),
        ("/v1/agent/check/register", r#"{"Name": "c", "TTL": "1m", "Intervall": "1s"}"#, "Intervall"),
        ("/v1/catalog/register", r#"{"Node": "n", "Address": "a", "Srevice": {}}"#, "Srevice"),
        ("/v1/txn", r#"[{"KV": {"Verb": "set", "Key": "k", "Vaule": ""}}]"#, "Vaule"),
    ] {
        let refused = node.put(path, body).expect(400);
        assert!(refused.text().contains(part), "{path}: {}", refused.text());
    }
    let large = format!(r#"{{"Name": "w", "Meta": {{"k": "{}"}}}}"#, "x".repeat(8 << 20));
    node.put("/v1/agent/service/register", large).expect(413);
    serves(&mut node);
}

#[test]
fn filters_and_numbers_that_make_no_sense_are_named() {
    let mut node = Node::dev();
    for filter in
        ["Colour%20%3D%3D%20red", "ServicePort%20%3D%3D", "((((", "%22", "ServiceName%20matches%20%22(%22", "not", &"(".repeat(5000)]
    {
        let refused = node.get(&format!("/v1/catalog/service/web?filter={filter}"));
        assert!(refused.status >= 400, "{filter:.40}");
        assert!(refused.text().contains("expression"), "{filter:.40}: {}", refused.text());
    }
    for path in ["/v1/kv/k?index=99999999999999999999", "/v1/kv/k?index=0x1", "/v1/health/service/web?wait=1&index=1"] {
        node.get(path).expect(400);
    }
    for path in ["/v1/catalog/nodes?stale&consistent", "/v1/catalog/nodes?max_stale=soon"] {
        node.get(path).expect(400);
    }
    serves(&mut node);
}

#[test]
fn bytes_that_are_no_http_are_answered_or_dropped() {
    let mut node = Node::dev();
    let http = node.http();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET /v1/kv/k HTTP/9.9\r\n\r\n",
        b"GET /v1/kv/k HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        if let Ok(response) = http.send_raw(bytes) {
            assert!(response.status >= 400, "{bytes:?}: {}", response.status);
        }
    }
    node.get("/v1/kv/k").expect(404);
    let many: String = (0..2000).map(|n| format!("X-Header-{n}: {}\r\n", "v".repeat(100))).collect();
    if let Ok(response) = http.send_raw(format!("GET /v1/kv/k HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes()) {
        assert!(response.status >= 400, "200 kB of header fields: {}", response.status);
    }
    serves(&mut node);
}

#[test]
fn a_body_without_an_end_is_not_swallowed() {
    let mut node = Node::dev();
    let mut stream = TcpStream::connect(node.addresses().http).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"PUT /v1/kv/k HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    // 64 MiB are far above the limit: the agent answers or hangs up before it has them all.
    let mut sent = 0;
    while sent < 1024 && stream.write_all(&chunk).is_ok() {
        sent += 1;
    }
    let mut answer = [0; 12];
    let read = stream.read(&mut answer).unwrap_or(0);
    assert!(sent < 1024 || answer[..read].ends_with(b" 413"), "64 MiB were taken without a word");
    node.get("/v1/kv/k").expect(404);
    serves(&mut node);
}

fn ask_udp(address: SocketAddr, packet: &[u8]) {
    let socket = UdpSocket::bind((address.ip(), 0)).unwrap();
    socket.send_to(packet, address).unwrap();
}

fn ask_tcp(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    // The other side may hang up in the middle, which is right.
    let _ = stream.write_all(bytes).and_then(|()| stream.read(&mut [0; 512]));
}

/// A question for the A record of `web.service.consul`.
fn question() -> Vec<u8> {
    let mut packet = vec![0x12, 0x34, 0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["web", "service", "consul"] {
        packet.push(label.len() as u8);
        packet.extend_from_slice(label.as_bytes());
    }
    packet.extend_from_slice(&[0, 0, 1, 0, 1]);
    packet
}

#[test]
fn packets_that_are_no_dns_are_survived() {
    let mut node = Node::dev();
    let dns = node.addresses().dns;
    let loops = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0xc0, 0x0c, 0, 1, 0, 1]].concat();
    let long_label = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], &[0x7f], &[b'x'; 200]].concat();
    let answer = {
        let mut packet = question();
        packet[2] |= 0x80;
        packet
    };
    let many = {
        let mut packet = question();
        packet[4..6].copy_from_slice(&[0xff, 0xff]);
        packet
    };
    let mut cases = vec![vec![], vec![0], vec![0xff; 12], vec![0; 65_000], loops, long_label, answer, many];
    cases.extend((0..question().len()).map(|length| question()[..length].to_vec()));
    for packet in &cases {
        ask_udp(dns, packet);
    }
    for bytes in [&b"\x00\x00"[..], b"\x00\x05hi", b"\xff\xff", b"\x00\x0c\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
        ask_tcp(dns, bytes);
    }
    serves(&mut node);
}

#[test]
fn questions_with_any_bit_wrong_are_survived() {
    let mut node = Node::dev();
    let dns = node.addresses().dns;
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..3000 {
        let mut packet = question();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..packet.len());
            packet[at] = random.random();
        }
        ask_udp(dns, &packet);
    }
    serves(&mut node);
}

#[test]
fn a_question_of_a_kind_that_is_not_served_is_answered() {
    let node = Node::dev();
    assert_eq!(node.dig(&["consul", "+opcode=UPDATE"]).status, "NOTIMP");
    let chaos = node.dig(&["version.bind", "CH", "TXT"]);
    assert!(["REFUSED", "NOTIMP", "NXDOMAIN"].contains(&chaos.status.as_str()), "{}", chaos.text);
    let transfer = node.dig(&["consul", "AXFR"]);
    assert!(transfer.text.contains("Transfer failed") || transfer.answer.is_empty(), "{}", transfer.text);
}

#[test]
fn frames_that_are_no_grpc_are_survived() {
    let mut node = Node::dev();
    let grpc = node.addresses().grpc;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for after in [
        &[][..],
        &[0xff; 64],
        &[0x7f, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0xff],
        &[0, 0, 8, 3, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
    ] {
        ask_tcp(grpc, &[preface.as_slice(), &settings, after].concat());
    }
    ask_tcp(grpc, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    ask_tcp(grpc, &[0; 4096]);
    serves(&mut node);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_no_protobuf_are_refused() {
    let mut node = Node::dev();
    let channel = node.client().await.channel();
    for message in [&b"\xff\xff\xff\xff"[..], b"\x12\xff\xff\xff\xff\x0f", b"\x0a\x7fx", b"\x12\x01k\x12\x01j\x07"] {
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/lictor.v1.KvService/Get");
        let request = tonic::Request::new(bytes::Bytes::copy_from_slice(message));
        let refused = client.unary::<_, bytes::Bytes, _>(request, path, Raw).await.unwrap_err();
        assert!(matches!(refused.code(), tonic::Code::Internal | tonic::Code::InvalidArgument), "{message:?}: {refused:?}");
    }
    tokio::task::block_in_place(|| serves(&mut node));
}

/// Bytes as they are in place of a message.
#[derive(Clone, Copy)]
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = bytes::Bytes;
    type Decode = bytes::Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = bytes::Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: bytes::Bytes, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        bytes::BufMut::put(out, item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = bytes::Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, bytes: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<bytes::Bytes>, tonic::Status> {
        use bytes::Buf;
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}

#[test]
fn connections_that_say_nothing_take_nobody_s_place() {
    let mut node = Node::dev();
    let held: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(node.addresses().http).unwrap()).collect();
    let silent: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect(node.addresses().dns).unwrap()).collect();
    serves(&mut node);
    drop((held, silent));
    eventually!(PATIENCE, node.http().try_send("GET", "/v1/kv/alive", &[], b"").is_ok());
}

#[test]
fn while_it_cannot_answer_it_does_not_pretend() {
    let mut node = Node::durable();
    for n in 0..200 {
        node.put(&format!("/v1/kv/k{n}"), "x").expect(200);
    }
    node.kill();
    node.restart_unready();
    let http = node.http();
    // From the first answer on, either everything is there or the agent says that it is not ready.
    let first = eventually!(PATIENCE, http.try_send("GET", "/v1/kv/?keys", &[], b""), "an answer of any kind");
    match first.status {
        200 => assert_eq!(first.json().as_array().unwrap().len(), 200),
        500 | 503 => assert!(!first.text().is_empty()),
        other => panic!("{other} {} while it catches up", first.text()),
    }
    node.await_ready();
    assert_eq!(node.get("/v1/kv/?keys").expect(200).json().as_array().unwrap().len(), 200);
}
