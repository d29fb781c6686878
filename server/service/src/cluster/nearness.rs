//! What is near comes first: pure functions of coordinates, or of the distances that they tell.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use gossip::Coordinate;

/// Sorts rows by the distance of their nodes. Equals stay as they are.
pub(super) fn sort<T>(rows: &mut [T], node: impl Fn(&T) -> &str, distance: impl Fn(&str) -> Duration) {
    let mut known: HashMap<String, Duration> = HashMap::new();
    for row in rows.iter() {
        let name = node(row);
        if !known.contains_key(name) {
            known.insert(name.to_owned(), distance(name));
        }
    }
    rows.sort_by_key(|row| known.get(node(row)).copied().unwrap_or(Duration::MAX));
}

/// Datacenters by the median of the round trips from `here` to their servers: one far server does not
/// move a datacenter. Of servers that were not heard of nothing is known, and a datacenter of such alone
/// comes last.
pub(super) fn datacenters(here: &Coordinate, servers: impl IntoIterator<Item = (String, Option<Coordinate>)>) -> Vec<String> {
    let mut trips: BTreeMap<String, Vec<Duration>> = BTreeMap::new();
    for (datacenter, there) in servers {
        trips.entry(datacenter).or_default().extend(there.map(|there| here.distance(&there)));
    }
    let median = |mut trips: Vec<Duration>| {
        trips.sort();
        trips.get(trips.len() / 2).copied().unwrap_or(Duration::MAX)
    };
    let mut sorted: Vec<(Duration, String)> = trips.into_iter().map(|(datacenter, trips)| (median(trips), datacenter)).collect();
    sorted.sort();
    sorted.into_iter().map(|(_, datacenter)| datacenter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place so many seconds from the origin.
    fn at(seconds: f64) -> Coordinate {
        let mut place = Coordinate::default();
        place.vec[0] = seconds;
        place
    }

    #[test]
    fn other_nodes_are_sorted_by_how_far_they_are_and_unheard_ones_come_last() {
        let places = [("b", at(0.3)), ("c", at(-0.1)), ("d", at(0.2)), ("e", at(0.3))];
        let distance = |name: &str| {
            let there = places.iter().find(|(known, _)| *known == name);
            there.map_or(Duration::MAX, |(_, there)| at(0.0).distance(there))
        };
        let mut rows = ["unheard", "e", "b", "d", "c", "e"];
        sort(&mut rows, |row| row, distance);
        assert_eq!(rows, ["c", "d", "e", "b", "e", "unheard"]);
    }

    #[test]
    fn datacenters_are_sorted_by_the_median_of_their_servers() {
        let servers = [
            ("far", Some(at(0.5))),
            ("near", Some(at(0.1))),
            // One server of it is a long way off, which does not count.
            ("near", Some(at(9.0))),
            ("near", Some(at(0.1))),
            ("between", Some(at(-0.2))),
            ("unheard", None),
        ];
        let sorted = datacenters(&at(0.0), servers.map(|(name, place)| (name.to_owned(), place)));
        assert_eq!(sorted, ["near", "between", "far", "unheard"]);
    }
}
