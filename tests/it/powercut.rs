//! The power is cut at hundreds of moments of a write load on the real binary, which then starts
//! again on what the disk held: it opens, and every write that was acknowledged before is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use harness::{Node, PATIENCE, Setup, eventually};
use lictor_client::Client;
use powercut::{Image, Journal, Operation};

const CUTS: usize = 200;
const WRITERS: usize = 4;
const WRITES: usize = 60;
/// As many as cores: each start is a process of its own.
const STARTERS: usize = 2;

/// A write and how long the journal was when its acknowledgement came: what is in there by then
/// came before it, and a cut after that must not touch the write.
#[derive(Clone, Debug)]
struct Acknowledged {
    key: String,
    value: String,
    journal_bytes: u64,
}

/// The run that is cut: a directory `data` below `observed`, journaled.
fn run(home: &Path) -> (Journal, Vec<Acknowledged>) {
    let (observed, journal) = (home.join("observed"), home.join("journal"));
    fs::create_dir(&observed).unwrap();
    let mut variables = Command::new("unused");
    powercut::observe(&mut variables, &observed, &journal).unwrap();
    let mut setup = Setup::bare().data_in(observed.join("data"));
    for (name, value) in variables.get_envs() {
        setup = setup.env(name.to_str().unwrap(), value.unwrap());
    }
    let node = setup.start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let acknowledged = runtime.block_on(async {
        let client = node.client().await;
        let mut all = load(&client, 0, &journal).await;
        await_flush(&journal);
        all.extend(load(&client, WRITES, &journal).await);
        all
    });
    drop(node);
    (Journal::read(&journal).unwrap(), acknowledged)
}

/// Waits until the state has been written, as it is once nobody writes any more: the cuts are to
/// hit that as well, and what follows it.
fn await_flush(journal: &Path) {
    let flushed = || Journal::read(journal).unwrap().operations().iter().filter(|operation| is_root(operation)).count();
    let before = flushed();
    eventually!(PATIENCE, flushed() > before, "the state is written");
}

/// Whether the operation makes a new root of the state durable.
fn is_root(operation: &Operation) -> bool {
    matches!(operation, Operation::Write { durable: true, .. })
}

async fn load(client: &Client, first: usize, journal: &Path) -> Vec<Acknowledged> {
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write(client.clone(), writer, first, journal.to_owned())));
    let mut all = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        all.extend(writer.await.unwrap());
    }
    all
}

async fn write(client: Client, writer: usize, first: usize, journal: PathBuf) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for n in first..first + WRITES {
        let (key, value) = (format!("{writer}/{n}"), format!("{n}").repeat(1 << (n % 10)));
        client.kv().put(&key, value.clone()).await.unwrap();
        let journal_bytes = fs::metadata(&journal).unwrap().len();
        acknowledged.push(Acknowledged { key, value, journal_bytes });
    }
    acknowledged
}

/// What the binary finds on what a cut left.
fn survivors(image: &Image) -> BTreeMap<String, String> {
    let setup = Setup::durable();
    let scratch = setup.home().join("image");
    image.write_to(&scratch).unwrap();
    if scratch.join("data").exists() {
        fs::rename(scratch.join("data"), setup.data_dir()).unwrap();
    }
    let node: Node = setup.start();
    let rows = node.get("/v1/kv/?recurse");
    if rows.status == 404 {
        return BTreeMap::new();
    }
    let text = |row: &serde_json::Value| {
        use base64::Engine;
        let value = base64::engine::general_purpose::STANDARD.decode(row["Value"].as_str().unwrap()).unwrap();
        (row["Key"].as_str().unwrap().to_owned(), String::from_utf8(value).unwrap())
    };
    rows.expect(200).json().as_array().unwrap().iter().map(text).collect()
}

/// Cuts the power `cuts` times and tells what was lost each time.
fn losses(journal: &Journal, acknowledged: &[Acknowledged], cuts: usize) -> Vec<String> {
    let operations = journal.operations().len();
    let (next, losses) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let one = |nth: usize| {
        // Spread over the whole run, its last operation included.
        let cut = (nth * operations / (cuts - 1) + nth * 7 % 13).min(operations);
        let image = Image::after_cut(None, journal, cut, nth as u64).unwrap();
        let Ok(found) = std::panic::catch_unwind(|| survivors(&image)) else {
            return Some(format!("cut {cut}, seed {nth}: the agent does not start or answer"));
        };
        let due = acknowledged.iter().filter(|write| journal.complete_at(write.journal_bytes) <= cut);
        let lost: Vec<&Acknowledged> = due.filter(|write| found.get(&write.key) != Some(&write.value)).collect();
        lost.first().map(|first| format!("cut {cut}, seed {nth}: {} lost, first `{}`", lost.len(), first.key))
    };
    std::thread::scope(|scope| {
        for _ in 0..STARTERS {
            scope.spawn(|| {
                while let nth = next.fetch_add(1, Ordering::Relaxed)
                    && nth < cuts
                {
                    losses.lock().unwrap().extend(one(nth));
                }
            });
        }
    });
    losses.into_inner().unwrap()
}

#[test]
fn what_was_acknowledged_survives_the_power_at_any_moment() {
    let begun = Instant::now();
    let home = tempfile::tempdir().unwrap();
    let (journal, acknowledged) = run(home.path());
    assert_eq!(acknowledged.len(), 2 * WRITERS * WRITES);
    println!("{} operations, {} acknowledged writes after {:?}", journal.operations().len(), acknowledged.len(), begun.elapsed());
    let lost = losses(&journal, &acknowledged, CUTS);
    println!("{CUTS} cuts after {:?}", begun.elapsed());
    assert!(lost.is_empty(), "{}", lost.join("\n"));

    // The same on a disk that ignores flushes: whoever never loses anything there looks at nothing.
    let lost = losses(&journal.without_flushes(), &acknowledged, CUTS / 20);
    assert!(lost.len() > 2, "of {} cuts without flushes only these were noticed: {lost:?}", CUTS / 20);
}
