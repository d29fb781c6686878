//! What it costs one agent to ask ten thousand targets every ten seconds.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::Bench;
use crate::http1;
use crate::lictor::Storage;
use crate::report::{Row, Unit};

pub(super) const ROWS: [&str; 1] = ["checks"];

/// How many checks there are, and how often each is run.
const CHECKS: usize = 10_000;
const INTERVAL_SECONDS: usize = 10;

/// How long is measured: three runs of each check.
const MEASURED: Duration = Duration::from_secs(30);

/// Longest time until every check passes.
const PASSING_WITHIN: Duration = Duration::from_secs(60);

/// What share of the runs that are due has to happen, so that being late does not count as being cheap.
const KEPT: f64 = 0.98;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let (target, asked) = target()?;
    let agent = bench.agent(Storage::Dev)?;
    let mut http = agent.http()?;
    for number in 0..CHECKS {
        let body = format!(r#"{{"Name": "c{number}", "HTTP": "http://{target}/health", "Interval": "{INTERVAL_SECONDS}s"}}"#);
        let length = body.len();
        let request = format!("PUT /v1/agent/check/register HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
        let (answer, said) = http.ask(request.as_bytes())?;
        ensure!(answer.status == 200, "a check was not registered: {}", String::from_utf8_lossy(&said));
    }
    await_passing(agent.ports.http)?;
    let (cpu, begun, before) = (agent.process.cpu()?, Instant::now(), asked.load(Ordering::Relaxed));
    sleep(MEASURED);
    let seconds = begun.elapsed().as_secs_f64();
    let (spent, runs) = (agent.process.cpu()? - cpu, asked.load(Ordering::Relaxed) - before);
    let due = (CHECKS / INTERVAL_SECONDS) as f64 * seconds;
    ensure!(runs as f64 >= due * KEPT, "{runs} checks were run in {seconds:.1} s, where {due:.0} were due");
    let row = Row::new("checks", "10,000 HTTP checks at 10 s, of one core", Unit::Percent).wants(50.0, 50.0);
    let load = std::fs::read_to_string("/proc/loadavg").context("`/proc` does not tell the load")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    let note =
        format!("{:.0} runs/s, {:.0} µs of processor time each; load average {load}", runs as f64 / seconds, spent / runs as f64 * 1e6);
    rows.push(Row { note, ..row.reached(spent / seconds * 100.0) });
    Ok(())
}

/// Waits until no check is anything but passing.
fn await_passing(http: SocketAddr) -> Result<()> {
    let begun = Instant::now();
    loop {
        let (_, body) = http1::once(http, "GET", "/v1/agent/checks?filter=Status!=passing", "")?;
        if body.trim_ascii().len() <= 2 {
            return Ok(());
        }
        ensure!(begun.elapsed() < PASSING_WITHIN, "not every check passes after {PASSING_WITHIN:?}");
        sleep(Duration::from_millis(500));
    }
}

/// A server that answers every request with 200, on threads of its own, and counts them.
fn target() -> Result<(SocketAddr, Arc<AtomicU64>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let asked = Arc::new(AtomicU64::new(0));
    for _ in 0..2 {
        let (listener, asked) = (listener.try_clone()?, asked.clone());
        thread::spawn(move || {
            let mut request = [0; 4096];
            for mut stream in listener.incoming().map_while(Result::ok) {
                // A check sends all of its small request at once. One that breaks off is run again.
                if stream.read(&mut request).is_ok_and(|read| read > 0) {
                    asked.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
                }
            }
        });
    }
    Ok((address, asked))
}
