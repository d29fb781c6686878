//! Five servers and two hundred agents, and everything that can happen to them.

use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use simulation::fate;
use simulation::world::World;

const SERVERS: usize = 5;
const AGENTS: usize = 200;

/// How long anything takes at most on links that are slow. It may take a millisecond as well, so packets overtake each
/// other.
const SLOW: Duration = Duration::from_millis(80);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Seeds of this run: those of `SEEDS` (such as `7` or `1,2,3`), else the given ones.
fn seeds(usual: &[u64]) -> Vec<u64> {
    match std::env::var("SEEDS") {
        Ok(text) => text.split(',').map(|seed| seed.trim().parse().expect("SEEDS are numbers, such as `1,2,3`")).collect(),
        Err(_) => usual.to_vec(),
    }
}

/// Says where a run is, for whoever looks on with `--nocapture`.
fn tell(world: &World, what: &str) {
    println!("{:>9.3} s  {what}", world.now().as_secs_f64());
}

fn begin(seed: u64, servers: usize, agents: usize) -> World {
    let mut world = World::new(seed, servers, agents);
    let together = world.run_until(seconds(60), |world| world.is_of_one_mind() && world.leader().is_some() && world.catalogs_agree());
    assert!(together, "everybody knows everybody, one leads, and the catalog has them all");
    assert_eq!(world.held_for_dead(), [], "nobody has died");
    tell(&world, "all is well");
    world.all_is_well();
    world
}

/// Everybody is there again, of one mind, and nothing that was acknowledged is lost.
fn recovered(world: &mut World) {
    let together = world.run_until(seconds(180), |world| world.is_of_one_mind() && world.leader().is_some() && world.catalogs_agree());
    assert!(together, "at {:?} all is well again: leader {:?}, held for dead {:?}", world.now(), world.leader(), world.held_for_dead());
    let record = world.record();
    for tables in world.tables() {
        for (key, value) in record.acknowledged() {
            let kept = tables.kv_get(key.as_bytes()).value;
            assert_eq!(kept.as_ref().map(|entry| entry.value()), Some(value.as_bytes()), "`{key}` was acknowledged");
        }
    }
    drop(record);
    world.all_is_well();
}

/// Loss and delay alone kill nobody, at any time; a leader that dies is replaced; a minority that is cut off acknowledges
/// nothing; agents that die are known to be dead, and nobody else is.
fn hardship(seed: u64) -> (usize, usize, Duration) {
    let mut world = begin(seed, SERVERS, AGENTS);

    world.set_loss(0.05);
    world.run(seconds(12));
    tell(&world, "loss has killed nobody; links become slow as well");
    world.set_latency_max(Some(SLOW));
    let before = world.record().acknowledged().len();
    world.run(seconds(12));
    assert!(world.record().acknowledged().len() > before, "slow links hold nothing up for ever");
    world.set_latency_max(None);
    assert!(world.run_until(seconds(10), |world| world.leader().is_some()), "somebody leads");

    let first = world.leader().expect("it was waited for");
    tell(&world, "slow links have killed nobody; the leader and some agents crash");
    world.crash(&first);
    let agents = world.agents();
    let dead: Vec<String> = agents.sample(&mut world.rng.clone(), 8).cloned().collect();
    dead.iter().for_each(|name| world.crash(name));
    assert!(world.run_until(seconds(10), |world| world.leader().is_some_and(|leader| leader != first)), "another one leads");
    assert!(world.run_until(seconds(60), |world| world.is_of_one_mind()), "everybody knows who is dead: {:?}", world.held_for_dead());
    world.restart(&first);
    dead.iter().for_each(|name| world.restart(name));
    recovered(&mut world);

    let leader = world.leader().expect("all is well");
    let other = world.servers().into_iter().find(|name| *name != leader).expect("there are five");
    let servers = [leader, other];
    let minority: Vec<String> = servers.iter().chain(agents.iter().take(AGENTS / 3)).cloned().collect();
    tell(&world, "a smaller part with the leader is cut off");
    world.cut(&minority);
    let majority: Vec<String> = world.servers().into_iter().filter(|name| !servers.contains(name)).collect();
    assert!(world.run_until(seconds(10), |world| world.leads_among(&majority).is_some()), "the greater part elects a leader");
    world.run(seconds(2));
    let before = count(&world, &servers);
    world.run(seconds(20));
    assert_eq!(count(&world, &servers), before, "the smaller part acknowledges nothing");
    world.mend(&minority);
    recovered(&mut world);

    tell(&world, "something else every second");
    disasters(&mut world);
    tell(&world, "everything is taken back");
    recovered(&mut world);
    let record = world.record();
    (record.commands(), record.terms(), world.now())
}

/// Acknowledged writes of these servers.
fn count(world: &World, servers: &[String]) -> usize {
    let of = |key: &&String| servers.iter().any(|server| key.starts_with(&format!("{server}/")));
    world.record().acknowledged().keys().filter(of).count()
}

/// Half a minute in which each second something else happens, then all of it is taken back.
fn disasters(world: &mut World) {
    let everybody: Vec<String> = world.servers().into_iter().chain(world.agents()).collect();
    let servers = world.servers();
    let mut cut: Vec<Vec<String>> = Vec::new();
    for _ in 0..30 {
        let mut rng = world.rng.clone();
        let someone = everybody.choose(&mut rng).expect("somebody is there").clone();
        let server = servers.choose(&mut rng).expect("somebody is there").clone();
        match rng.random_range(0..8) {
            0 => world.crash(&server),
            1 => world.crash(&someone),
            2 | 3 => world.down().iter().for_each(|name| world.restart(name)),
            4 => {
                world.cut(std::slice::from_ref(&server));
                cut.push(vec![server]);
            }
            5 => cut.drain(..).for_each(|names| world.mend(&names)),
            6 => world.set_latency_max(rng.random_bool(0.5).then_some(SLOW)),
            _ => world.set_loss(rng.random_range(0.0..0.2)),
        }
        world.rng = rng;
        world.run(seconds(1));
    }
    world.set_loss(0.0);
    world.set_latency_max(None);
    cut.iter().for_each(|names| world.mend(names));
    world.down().iter().for_each(|name| world.restart(name));
}

#[test]
fn a_cluster_bears_loss_crashes_and_partitions_and_loses_nothing() {
    let seeds = seeds(&[1, 2]);
    for (seed, (commands, terms, passed)) in seeds.iter().zip(fate::decided_by(&seeds, hardship)) {
        println!("seed {seed}: {passed:?} of the cluster's time, {commands} commands, {terms} terms");
        assert!(commands > 500, "the cluster has worked");
        assert!(terms >= 3, "leaders have changed");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = begin(seed, 3, 5);
        let leader = world.leader().expect("all is well");
        world.set_loss(0.1);
        world.crash(&leader);
        world.run(seconds(15));
        let record = world.record();
        (record.commands(), record.acknowledged().clone())
    };
    let runs = fate::decided_by(&[7, 7, 8], run);
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0], runs[2]);
}
