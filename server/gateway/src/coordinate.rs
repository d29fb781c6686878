//! `/v1/coordinate/`: where nodes and servers are in the network.
//!
//! Coordinates move with every probe and are in no table. So that a client can wait for them all the
//! same, an index stands for what was told last: it moves when something has moved since, at most each
//! [`STEP`]. It is the time of that in milliseconds, and so grows over restarts and is alike on all
//! agents.

use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use service::cluster::{Coordinate, PoolKind};
use tokio::time::{Instant, sleep_until};

use crate::Gateway;
use crate::json::Json;
use crate::reply::Reply;
use crate::request::Ask;
use crate::status::{Fault, Outcome};

/// The least time between two indexes; as far apart as agents of Consul report where they are.
const STEP: Duration = Duration::from_secs(5);

type Places = Vec<(String, Coordinate)>;

/// What was told last, and the index that stands for it.
#[derive(Default)]
pub(crate) struct Board(Mutex<Told>);

#[derive(Default)]
struct Told {
    places: Places,
    index: u64,
}

impl Board {
    /// The index of `places`, seen at `now`, which is in milliseconds.
    fn index(&self, places: &Places, now: u64) -> u64 {
        let mut told = self.0.lock();
        let due = now >= told.index.saturating_add(STEP.as_millis() as u64);
        if told.index == 0 || (due && told.places != *places) {
            told.index = now.max(1);
            told.places.clone_from(places);
        }
        told.index
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// `GET /v1/coordinate/datacenters`: where the servers of each datacenter are.
pub(crate) fn datacenters(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let by_datacenter = gateway.service.coordinates_by_datacenter(&ask.caller)?;
    let mut json = Json::new();
    json.array(|json| {
        for (datacenter, servers) in &by_datacenter {
            json.object(|json| {
                json.name("Datacenter").text(datacenter);
                json.name("AreaID").text("WAN");
                json.name("Coordinates").array(|json| {
                    for (name, at) in servers {
                        place(json, name, at);
                    }
                });
            });
        }
    });
    Ok(gateway.json(ask, json))
}

/// `GET /v1/coordinate/nodes` and `/v1/coordinate/node/:name`
pub(crate) async fn nodes(gateway: &Gateway, ask: &Ask) -> Outcome<Reply> {
    let (_, blocking) = ask.reading()?;
    let (limits, begun) = (gateway.service.limits(), Instant::now());
    let deadline = blocking.map(|blocking| {
        let wait = if blocking.wait.is_zero() { limits.blocking_wait_default } else { blocking.wait.min(limits.blocking_wait_max) };
        (blocking.index.0, begun + wait)
    });
    loop {
        let all = gateway.service.coordinates(&ask.caller, PoolKind::Lan)?;
        let index = gateway.coordinates.index(&all, now());
        match deadline {
            // Another one than was seen, be it smaller, is news.
            Some((seen, deadline)) if seen == index && Instant::now() < deadline => sleep_until(deadline.min(Instant::now() + STEP)).await,
            _ => return listed(gateway, ask, &all, index),
        }
    }
}

fn listed(gateway: &Gateway, ask: &Ask, all: &Places, index: u64) -> Outcome<Reply> {
    let wanted = ask.rest_text();
    let chosen: Vec<_> = all.iter().filter(|(name, _)| wanted.is_empty() || *name == *wanted).collect();
    if !wanted.is_empty() && chosen.is_empty() {
        return Err(Fault::missing(""));
    }
    let mut json = Json::new();
    json.array(|json| {
        for (name, at) in chosen {
            place(json, name, at);
        }
    });
    let status = gateway.service.consensus_status();
    let contact = status.last_contact.filter(|_| status.leader != Some(status.id)).unwrap_or_default();
    let reply = gateway.json(ask, json).contact(status.leader.is_some(), contact.as_millis());
    Ok(reply.with_text(http::HeaderName::from_static("x-consul-index"), &index.to_string()))
}

/// A node and where it is.
fn place(json: &mut Json, node: &str, at: &Coordinate) {
    json.object(|json| {
        json.name("Node").text(node);
        json.name("Segment").text("");
        json.name("Coord");
        coordinate(json, at);
    });
}

pub(crate) fn coordinate(json: &mut Json, at: &Coordinate) {
    json.object(|json| {
        json.name("Vec").array(|json| at.vec.iter().for_each(|length| _ = json.float(*length)));
        json.name("Error").float(at.error);
        json.name("Adjustment").float(at.adjustment);
        json.name("Height").float(at.height);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_moves_when_somebody_has_moved_and_not_too_often() {
        let board = Board::default();
        let at = |height| vec![("a".to_owned(), Coordinate { height, ..Coordinate::default() })];
        let (first, step) = (1_000_000, STEP.as_millis() as u64);
        assert_eq!(board.index(&at(0.1), first), first);
        assert_eq!(board.index(&at(0.2), first + 1), first, "too soon");
        assert_eq!(board.index(&at(0.1), first + step), first, "nobody has moved");
        assert_eq!(board.index(&at(0.2), first + 2 * step), first + 2 * step);
    }
}
