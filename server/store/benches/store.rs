//! What the store does on this machine, beside what the disk allows.
//!
//!     cargo bench -p lictor-store [-- DIR]
//!
//! Works in a temporary directory, below `DIR` if given, and prints: flushes of a bare file; durable log writes by
//! the number of concurrent clients; the time to open a log; rows persisted; and for a million keys the time to
//! load them, and the memory that is resident before and after.
#![allow(clippy::unwrap_used, reason = "a benchmark has nobody to report an error to")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lictor_store::log::{self, LogEntry, LogHandle, LogOptions, LogWrite};
use lictor_store::state_store::{Persist, StateOptions, StateStore};
use state::kv::KvHeader;
use state::{KvEntry, Row, RowKey, TablesBuilder};

/// How long each measurement takes.
const SPAN: Duration = Duration::from_secs(2);
/// Bytes of a log entry.
const ENTRY: usize = 256;

fn main() {
    let base = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let dir = tempfile::tempdir_in(base.unwrap_or_else(|| ".".into())).unwrap();
    flushes(dir.path());
    opening(dir.path());
    for clients in [1, 16, 64, 256] {
        appends(&dir.path().join(format!("log-{clients}")), clients);
    }
    rows(&dir.path().join("state"));
}

/// Overwrites of 4 KiB of a file that is already allocated, each flushed.
fn flushes(dir: &Path) {
    let file = File::create(dir.join("bare")).unwrap();
    file.write_all_at(&vec![0; 16 << 20], 0).unwrap();
    file.sync_all().unwrap();
    let (begun, mut times) = (Instant::now(), Vec::new());
    while begun.elapsed() < SPAN {
        let one = Instant::now();
        file.write_all_at(&[7; 4096], times.len() as u64 % 4096 * 4096).unwrap();
        file.sync_data().unwrap();
        times.push(one.elapsed());
    }
    report("bare pwrite + fdatasync, 4 KiB", begun.elapsed(), times);
}

fn opening(dir: &Path) {
    let dir = dir.join("opening");
    let begun = Instant::now();
    let opened = log::open(&dir.join("log"), LogOptions::default()).unwrap();
    let fresh = begun.elapsed();
    let (begun, state) = (Instant::now(), StateStore::open(&dir.join("state"), StateOptions::default()).unwrap());
    println!("opening: new log {fresh:?}, new state {:?}", begun.elapsed());
    drop((opened, state));
    let begun = Instant::now();
    drop(log::open(&dir.join("log"), LogOptions::default()).unwrap());
    println!("opening: the same log again, closing included, {:?}", begun.elapsed());
}

/// Each of `clients` writes an entry as soon as its last one is durable.
fn appends(dir: &Path, clients: usize) {
    let (log, _) = log::open(dir, LogOptions::default()).unwrap();
    let load = Arc::new(Load { log, next: Mutex::new(1), times: Mutex::default(), begun: Instant::now() });
    let (done, ended) = mpsc::channel();
    for _ in 0..clients {
        Load::write(Arc::clone(&load), done.clone());
    }
    drop(done);
    assert!(ended.recv().is_err(), "nobody sends, everybody hangs up");
    let elapsed = load.begun.elapsed();
    let stats = load.log.stats();
    let times = std::mem::take(&mut *load.times.lock().unwrap());
    report(&format!("log, {clients} clients, {ENTRY} B"), elapsed, times);
    println!("    {:.1} writes a flush, {} flushes", stats.writes as f64 / stats.batches as f64, stats.batches);
}

struct Load {
    log: LogHandle,
    next: Mutex<u64>,
    times: Mutex<Vec<Duration>>,
    begun: Instant,
}

impl Load {
    fn write(load: Arc<Self>, hang_up: mpsc::Sender<()>) {
        let (one, again) = (Instant::now(), Arc::clone(&load));
        let done = move |outcome: Result<(), Arc<lictor_store::Error>>| {
            outcome.unwrap();
            again.times.lock().unwrap().push(one.elapsed());
            if again.begun.elapsed() < SPAN {
                Self::write(again, hang_up);
            } else {
                drop(hang_up);
            }
        };
        let mut next = load.next.lock().unwrap();
        let entry = LogEntry { index: *next, term: 1, payload: Bytes::from_static(&[7; ENTRY]) };
        *next += 1;
        load.log.submit(LogWrite::Append(vec![entry]), Box::new(done));
    }
}

/// A million keys of 100 bytes: filled, overwritten at random, loaded.
fn rows(dir: &Path) {
    let store = StateStore::open(dir, StateOptions::default()).unwrap();
    let begun = Instant::now();
    store.replace((0..1_000_000).map(|n| Ok(Row::Kv(entry(n, 0)))), 0, b"").unwrap();
    println!("state: replaced by 1,000,000 keys in {:?}, {} MiB on disk", begun.elapsed(), mib(store.disk_bytes().unwrap()));

    static SEED: AtomicU64 = AtomicU64::new(1);
    let any = || SEED.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed).wrapping_mul(0xbf58_476d_1ce4_e5b9) % 1_000_000;
    for count in [64, 1024, 4096, 16_384, 65_536] {
        let rows = (0..count).map(|_| entry(any(), 1)).map(|entry| (RowKey::Kv(entry.clone()), Some(Row::Kv(entry))));
        let begun = Instant::now();
        store.persist(Persist { rows, history: &[], history_floor: 0, meta: b"" }).unwrap();
        let elapsed = begun.elapsed();
        println!("state: {count} random keys persisted in {elapsed:?}, {:.0} a second", f64::from(count) / elapsed.as_secs_f64());
    }
    println!("state: {} MiB on disk; resident: {}", mib(store.disk_bytes().unwrap()), resident());

    let begun = Instant::now();
    let loaded = store.load(|row| drop(std::hint::black_box(row))).unwrap();
    println!("state: {} rows read in {:?}; resident: {}", loaded.rows, begun.elapsed(), resident());
    let (begun, mut builder) = (Instant::now(), TablesBuilder::default());
    store.load(|row| builder.push(row)).unwrap();
    let tables = builder.finish().unwrap();
    println!("state: {} rows loaded into tables in {:?}; resident: {}", tables.kv_len(), begun.elapsed(), resident());
}

fn entry(n: u64, round: u8) -> KvEntry {
    KvEntry::new(format!("benchmark/key/{n:010}").as_bytes(), &[round; 100], KvHeader::default())
}

fn report(what: &str, elapsed: Duration, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: {:.0}/s, p50 {:?}, p99 {:?}", times.len() as f64 / elapsed.as_secs_f64(), at(0.5), at(0.99));
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

/// Memory of this process and of the files it maps, as the kernel counts it.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let lines = status.lines().filter(|line| line.starts_with("RssAnon") || line.starts_with("RssFile"));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
}
