//! Machines that start, crash, lose each other and find each other again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use consensus::Consensus;
use gossip::Status;
use net::Network;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use state::Tables;
use store::log::MemoryLog;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::ether::{Ether, LATENCY_MAX, MachineId, address_of};
use crate::fate::set_clock;
use crate::machine::{Alive, Machine};
use crate::medium::Simulated;
use crate::record::Record;

/// Within a tick machines work without hearing of each other.
const TICK: Duration = Duration::from_millis(10);

/// How many of the servers are asked to join by.
const SEEDS: usize = 3;

/// Part of all datagrams whose loss alone kills nobody.
const LOSS_BORNE: f64 = 0.05;

type Living = Arc<Mutex<BTreeMap<String, Alive>>>;

/// A cluster and everything around it.
pub struct World {
    now: Duration,
    ether: Ether,
    machines: Vec<Machine>,
    numbers: Arc<BTreeMap<String, MachineId>>,
    living: Living,
    down: BTreeSet<String>,
    servers: usize,
    /// One for each server, which dies with it, and one for all other agents.
    runtimes: Vec<Runtime>,
    running: BTreeMap<String, JoinHandle<anyhow::Result<()>>>,
    record: Arc<Mutex<Record>>,
    /// Machines that something has happened to since all was well: they may be held for dead, and hold others so.
    excused: BTreeSet<String>,
    /// Nobody may be held for dead but for a cause.
    strict: bool,
    /// Up to which change the members that each machine shows were looked at.
    looked_at: BTreeMap<String, u64>,
    /// Chance for whoever decides what happens to the cluster.
    pub rng: SmallRng,
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime without sockets needs nothing")
}

impl World {
    /// So many servers and other agents, all of which start within the first seconds.
    pub fn new(seed: u64, servers: usize, agents: usize) -> Self {
        let names: Vec<String> = (0..servers).map(|n| format!("s{n}")).chain((0..agents).map(|n| format!("a{n}"))).collect();
        let numbers: Arc<BTreeMap<String, MachineId>> = Arc::new(names.into_iter().zip(0..).collect());
        let mut world = World {
            now: Duration::ZERO,
            ether: Ether::new(seed),
            machines: Vec::new(),
            numbers,
            living: Living::default(),
            down: BTreeSet::new(),
            servers,
            runtimes: (0..=servers).map(|_| runtime()).collect(),
            running: BTreeMap::new(),
            record: Arc::default(),
            excused: BTreeSet::new(),
            strict: false,
            looked_at: BTreeMap::new(),
            rng: SmallRng::seed_from_u64(seed),
        };
        world.machines = (0..servers + agents).map(|number| world.machine(number)).collect();
        for number in 0..servers + agents {
            let late = Duration::from_millis(world.rng.random_range(0..5000));
            world.start(number, late);
        }
        world
    }

    fn machine(&self, number: MachineId) -> Machine {
        let is_server = number < self.servers;
        let medium = Simulated { ether: self.ether.clone(), machine: number, names: self.numbers.clone() };
        Machine {
            name: if is_server { format!("s{number}") } else { format!("a{}", number - self.servers) },
            address: address_of(number),
            server: is_server.then_some(number as u64 + 1),
            expect: if is_server { self.servers as u32 } else { 0 },
            join: (0..SEEDS.min(self.servers)).filter(|seed| *seed != number).map(|seed| format!("s{seed}:8301")).collect(),
            network: Network::new(medium),
            disk: MemoryLog::default(),
            record: self.record.clone(),
        }
    }

    fn start(&mut self, number: MachineId, late: Duration) {
        let (machine, living) = (self.machines[number].clone(), self.living.clone());
        let name = machine.name.clone();
        let life = async move {
            sleep(late).await;
            let name = machine.name.clone();
            machine.run(|alive| drop(living.lock().insert(name, alive))).await
        };
        let running = self.runtimes[number.min(self.servers)].spawn(life);
        self.running.insert(name, running);
    }

