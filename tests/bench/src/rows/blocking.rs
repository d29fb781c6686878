//! One change, and the many HTTP queries that wait for it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, median};
use crate::histogram::Histogram;
use crate::http1::Connection;
use crate::lictor::{Agent, Storage};
use crate::load::Poller;
use crate::process::Cpu;
use crate::report::{Row, Unit};

pub(super) const ROWS: [&str; 2] = ["fanout-http", "memory-per-query"];

const QUERIES: usize = 5000;

/// Changes that are measured, after one that warms up.
const ROUNDS: usize = 12;

/// Bytes of the value that changes.
const VALUE: usize = 100;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let agent = bench.agent(Storage::Durable)?;
    let mut writer = agent.http()?;
    put(&mut writer, 0)?;
    let (answer, _) = writer.ask(b"GET /v1/kv/wake HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    agent.process.settle(Duration::from_secs(5))?;
    let before = agent.process.memory()?;
    let mut queries = Queries::open(&agent)?;
    queries.ask(answer.index)?;
    agent.process.settle(Duration::from_secs(10))?;
    let after = agent.process.memory()?;

    let (mut p99s, mut worst, mut latency) = (Vec::new(), Duration::ZERO, Histogram::default());
    let (mut cpu, mut seconds) = (Cpu::default(), 0.0);
    for round in 0..=ROUNDS {
        agent.process.settle(Duration::from_secs(10))?;
        let (began, used) = (Instant::now(), Cpu::now(Some(&agent.process))?);
        let (times, index) = queries.wake(&mut writer, round + 1)?;
        if round > 0 {
            cpu.add(Cpu::now(Some(&agent.process))?.since(used));
            seconds += began.elapsed().as_secs_f64();
            p99s.push(times.quantile(0.99).as_secs_f64() * 1000.0);
            worst = worst.max(times.quantile(1.0));
            latency.merge(&times);
        }
        queries.ask(index)?;
    }
    let note = format!("median of {ROUNDS} changes; the last of all was delivered after {:.1} ms", worst.as_secs_f64() * 1000.0);
    let row = Row::new("fanout-http", "one change to 5,000 blocked HTTP queries, p99", Unit::Millis).wants(100.0, 40.0);
    let (p50, p99) = (Some(latency.quantile(0.5)), Some(latency.quantile(0.99)));
    rows.push(Row { p50, p99, cpu: Some((cpu, seconds)), note, ..row.reached(median(p99s)) });
    let each = after.resident.saturating_sub(before.resident) as f64 / 1024.0 / QUERIES as f64;
    let memory = Row::new("memory-per-query", "memory of a blocked HTTP query, with its connection", Unit::Kibibytes);
    rows.push(memory.reached(each));
    Ok(())
}

/// Writes the key that all wait for.
fn put(writer: &mut Connection, round: usize) -> Result<()> {
    let (answer, _) = writer.ask(change(round).as_bytes())?;
    ensure!(answer.status == 200, "a put was answered {}", answer.status);
    Ok(())
}

fn change(round: usize) -> String {
    format!("PUT /v1/kv/wake HTTP/1.1\r\nHost: localhost\r\nContent-Length: {VALUE}\r\n\r\n{round:VALUE$}")
}

/// The connections of all queries.
struct Queries {
    poller: Poller,
    connections: Vec<Connection>,
}

impl Queries {
    fn open(agent: &Agent) -> Result<Queries> {
        let poller = Poller::new()?;
        let mut connections = Vec::with_capacity(QUERIES);
        for token in 0..QUERIES {
            let connection = Connection::open(agent.ports.http, 2048).with_context(|| format!("query {token} of {QUERIES}"))?;
            connection.never_wait()?;
            poller.add(&connection, token)?;
            connections.push(connection);
        }
        Ok(Queries { poller, connections })
    }

    /// Lets every query wait for a change after `index`.
    fn ask(&mut self, index: u64) -> Result<()> {
        let request = format!("GET /v1/kv/wake?index={index}&wait=5m HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.connections.iter_mut().try_for_each(|connection| connection.send(request.as_bytes()))
    }

    /// Makes one change, and says how long after it was sent each query had its answer, and the
    /// index in the answers.
    fn wake(&mut self, writer: &mut Connection, round: usize) -> Result<(Histogram, u64)> {
        let change = change(round);
        let (mut times, mut woken, mut index) = (Histogram::default(), 0, 0);
        writer.never_wait()?;
        let began = Instant::now();
        writer.send(change.as_bytes())?;
        while woken < QUERIES {
            ensure!(began.elapsed() < Duration::from_secs(20), "only {woken} of {QUERIES} queries woke within 20 s");
            let ready = self.poller.wait(Duration::from_millis(100))?;
            for at in 0..ready {
                let (_, answer) = self.connections[self.poller.token(at)].receive()?;
                let Some(answer) = answer else { continue };
                ensure!(answer.status == 200, "a blocked query was answered {}", answer.status);
                ensure!(index == 0 || answer.index == index, "queries of one key woke with indexes {index} and {}", answer.index);
                index = answer.index;
                woken += 1;
                times.record(began.elapsed());
            }
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        while writer.receive()?.1.is_none() {
            ensure!(Instant::now() < deadline, "the change itself was not acknowledged");
        }
        Ok((times, index))
    }
}
