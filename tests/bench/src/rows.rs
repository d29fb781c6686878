//! The rows, in groups: each group starts an agent of its own, so that none sees what another left.

mod blocking;
mod checks;
mod cluster;
mod dns;
mod health;
mod idle;
mod keys;
mod million;
mod snapshot;
mod watches;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::lictor::{Agent, Storage};
use crate::load::{Load, Plan};
use crate::report::Row;

/// What all rows share.
pub(crate) struct Bench {
    /// The agent's binary.
    pub(crate) binary: PathBuf,
    /// Where data lies while it is needed.
    pub(crate) dir: PathBuf,
    /// Parts of the names of rows that are wanted; empty wants all.
    pub(crate) filters: Vec<String>,
    /// Whether etcd is left out.
    pub(crate) alone: bool,
    /// How long load is put on in each row, in all.
    pub(crate) time: Duration,
    /// Keys that are written and read.
    pub(crate) keys: u64,
    /// Keys of the row for many keys.
    pub(crate) keys_large: u64,
}

/// One group: its name, the rows in it, and what measures those that are wanted.
struct Group {
    name: &'static str,
    rows: &'static [&'static str],
    run: fn(&Bench, &mut Vec<Row>) -> Result<()>,
}

/// All groups, in the order in which they run.
const GROUPS: [Group; 10] = [
    Group { name: "idle", rows: &idle::ROWS, run: idle::run },
    Group { name: "keys", rows: &keys::ROWS, run: keys::run },
    Group { name: "dns", rows: &dns::ROWS, run: dns::run },
    Group { name: "health", rows: &health::ROWS, run: health::run },
    Group { name: "blocking", rows: &blocking::ROWS, run: blocking::run },
    Group { name: "checks", rows: &checks::ROWS, run: checks::run },
    Group { name: "watches", rows: &watches::ROWS, run: watches::run },
    Group { name: "cluster", rows: &cluster::ROWS, run: cluster::run },
    Group { name: "million", rows: &million::ROWS, run: million::run },
    Group { name: "snapshot", rows: &snapshot::ROWS, run: snapshot::run },
];

impl Bench {
    /// Whether a row is wanted.
    fn wants(&self, row: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| row.contains(filter.as_str()))
    }

    /// Starts an agent without any data.
    fn agent(&self, storage: Storage) -> Result<Agent> {
        Agent::start(&self.binary, &self.dir.join("agent"), storage)
    }

    /// Load for the time of one row.
    fn plan(&self) -> Plan {
        Plan::lasting(self.time)
    }

    /// Measures every row that is wanted. A group that fails is told of and does not stop the others;
    /// says whether none did.
    pub(crate) fn run(&self, rows: &mut Vec<Row>) -> bool {
        let mut all_well = true;
        for group in &GROUPS {
            if !group.rows.iter().any(|row| self.wants(row)) {
                continue;
            }
            eprintln!("measuring {}", group.name);
            if let Err(error) = (group.run)(self, rows).with_context(|| format!("group `{}`", group.name)) {
                eprintln!("error: {error:#}");
                all_well = false;
            }
        }
        all_well
    }
}

/// Several stretches of one load as one: latencies and processor time of all, and the median rate.
fn together(turns: &[Load]) -> (Load, f64) {
    let mut all = Load::default();
    for turn in turns {
        all.operations += turn.operations;
        all.seconds += turn.seconds;
        all.latency.merge(&turn.latency);
        all.cpu.add(turn.cpu);
        all.bytes += turn.bytes;
        all.lost += turn.lost;
    }
    (all, median(turns.iter().map(Load::rate).collect()))
}

/// The middle one of some figures, the lower one of two; zero of none.
fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Bytes as MiB.
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
