//! A failed member that everybody is told to forget.

use std::time::Duration;

use super::network::Network;
use super::{LAN, seconds};

#[test]
fn who_was_cut_off_when_a_member_was_pruned_forgets_it_as_well() {
    for seed in 1..=3 {
        let mut network = Network::new(seed, LAN);
        network.populate(6);
        network.run(seconds(5));
        network.crash(5);
        network.run(seconds(30));
        network.cut_off = Some((4, false));
        network.prune(0, 5);
        network.run(seconds(60));
        let shows = |network: &Network, viewer: usize| network.members(viewer).iter().any(|(member, _)| *member == 5);
        assert!(shows(&network, 4) && !shows(&network, 1), "seed {seed}: it was told to those that could hear it");
        network.cut_off = None;
        network.run(seconds(60));
        network.add(7);
        network.join(7, 4);
        network.run(seconds(10));
        for viewer in [0, 1, 2, 3, 4, 7] {
            assert!(!shows(&network, viewer), "seed {seed}: {viewer} sees {:?}", network.members(viewer));
        }
        // A tombstone is not handed round for ever.
        network.jump(Duration::from_secs(73 * 3600));
        network.run(seconds(300));
        let told = network.running().flat_map(|member| network.state(member).members).filter(|(record, ..)| record.pruned).count();
        assert_eq!(told, 0, "seed {seed}");
    }
}
