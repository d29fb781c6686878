//! The health of a large service, as HTTP clients ask for it.

use anyhow::Result;

use super::Bench;
use crate::http1;
use crate::lictor::Storage;
use crate::report::{Beside, Row, Unit};
use crate::requests::Same;

pub(super) const ROWS: [&str; 1] = ["health"];

const INSTANCES: usize = 1000;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let agent = bench.agent(Storage::Durable)?;
    let mut http = agent.http()?;
    (0..INSTANCES).try_for_each(|number| agent.register(&mut http, "web", number))?;
    // Every instance has a node, a service and a check, each with its name.
    let answer_bytes_min = INSTANCES * 300;
    let request = b"GET /v1/health/service/web HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let mut ask = Same { request, answer_bytes_min };
    let load = http1::load(agent.ports.http, 16, bench.plan(), &mut ask, Some(&agent.process))?;
    let row = Row::new("health", "HTTP health of 1,000 instances, 16 clients", Unit::Rate).wants(1_000.0, 3_000.0).loaded(&load);
    let note = format!("{:.0} KiB an answer", load.bytes as f64 / load.operations as f64 / 1024.0);
    rows.push(Row { beside: Some(Beside::Stream(load.bytes as f64 / load.seconds)), note, ..row });
    Ok(())
}
