//! Who suspects whom: the more members have probed somebody in vain, the sooner it counts as failed
//! (Lifeguard: Dadgar, Phillips, Currey 2018, §IV-B).

use std::collections::HashMap;
use std::net::SocketAddr;

use foca::Incarnation;

use crate::member::Id;
use crate::news::MEMBERS_MAX;
use crate::wire::Suspicion;

/// So many confirmations shorten a suspicion as far as it goes.
pub(crate) const CONFIRMATIONS: usize = 3;

/// What was heard of suspicions, by the suspect's address.
#[derive(Default)]
pub(crate) struct Suspicions {
    heard: HashMap<SocketAddr, Heard>,
}

struct Heard {
    bump: u64,
    incarnation: Incarnation,
    by: Vec<SocketAddr>,
}

impl Suspicions {
    /// Takes a suspicion; true when it is news that are worth telling others: of each suspect the first
    /// suspicion and so many confirmations as count.
    pub(crate) fn take(&mut self, suspicion: &Suspicion) -> bool {
        let of = (suspicion.of.bump, suspicion.incarnation);
        if self.heard.len() >= MEMBERS_MAX && !self.heard.contains_key(&suspicion.of.address) {
            return false;
        }
        let fresh = || Heard { bump: of.0, incarnation: of.1, by: Vec::new() };
        let heard = self.heard.entry(suspicion.of.address).or_insert_with(fresh);
        if (heard.bump, heard.incarnation) < of {
            *heard = fresh();
        }
        let new = (heard.bump, heard.incarnation) == of && heard.by.len() <= CONFIRMATIONS && !heard.by.contains(&suspicion.by);
        if new {
            heard.by.push(suspicion.by);
        }
        new
    }

    /// How many besides `me` suspect this life in this incarnation.
    pub(crate) fn confirmations(&self, of: Id, incarnation: Incarnation, me: SocketAddr) -> usize {
        let heard = self.heard.get(&of.address).filter(|heard| (heard.bump, heard.incarnation) == (of.bump, incarnation));
        heard.map_or(0, |heard| heard.by.iter().filter(|by| **by != me).count())
    }

    /// Forgets those that `still` does not suspect any more.
    pub(crate) fn retain(&mut self, still: impl Fn(Id, Incarnation) -> bool) {
        self.heard.retain(|address, heard| still(Id { address: *address, bump: heard.bump }, heard.incarnation));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn only_other_members_confirm_and_only_what_is_still_suspected() {
        let mut heard = Suspicions::default();
        let of = Id { address: address(9), bump: 1 };
        let mut take = |by, incarnation, bump| heard.take(&Suspicion { of: Id { bump, ..of }, incarnation, by: address(by) });
        assert!(take(1, 0, 1) && take(2, 0, 1));
        assert!(!take(2, 0, 1), "who says it twice confirms once");
        assert!(take(3, 1, 1), "a later incarnation is suspected anew");
        assert!(!take(4, 0, 1), "the earlier one has been refuted");
        assert!(take(4, 1, 1) && take(5, 1, 1) && take(6, 1, 1) && !take(7, 1, 1), "more than count are not told on");
        assert_eq!(heard.confirmations(of, 1, address(3)), CONFIRMATIONS);
        assert_eq!((heard.confirmations(of, 0, address(3)), heard.confirmations(Id { bump: 2, ..of }, 1, address(3))), (0, 0));
        heard.retain(|_, incarnation| incarnation > 1);
        assert_eq!(heard.confirmations(of, 1, address(3)), 0);
    }
}
