//! The sending half of gRPC, as cheap as it can be: the generator shares the processors with the
//! server, and each microsecond spent here is one that the server does not get.
//!
//! One connection of HTTP/2 on a socket that never blocks. Requests are put behind each other in one
//! buffer and leave with one system call. Headers that repeat are sent once and then by their
//! place in the compression table, as every client does. Headers of answers are not read: an answer
//! of gRPC is good when it carries a message.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What the server may send before it hears from us: more than it ever will between two looks.
const WINDOW: u32 = 1 << 30;

/// Room for answers. Frames are at most 16 KiB, because we do not allow more.
const INPUT: usize = 256 * 1024;

mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RESET: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GO_AWAY: u8 = 7;
    pub(super) const WINDOW_UPDATE: u8 = 8;
}

mod flag {
    pub(super) const END_STREAM: u8 = 1;
    pub(super) const ACK: u8 = 1;
    pub(super) const END_HEADERS: u8 = 4;
    pub(super) const PADDED: u8 = 8;
}

/// What an answer consists of.
pub(crate) enum Event {
    /// Bytes of the body, at this place of [`Connection::bytes`]; `end` ends the stream.
    Data { stream: u32, bytes: Range<usize>, end: bool },
    /// Headers or trailers.
    Headers { stream: u32, end: bool },
    /// The server gave the stream up, with this code of HTTP/2.
    Reset { stream: u32, code: u32 },
}

/// One connection to a gRPC server.
pub(crate) struct Connection {
    socket: TcpStream,
    authority: String,
    input: Box<[u8]>,
    unread: Range<usize>,
    output: Vec<u8>,
    next_stream: u32,
    /// Bytes of messages that the server is ready to take, on all streams together.
    window: i64,
    /// The same for one stream, when it begins.
    stream_window: i64,
    /// Streams that the server allows at once.
    streams_max: u32,
    /// Bytes that came in and were not yet reported back.
    unreported: u32,
    /// The path that is in the compression table.
    path: Option<&'static str>,
}

impl Connection {
    /// Connects, and waits for the server's settings.
    pub(crate) fn open(address: SocketAddr) -> Result<Connection> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut hello = PREFACE.to_vec();
        frame(&mut hello, 12, kind::SETTINGS, 0, 0);
        hello.extend_from_slice(&[0, 2, 0, 0, 0, 0, 0, 4]);
        hello.extend_from_slice(&WINDOW.to_be_bytes());
        frame(&mut hello, 4, kind::WINDOW_UPDATE, 0, 0);
        hello.extend_from_slice(&WINDOW.to_be_bytes());
        socket.write_all(&hello)?;
        socket.set_nonblocking(true)?;
        let mut connection = Connection {
            socket,
            authority: address.to_string(),
            input: vec![0; INPUT].into(),
            unread: 0..0,
            output: Vec::with_capacity(64 * 1024),
            next_stream: 1,
            window: 65_535,
            stream_window: 65_535,
            streams_max: 0,
            unreported: 0,
            path: None,
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while connection.streams_max == 0 {
            connection.wait(deadline)?;
            connection.fill()?;
            ensure!(connection.next()?.is_none(), "the server answered before it was asked");
        }
        Ok(connection)
    }

    /// Streams that the server allows at once.
    pub(crate) fn streams_max(&self) -> u32 {
        self.streams_max
    }

    /// Whether the server is ready to take a message of this size.
    pub(crate) fn takes(&self, message: usize) -> bool {
        self.window >= message as i64 + 5 && self.stream_window >= message as i64 + 5
    }

    /// Opens a stream for a call, and says its number.
    pub(crate) fn begin(&mut self, path: &'static str) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let at = self.output.len();
        frame(&mut self.output, 0, kind::HEADERS, flag::END_HEADERS, stream);
        self.output.extend_from_slice(&[0x83, 0x86]); // :method POST, :scheme http
        match self.path {
            None => {
                self.path = Some(path);
                literal(&mut self.output, 0x44, path); // :path, and into the table, as those below
                literal(&mut self.output, 0x41, &self.authority);
                literal(&mut self.output, 0x5f, "application/grpc");
                self.output.push(0x40);
                text(&mut self.output, "te");
                text(&mut self.output, "trailers");
            }
            Some(known) if known == path => self.output.extend_from_slice(&[0xc1, 0xc0, 0xbf, 0xbe]),
            Some(_) => {
                literal(&mut self.output, 0x04, path); // not into the table
                self.output.extend_from_slice(&[0xc0, 0xbf, 0xbe]);
            }
        }
        let length = self.output.len() - at - 9;
        self.output[at..at + 3].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
        stream
    }

