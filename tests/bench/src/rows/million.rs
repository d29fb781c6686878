//! Many keys: what they need, and how soon they are there again after a crash.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Bench, mebibytes};
use crate::grpc::{self, Shape};
use crate::lictor::{Agent, Storage};
use crate::load::Plan;
use crate::report::{Row, Unit};
use crate::requests::{self, Keys, Template};

pub(super) const ROWS: [&str; 3] = ["million-load", "million-memory", "million-restart"];

const VALUE: usize = 100;
const CLIENTS: usize = 256;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let mut agent = bench.agent(Storage::Durable)?;
    let mut puts = Template::lictor_put(VALUE, Keys::InTurn);
    let plan = Plan::counting(bench.keys_large);
    let load = grpc::load(agent.ports.grpc, Shape::of(CLIENTS), plan, &mut puts, Some(&agent.process))?;
    let row = Row::new("million-load", "1,000,000 new keys of 100 B, 256 clients", Unit::Rate);
    rows.push(Row { note: format!("{:.0} s for all", load.seconds), ..row.loaded(&load) });

    agent.process.settle(Duration::from_secs(20))?;
    let memory = agent.process.memory()?;
    let row = Row::new("million-memory", "1,000,000 keys of 100 B, resident", Unit::Mebibytes).wants(600.0, 350.0);
    let note = format!("{:.0} MiB of it are its own, the rest is its program and mapped files", mebibytes(memory.own));
    rows.push(Row { note, ..row.reached(mebibytes(memory.resident)) });

    let (after, found) = agent.crash_and_restart(&requests::key(bench.keys_large / 2))?;
    ensure!(found, "an acknowledged key is gone after a crash");
    expect_all(&agent, bench.keys_large)?;
    let memory = agent.process.memory()?;
    let row = Row::new("million-restart", "1,000,000 keys: kill -9 and restart, ready", Unit::Seconds).wants(3.0, 1.0);
    let note = format!("{:.0} MiB resident afterwards", mebibytes(memory.resident));
    rows.push(Row { note, ..row.reached(after.as_secs_f64()) });
    Ok(())
}

/// Looks for one in a thousand of the keys that were certainly acknowledged. When the load stopped,
/// those of the last few requests may not have been.
fn expect_all(agent: &Agent, keys: u64) -> Result<()> {
    let acknowledged = keys.saturating_sub(CLIENTS as u64);
    for number in (0..acknowledged).step_by(1000).chain(acknowledged.checked_sub(1)) {
        ensure!(agent.get(&requests::key(number))?.is_some(), "key {number} was acknowledged and is gone after a crash");
    }
    Ok(())
}
