//! Members that have lost everybody: whoever each of them calls holds it for dead as well.

use std::time::Duration;

use super::network::{Network, Weather};
use super::{LAN, seconds};
use crate::{Status, Timing};

/// A pool in which everybody has found everybody else dead, and whose network is whole again.
fn reunited(seed: u64, members: usize, weather: Weather, timing: Timing, isolated: Duration) -> Network {
    let mut network = Network::new(seed, weather);
    network.timing = timing;
    network.populate(members);
    network.run(timing.probe * 10);
    network.isolate();
    network.run(isolated);
    for viewer in 0..members {
        let failed = network.members(viewer).iter().filter(|(_, status)| *status == Status::Failed).count();
        assert_eq!(failed, members - 1, "seed {seed}: {viewer} has found everybody dead");
    }
    network.heal();
    network
}

fn is_whole(network: &Network, members: usize) -> bool {
    network.running().all(|viewer| {
        let seen = network.members(viewer);
        seen.len() == members && seen.iter().all(|(_, status)| *status == Status::Alive)
    })
}

#[test]
fn a_pool_whose_members_all_held_each_other_for_dead_is_whole_again_within_seconds() {
    for seed in 1..=4 {
        for members in [2, 3, 5] {
            for loss in [0.0, 0.1] {
                let mut network = reunited(seed, members, Weather { loss, ..LAN }, Timing::lan(), seconds(60));
                network.run(seconds(8));
                assert!(is_whole(&network, members), "seed {seed}, {members} members, loss {loss}: {:?}", network.members(0));
                network.deaths_told_of();
                network.run(seconds(120));
                assert!(network.deaths_told_of().is_empty() && is_whole(&network, members), "seed {seed}: and it stays so");
            }
        }
    }
}

#[test]
fn two_datacenters_of_one_server_each_meet_again() {
    let far = Weather { loss: 0.0, delay: (Duration::from_millis(40), Duration::from_millis(90)) };
    for seed in 1..=3 {
        let mut network = reunited(seed, 2, far, Timing::wan(), seconds(300));
        network.run(seconds(20));
        assert!(is_whole(&network, 2), "seed {seed}: {:?}", network.members(0));
    }
}

#[test]
fn who_was_alone_for_so_long_that_it_shows_nobody_any_more_still_calls_them() {
    let mut network = reunited(1, 3, LAN, Timing::lan(), seconds(60));
    network.isolate();
    network.jump(Duration::from_secs(73 * 3600));
    network.run(seconds(120));
    assert!(network.running().all(|viewer| network.members(viewer).len() == 1), "{:?}", network.members(0));
    network.heal();
    network.run(seconds(10));
    assert!(is_whole(&network, 3), "{:?}", network.members(0));
}
