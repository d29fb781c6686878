//! Members that begin again: the same name and address, and nothing else of what they were.

use super::network::{Network, Weather};
use super::{LAN, seconds};
use crate::Status;

#[test]
fn who_comes_back_at_once_with_an_empty_disk_is_known_as_what_it_is_now() {
    for (seed, loss) in [(1, 0.0), (2, 0.05)] {
        let mut network = Network::new(seed, Weather { loss, ..LAN });
        network.populate(20);
        network.run(seconds(5));
        for life in 2..=4 {
            network.begin_anew(7);
            assert!(network.join(7, 3), "seed {seed}: it is let in at once, although nobody has missed it");
            network.run(seconds(10));
            for viewer in 0..20 {
                assert_eq!(network.node_id(viewer, 7), Some(format!("id7.{life}")), "seed {seed}: as {viewer} sees it");
                assert_eq!(network.members(viewer).len(), 20);
                assert!(network.members(viewer).iter().all(|(_, status)| *status == Status::Alive), "seed {seed}, {viewer}");
            }
        }
        assert_eq!(network.deaths_told(), 0, "seed {seed}");
    }
}

#[test]
fn who_comes_back_without_a_call_is_found_by_those_who_knew_its_earlier_life() {
    let mut network = Network::new(3, LAN);
    network.populate(10);
    network.run(seconds(5));
    network.begin_anew(4);
    network.run(seconds(90));
    for viewer in 0..10 {
        assert_eq!(network.node_id(viewer, 4).as_deref(), Some("id4.2"), "as {viewer} sees it");
        assert!(network.members(viewer).iter().all(|(_, status)| *status == Status::Alive));
    }
}