    /// Names of the servers.
    pub fn servers(&self) -> Vec<String> {
        self.machines[..self.servers].iter().map(|machine| machine.name.clone()).collect()
    }

    /// Names of the agents that are no servers.
    pub fn agents(&self) -> Vec<String> {
        self.machines[self.servers..].iter().map(|machine| machine.name.clone()).collect()
    }

    /// The time since the run began.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// What is remembered of the run.
    pub fn record(&self) -> impl std::ops::Deref<Target = Record> + '_ {
        self.record.lock()
    }

    /// Has this part of all datagrams be lost. Much loss is a cause for anything.
    pub fn set_loss(&mut self, loss: f64) {
        self.strict &= loss <= LOSS_BORNE;
        self.ether.set_loss(loss);
    }

    /// Has anything be under way for so long at most, or for as long as usual.
    pub fn set_latency_max(&mut self, most: Option<Duration>) {
        self.ether.set_latency_max(most.unwrap_or(LATENCY_MAX));
    }

    /// All is well: from now on nobody is held for dead, at any time, but for something that happens from now on.
    pub fn all_is_well(&mut self) {
        self.excused.clear();
        self.strict = true;
    }

    /// Takes a machine's power away.
    pub fn crash(&mut self, name: &str) {
        let number = self.numbers[name];
        if !self.down.insert(name.to_owned()) {
            return;
        }
        self.excused.insert(name.to_owned());
        self.ether.power_off(number);
        if let Some(running) = self.running.remove(name) {
            running.abort();
        }
        let alive = self.living.lock().remove(name);
        if number < self.servers {
            drop(alive);
            self.runtimes[number] = runtime();
            // What it had on its way to the disk has arrived: this disk is as fast as memory.
        } else if let Some(alive) = alive {
            self.runtimes[self.servers].block_on(alive.pool.stop());
        }
    }

    /// Starts a machine that has crashed. A server finds its log as it was.
    pub fn restart(&mut self, name: &str) {
        if self.down.remove(name) {
            let number = self.numbers[name];
            self.ether.power_on(number);
            self.start(number, Duration::ZERO);
        }
    }

    /// Machines that have crashed and not come back.
    pub fn down(&self) -> Vec<String> {
        self.down.iter().cloned().collect()
    }

    /// Cuts machines off from all others.
    pub fn cut(&mut self, names: &[String]) {
        self.set_cut(names, true);
    }

    /// Takes back what [`World::cut`] did. Until all is well each side tells the other whom it holds for dead.
    pub fn mend(&mut self, names: &[String]) {
        self.strict = false;
        self.set_cut(names, false);
    }

    fn set_cut(&mut self, names: &[String], cut: bool) {
        self.excused.extend(names.iter().cloned());
        for inside in names {
            for (_, outside) in self.numbers.iter().filter(|(outside, _)| !names.contains(outside)) {
                self.ether.set_cut(self.numbers[inside], *outside, cut);
            }
        }
    }

    /// Lets so much time pass.
    pub fn run(&mut self, time: Duration) {
        let until = self.now() + time;
        while self.now() < until {
            self.step();
        }
    }

    /// Lets time pass until `holds`, for so long at most; says whether it did.
    pub fn run_until(&mut self, most: Duration, holds: impl Fn(&World) -> bool) -> bool {
        let until = self.now() + most;
        while !holds(self) {
            if self.now() >= until {
                return false;
            }
            // To look at everything costs more than a step.
            for _ in 0..20 {
                self.step();
            }
        }
        true
    }

    /// One tick, after which what must always hold is looked at.
    fn step(&mut self) {
        set_clock(self.now);
        self.ether.advance(self.now);
        for runtime in &self.runtimes {
            runtime.block_on(async { sleep(TICK).await });
        }
        self.now += TICK;
        let ended = self.running.iter().find(|(_, running)| running.is_finished());
        assert!(ended.is_none(), "`{}` has ended by itself after {:?}", ended.map_or("", |(name, _)| name), self.now);
        self.look_for_wrongly_dead();
        let mut record = self.record.lock();
        for consensus in self.living.lock().values().filter_map(|alive| alive.consensus.as_ref()) {
            if consensus.is_leader() {
                record.lead(consensus.status().term, consensus.id());
            }
        }
        assert!(record.broken().is_empty(), "after {:?}: {}", self.now, record.broken().join("\n"));
    }

    /// Looks whether somebody holds a machine for dead to which nothing has happened, wherever something has changed.
    fn look_for_wrongly_dead(&mut self) {
        if !self.strict {
            return;
        }
        let living = self.living.lock();
        for (viewer, alive) in living.iter().filter(|(viewer, _)| !self.excused.contains(*viewer)) {
            let changes = *alive.pool.changes().borrow();
            if self.looked_at.get(viewer) == Some(&changes) {
                continue;
            }
            self.looked_at.insert(viewer.clone(), changes);
            let members = alive.pool.members();
            let wrong = members.iter().find(|member| member.status == Status::Failed && !self.excused.contains(&member.name));
            assert!(wrong.is_none(), "after {:?} `{viewer}` holds a living machine for dead: {wrong:?}", self.now);
        }
    }

    fn consensus(&self) -> Vec<Consensus> {
        self.living.lock().values().filter_map(|alive| alive.consensus.clone()).collect()
    }

    /// The server that all running servers hold for their leader.
    pub fn leader(&self) -> Option<String> {
        let leaders: BTreeSet<Option<u64>> = self.consensus().iter().map(Consensus::leader_id).collect();
        let [Some(leader)] = leaders.into_iter().collect::<Vec<_>>()[..] else { return None };
        self.consensus().iter().find(|server| server.id() == leader && server.is_leader())?;
        self.machines.get(leader as usize - 1).map(|machine| machine.name.clone())
    }

    /// A server among `names` that leads.
    pub fn leads_among(&self, names: &[String]) -> Option<String> {
        let living = self.living.lock();
        let leads = |name: &&String| living.get(*name).and_then(|alive| alive.consensus.as_ref()).is_some_and(Consensus::is_leader);
        names.iter().find(leads).cloned()
    }

    /// Whether every running machine shows every machine as it is.
    pub fn is_of_one_mind(&self) -> bool {
        let living = self.living.lock();
        living.len() + self.down.len() == self.machines.len()
            && living.values().all(|alive| {
                let members = alive.pool.members();
                members.len() == self.machines.len()
                    && members.iter().all(|member| {
                        let gone = self.down.contains(&member.name);
                        if gone { matches!(member.status, Status::Failed | Status::Left) } else { member.status == Status::Alive }
                    })
            })
    }

    /// Running machines that a running one holds for dead: who, and by whom.
    pub fn held_for_dead(&self) -> Vec<(String, String)> {
        let living = self.living.lock();
        let mut wrong = Vec::new();
        for (viewer, alive) in living.iter() {
            let failed = alive.pool.members().into_iter().filter(|member| member.status == Status::Failed);
            wrong.extend(failed.filter(|member| living.contains_key(&member.name)).map(|member| (member.name, viewer.clone())));
        }
        wrong
    }

    /// The tables of every running server.
    pub fn tables(&self) -> Vec<Arc<Tables>> {
        self.consensus().iter().map(Consensus::tables).collect()
    }

    /// Whether every running server has applied the same and knows every machine: the running ones as passing.
    pub fn catalogs_agree(&self) -> bool {
        let tables = self.tables();
        let running: BTreeSet<String> = self.living.lock().keys().cloned().collect();
        tables.windows(2).all(|pair| pair[0].applied() == pair[1].applied())
            && tables.iter().all(|tables| {
                let passing: BTreeSet<String> = tables
                    .checks()
                    .filter(|check| &*check.id == "serfHealth" && check.status == state::Status::Passing)
                    .map(|check| check.node.to_string())
                    .collect();
                passing == running
            })
    }
}
