//! Three servers on this machine: puts at the leader, gets from a follower, in turns with three of
//! etcd; and how long nothing is written after the leader was killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, median, together};
use crate::cluster::{EtcdCluster, LictorCluster};
use crate::grpc::{self, Shape};
use crate::load::{Load, Plan};
use crate::report::{Beside, Row, Unit};
use crate::requests::{Keys, Template};

pub(super) const ROWS: [&str; 7] =
    ["three-form", "three-puts-1", "three-puts-64", "three-puts-256", "three-gets", "three-kills-p50", "three-kills-p99"];

/// Turns that the two clusters take.
const TURNS: u32 = 3;

/// Size of each value.
const VALUE: usize = 256;

/// Clusters that are begun.
const BEGINNINGS: usize = 10;

/// Times that the leader is killed.
const KILLS: usize = 50;

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    if bench.wants("three-form") {
        let dir = bench.dir.join("three");
        let begun = (0..BEGINNINGS).map(|_| Ok(LictorCluster::start(&bench.binary, &dir)?.formed().as_secs_f64()));
        let slowest = begun.collect::<Result<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
        let work = "3 servers started until each answers, slowest of 10";
        rows.push(Row::new("three-form", work, Unit::Seconds).wants(3.0, 1.0).reached(slowest));
    }
    if !ROWS[1..].iter().any(|row| bench.wants(row)) {
        return Ok(());
    }
    let mut ours = LictorCluster::start(&bench.binary, &bench.dir.join("three"))?;
    let theirs = if bench.alone { None } else { EtcdCluster::start(&bench.dir.join("three-etcd"))? };
    fill(bench, &ours, theirs.as_ref())?;
    let puts = [
        ("three-puts-1", "durable puts on 3 servers, 1 client", 1, 1_500.0, 2_250.0),
        ("three-puts-64", "durable puts on 3 servers, 64 clients", 64, 13_000.0, 20_100.0),
        ("three-puts-256", "durable puts on 3 servers, 256 clients", 256, 20_000.0, 29_700.0),
    ];
    for (id, work, clients, floor, goal) in puts {
        if bench.wants(id) {
            let leader = ours.leader()?.grpc();
            let them = theirs.as_ref().map(EtcdCluster::leader).transpose()?;
            let row = Row::new(id, work, Unit::Rate).wants(floor, goal);
            let beside = if clients == 1 { Beside::Syncs } else { Beside::Tcp };
            let row = measure(bench, row, clients, (leader, Template::lictor_put), them.map(|address| (address, Template::etcd_put)))?;
            rows.push(Row { beside: Some(beside), ..row });
        }
    }
    if bench.wants("three-gets") {
        let follower = ours.follower()?.grpc();
        let them = theirs.as_ref().map(EtcdCluster::follower).transpose()?;
        let row = Row::new("three-gets", "linearizable gets from a follower, 64 clients", Unit::Rate).wants(16_000.0, 23_700.0);
        let lictor = |size, keys| Template::lictor_get(keys, size);
        let etcd = |size, keys| Template::etcd_get(keys, size);
        let row = measure(bench, row, 64, (follower, lictor), them.map(|address| (address, etcd)))?;
        rows.push(Row { beside: Some(Beside::Tcp), ..row });
    }
    drop(theirs);
    if bench.wants("three-kills-p50") || bench.wants("three-kills-p99") {
        let mut pauses = kills(&mut ours)?;
        pauses.sort_by(f64::total_cmp);
        let p99 = pauses[(pauses.len() * 99).div_ceil(100) - 1];
        let work = "leader killed to the next acknowledged write";
        rows.push(Row::new("three-kills-p50", work, Unit::Seconds).wants(1.5, 1.0).reached(median(pauses)));
        rows.push(Row::new("three-kills-p99", work, Unit::Seconds).wants(2.0, 1.0).reached(p99));
    }
    Ok(())
}

/// Writes every key once on both.
fn fill(bench: &Bench, ours: &LictorCluster, theirs: Option<&EtcdCluster>) -> Result<()> {
    let plan = Plan::counting(bench.keys);
    let shape = Shape::of(256);
    grpc::load(ours.leader()?.grpc(), shape, plan, &mut Template::lictor_put(VALUE, Keys::InTurn), None)?;
    if let Some(theirs) = theirs {
        grpc::load(theirs.leader()?, shape, plan, &mut Template::etcd_put(VALUE, Keys::InTurn), None)?;
    }
    Ok(())
}

type Asked<F> = (std::net::SocketAddr, F);

/// Puts the same load on both in turns.
fn measure(
    bench: &Bench,
    row: Row,
    clients: usize,
    (ours, lictor): Asked<impl Fn(usize, Keys) -> Template>,
    theirs: Option<Asked<impl Fn(usize, Keys) -> Template>>,
) -> Result<Row> {
    let plan = Plan::lasting(bench.time.max(Duration::from_secs(1)) / TURNS);
    let keys = Keys::AnyOf(bench.keys);
    let (mut here, mut there): (Vec<Load>, Vec<Load>) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        here.push(grpc::load(ours, Shape::of(clients), plan, &mut lictor(VALUE, keys), None)?);
        if let Some((address, etcd)) = &theirs {
            there.push(grpc::load(*address, Shape::of(clients), plan, &mut etcd(VALUE, keys), None)?);
        }
    }
    let (load, rate) = together(&here);
    let beside = (!there.is_empty()).then(|| together(&there)).map(|(load, rate)| (rate, load.latency.quantile(0.99)));
    Ok(Row { etcd: beside, ..row.loaded(&load).reached(rate) })
}

/// Kills the leader again and again while one client writes, and says how long nothing was
/// acknowledged each time. Every acknowledged write is looked for at the end.
fn kills(cluster: &mut LictorCluster) -> Result<Vec<f64>> {
    let mut pauses = Vec::new();
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let dead = cluster.leader_at()?;
        let survivor = cluster.server((dead + 1) % 3).grpc();
        for n in 0..20 {
            let key = format!("kill/{round}/{n}");
            if crate::cluster::put(survivor, &key, Duration::from_secs(5)).is_ok() {
                acknowledged.push(key);
            }
        }
        cluster.kill(dead)?;
        let began = Instant::now();
        let key = format!("kill/{round}/after");
        while crate::cluster::put(survivor, &key, Duration::from_secs(5)).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(30), "nothing was written for half a minute after kill {round}");
            std::thread::sleep(Duration::from_millis(2));
        }
        pauses.push(began.elapsed().as_secs_f64());
        acknowledged.push(key);
        cluster.restart(dead).with_context(|| format!("after kill {round}"))?;
    }
    let at = cluster.follower()?.grpc();
    for key in &acknowledged {
        ensure!(crate::cluster::has(at, key)?, "the acknowledged write of `{key}` is lost");
    }
    eprintln!("{KILLS} kills, none of {} acknowledged writes is lost", acknowledged.len());
    Ok(pauses)
}