    /// Adds a message to a stream; `end` says that it is the last.
    pub(crate) fn message(&mut self, stream: u32, message: &[u8], end: bool) {
        let length = message.len() + 5;
        frame(&mut self.output, length, kind::DATA, if end { flag::END_STREAM } else { 0 }, stream);
        self.output.push(0);
        self.output.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.output.extend_from_slice(message);
        self.window -= length as i64;
    }

    /// Sends what is buffered; says whether all of it went.
    pub(crate) fn flush(&mut self) -> Result<bool> {
        let mut sent = 0;
        while sent < self.output.len() {
            match self.socket.write(&self.output[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("the connection broke while sending"),
            }
        }
        self.output.drain(..sent);
        Ok(self.output.is_empty())
    }

    /// Reads what has come in, without waiting.
    pub(crate) fn fill(&mut self) -> Result<usize> {
        if self.unread.start > 0 {
            self.input.copy_within(self.unread.clone(), 0);
            self.unread = 0..self.unread.len();
        }
        match self.socket.read(&mut self.input[self.unread.end..]) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(bytes) => {
                self.unread.end += bytes;
                Ok(bytes)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) => Err(error).context("the connection broke while receiving"),
        }
    }

    /// The bytes of an event. They are there until the next [`Connection::fill`].
    pub(crate) fn bytes(&self, place: Range<usize>) -> &[u8] {
        &self.input[place]
    }

