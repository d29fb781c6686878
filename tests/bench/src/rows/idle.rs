//! An agent that has nothing to do: how soon it is ready, and what it needs.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;

use super::{Bench, mebibytes, median};
use crate::lictor::Storage;
use crate::report::{Row, Unit};

pub(super) const ROWS: [&str; 2] = ["start-dev", "memory-dev"];

const STARTS: usize = 20;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    if bench.wants("start-dev") {
        let times = (0..STARTS).map(|_| Ok(bench.agent(Storage::Dev)?.ready_after.as_secs_f64() * 1000.0)).collect::<Result<Vec<_>>>()?;
        let worst = times.iter().copied().fold(0.0, f64::max);
        let row = Row::new("start-dev", "start of `-dev` until ready, median of 20", Unit::Millis).wants(150.0, 150.0);
        rows.push(Row { note: format!("the slowest start took {worst:.0} ms"), ..row.reached(median(times)) });
    }
    if bench.wants("memory-dev") {
        let agent = bench.agent(Storage::Dev)?;
        sleep(Duration::from_secs(2)); // what is allocated late, such as by the first metrics, counts too
        let memory = agent.process.memory()?;
        let row = Row::new("memory-dev", "memory of an idle `-dev`", Unit::Mebibytes).wants(25.0, 15.0);
        let note = format!("{:.1} MiB of it are its own, the rest is its program and mapped files", mebibytes(memory.own));
        rows.push(Row { note, ..row.reached(mebibytes(memory.resident)) });
    }
    Ok(())
}
