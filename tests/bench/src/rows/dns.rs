//! Address records of a service with three instances, over UDP.

use anyhow::Result;

use super::Bench;
use crate::dns;
use crate::lictor::Storage;
use crate::machine::UDP_SOCKETS;
use crate::report::{Beside, Row, Unit};

pub(super) const ROWS: [&str; 1] = ["dns"];

const INSTANCES: u16 = 3;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let agent = bench.agent(Storage::Durable)?;
    let mut http = agent.http()?;
    (0..INSTANCES).try_for_each(|number| agent.register(&mut http, "web", number.into()))?;
    let question = dns::question("web.service.consul", dns::A);
    let load = dns::load(agent.ports.dns, UDP_SOCKETS, &question, INSTANCES, bench.plan(), Some(&agent.process))?;
    let row = Row::new("dns", "DNS, A of a service, UDP", Unit::Rate).wants(80_000.0, 150_000.0).loaded(&load);
    let note = if load.lost > 0 { format!("{} questions were lost and asked again", load.lost) } else { String::new() };
    rows.push(Row { beside: Some(Beside::Udp), note, ..row });
    Ok(())
}
