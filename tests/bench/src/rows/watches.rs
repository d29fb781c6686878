//! One change, and the many gRPC watches of its key: 100 watches on one stream of each connection,
//! and one watch on each of 100 streams.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;
use proto::v1;
use proto::v1::watch_response::Event as Told;

use super::{Bench, median};
use crate::histogram::Histogram;
use crate::http2::{Connection, Event};
use crate::lictor::Storage;
use crate::load::Poller;
use crate::process::Cpu;
use crate::report::{Row, Unit};

pub(super) const ROWS: [&str; 4] = ["fanout-watch", "memory-per-watch", "fanout-stream", "memory-per-stream"];

const CONNECTIONS: usize = 100;
const WATCHES: usize = 10_000;

/// Watches of one connection.
const SHARE: usize = WATCHES / CONNECTIONS;

/// Changes that are measured, after one that warms up.
const ROUNDS: usize = 12;

const KEY: &str = "wake";
const WATCH: &str = "/lictor.v1.WatchService/Watch";
const PUT: &str = "/lictor.v1.KvService/Put";

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    if ROWS[..2].iter().any(|row| bench.wants(row)) {
        let change = Row::new("fanout-watch", "one change to 10,000 gRPC watches, 100 connections, p99", Unit::Millis);
        let memory = Row::new("memory-per-watch", "memory of an idle gRPC watch, 100 on a stream", Unit::Kibibytes);
        measure(bench, 1, [change.wants(200.0, 60.0), memory.wants(8.0, 2.0)], rows)?;
    }
    if ROWS[2..].iter().any(|row| bench.wants(row)) {
        let change = Row::new("fanout-stream", "the same, each watch on a stream of its own, p99", Unit::Millis);
        let memory = Row::new("memory-per-stream", "memory of an idle gRPC watch with its own stream", Unit::Kibibytes);
        measure(bench, SHARE, [change.wants(200.0, 60.0), memory.wants(8.0, 2.0)], rows)?;
    }
    Ok(())
}

fn measure(bench: &Bench, streams: usize, [change, memory]: [Row; 2], rows: &mut Vec<Row>) -> Result<()> {
    let agent = bench.agent(Storage::Durable)?;
    let mut writer = Connection::open(agent.ports.grpc)?;
    put(&mut writer, 0)?;
    agent.process.settle(Duration::from_secs(5))?;
    let before = agent.process.memory()?;
    let mut watches = Watches::open(agent.ports.grpc, streams)?;
    agent.process.settle(Duration::from_secs(10))?;
    let after = agent.process.memory()?;

    let (mut p99s, mut worst, mut latency) = (Vec::new(), Duration::ZERO, Histogram::default());
    let (mut cpu, mut seconds) = (Cpu::default(), 0.0);
    for round in 0..=ROUNDS {
        agent.process.settle(Duration::from_secs(2))?;
        watches.drain()?;
        let (began, used) = (Instant::now(), Cpu::now(Some(&agent.process))?);
        let times = watches.wake(&mut writer, round + 1)?;
        if round > 0 {
            cpu.add(Cpu::now(Some(&agent.process))?.since(used));
            seconds += began.elapsed().as_secs_f64();
            p99s.push(times.quantile(0.99).as_secs_f64() * 1000.0);
            worst = worst.max(times.quantile(1.0));
            latency.merge(&times);
        }
    }
    let note = format!("median of {ROUNDS} changes; the last of all was delivered after {:.1} ms", worst.as_secs_f64() * 1000.0);
    let (p50, p99) = (Some(latency.quantile(0.5)), Some(latency.quantile(0.99)));
    rows.push(Row { p50, p99, cpu: Some((cpu, seconds)), note, ..change.reached(median(p99s)) });
    rows.push(memory.reached(after.resident.saturating_sub(before.resident) as f64 / 1024.0 / WATCHES as f64));
    Ok(())
}

fn change(round: usize) -> Vec<u8> {
    let value = format!("{round:0100}");
    v1::PutRequest { key: KEY.into(), value: value.into(), ..Default::default() }.encode_to_vec()
}

fn put(writer: &mut Connection, round: usize) -> Result<()> {
    writer.call(PUT, &change(round), Instant::now() + Duration::from_secs(5)).map(|_| ())
}

/// The connections of all watches, and what has come in of messages that are not yet complete.
struct Watches {
    poller: Poller,
    lines: Vec<Line>,
}

struct Line {
    connection: Connection,
    parts: HashMap<u32, Vec<u8>>,
}

