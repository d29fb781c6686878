//! The power is cut at hundreds of moments of a write load on the real binary, which then starts
//! again on what the disk held: it opens, and every write that was acknowledged before is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use harness::{Node, Setup};
use lictor_client::Client;
use powercut::{Image, Journal};

const CUTS: usize = 200;
const WRITERS: usize = 4;
const WRITES: usize = 120;
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
        let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(client.clone(), writer, journal.clone()))).collect();
        let mut all = Vec::new();
        for writer in writers {
            all.extend(writer.await.unwrap());
        }
        all
    });
    drop(node);
    (Journal::read(&journal).unwrap(), acknowledged)
}

async fn write(client: Client, writer: usize, journal: std::path::PathBuf) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    for n in 0..WRITES {
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

/// Cuts spread over the whole run, its last operation included.
fn cut(nth: usize, operations: usize) -> usize {
    (nth * operations / (CUTS - 1) + nth * 7 % 13).min(operations)
}

#[test]
fn what_was_acknowledged_survives_the_power_at_any_moment() {
    let begun = Instant::now();
    let home = tempfile::tempdir().unwrap();
    let (journal, acknowledged) = run(home.path());
    let operations = journal.operations().len();
    assert_eq!(acknowledged.len(), WRITERS * WRITES);
    println!("{operations} operations, {} acknowledged writes after {:?}", acknowledged.len(), begun.elapsed());

    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..STARTERS {
            scope.spawn(|| {
                while let nth = next.fetch_add(1, Ordering::Relaxed)
                    && nth < CUTS
                {
                    let cut = cut(nth, operations);
                    let image = Image::after_cut(None, &journal, cut, nth as u64).unwrap();
                    let Ok(found) = std::panic::catch_unwind(|| survivors(&image)) else {
                        failures.lock().unwrap().push(format!("cut {cut}, seed {nth}: the agent does not start or answer"));
                        continue;
                    };
                    let due = acknowledged.iter().filter(|write| journal.complete_at(write.journal_bytes) <= cut);
                    let lost: Vec<&Acknowledged> = due.filter(|write| found.get(&write.key) != Some(&write.value)).collect();
                    if let Some(first) = lost.first() {
                        failures.lock().unwrap().push(format!("cut {cut}, seed {nth}: {} lost, first `{}`", lost.len(), first.key));
                    }
                }
            });
        }
    });
    println!("{CUTS} cuts after {:?}", begun.elapsed());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
