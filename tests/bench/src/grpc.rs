//! Closed loops of gRPC calls: each client sends its next request when its last one is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::http2::{Connection, Event};
use crate::load::{Load, Plan, Poller, Recorder};
use crate::process::Process;

/// Calls of one kind.
pub(crate) trait Call {
    /// The method, as `/package.Service/Method`.
    fn path(&self) -> &'static str;
    /// The next request, encoded. It lies in the call, which is the reason why nothing is allocated.
    fn request(&mut self) -> &[u8];
    /// Least size of the message of a good answer, in bytes. A refusal has no message.
    fn answer_bytes_min(&self) -> usize;
}

/// How many clients there are, and over how many connections.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Calls under way at any time.
    pub(crate) clients: usize,
    /// Connections that they are spread over evenly.
    pub(crate) connections: usize,
}

impl Shape {
    /// The usual spread: one connection for 16 clients, four at most.
    pub(crate) fn of(clients: usize) -> Shape {
        Shape { clients, connections: clients.div_ceil(16).min(4) }
    }
}

/// A call under way.
struct Flight {
    stream: u32,
    since: Instant,
    received: usize,
}

/// One connection and its clients.
struct Line {
    connection: Connection,
    flights: Vec<Flight>,
    /// Clients that have something to send.
    idle: usize,
    flushed: bool,
}

/// Puts load on a server.
pub(crate) fn load(address: SocketAddr, shape: Shape, plan: Plan, call: &mut dyn Call, server: Option<&Process>) -> Result<Load> {
    let mut poller = Poller::new()?;
    let mut lines = connect(address, shape, &poller)?;
    let mut recorder = Recorder::begin(plan, server);
    let mut last_answer = Instant::now();
    for (token, line) in lines.iter_mut().enumerate() {
        line.send(call, token, &poller)?;
    }
    while recorder.goes_on(Instant::now())? {
        let ready = poller.wait(Duration::from_millis(100))?;
        for at in 0..ready {
            let token = poller.token(at);
            let line = &mut lines[token];
            line.receive(call, &mut recorder)?;
            line.send(call, token, &poller)?;
            last_answer = Instant::now();
        }
        ensure!(last_answer.elapsed() < Duration::from_secs(10), "`{}` was not answered for 10 s", call.path());
    }
    recorder.finish()
}

fn connect(address: SocketAddr, shape: Shape, poller: &Poller) -> Result<Vec<Line>> {
    let mut lines = Vec::with_capacity(shape.connections);
    for token in 0..shape.connections {
        let connection = Connection::open(address)?;
        let clients = (shape.clients + token) / shape.connections;
        let allowed = connection.streams_max();
        ensure!(clients <= allowed as usize, "the server allows {allowed} calls on a connection, not {clients}");
        poller.add(&connection, token)?;
        lines.push(Line { connection, flights: Vec::with_capacity(clients), idle: clients, flushed: true });
    }
    Ok(lines)
}

impl Line {
    /// Sends for every client that waits to, as far as the server takes it.
    fn send(&mut self, call: &mut dyn Call, token: usize, poller: &Poller) -> Result<()> {
        let now = Instant::now();
        while self.idle > 0 {
            let path = call.path();
            let request = call.request();
            if !self.connection.takes(request.len()) {
                break;
            }
            let stream = self.connection.begin(path);
            self.connection.message(stream, request, true);
            self.flights.push(Flight { stream, since: now, received: 0 });
            self.idle -= 1;
        }
        let flushed = self.connection.flush()?;
        if flushed != self.flushed {
            poller.also_writable(&self.connection, token, !flushed)?;
            self.flushed = flushed;
        }
        Ok(())
    }

    /// Takes what has come in.
    fn receive(&mut self, call: &dyn Call, recorder: &mut Recorder<'_>) -> Result<()> {
        self.connection.fill()?;
        let now = Instant::now();
        while let Some(event) = self.connection.next()? {
            let (stream, bytes, end) = match event {
                Event::Data { stream, bytes, end } => (stream, bytes.len(), end),
                Event::Headers { stream, end } => (stream, 0, end),
                Event::Reset { code, .. } => bail!("`{}` was given up with code {code} of HTTP/2", call.path()),
            };
            let Some(at) = self.flights.iter().position(|flight| flight.stream == stream) else { continue };
            self.flights[at].received += bytes;
            if end {
                let flight = self.flights.swap_remove(at);
                let message = flight.received.saturating_sub(5);
                ensure!(flight.received >= 5, "`{}` was refused; the server's log may say why", call.path());
                ensure!(message >= call.answer_bytes_min(), "`{}` was answered with {message} bytes only", call.path());
                recorder.done(flight.since, now);
                self.idle += 1;
            }
        }
        Ok(())
    }
}