impl Watches {
    /// Opens all, and waits until each has told of the present state.
    fn open(address: SocketAddr, streams: usize) -> Result<Watches> {
        let poller = Poller::new()?;
        let mut lines = Vec::with_capacity(CONNECTIONS);
        for token in 0..CONNECTIONS {
            let mut connection = Connection::open(address)?;
            let allowed = connection.streams_max();
            ensure!(streams <= allowed as usize, "the server allows {allowed} streams on a connection, not {streams}");
            let mut parts = HashMap::new();
            for _ in 0..streams {
                let stream = connection.begin(WATCH);
                (1..=SHARE / streams).for_each(|watch| connection.message(stream, &create(watch as u64), false));
                parts.insert(stream, Vec::new());
            }
            connection.flush()?;
            poller.add(&connection, token)?;
            lines.push(Line { connection, parts });
        }
        let mut watches = Watches { poller, lines };
        let began = Instant::now();
        let mut complete = 0;
        while complete < WATCHES {
            ensure!(began.elapsed() < Duration::from_secs(30), "only {complete} of {WATCHES} watches began within 30 s");
            complete += watches.receive(|told| matches!(told, Told::SnapshotEnd(_)), |_| {})?;
        }
        Ok(watches)
    }

    /// Takes what has come in meanwhile, such as bookmarks.
    fn drain(&mut self) -> Result<()> {
        self.receive(|_| false, |_| {}).map(|_| ())
    }

    /// Makes one change, and says how long after it was sent each watch told of it.
    fn wake(&mut self, writer: &mut Connection, round: usize) -> Result<Histogram> {
        let (mut times, mut told) = (Histogram::default(), 0);
        let stream = writer.begin(PUT);
        writer.message(stream, &change(round), true);
        let began = Instant::now();
        writer.flush()?;
        while told < WATCHES {
            ensure!(began.elapsed() < Duration::from_secs(20), "only {told} of {WATCHES} watches told of the change within 20 s");
            told += self.receive(|told| matches!(told, Told::Changes(_)), |now| times.record(now - began))?;
        }
        writer.answer(stream, PUT, Instant::now() + Duration::from_secs(5))?;
        Ok(times)
    }

    /// Reads what is there, waiting a little for something, and says how many messages are wanted ones.
    fn receive(&mut self, wanted: impl Fn(&Told) -> bool, mut found: impl FnMut(Instant)) -> Result<usize> {
        let ready = self.poller.wait(Duration::from_millis(100))?;
        let mut count = 0;
        for at in 0..ready {
            let line = &mut self.lines[self.poller.token(at)];
            line.connection.fill()?;
            let now = Instant::now();
            while let Some(event) = line.connection.next()? {
                match event {
                    Event::Data { stream, bytes, .. } => {
                        let part = line.parts.get_mut(&stream).context("an answer on a stream that is not ours")?;
                        part.extend_from_slice(line.connection.bytes(bytes));
                        each_message(part, |told| {
                            if wanted(&told) {
                                count += 1;
                                found(now);
                            }
                        })?;
                    }
                    Event::Headers { end: true, .. } => bail!("the server ended a watch stream"),
                    Event::Headers { .. } => {}
                    Event::Reset { code, .. } => bail!("the server gave a watch stream up with code {code} of HTTP/2"),
                }
            }
            line.connection.flush()?;
        }
        Ok(count)
    }
}

/// The request for one watch.
fn create(watch: u64) -> Vec<u8> {
    let target = v1::WatchTarget { target: Some(v1::watch_target::Target::KvKey(KEY.into())) };
    let create = v1::WatchCreate { watch_id: watch, target: Some(target), ..Default::default() };
    v1::WatchRequest { request: Some(v1::watch_request::Request::Create(create)) }.encode_to_vec()
}

/// Takes the messages that are complete.
fn each_message(part: &mut Vec<u8>, mut tell: impl FnMut(Told)) -> Result<()> {
    let mut at = 0;
    while let Some(head) = part.get(at..at + 5) {
        let size = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let Some(message) = part.get(at + 5..at + 5 + size) else { break };
        match v1::WatchResponse::decode(message)?.event.context("a watch told nothing")? {
            Told::Reset(reset) => bail!("a watch was reset: {}", reset.message),
            Told::Cancelled(cancelled) => bail!("a watch was cancelled: {cancelled:?}"),
            told => tell(told),
        }
        at += 5 + size;
    }
    part.drain(..at);
    Ok(())
}
