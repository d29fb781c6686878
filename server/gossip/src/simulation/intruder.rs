//! A node that advertises the address of another one: a configuration that was copied.

use super::network::{Network, address};
use super::{LAN, seconds};
use crate::Status;
use crate::member::Id;

const OWNER: usize = 3;
const INTRUDER: usize = 9;

fn pool(seed: u64) -> Network {
    let mut network = Network::new(seed, LAN);
    network.populate(6);
    network.run(seconds(5));
    network
}

/// A later life at the owner's address, by the intruder's clock.
fn intrude(network: &mut Network) {
    network.add_at(INTRUDER, Id { address: address(OWNER), bump: 1000 });
}

/// How the owner is shown to everybody else.
fn shown(network: &Network) -> Vec<Status> {
    let of = |viewer: usize| network.members(viewer).into_iter().find(|(member, _)| *member == OWNER).map(|(_, status)| status);
    (0..6).filter(|viewer| *viewer != OWNER).map(|viewer| of(viewer).expect("the owner is shown")).collect()
}

#[test]
fn who_advertises_the_address_of_a_living_member_is_let_in_by_nobody_and_that_member_stays() {
    let mut network = pool(1);
    intrude(&mut network);
    for round in 0..60 {
        assert!(!network.join(INTRUDER, round % 6), "it is let in by {}", round % 6);
        network.run(seconds(1));
        assert!(shown(&network).iter().all(|status| *status == Status::Alive), "{:?}", shown(&network));
    }
}

#[test]
fn who_takes_the_address_of_a_failed_member_does_not_have_it_leave() {
    for seed in 1..=3 {
        let mut network = pool(seed);
        intrude(&mut network);
        network.crash(OWNER);
        let mut let_in = 0;
        for round in 0..60 {
            let_in += usize::from(network.join(INTRUDER, [0, 1, 2, 4, 5][round % 5]));
            network.run(seconds(1));
            assert!(!shown(&network).contains(&Status::Left), "seed {seed}: nobody has said so: {:?}", shown(&network));
        }
        assert!(let_in > 0, "seed {seed}: a machine that was replaced comes in");
        network.restart(OWNER, 500);
        for round in 0..120 {
            network.join(INTRUDER, [0, 1, 2, 4, 5][round % 5]);
            network.join(OWNER, [0, 1, 2, 4, 5][(round + 1) % 5]);
            network.run(seconds(1));
            assert!(!shown(&network).contains(&Status::Left), "seed {seed}: {:?}", shown(&network));
        }
        assert!(shown(&network).iter().all(|status| *status == Status::Alive), "seed {seed}: {:?}", shown(&network));
    }
}

#[test]
fn of_two_copies_of_a_data_directory_that_come_at_once_each_member_shows_one() {
    for seed in 1..=4 {
        let mut network = pool(seed);
        for copy in [7, 8] {
            network.add_copy(copy, "copied");
        }
        assert!(network.join(7, 0) && network.join(8, 1), "neither knows of the other one yet");
        network.run(seconds(20));
        let copies =
            |network: &Network, viewer: usize| network.members(viewer).into_iter().filter(|(member, _)| *member > 6).collect::<Vec<_>>();
        for viewer in 0..6 {
            assert_eq!(copies(&network, viewer).len(), 1, "seed {seed}: {viewer} sees {:?}", network.members(viewer));
        }
        let (kept, _) = copies(&network, 0)[0];
        network.crash(kept);
        network.run(seconds(400));
        let other = 15 - kept;
        assert!(copies(&network, 0).contains(&(other, Status::Alive)), "seed {seed}: the other one is shown when the first is gone");
    }
}
