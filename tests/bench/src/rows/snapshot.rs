//! A million keys saved, looked at, restored, and sent to a follower without any data; and who waits meanwhile.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::{Bench, mebibytes};
use crate::cluster::{self, LictorCluster};
use crate::grpc::{self, Shape};
use crate::lictor::{Agent, Storage};
use crate::load::Plan;
use crate::process::Process;
use crate::report::{Beside, Row, Unit};
use crate::requests::{Keys, Template};

pub(super) const ROWS: [&str; 6] =
    ["snapshot-save", "snapshot-pause-write", "snapshot-pause-read", "snapshot-inspect", "snapshot-restore", "snapshot-follower"];

const VALUE: usize = 100;
const CLIENTS: usize = 256;

/// How long writes and reads are watched while nothing else happens.
const CALM: Duration = Duration::from_secs(3);

pub(super) fn run(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    alone(bench, rows)?;
    if bench.wants("snapshot-follower") {
        rows.push(follower(bench)?);
    }
    Ok(())
}

/// What one server does.
fn alone(bench: &Bench, rows: &mut Vec<Row>) -> Result<()> {
    let agent = bench.agent(Storage::Durable)?;
    fill(bench, agent.ports.grpc)?;
    agent.process.settle(Duration::from_secs(30))?;
    let file = bench.dir.join("backup.snap");
    let address = format!("-grpc-addr={}", agent.ports.grpc);
    let shown = file.to_str().context("the directory has a name that can be written")?;

    let calm = Watched::during(&agent, || std::thread::sleep(CALM))?.1;
    agent.process.forget_peak()?;
    let (save, busy) = Watched::during(&agent, || tool(bench, &["snapshot", "save", &address, shown]))?;
    let save = save?;
    let server = agent.process.peak()?;
    let bytes = file.metadata()?.len();
    let copy = copy(&file)?;
    let row = Row::new("snapshot-save", "1,000,000 keys: `snapshot save`, verified", Unit::Seconds).reached(save.seconds);
    let note = format!("{:.0} MiB; peak: server {:.0} MiB, command {:.0} MiB", mebibytes(bytes), mebibytes(server), mebibytes(save.peak));
    rows.push(Row { note, beside: Some(Beside::Copy(copy)), ..row });
    for (id, work, of) in [
        ("snapshot-pause-write", "longest wait of a put during that", (|w| w.write) as fn(&Watched) -> Duration),
        ("snapshot-pause-read", "longest wait of a linearizable get during that", |w| w.read),
    ] {
        let note = format!("{:.0} ms in {CALM:?} without it", millis(of(&calm)));
        rows.push(Row { note, ..Row::new(id, work, Unit::Millis).reached(millis(of(&busy))) });
    }

    let inspect = tool(bench, &["snapshot", "inspect", shown])?;
    let row = Row::new("snapshot-inspect", "the same: `snapshot inspect`, all of it verified", Unit::Seconds).reached(inspect.seconds);
    let note = format!("peak: command {:.0} MiB", mebibytes(inspect.peak));
    rows.push(Row { note, beside: Some(Beside::Copy(copy)), ..row });

    agent.process.forget_peak()?;
    let (restore, busy) = Watched::during(&agent, || tool(bench, &["snapshot", "restore", &address, shown]))?;
    let restore = restore?;
    let row = Row::new("snapshot-restore", "the same: `snapshot restore` over as many keys", Unit::Seconds).reached(restore.seconds);
    let (server, waited) = (mebibytes(agent.process.peak()?), millis(busy.write));
    let note = format!("peak: server {server:.0} MiB, command {:.0} MiB; longest wait of a put {waited:.0} ms", mebibytes(restore.peak));
    rows.push(Row { note, beside: Some(Beside::Copy(copy)), ..row });
    std::fs::remove_file(&file)?;
    Ok(())
}

/// A follower whose disk was replaced gets everything from the leader.
fn follower(bench: &Bench) -> Result<Row> {
    let mut three = LictorCluster::start(&bench.binary, &bench.dir.join("three"))?;
    fill(bench, three.leader()?.grpc())?;
    let late = (three.leader_at()? + 1) % 3;
    three.kill(late)?;
    three.wipe(late)?;
    // The log behind the state goes some seconds after the last write.
    std::thread::sleep(Duration::from_secs(12));
    let began = Instant::now();
    three.restart(late)?;
    let seconds = began.elapsed().as_secs_f64();
    let last = crate::requests::key(bench.keys_large - CLIENTS as u64 - 1);
    ensure!(cluster::has(three.server(late).grpc(), &last)?, "the follower lacks a key");
    let peak = three.server(late).peak()?;
    let row = Row::new("snapshot-follower", "1,000,000 keys: an empty server started until it answers", Unit::Seconds).reached(seconds);
    Ok(Row { note: format!("peak: follower {:.0} MiB, leader {:.0} MiB", mebibytes(peak), mebibytes(three.leader()?.peak()?)), ..row })
}

fn fill(bench: &Bench, address: std::net::SocketAddr) -> Result<()> {
    let mut puts = Template::lictor_put(VALUE, Keys::InTurn);
    grpc::load(address, Shape::of(CLIENTS), Plan::counting(bench.keys_large), &mut puts, None).map(|_| ())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A command that has run.
struct Ran {
    seconds: f64,
    /// The most memory that it had, in bytes.
    peak: u64,
}

/// Runs a command of the binary to its end.
fn tool(bench: &Bench, arguments: &[&str]) -> Result<Ran> {
    let log = bench.dir.join("command.log");
    let began = Instant::now();
    let mut process = Process::start(Command::new(&bench.binary).args(arguments), &log)?;
    let mut peak = 0;
    let status = loop {
        // It may end between the two.
        peak = process.peak().unwrap_or(0).max(peak);
        if let Some(status) = process.ended()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let seconds = began.elapsed().as_secs_f64();
    ensure!(status.success(), "`lictor {}`: {}", arguments.join(" "), std::fs::read_to_string(&log).unwrap_or_default());
    std::fs::remove_file(&log)?;
    Ok(Ran { seconds, peak })
}

/// Seconds that it takes to copy a file and to flush the copy: what the disk needs for that many bytes.
fn copy(file: &Path) -> Result<f64> {
    let beside = file.with_extension("copy");
    let began = Instant::now();
    let bytes = std::fs::read(file)?;
    let mut to = File::create(&beside)?;
    to.write_all(&bytes)?;
    to.sync_all()?;
    let seconds = began.elapsed().as_secs_f64();
    std::fs::remove_file(&beside)?;
    Ok(seconds)
}

/// The longest that one client of each kind had to wait, each asking again as soon as it was answered.
struct Watched {
    write: Duration,
    read: Duration,
}

impl Watched {
    fn during<T>(agent: &Agent, what: impl FnOnce() -> T) -> Result<(T, Watched)> {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), agent.ports.grpc);
        let longest = |mut ask: Box<dyn FnMut() -> Result<()> + Send>| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    ask()?;
                    longest = longest.max(began.elapsed());
                }
                anyhow::Ok(longest)
            })
        };
        let write = longest(Box::new(move || cluster::put(address, "watched", Duration::from_secs(60))));
        let read = longest(Box::new(move || cluster::has(address, "watched").map(|_| ())));
        let done = what();
        stop.store(true, Ordering::Relaxed);
        let write = write.join().expect("the writer does not panic")?;
        let read = read.join().expect("the reader does not panic")?;
        Ok((done, Watched { write, read }))
    }
}
