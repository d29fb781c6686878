//! How long a suspicion lasts.
//!
//! The probing suspects whoever does not answer and sets a timer for its death. The timer is kept here:
//! it starts long and becomes shorter with each other member that has not reached the suspect either
//! (Lifeguard, §IV-B). A suspect hears of it in the next packet to it (§IV-C).

use std::net::SocketAddr;
use std::time::Duration;

use foca::{Incarnation, Member as Probed, State, Timer, TimerToken};
use metrics::counter;

use super::{Core, Due, Later};
use crate::member::Id;
use crate::suspicions::CONFIRMATIONS;
use crate::wire::{self, News, Suspicion};

/// Somebody whom this member has probed in vain.
pub(super) struct Suspected {
    id: Id,
    incarnation: Incarnation,
    token: TimerToken,
    since: Duration,
    /// So many others could confirm it, and that many are enough.
    wanted: usize,
    due: Due,
}

impl Core {
    /// The probing suspects `id` from now on.
    pub(super) fn suspect(&mut self, id: Id, incarnation: Incarnation, token: TimerToken) {
        let same = |known: &Suspected| (known.id, known.incarnation, known.token) == (id, incarnation, token);
        if self.suspected.get(&id.address).is_some_and(same) {
            return;
        }
        self.clear(id.address);
        self.learn(&Probed::new(id, incarnation, State::Suspect));
        if self.peers.suspected(id) != Some(incarnation) {
            // It has said in the meantime that it lives.
            return;
        }
        // Others that could tell: those that are up and are not suspects themselves.
        let others = self.peers.up().saturating_sub(1 + self.suspected.len());
        let mut known = Suspected { id, incarnation, token, since: self.now, wanted: others.min(CONFIRMATIONS), due: (self.now, 0) };
        let timer = Timer::ChangeSuspectToDown { member_id: id, incarnation, token };
        known.due = self.later(self.deadline(&known), Later::Probing(timer));
        self.suspected.insert(id.address, known);
        let bytes = wire::encode(&News::Suspicion(Suspicion { of: id, incarnation, by: self.me.id.address }));
        if let Err(error) = self.probing.add_broadcast(&bytes) {
            tracing::warn!(%error, "a suspicion can't be told to the others");
        }
    }

    /// Somebody else has not reached the member at `address` either: its time becomes shorter.
    pub(super) fn confirmed(&mut self, address: SocketAddr) {
        let Some(known) = self.suspected.get(&address) else { return };
        let (before, at) = (known.due, self.deadline(known).max(self.now));
        if at < before.0
            && let Some(timer) = self.timers.remove(&before)
        {
            let due = (at, before.1);
            self.timers.insert(due, timer);
            if let Some(known) = self.suspected.get_mut(&address) {
                known.due = due;
            }
        }
    }

    /// When it counts as failed, as far as is known now.
    fn deadline(&self, known: &Suspected) -> Duration {
        let confirmed = self.inbox.lock().suspicions.confirmations(known.id, known.incarnation, self.me.id.address);
        let confirmed = if self.parts.confirm { confirmed } else { known.wanted };
        known.since + self.timing.suspected_for(self.size(), self.health, confirmed, known.wanted)
    }

    /// The member at `address` is not suspected any more, or is down.
    pub(super) fn clear(&mut self, address: SocketAddr) {
        if let Some(known) = self.suspected.remove(&address) {
            self.timers.remove(&known.due);
        }
    }

    /// The probing has been told `update`.
    pub(super) fn learn(&mut self, update: &Probed<Id>) {
        self.peers.note(update);
        let address = update.id().address;
        if self.suspected.get(&address).is_some_and(|known| self.peers.suspected(known.id) != Some(known.incarnation)) {
            self.clear(address);
        }
    }

    /// Somebody who probes this member says that it is suspected: it says at once that it lives.
    pub(super) fn am_suspected(&mut self, incarnation: Incarnation) {
        counter!("consul_gossip_suspected").increment(1);
        let update = Probed::new(*self.probing.identity(), incarnation, State::Suspect);
        let _ = self.probing.apply_many(std::iter::once(update), true, &mut self.runtime);
    }
}
