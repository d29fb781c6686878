//! Whom a member calls by stream of its own accord: those that it has lost, those that it knew before it
//! started, and those that are up and have never been described here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::Core;
use crate::member::Status;

/// Each so often it is looked whether somebody has to be called.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// Some lost member is called again each so often; each time it is looked by a member that is alone.
const RECONNECT: Duration = Duration::from_secs(10);

/// Longest pause between two questions to one that is up and not described: its name or node id may be another's.
const UNDESCRIBED_MAX: Duration = Duration::from_secs(300);

/// Peers that are remembered for the next start, and of those that were lost long ago.
const REMEMBERED_MAX: usize = 64;

/// A call to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) to: SocketAddr,
    /// To be let in, rather than to hear what it is.
    pub(crate) joining: bool,
}

/// Whom to call, and when.
#[derive(Default)]
pub(super) struct Calls {
    /// Who is up and not described here, when to ask it, and the pause after that.
    undescribed: BTreeMap<SocketAddr, (Duration, Duration)>,
    /// Whom this member knew before it started, and whom it has forgotten while it was alone.
    previous: Vec<SocketAddr>,
    /// How many were called while this member was alone.
    alone: usize,
    /// When a lost one was called.
    reconnected: Duration,
}

impl Calls {
    /// Somebody is up whose description was lost.
    pub(super) fn undescribed(&mut self, address: SocketAddr) {
        self.undescribed.entry(address).or_insert((Duration::ZERO, LOOK));
    }

    /// It is described, or not up any more.
    pub(super) fn described(&mut self, address: &SocketAddr) {
        self.undescribed.remove(address);
    }

    /// It is not shown any more, and it was one of the last that were known.
    pub(super) fn forgotten(&mut self, address: SocketAddr) {
        if self.previous.len() < REMEMBERED_MAX && !self.previous.contains(&address) {
            self.previous.push(address);
        }
    }

    /// Of those that are not described the one that has waited longest, if it has for long enough.
    fn ask(&mut self, now: Duration) -> Option<SocketAddr> {
        let (address, (due, pause)) = self.undescribed.iter_mut().min_by_key(|(_, (due, _))| *due)?;
        (*due <= now).then(|| {
            *due = now + *pause;
            *pause = (*pause * 2).min(UNDESCRIBED_MAX);
            *address
        })
    }
}

impl Core {
    /// A member that knew `previous` before it started.
    pub(crate) fn remember(&mut self, previous: Vec<SocketAddr>) {
        self.calls.previous = previous;
    }

    /// Whom to call after the next start: those that are up, and those that were lost. Who is alone forgets nobody.
    pub(crate) fn remembered(&self) -> Vec<SocketAddr> {
        let me = self.me.id.address;
        let with = |status| self.entries.values().filter(move |entry| entry.status == status).map(|entry| entry.record.id.address);
        let left: BTreeSet<SocketAddr> = with(Status::Left).collect();
        let previous = self.calls.previous.iter().copied().filter(|address| self.size() == 1 && !left.contains(address));
        let mut seen = BTreeSet::from([me]);
        let all = with(Status::Alive).chain(with(Status::Failed)).chain(previous).filter(|address| seen.insert(*address));
        let mut remembered: Vec<SocketAddr> = all.take(REMEMBERED_MAX).collect();
        remembered.sort_unstable();
        remembered
    }

    /// Whom to call now; asked each [`LOOK`].
    pub(crate) fn calls(&mut self, now: Duration) -> Vec<Call> {
        let undescribed = self.calls.ask(now).map(|to| Call { to, joining: false });
        let me = self.me.id.address;
        let lost = self.lost(now).filter(|to| *to != me).map(|to| Call { to, joining: true });
        undescribed.into_iter().chain(lost).collect()
    }

    /// Somebody that this member has lost: everybody that was ever known, one after the other, while it is alone.
    fn lost(&mut self, now: Duration) -> Option<SocketAddr> {
        if self.size() > 1 {
            if now < self.calls.reconnected + RECONNECT {
                return None;
            }
            self.calls.reconnected = now;
            return self.pick(Status::Failed);
        }
        self.calls.alone += 1;
        // Who was known before the start and who was lost since then take turns.
        let turn = self.calls.alone / 2;
        let previous = (!self.calls.previous.is_empty()).then(|| self.calls.previous[turn % self.calls.previous.len()]);
        let lost = self.pick(Status::Failed);
        if self.calls.alone.is_multiple_of(2) { previous.or(lost) } else { lost.or(previous) }
    }
}
