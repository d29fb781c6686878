//! Requests as they are, byte for byte: no path is cleaned, no header added in silence.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// A connection takes as long as a blocking query may, and a little more.
const TIMEOUT: Duration = Duration::from_secs(120);

/// One HTTP face. Every request has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub struct Http {
    address: SocketAddr,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Header fields in their order, names as they were sent.
    pub headers: Vec<(String, String)>,
    /// Body, whole.
    pub body: Vec<u8>,
}

impl Http {
    /// The face at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Http { address }
    }

    /// `GET path`.
    pub fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"")
    }

    /// `PUT path`.
    pub fn put(&self, path: &str, body: impl AsRef<[u8]>) -> Response {
        self.send("PUT", path, &[], body.as_ref())
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Response {
        self.send("DELETE", path, &[], b"")
    }

    /// Any request; panics when there is no answer.
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("no answer to {method} {path}: {error}"))
    }

    /// Any request, or why there was no answer.
    pub fn try_send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<Response> {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat(), method == "HEAD")
    }

    /// `PUT` of something that may be put twice, again until it is acknowledged: an election that comes in between is none of
    /// the test's business.
    pub fn put_until_done(&self, path: &str, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        crate::eventually!(
            crate::PATIENCE,
            self.try_send("PUT", path, &[], body).is_ok_and(|answer| answer.status == 200),
            "`{path}` is put"
        );
    }

    /// Sends bytes that need not be a request, and reads what may be an answer.
    pub fn send_raw(&self, bytes: &[u8]) -> std::io::Result<Response> {
        self.raw(bytes, false)
    }

    fn raw(&self, bytes: &[u8], bodyless: bool) -> std::io::Result<Response> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        // A server may refuse a large body before it has read it; its answer counts all the same.
        let written = stream.write_all(bytes);
        match read_response(&mut BufReader::new(stream), bodyless) {
            Ok(response) => Ok(response),
            Err(error) => written.and(Err(error)),
        }
    }
}

impl Response {
    /// The answer that comes from a connection over which a request went.
    pub fn read(from: impl std::io::Read) -> std::io::Result<Response> {
        read_response(&mut BufReader::new(from), false)
    }
}

fn read_response(reader: &mut impl BufRead, bodyless: bool) -> std::io::Result<Response> {
    let (mut status, mut headers);
    loop {
        (status, headers) = read_head(reader)?;
        if status != 100 {
            break;
        }
    }
    let mut response = Response { status, headers, body: Vec::new() };
    if bodyless || status == 204 || status == 304 {
        return Ok(response);
    }
    match (response.header("transfer-encoding"), response.header("content-length")) {
        (Some("chunked"), _) => read_chunks(reader, &mut response.body)?,
        (_, Some(length)) => {
            let length: u64 = length.parse().map_err(|_| malformed("the content length is no number"))?;
            reader.take(length).read_to_end(&mut response.body)?;
            if response.body.len() as u64 != length {
                return Err(malformed("the body was cut short"));
            }
        }
        _ => drop(reader.read_to_end(&mut response.body)?),
    }
    Ok(response)
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<(u16, Vec<(String, String)>)> {
    let status_line = read_line(reader)?;
    let status = status_line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| malformed(&format!("no status line: `{status_line}`")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a header line without a colon"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_line(reader: &mut impl BufRead) -> std::io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Err(malformed("the connection was closed"));
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

fn read_chunks(reader: &mut impl BufRead, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let size = u64::from_str_radix(read_line(reader)?.split(';').next().unwrap_or_default(), 16);
        let size = size.map_err(|_| malformed("the size of a chunk is no number"))?;
        reader.by_ref().take(size).read_to_end(body)?;
        read_line(reader)?;
        if size == 0 {
            return Ok(());
        }
    }
}

fn malformed(text: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, text)
}

impl Response {
    /// The first header field of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `X-Consul-Index`, which must be there.
    pub fn index(&self) -> u64 {
        let text = self.header("x-consul-index").unwrap_or_else(|| panic!("no X-Consul-Index in {:?}", self.headers));
        text.parse().unwrap_or_else(|_| panic!("X-Consul-Index is `{text}`"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{} with no JSON ({error}): {}", self.status, self.text()))
    }

    /// The same, once the status is as expected.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "the body is: {}", self.text());
        self
    }
}
