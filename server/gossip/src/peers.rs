//! What the probing was told of each address.
//!
//! The probing keeps its members in a list and searches all of it for each update that it is given, and
//! the same update comes twenty times while it spreads. Here it is looked up whether an update says
//! anything new, so that most of them need not be given to the probing at all.

use std::collections::HashMap;
use std::net::SocketAddr;

use foca::{Incarnation, Member as Probed, State};

use crate::coordinate::Coordinate;
use crate::member::Id;
use crate::news::MEMBERS_MAX;

/// Everybody that the probing knows, by address.
#[derive(Default)]
pub(crate) struct Peers {
    by_address: HashMap<SocketAddr, Peer>,
    up: usize,
    /// The last life at each address that was forgotten, and which of its datagrams came: none is believed again.
    forgotten: HashMap<SocketAddr, Heard>,
}

/// Which datagrams of a life have come.
#[derive(Clone, Copy, Default)]
struct Heard {
    bump: u64,
    /// The latest, and which of those before it: the lowest bit is the latest's own. No bit while none came.
    latest: u32,
    came: u64,
}

/// The latest that was told of an address. The probing knows this much or more.
struct Peer {
    bump: u64,
    coordinate: Option<Box<Coordinate>>,
    incarnation: Incarnation,
    state: State,
    /// The probing has said that this life is up.
    up: bool,
    heard: Heard,
}

impl Peers {
    /// How many are up.
    pub(crate) fn up(&self) -> usize {
        self.up
    }

    /// How many addresses are known.
    pub(crate) fn len(&self) -> usize {
        self.by_address.len()
    }

    /// Which life is up at `address`.
    pub(crate) fn life(&self, address: SocketAddr) -> Option<u64> {
        self.by_address.get(&address).filter(|peer| peer.up).map(|peer| peer.bump)
    }

    pub(crate) fn is_up(&self, address: SocketAddr) -> bool {
        self.life(address).is_some()
    }

    /// Whether the probing would learn nothing from `update`: the order of SWIM (Das 2002, §4.2).
    pub(crate) fn covers(&self, update: &Probed<Id>) -> bool {
        let Some(peer) = self.by_address.get(&update.id().address) else { return false };
        if peer.bump != update.id().bump {
            return peer.bump > update.id().bump;
        }
        let newer = match (peer.state, update.state()) {
            (State::Down, _) => false,
            (_, State::Down) => true,
            (State::Alive, State::Suspect) => update.incarnation() >= peer.incarnation,
            (_, State::Alive) | (State::Suspect, State::Suspect) => update.incarnation() > peer.incarnation,
        };
        !newer
    }

    /// What speaks against one more address; `None` when nothing does.
    pub(crate) fn refuse(&self, address: SocketAddr) -> Option<&'static str> {
        let full = self.by_address.len() >= MEMBERS_MAX && !self.by_address.contains_key(&address);
        full.then_some("more members than a pool can have")
    }

    /// The probing was told `update`.
    pub(crate) fn note(&mut self, update: &Probed<Id>) {
        if self.covers(update) {
            return;
        }
        let heard = self.forgotten.remove(&update.id().address).unwrap_or_default();
        let fresh = Peer { bump: 0, coordinate: None, incarnation: 0, state: State::Alive, up: false, heard };
        let peer = self.by_address.entry(update.id().address).or_insert(fresh);
        if peer.heard.bump < update.id().bump {
            peer.heard = Heard { bump: update.id().bump, ..Heard::default() };
        }
        (peer.bump, peer.incarnation, peer.state) = (update.id().bump, update.incarnation(), update.state());
    }

    /// The probing says that this life is up, or is not any more.
    pub(crate) fn set_up(&mut self, id: Id, up: bool) {
        let known = if up { Probed::alive(id) } else { Probed::down(id) };
        self.note(&known);
        if let Some(peer) = self.by_address.get_mut(&id.address)
            && peer.up != up
        {
            peer.up = up;
            self.up = if up { self.up + 1 } else { self.up - 1 };
        }
    }

    /// The incarnation in which this life is suspected.
    pub(crate) fn suspected(&self, id: Id) -> Option<Incarnation> {
        let peer = self.by_address.get(&id.address)?;
        (peer.bump == id.bump && peer.state == State::Suspect).then_some(peer.incarnation)
    }

    pub(crate) fn coordinate(&self, address: SocketAddr) -> Option<Coordinate> {
        self.by_address.get(&address)?.coordinate.as_deref().copied()
    }

    /// Takes note of where somebody is, if anybody is known there.
    pub(crate) fn place(&mut self, address: SocketAddr, coordinate: Coordinate) {
        let Some(peer) = self.by_address.get_mut(&address) else { return };
        match &mut peer.coordinate {
            Some(place) => **place = coordinate,
            None => peer.coordinate = Some(Box::new(coordinate)),
        }
    }

    /// Takes note of what somebody else says of where it is, if nothing is known yet.
    pub(crate) fn place_first(&mut self, address: SocketAddr, coordinate: Coordinate) {
        if self.by_address.get(&address).is_some_and(|peer| peer.coordinate.is_none()) {
            self.place(address, coordinate);
        }
    }

    /// Whether this life's datagram of that number came before, or so long ago that nobody can tell.
    pub(crate) fn has_come(&self, id: Id, number: u32) -> bool {
        let (heard, gone) = match self.by_address.get(&id.address) {
            Some(peer) => (peer.heard, false),
            None => (self.forgotten.get(&id.address).copied().unwrap_or_default(), true),
        };
        if heard.came == 0 || heard.bump != id.bump {
            return gone && heard.bump > id.bump;
        }
        match age(heard.latest, number) {
            Age::Newer(_) => false,
            Age::Older(by) => by >= u64::BITS || heard.came & 1 << by != 0,
        }
    }

    /// This life's datagram of that number has come.
    pub(crate) fn come(&mut self, id: Id, number: u32) {
        let Some(peer) = self.by_address.get_mut(&id.address).filter(|peer| peer.heard.bump == id.bump) else { return };
        let heard = &mut peer.heard;
        if heard.came == 0 {
            (heard.latest, heard.came) = (number, 1);
            return;
        }
        match age(heard.latest, number) {
            Age::Newer(by) => {
                (heard.latest, heard.came) = (number, heard.came.checked_shl(by).unwrap_or(0) | 1);
            }
            Age::Older(by) => heard.came |= 1u64.checked_shl(by).unwrap_or(0),
        }
    }

    /// The probing has forgotten a life that is down.
    pub(crate) fn forget(&mut self, id: Id) {
        if self.by_address.get(&id.address).is_some_and(|peer| !peer.up && peer.bump == id.bump) {
            self.drop(id.address);
        }
    }

    /// Forgets those that are not up and that `wanted` does not want.
    pub(crate) fn retain(&mut self, wanted: impl Fn(&SocketAddr) -> bool) {
        let gone = self.by_address.iter().filter(|(address, peer)| !peer.up && !wanted(address)).map(|(address, _)| *address);
        gone.collect::<Vec<_>>().into_iter().for_each(|address| self.drop(address));
    }

    fn drop(&mut self, address: SocketAddr) {
        if let Some(peer) = self.by_address.remove(&address)
            && peer.heard.came != 0
            && self.forgotten.len() < MEMBERS_MAX
        {
            self.forgotten.insert(address, peer.heard);
        }
    }
}

