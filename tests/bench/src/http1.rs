//! HTTP/1.1 with connections that are kept: a client that reads of an answer what it needs.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::load::{Load, Plan, Poller, Recorder};
use crate::process::Process;

/// Requests of one kind.
pub(crate) trait Ask {
    /// The next request, whole.
    fn request(&mut self) -> &[u8];
    /// Least size of the body of a good answer, in bytes.
    fn answer_bytes_min(&self) -> usize;
}

/// One connection, with one request at a time.
pub(crate) struct Connection {
    socket: TcpStream,
    input: Vec<u8>,
    filled: usize,
    /// The answer whose body is being read, and how much of it is to come.
    reading: Option<(Answer, usize)>,
}

/// What is kept of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Size of the body.
    pub(crate) bytes: usize,
    /// `X-Consul-Index`, where there is one.
    pub(crate) index: u64,
}

impl Connection {
    /// Connects; `room` is the size of the buffer for what comes in.
    pub(crate) fn open(address: SocketAddr, room: usize) -> Result<Connection> {
        let socket = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        Ok(Connection { socket, input: vec![0; room], filled: 0, reading: None })
    }

    /// Makes calls return instead of waiting.
    pub(crate) fn never_wait(&self) -> Result<()> {
        Ok(self.socket.set_nonblocking(true)?)
    }

    /// Sends one request. Requests are small, so a socket that takes only a part of one is broken.
    pub(crate) fn send(&mut self, request: &[u8]) -> Result<()> {
        self.socket.write_all(request).context("the connection broke while sending")
    }

    /// Reads once, and says the answer when it is complete.
    pub(crate) fn receive(&mut self) -> Result<(usize, Option<Answer>)> {
        let bytes = match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok((0, None)),
            Err(error) => return Err(error).context("the connection broke while receiving"),
        };
        Ok((bytes, self.take(bytes)?))
    }

    fn take(&mut self, bytes: usize) -> Result<Option<Answer>> {
        if let Some((answer, missing)) = self.reading {
            ensure!(bytes <= missing, "the server sent more than it announced");
            self.reading = (bytes < missing).then_some((answer, missing - bytes));
            return Ok(self.reading.is_none().then_some(answer));
        }
        self.filled += bytes;
        let Some((answer, head)) = parse(&self.input[..self.filled])? else {
            ensure!(self.filled < self.input.len(), "the head of an answer is larger than {} bytes", self.filled);
            return Ok(None);
        };
        let body = self.filled - head;
        ensure!(body <= answer.bytes, "the server sent more than it announced");
        self.filled = 0;
        self.reading = (body < answer.bytes).then_some((answer, answer.bytes - body));
        Ok(self.reading.is_none().then_some(answer))
    }

    /// Sends one request and waits for the whole answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<(Answer, Vec<u8>)> {
        self.socket.set_nonblocking(false)?;
        self.socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        self.send(request)?;
        let mut whole = Vec::new();
        loop {
            let bytes = self.socket.read(&mut self.input).context("the server did not answer in 10 s")?;
            ensure!(bytes > 0, "the server closed the connection");
            whole.extend_from_slice(&self.input[..bytes]);
            if let Some((answer, head)) = parse(&whole)?
                && whole.len() >= head + answer.bytes
            {
                return Ok((answer, whole.split_off(head)));
            }
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// The head of an answer and its size, when it is complete.
fn parse(input: &[u8]) -> Result<Option<(Answer, usize)>> {
    let Some(head) = input.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
    let text = std::str::from_utf8(&input[..head]).context("the head of an answer is not text")?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let mut answer = Answer { status: status.with_context(|| format!("not an answer: `{text}`"))?, bytes: 0, index: 0 };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        if name.eq_ignore_ascii_case("content-length") {
            answer.bytes = value.trim().parse().context("the length of an answer is no number")?;
        } else if name.eq_ignore_ascii_case("x-consul-index") {
            answer.index = value.trim().parse().context("the index of an answer is no number")?;
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            bail!("answers in chunks are not understood");
        }
    }
    Ok(Some((answer, head + 4)))
}

/// Sends one request on a connection of its own: the body of the answer, which has to be a success.
pub(crate) fn once(address: SocketAddr, method: &str, path: &str, body: &str) -> Result<(Answer, Vec<u8>)> {
    let mut connection = Connection::open(address, 64 * 1024)?;
    let length = body.len();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    let (answer, body) = connection.ask(request.as_bytes())?;
    let said = String::from_utf8_lossy(&body);
    ensure!(answer.status == 200, "`{method} {path}` was answered {}: {}", answer.status, said.trim());
    Ok((answer, body))
}

/// Puts load on a server: each client sends its next request when its last one is answered.
pub(crate) fn load(address: SocketAddr, clients: usize, plan: Plan, ask: &mut dyn Ask, server: Option<&Process>) -> Result<Load> {
    let mut poller = Poller::new()?;
    let mut lines = Vec::with_capacity(clients);
    for token in 0..clients {
        let connection = Connection::open(address, 512 * 1024)?;
        connection.never_wait()?;
        poller.add(&connection, token)?;
        lines.push((connection, Instant::now()));
    }
    let mut recorder = Recorder::begin(plan, server);
    for (connection, since) in &mut lines {
        *since = Instant::now();
        connection.send(ask.request())?;
    }
    let mut last_answer = Instant::now();
    while recorder.goes_on(Instant::now())? {
        let ready = poller.wait(Duration::from_millis(100))?;
        for at in 0..ready {
            let (connection, since) = &mut lines[poller.token(at)];
            let (bytes, answer) = connection.receive()?;
            recorder.received(bytes);
            let Some(answer) = answer else { continue };
            ensure!(answer.status == 200, "a request was answered {}", answer.status);
            ensure!(answer.bytes >= ask.answer_bytes_min(), "a request was answered with {} bytes only", answer.bytes);
            last_answer = Instant::now();
            recorder.done(*since, last_answer);
            *since = last_answer;
            connection.send(ask.request())?;
        }
        ensure!(last_answer.elapsed() < Duration::from_secs(10), "HTTP requests were not answered for 10 s");
    }
    recorder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_when_it_is_complete() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nX-Consul-Index: 12\r\n\r\nhello";
        let answer = Answer { status: 200, bytes: 5, index: 12 };
        assert_eq!(parse(head).unwrap(), Some((answer, head.len() - 5)));
        assert_eq!(parse(&head[..30]).unwrap(), None);
        assert!(parse(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
