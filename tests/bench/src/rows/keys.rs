//! Durable puts and linearizable gets, in turns with etcd where it is installed.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, together};
use crate::etcd::Etcd;
use crate::grpc::{self, Shape};
use crate::http1;
use crate::lictor::{Agent, Storage};
use crate::load::{Load, Plan};
use crate::report::{Beside, Row, Unit};
use crate::requests::{Keys, Template};

pub(super) const ROWS: [&str; 5] = ["puts-1", "puts-64", "puts-256", "gets-grpc", "gets-http"];

/// Turns that the two servers take.
const TURNS: u32 = 3;

/// Size of each value.
const VALUE: usize = 256;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let agent = bench.agent(Storage::Durable)?;
    let etcd = if bench.alone { None } else { Etcd::start(&bench.dir.join("etcd"))? };
    match &etcd {
        Some(etcd) => eprintln!("in turns with {}", etcd.version),
        None if bench.alone => {}
        None => eprintln!("etcd is not installed, so nothing is compared with it (Debian: apt-get install etcd-server)"),
    }
    let pair = Pair { bench, agent: &agent, etcd: etcd.as_ref() };
    pair.fill()?;
    let puts = [
        ("puts-1", "durable puts of 256 B, 1 client", 1, 3_500.0, 5_000.0),
        ("puts-64", "durable puts of 256 B, 64 clients", 64, 25_000.0, 40_000.0),
        ("puts-256", "durable puts of 256 B, 256 clients", 256, 40_000.0, 60_000.0),
    ];
    for (id, work, clients, floor, goal) in puts {
        if bench.wants(id) {
            let row = Row::new(id, work, Unit::Rate).wants(floor, goal);
            let beside = if clients == 1 { Beside::Syncs } else { Beside::Tcp };
            rows.push(Row { beside: Some(beside), ..pair.measure(row, clients, Template::lictor_put, Template::etcd_put)? });
        }
    }
    if bench.wants("gets-grpc") {
        let row = Row::new("gets-grpc", "linearizable gets, 64 clients, gRPC", Unit::Rate).wants(40_000.0, 60_000.0);
        let get = |size, keys| Template::lictor_get(keys, size);
        let row = pair.measure(row, 64, get, |size, keys| Template::etcd_get(keys, size))?;
        rows.push(Row { beside: Some(Beside::Tcp), ..row });
    }
    if bench.wants("gets-http") {
        rows.push(pair.http_gets()?);
    }
    Ok(())
}

/// The two servers.
struct Pair<'a> {
    bench: &'a Bench,
    agent: &'a Agent,
    etcd: Option<&'a Etcd>,
}

impl Pair<'_> {
    /// Writes every key once, so that gets find them and puts replace them.
    fn fill(&self) -> Result<()> {
        let keys = self.bench.keys;
        self.lictor(Template::lictor_put(VALUE, Keys::InTurn), 256, Plan::counting(keys))?;
        if let Some(etcd) = self.etcd {
            self.etcd(etcd, Template::etcd_put(VALUE, Keys::InTurn), 256, Plan::counting(keys))?;
        }
        Ok(())
    }

    /// Puts the same load on both in turns.
    fn measure(
        &self,
        row: Row,
        clients: usize,
        lictor: impl Fn(usize, Keys) -> Template,
        etcd: impl Fn(usize, Keys) -> Template,
    ) -> Result<Row> {
        let plan = Plan::lasting(self.bench.time.max(Duration::from_secs(1)) / TURNS);
        let keys = Keys::AnyOf(self.bench.keys);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..TURNS {
            ours.push(self.lictor(lictor(VALUE, keys), clients, plan)?);
            if let Some(server) = self.etcd {
                theirs.push(self.etcd(server, etcd(VALUE, keys), clients, plan)?);
            }
        }
        let (load, rate) = together(&ours);
        let beside = (!theirs.is_empty()).then(|| together(&theirs)).map(|(load, rate)| (rate, load.latency.quantile(0.99)));
        Ok(Row { etcd: beside, ..row.loaded(&load).reached(rate) })
    }

    fn http_gets(&self) -> Result<Row> {
        let mut ask = Template::http_get(Keys::AnyOf(self.bench.keys), VALUE);
        let load = http1::load(self.agent.ports.http, 64, self.bench.plan(), &mut ask, Some(&self.agent.process))?;
        let row = Row::new("gets-http", "linearizable gets, 64 clients, HTTP", Unit::Rate).wants(40_000.0, 80_000.0);
        Ok(Row { beside: Some(Beside::Tcp), ..row.loaded(&load) })
    }

    fn lictor(&self, mut call: Template, clients: usize, plan: Plan) -> Result<Load> {
        grpc::load(self.agent.ports.grpc, Shape::of(clients), plan, &mut call, Some(&self.agent.process))
    }

    fn etcd(&self, etcd: &Etcd, mut call: Template, clients: usize, plan: Plan) -> Result<Load> {
        grpc::load(etcd.address, Shape::of(clients), plan, &mut call, Some(&etcd.process))
    }
}