enum Age {
    Newer(u32),
    Older(u32),
}

/// How `number` stands to the latest one: numbers begin again after the last.
fn age(latest: u32, number: u32) -> Age {
    let ahead = number.wrapping_sub(latest);
    if ahead != 0 && ahead < 1 << 31 { Age::Newer(ahead) } else { Age::Older(latest.wrapping_sub(number)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(bump: u64) -> Id {
        Id { address: SocketAddr::from(([127, 0, 0, 1], 1)), bump }
    }

    #[test]
    fn only_what_is_new_is_given_on() {
        let told = |updates: &[(u64, Incarnation, State)]| {
            let mut peers = Peers::default();
            updates
                .iter()
                .map(|(bump, incarnation, state)| {
                    let update = Probed::new(id(*bump), *incarnation, *state);
                    let new = !peers.covers(&update);
                    peers.note(&update);
                    assert!(peers.covers(&update), "twice is not new");
                    new
                })
                .collect::<Vec<_>>()
        };
        use State::{Alive, Down, Suspect};
        assert_eq!(told(&[(1, 0, Alive), (1, 0, Suspect), (1, 0, Alive), (1, 1, Alive)]), [true, true, false, true]);
        assert_eq!(told(&[(1, 3, Suspect), (1, 2, Suspect), (1, 4, Suspect), (1, 0, Down)]), [true, false, true, true]);
        assert_eq!(told(&[(1, 0, Down), (1, 9, Alive), (2, 0, Alive), (1, 0, Down)]), [true, false, true, false]);
    }

    #[test]
    fn who_is_up_is_counted_once_and_a_later_life_takes_the_place_of_an_earlier_one() {
        let mut peers = Peers::default();
        peers.set_up(id(1), true);
        peers.set_up(id(2), true);
        assert_eq!((peers.up(), peers.life(id(1).address)), (1, Some(2)));
        peers.forget(id(2));
        assert_eq!(peers.up(), 1, "who is up is not forgotten");
        peers.set_up(id(2), false);
        peers.forget(id(1));
        assert!(peers.covers(&Probed::alive(id(2))), "another life was forgotten, not this one");
        peers.forget(id(2));
        assert!(!peers.covers(&Probed::alive(id(2))));
    }

    #[test]
    fn a_datagram_that_came_is_known_in_whatever_order_they_come() {
        let mut peers = Peers::default();
        peers.set_up(id(1), true);
        let mut new = |life: u64, number: u32| {
            let new = !peers.has_come(id(life), number);
            peers.come(id(life), number);
            new
        };
        assert!(new(1, 5) && new(1, 3) && new(1, 4) && new(1, 40), "each of them once");
        assert!(!new(1, 5) && !new(1, 3) && !new(1, 4) && !new(1, 40), "and not twice");
        assert!(new(1, 39) && new(1, 1000) && !new(1, 40), "what is too old to tell counts as known");
        assert!(new(1, u32::MAX / 2 + 900) && new(1, u32::MAX) && new(1, 0) && !new(1, u32::MAX), "numbers begin again");
        assert!(new(2, 0), "another life has numbers of its own");
        peers.set_up(id(2), true);
        peers.come(id(2), 0);
        peers.set_up(id(2), false);
        peers.forget(id(2));
        assert!(peers.has_come(id(2), 0) && peers.has_come(id(1), 5), "of a life that was forgotten nothing comes again");
        assert!(!peers.has_come(id(2), 1), "it may have lived on");
        peers.set_up(id(2), true);
        assert!(peers.has_come(id(2), 0) && !peers.has_come(id(2), 1), "and is known again by what it sent");
    }
}
