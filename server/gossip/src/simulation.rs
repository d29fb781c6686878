//! Whole pools in one process, on a network and a clock that are made up: the same seed gives the
//! same run, to the last packet.

mod intruder;
mod isolation;
mod lifeguard;
mod lives;
mod network;
mod prune;

use std::time::Duration;

use network::{Network, Weather};

use crate::Status;

const LAN: Weather = Weather { loss: 0.0, delay: (Duration::from_micros(300), Duration::from_micros(1500)) };

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Members that are shown to `viewer` as they are, out of those that run.
fn seen_right(network: &Network, viewer: usize) -> bool {
    network.members(viewer).into_iter().all(|(member, status)| match network.is_running(member) {
        true => status == Status::Alive,
        false => matches!(status, Status::Failed | Status::Left),
    })
}

#[test]
fn a_pool_bears_loss_crashes_and_a_partition_and_is_of_one_mind_afterwards() {
    for seed in 1..=3 {
        let mut network = Network::new(seed, LAN);
        // Everybody joins by one of the first three, in the order of their numbers.
        for member in 0..60 {
            network.add(member);
            network.run(Duration::from_millis(50));
            if member > 0 {
                network.join(member, member.min(3) - 1);
            }
        }
        network.run(seconds(10));
        assert!(network.running().all(|viewer| network.members(viewer).len() == 60), "seed {seed}: everybody knows everybody");
        assert_eq!(network.deaths_told(), 0, "seed {seed}: nobody died");

        network.weather.loss = 0.02;
        network.run(seconds(60));
        assert_eq!(network.deaths_told(), 0, "seed {seed}: 2 % of loss kills nobody");

        for member in [7, 21, 40] {
            network.crash(member);
        }
        network.run(seconds(40));
        let settled = network.running().filter(|viewer| seen_right(&network, *viewer)).count();
        assert_eq!(settled, 57, "seed {seed}: everybody knows who is dead, and that nobody else is");

        network.split(20);
        network.run(seconds(60));
        assert!(network.deaths_told() > 1000, "seed {seed}: each side holds the other for dead");
        network.heal();
        network.run(seconds(120));
        let settled = network.running().filter(|viewer| seen_right(&network, *viewer)).count();
        assert_eq!(settled, 57, "seed {seed}: both sides are one again");
    }
}

#[test]
fn an_event_is_told_to_everybody_once_although_packets_are_lost_and_repeated() {
    let mut network = Network::new(11, Weather { loss: 0.05, ..LAN });
    network.populate(100);
    network.run(seconds(5));
    network.fire(17);
    network.repeat_packets(true);
    network.run(seconds(15));
    let told = network.told();
    assert_eq!((told.len(), told.iter().filter(|(_, times)| **times > 1).count()), (99, 0), "the one that fired it knows it already");
}

#[test]
fn a_storm_of_events_is_told_to_everybody_once() {
    let mut network = Network::new(12, Weather { loss: 0.02, ..LAN });
    network.populate(60);
    network.run(seconds(5));
    network.repeat_packets(true);
    network.storm(10);
    network.run(seconds(90));
    let told: Vec<usize> = network.told().values().copied().filter(|told| *told != 600).collect();
    assert_eq!((network.told().len(), told), (60, vec![]), "each of them, those of one's own among them");
}

#[test]
fn who_is_gone_for_long_is_forgotten_and_old_news_bring_nobody_back() {
    let mut network = Network::new(3, LAN);
    network.populate(3);
    network.run(seconds(5));
    network.crash(2);
    network.run(seconds(60));
    let old = network.state(1);
    assert_eq!(network.members(0).len(), 3, "a failed member is shown");
    network.jump(Duration::from_secs(73 * 3600));
    network.run(seconds(120));
    assert_eq!(network.members(0).len(), 2, "after three days it is not any more");
    network.merge(0, old);
    network.run(seconds(5));
    assert_eq!(network.members(0).len(), 2, "old news bring nobody back");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut network = Network::new(seed, Weather { loss: 0.1, ..LAN });
        network.populate(30);
        network.run(seconds(20));
        (network.packets, network.bytes)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}

/// Prints how a pool of each of the sizes `MEMBERS` does, with loss for `LOSSY` seconds; `docs/gossip.md` keeps what
/// it printed. Takes minutes and, for 5,000 members, gigabytes: run it alone, optimised, with `--ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a test: it takes minutes"]
fn how_a_pool_does_by_its_size() {
    println!(
        "| members | event to all, rounds | death to the first, s | death to all, s | held for dead wrongly, 1 % loss | 10 % loss | datagrams, bytes/s | comparing, bytes/s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    let sizes = std::env::var("MEMBERS").unwrap_or_else(|_| "50,500,2000,5000".into());
    let lossy = seconds(std::env::var("LOSSY").ok().and_then(|text| text.parse().ok()).unwrap_or(60));
    for size in sizes.split(',').filter_map(|size| size.parse::<usize>().ok()) {
        let mut network = Network::new(1, LAN);
        network.populate(size);
        network.run(seconds(20));
        let (bytes, from) = (network.bytes, network.now());
        network.compared = Some(0);
        network.run(seconds(20));
        let each = |bytes: u64, network: &Network| bytes as f64 / size as f64 / (network.now() - from).as_secs_f64();
        let sent = each(network.bytes - bytes, &network);
        let compared = each(network.compared.take().unwrap_or_default(), &network);
        let rounds = network.spread(size / 3);
        let mut wrongly = [0; 2];
        for (loss, wrongly) in [0.01, 0.10].into_iter().zip(&mut wrongly) {
            network.deaths_told_of();
            network.weather.loss = loss;
            network.run(lossy);
            network.weather = LAN;
            // Who was suspected in the loss may be held for dead after it.
            network.run(seconds(30));
            *wrongly = network.deaths_told_of().len();
        }
        // One after the other, and the mean of them.
        let deaths = [2, 3, 5].map(|part| network.detect(size / part));
        let [one, ten] = wrongly;
        let mean = |times: [Duration; 3]| times.iter().sum::<Duration>().as_secs_f64() / 3.0;
        let (first, all) = (mean(deaths.map(|(first, _)| first)), mean(deaths.map(|(_, all)| all)));
        println!("| {size} | {rounds:.0} | {first:.1} | {all:.1} | {one} | {ten} | {sent:.0} | {compared:.0} |");
    }
}