    /// The next part of an answer that is complete. What belongs to the connection itself is dealt
    /// with here, and may leave something to flush.
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        while let Some((kind, flags, stream, payload)) = self.next_frame() {
            let end = flags & flag::END_STREAM != 0;
            match kind {
                kind::DATA => {
                    ensure!(flags & flag::PADDED == 0, "padded frames are not understood");
                    self.report(payload.len());
                    return Ok(Some(Event::Data { stream, bytes: payload, end }));
                }
                kind::HEADERS => return Ok(Some(Event::Headers { stream, end })),
                kind::RESET => return Ok(Some(Event::Reset { stream, code: self.number(payload.start) })),
                kind::SETTINGS if flags & flag::ACK == 0 => self.settings(payload)?,
                kind::PING if flags & flag::ACK == 0 => {
                    frame(&mut self.output, 8, kind::PING, flag::ACK, 0);
                    self.output.extend_from_slice(&self.input[payload]);
                }
                kind::WINDOW_UPDATE if stream == 0 => self.window += i64::from(self.number(payload.start)),
                kind::GO_AWAY => {
                    let code = self.number(payload.start + 4);
                    let why = String::from_utf8_lossy(&self.input[payload.start + 8..payload.end]).into_owned();
                    bail!("the server ended the connection with code {code} {why}");
                }
                _ => {}
            }
        }
        Ok(None)
    }

    /// One call from beginning to end: the message of the answer.
    pub(crate) fn call(&mut self, path: &'static str, message: &[u8], deadline: Instant) -> Result<Vec<u8>> {
        let stream = self.begin(path);
        self.message(stream, message, true);
        self.flush()?;
        self.answer(stream, path, deadline)
    }

    /// Waits for the answer to the only call that is under way: its message.
    pub(crate) fn answer(&mut self, stream: u32, path: &str, deadline: Instant) -> Result<Vec<u8>> {
        let mut answer = Vec::new();
        loop {
            self.wait(deadline)?;
            self.fill()?;
            while let Some(event) = self.next()? {
                let end = match event {
                    Event::Data { stream: of, bytes, end } if of == stream => {
                        answer.extend_from_slice(self.bytes(bytes));
                        end
                    }
                    Event::Headers { stream: of, end } if of == stream => end,
                    Event::Reset { stream: of, code } if of == stream => bail!("`{path}` was given up with code {code} of HTTP/2"),
                    _ => false,
                };
                if end {
                    ensure!(answer.len() >= 5, "`{path}` was refused");
                    return Ok(answer.split_off(5));
                }
            }
            self.flush()?;
        }
    }

    fn next_frame(&mut self) -> Option<(u8, u8, u32, Range<usize>)> {
        let at = self.unread.start;
        if self.unread.len() < 9 {
            return None;
        }
        let length = (self.number(at) >> 8) as usize;
        if self.unread.len() < 9 + length {
            return None;
        }
        self.unread.start += 9 + length;
        let (kind, flags) = (self.input[at + 3], self.input[at + 4]);
        Some((kind, flags, self.number(at + 5) & 0x7fff_ffff, at + 9..at + 9 + length))
    }

    fn number(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.input[at], self.input[at + 1], self.input[at + 2], self.input[at + 3]])
    }

    fn settings(&mut self, payload: Range<usize>) -> Result<()> {
        self.streams_max = if self.streams_max == 0 { u32::MAX } else { self.streams_max };
        for at in payload.step_by(6) {
            let value = self.number(at + 2);
            match u16::from_be_bytes([self.input[at], self.input[at + 1]]) {
                1 => ensure!(value >= 256, "the server's compression table is too small for this client"),
                3 => self.streams_max = value,
                4 => self.stream_window = value.into(),
                _ => {}
            }
        }
        frame(&mut self.output, 0, kind::SETTINGS, flag::ACK, 0);
        Ok(())
    }

    /// Opens the connection's window again, long before it closes.
    fn report(&mut self, bytes: usize) {
        self.unreported += bytes as u32;
        if self.unreported >= WINDOW / 2 {
            frame(&mut self.output, 4, kind::WINDOW_UPDATE, 0, 0);
            self.output.extend_from_slice(&self.unreported.to_be_bytes());
            self.unreported = 0;
        }
    }

    fn wait(&self, deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis();
        let limit = PollTimeout::from(u16::try_from(left).unwrap_or(u16::MAX));
        let ready = poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit)?;
        ensure!(ready > 0, "the server did not answer in time");
        Ok(())
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Appends the head of a frame.
fn frame(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let length = (length as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    out.extend_from_slice(&[length[1], length[2], length[3], kind, flags, stream[0], stream[1], stream[2], stream[3]]);
}

/// Appends a header whose name is in the static table, `name` being its first byte.
fn literal(out: &mut Vec<u8>, name: u8, value: &str) {
    out.push(name);
    text(out, value);
}

/// Appends a string as it is, without Huffman's code.
fn text(out: &mut Vec<u8>, value: &str) {
    assert!(value.len() < 127, "headers of this client are short");
    out.push(value.len() as u8);
    out.extend_from_slice(value.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;

    /// A server that says how many streams it allows, waits for a request that ends with `end`, gives
    /// an answer, and keeps all that it hears.
    fn server(end: &'static [u8], answer: Vec<u8>) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket.write_all(&built(&[(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 50])])).unwrap();
            let mut heard = Vec::new();
            let mut byte = [0];
            while !heard.ends_with(end) {
                socket.read_exact(&mut byte).unwrap();
                heard.push(byte[0]);
            }
            socket.write_all(&answer).unwrap();
            socket.read_to_end(&mut heard).unwrap();
            heard
        });
        (address, server)
    }

    /// Frames of these kinds, flags, streams and payloads.
    fn built(frames: &[(u8, u8, u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for &(kind, flags, stream, payload) in frames {
            frame(&mut out, payload.len(), kind, flags, stream);
            out.extend_from_slice(payload);
        }
        out
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_call_sends_its_message_and_puts_the_answer_together() {
        let answer = built(&[
            (kind::PING, 0, 0, b"12345678"),
            (kind::HEADERS, flag::END_HEADERS, 1, &[0x88]),
            (kind::DATA, 0, 1, &[0, 0, 0, 0, 3, b'a']),
            (kind::DATA, 0, 1, b"bc"),
            (kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0xbf]),
        ]);
        let (address, server) = server(b"\0\0\0\0\x05hello", answer);
        let mut connection = Connection::open(address).unwrap();
        assert_eq!(connection.streams_max(), 50);
        assert_eq!(connection.call("/p.S/M", b"hello", soon()).unwrap(), b"abc");
        connection.flush().unwrap();
        drop(connection);
        let heard = server.join().unwrap();
        let contains = |part: &[u8]| heard.windows(part.len()).any(|window| window == part);
        assert!(heard.starts_with(PREFACE) && contains(b"/p.S/M"));
        assert!(contains(b"\0\0\x08\x06\x01\0\0\0\x0012345678"), "the ping was answered");
    }

    #[test]
    fn an_answer_without_a_message_is_a_refusal() {
        let answer = built(&[(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 1, &[0x88])]);
        let (address, server) = server(b"\0\0\0\0\x05hello", answer);
        let mut connection = Connection::open(address).unwrap();
        let error = connection.call("/p.S/M", b"hello", soon()).unwrap_err().to_string();
        assert_eq!(error, "`/p.S/M` was refused");
        drop(connection);
        server.join().unwrap();
    }
}
