//! Locks that are safe: processes that hold them are stopped, killed and cut off, servers as well, and every
//! write that the cluster has accepted is looked at. Each of them runs on a host of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Node, PATIENCE, eventually, isolated};
use lictor_client::{Change, Client, Row, Target, WatchEvent, v1};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::watch;

use super::amount;
use crate::hosts::{Hosts, address, on};

const SERVERS: usize = 3;
const HOLDERS: usize = 4;
const LOCKS: usize = 8;
const TTL: Duration = Duration::from_millis(2_000);

/// A process that wants locks.
struct Holder {
    name: String,
    host: usize,
    endpoints: String,
    told: PathBuf,
    child: Child,
}

impl Holder {
    fn start(n: usize, endpoints: &str, folder: &std::path::Path) -> Self {
        let (name, told) = (format!("holder-{n}"), folder.join(format!("holder-{n}")));
        let host = SERVERS + n;
        let child = Self::spawn(&name, host, endpoints, &told);
        Holder { name, host, endpoints: endpoints.to_owned(), told, child }
    }

    fn spawn(name: &str, host: usize, endpoints: &str, told: &PathBuf) -> Child {
        let told = File::options().create(true).append(true).open(told).unwrap();
        let words = on(host, env!("CARGO_BIN_EXE_lictor-holder").as_ref());
        let mut command = Command::new(&words[0]);
        let (locks, ttl) = (LOCKS.to_string(), TTL.as_millis().to_string());
        command.args(&words[1..]).args([endpoints, name, &locks, &ttl]).stdin(Stdio::null()).stdout(told).spawn().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn again(&mut self) {
        self.kill();
        self.child = Self::spawn(&self.name, self.host, &self.endpoints, &self.told);
    }

    /// Its lines, those that were cut off left out.
    fn lines(&self) -> Vec<Vec<String>> {
        let lines = BufReader::new(File::open(&self.told).unwrap()).lines().map_while(Result::ok);
        let words = lines.map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
        words.filter(|words| matches!((words.first().map(String::as_str), words.len()), (Some("held"), 5) | (Some("refused"), 3))).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the cluster has accepted, in the order of the log.
#[derive(Default)]
struct Ledger {
    /// The present grant of each lock.
    granted: BTreeMap<String, u64>,
    last: BTreeMap<String, u64>,
    grants: usize,
    writes: usize,
    /// Writes under a grant that was not the present one.
    stale: Vec<String>,
    /// The watch had to begin anew.
    resets: usize,
}

impl Ledger {
    fn take(&mut self, entry: &v1::Entry) {
        let key = String::from_utf8_lossy(&entry.key).into_owned();
        if let Some(lock) = key.strip_prefix("safe/lock/") {
            if entry.session_id.is_empty() {
                self.granted.remove(lock);
                return;
            }
            let before = self.granted.insert(lock.to_owned(), entry.fencing_token);
            if before != Some(entry.fencing_token) {
                self.grants += 1;
                let last = self.last.insert(lock.to_owned(), entry.fencing_token);
                assert!(last.is_none_or(|last| last < entry.fencing_token), "tokens of lock {lock} grow");
            }
        } else if let Some(lock) = key.strip_prefix("safe/data/") {
            let value = String::from_utf8_lossy(&entry.value).into_owned();
            let token: u64 = value.split(' ').next().and_then(|token| token.parse().ok()).unwrap();
            self.writes += 1;
            if self.granted.get(lock) != Some(&token) {
                self.stale.push(format!(
                    "revision {}: lock {lock} written under {token}, granted was {:?}",
                    entry.modify_index,
                    self.granted.get(lock)
                ));
            }
        }
    }
}

/// Follows everything that is accepted, until it is told to stop.
async fn follow(client: Client, count: watch::Sender<usize>, mut stop: watch::Receiver<bool>) -> Ledger {
    let mut ledger = Ledger::default();
    let mut watch = client.watch(Target::prefix("safe/"));
    loop {
        let event = tokio::select! {
            event = watch.next() => event.unwrap().unwrap(),
            _ = stop.wait_for(|stop| *stop) => return ledger,
        };
        match event {
            WatchEvent::Changes { changes, .. } => {
                for change in changes {
                    if let Change::Put(Row::Entry(entry)) = change {
                        ledger.take(&entry);
                    }
                }
                count.send_replace(ledger.grants);
            }
            WatchEvent::Reset { .. } => ledger.resets += 1,
            _ => {}
        }
    }
}

fn leader(nodes: &[Node]) -> Option<usize> {
    let at = nodes.iter().filter_map(|node| node.http().try_send("GET", "/v1/status/leader", &[], b"").ok());
    let at: Vec<String> = at.map(|answer| answer.text().trim_matches('"').to_owned()).filter(|at| !at.is_empty()).collect();
    (0..nodes.len()).find(|host| at.first() == Some(&format!("{}:8300", address(*host))))
}

/// What is done to holders and servers, over and over.
async fn disturb(hosts: &Hosts, servers: &mut [Node], holders: &mut [Holder], turn: usize) {
    let pause = |length| tokio::time::sleep(length);
    let victim = &mut holders[turn / 4 % HOLDERS];
    // Longer than a session lives.
    let long = TTL + Duration::from_millis(1_500);
    match turn % 4 {
        // It goes on where it stopped, perhaps just before a write.
        0 => {
            victim.signal(Signal::SIGSTOP);
            pause(long).await;
            victim.signal(Signal::SIGCONT);
        }
        1 => victim.again(),
        // What it has sent may arrive when the lock is somebody else's.
        2 => {
            (0..SERVERS).for_each(|server| hosts.cut(server, victim.host));
            pause(long).await;
            (0..SERVERS).for_each(|server| hosts.mend(server, victim.host));
        }
        _ => disturb_leader(hosts, servers, turn / 4).await,
    }
    pause(Duration::from_millis(700)).await;
}

async fn disturb_leader(hosts: &Hosts, servers: &mut [Node], turn: usize) {
    let Some(leads) = leader(servers) else { return };
    let pause = |length| tokio::time::sleep(Duration::from_millis(length));
    match turn % 3 {
        0 => {
            servers[leads].kill();
            pause(2_000).await;
            servers[leads].restart();
        }
        1 => {
            servers[leads].pause();
            pause(3_000).await;
            servers[leads].resume();
        }
        // Holders still reach it, and it reaches no other server.
        _ => {
            let others: Vec<usize> = (0..SERVERS).filter(|other| *other != leads).collect();
            others.iter().for_each(|other| hosts.cut(leads, *other));
            pause(4_000).await;
            others.iter().for_each(|other| hosts.mend(leads, *other));
        }
    }
}

/// A token, and from when to when its holder believed in it.
type Belief = (u64, u128, u128);

/// From when to when holders believed to hold each lock, by token.
fn beliefs(holders: &[Holder]) -> (BTreeMap<String, Vec<Belief>>, usize) {
    let mut beliefs: BTreeMap<String, Vec<Belief>> = BTreeMap::new();
    let mut refused = 0;
    for words in holders.iter().flat_map(Holder::lines) {
        let token = words[2].parse().unwrap();
        match &*words[0] {
            "refused" => refused += 1,
            _ => beliefs.entry(words[1].clone()).or_default().push((token, words[3].parse().unwrap(), words[4].parse().unwrap())),
        }
    }
    (beliefs, refused)
}

#[test]
fn no_write_is_accepted_from_a_holder_that_has_lost_its_lock() {
    isolated("lock::holders::no_write_is_accepted_from_a_holder_that_has_lost_its_lock", || {
        tokio::runtime::Runtime::new().unwrap().block_on(hold_and_disturb());
    });
}

/// Three servers, each on a host of its own.
fn servers(hosts: &Hosts) -> Vec<Node> {
    let server = |host: usize| {
        let setup = hosts.agent(host).config("session_ttl_min = \"1s\"").flag("-server").flag(format!("-bootstrap-expect={SERVERS}"));
        let setup = setup.and("-server-port=8300").and("-serf-wan-port=8302").and("-grpc-port=8502");
        (0..SERVERS).filter(|other| *other != host).fold(setup, |setup, other| setup.flag(format!("-retry-join={}:8301", address(other))))
    };
    let mut servers: Vec<Node> = (0..SERVERS).map(|host| server(host).spawn()).collect();
    servers.iter_mut().for_each(Node::await_ready);
    servers
}

async fn hold_and_disturb() {
    let wanted = amount("LICTOR_LOCK_GRANTS", 300);
    let hosts = Hosts::new(SERVERS + HOLDERS);
    let mut servers = servers(&hosts);
    let endpoints = servers.iter().map(|node| node.addresses().grpc.to_string()).collect::<Vec<_>>().join(",");
    let client = Client::connect(endpoints.as_str()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (count, grants) = watch::channel(0);
    let (stop, stopped) = watch::channel(false);
    let ledger = tokio::spawn(follow(client, count, stopped));
    let mut holders: Vec<Holder> = (0..HOLDERS).map(|n| Holder::start(n, &endpoints, folder.path())).collect();

    let begun = Instant::now();
    // Each disturbance is followed by progress: a lock that nobody gets any more would end the test here.
    let progress = (wanted / 60).max(2 * LOCKS);
    for turn in 0.. {
        if *grants.borrow() >= wanted && turn >= 12 {
            break;
        }
        disturb(&hosts, &mut servers, &mut holders, turn).await;
        let before = *grants.borrow();
        eventually!(PATIENCE, *grants.borrow() > before + progress, "locks are granted again after disturbance {turn}");
    }
    holders.iter_mut().for_each(Holder::kill);
    stop.send_replace(true);
    let ledger = ledger.await.unwrap();
    let (beliefs, refused) = beliefs(&holders);
    let took = begun.elapsed();
    println!(
        "{} grants, {} writes accepted, {refused} refused as stale, {} resets, {took:.1?}",
        ledger.grants, ledger.writes, ledger.resets
    );
    assert_eq!(ledger.resets, 0, "everything was seen");
    assert_eq!(ledger.stale, Vec::<String>::new(), "accepted from a holder that had lost the lock");
    assert!(ledger.writes > ledger.grants, "holders write");
    let mut compared = 0;
    for (lock, mut beliefs) in beliefs {
        beliefs.sort_unstable();
        for pair in beliefs.windows(2) {
            compared += 1;
            let [(earlier, _, until), (later, from, _)] = pair else { unreachable!("windows of two") };
            assert!(until <= from, "lock {lock}: grant {earlier} was believed in until {until}, grant {later} from {from}");
        }
    }
    assert!(compared > wanted / 2, "only {compared} pairs of grants were compared");
}
