//! The probe under way, and what it says of this member's own health.
//!
//! Whoever gets no answers may itself be the cause: it is slow, or its network is bad. The more reason
//! it has to think so, the slower it probes and the longer it suspects (Lifeguard, §IV-A).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{Codec, Header, Incarnation, Member as Probed, Message, OwnedNotification, PostcardCodec, ProbeNumber, State, Timer};
use metrics::counter;
use rand::RngExt;

use super::{Core, Later, Output};
use crate::coordinate::Coordinate;
use crate::member::Id;
use crate::wire::Notice;

/// The worst that one's own health can be rated.
const HEALTH_MAX: u32 = 8;

/// Most probes for others that are remembered.
const RELAYED_MAX: usize = 256;

/// When a member that was asked to try tells that it got no answer, as a part of the time it has.
const SILENCE: f64 = 0.8;

/// A probe under way.
pub(super) struct Probe {
    id: Id,
    number: ProbeNumber,
    sent: Duration,
    /// It has answered, itself or by way of another one.
    answered: bool,
    /// It has answered by stream.
    streamed: bool,
    /// Members that were asked to try, and have not said that they got no answer either.
    relays: BTreeSet<SocketAddr>,
    /// Those that have.
    silent: usize,
}

/// A probe for another member.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Relayed {
    asker: SocketAddr,
    target: SocketAddr,
    number: ProbeNumber,
}

impl Core {
    /// Something that the probing wants done after a while.
    pub(super) fn schedule(&mut self, after: Duration, timer: Timer<Id>) {
        let slower = match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, token } => return self.suspect(member_id, incarnation, token),
            Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } => 1 + self.health,
            _ => 1,
        };
        self.later(self.now + after * slower, Later::Probing(timer));
    }

    /// Something that the probing wanted done is due.
    pub(super) fn probing_is_due(&mut self, timer: Timer<Id>) {
        let (mut unanswered, mut over, mut forgotten, mut judged) = (None, false, None, None);
        match &timer {
            Timer::SendIndirectProbe { probed_id, .. } => unanswered = Some(*probed_id),
            Timer::ProbeRandomMember(_) => over = true,
            Timer::RemoveDown(id) => forgotten = Some(*id),
            Timer::ChangeSuspectToDown { member_id, .. } => judged = Some(member_id.address),
            _ => {}
        }
        if over {
            self.count_stream();
        }
        if let Some(address) = judged {
            self.suspected.remove(&address);
        }
        // A timer that has become superfluous is no failure.
        let _ = self.probing.handle_timer(timer, &mut self.runtime);
        if let Some(id) = unanswered {
            self.try_stream(id);
        }
        if let Some(id) = forgotten {
            self.peers.forget(id);
        }
    }

    /// Datagrams have not reached `id` so far: while others try, it is asked by stream.
    fn try_stream(&mut self, id: Id) {
        let unanswered = self.probe.as_ref().is_some_and(|probe| probe.id == id && !probe.answered);
        if unanswered && self.parts.stream {
            let within = self.timing.indirect() * (1 + self.health);
            self.outputs.push(Output::Ask(id, self.peers.suspected(id), within));
        }
    }

    /// `id` has answered by stream.
    pub(crate) fn stream_answered(&mut self, now: Duration, id: Id) {
        self.now = now;
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.id == id) {
            probe.streamed = true;
        }
    }

    /// Somebody asks by stream whether `to` is there, and says in which incarnation it suspects it.
    /// False when `to` is not this life.
    pub(crate) fn asked_by_stream(&mut self, now: Duration, to: Id, suspected: Option<Incarnation>) -> bool {
        self.now = now;
        let mine = to == *self.probing.identity();
        if let Some(incarnation) = suspected.filter(|_| mine) {
            self.am_suspected(incarnation);
            self.settle(None);
        }
        mine
    }

    /// The probe's time is over. Where nothing but the stream was answered, that is an answer, and one
    /// that somebody should know of.
    fn count_stream(&mut self) {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.streamed && !probe.answered) else { return };
        probe.answered = true;
        let (id, message) = (probe.id, Message::Ack(probe.number));
        counter!("consul_gossip_probes_by_stream").increment(1);
        self.outputs.push(Output::StreamOnly(id.address));
        let header = Header { src: id, src_incarnation: 0, dst: *self.probing.identity(), message };
        let mut packet = Vec::new();
        if PostcardCodec.encode_header(&header, &mut packet).is_ok() {
            let _ = self.probing.handle_data(&packet, &mut self.runtime);
        }
        self.settle(None);
    }

    /// Something that the probing tells of.
    pub(super) fn notice(&mut self, notification: OwnedNotification<Id>, coordinate: Option<Coordinate>) {
        match notification {
            OwnedNotification::MemberUp(id) => {
                self.peers.set_up(id, true);
                if !self.entries.has_address(&id.address) {
                    self.calls.undescribed(id.address);
                }
                self.judge_address(id.address);
            }
            OwnedNotification::MemberDown(id) => {
                self.peers.set_up(id, false);
                self.clear(id.address);
                self.calls.described(&id.address);
                self.judge_address(id.address);
            }
            OwnedNotification::Rename(_, new) => self.learn(&Probed::alive(new)),
            OwnedNotification::Rejoin(id) => {
                // Others held this one for dead: it may be slow, so it trusts its own clock less.
                self.worsen();
                counter!("consul_gossip_refutations").increment(1);
                let me = Arc::make_mut(&mut self.me);
                me.id = id;
                me.version += 1;
                self.tell_of_me();
            }
            OwnedNotification::DataSent(header) => self.has_sent(&header),
            OwnedNotification::DataReceived(header) => self.has_come(&header, coordinate),
            OwnedNotification::ProbeFailed(..) => {
                counter!("consul_gossip_probes_failed").increment(1);
                // Whom others don't reach either is at fault itself.
                let excused = self.probe.take().is_some_and(|probe| probe.silent > 0 && probe.relays.is_empty());
                if !excused {
                    self.worsen();
                }
            }
            OwnedNotification::Active | OwnedNotification::Idle | OwnedNotification::Defunct => {}
        }
    }

    fn has_sent(&mut self, header: &Header<Id>) {
        match header.message {
            Message::Ping(number) => {
                let (id, sent) = (header.dst, self.now);
                self.probe = Some(Probe { id, number, sent, answered: false, streamed: false, relays: BTreeSet::new(), silent: 0 });
            }
            Message::PingReq { .. } => {
                if let Some(probe) = &mut self.probe {
                    probe.relays.insert(header.dst.address);
                }
            }
            _ => {}
        }
        let incarnation = (header.src.bump, header.src_incarnation);
        if incarnation.0 == self.incarnation.0 && incarnation.1 > self.incarnation.1 {
            // It was suspected and said that it lives: it may be slow.
            self.worsen();
        }
        self.incarnation = incarnation;
    }

    fn has_come(&mut self, header: &Header<Id>, coordinate: Option<Coordinate>) {
        let from = header.src.address;
        self.learn(&Probed::new(header.src, header.src_incarnation, State::Alive));
        if let Some(coordinate) = coordinate.filter(Coordinate::is_valid) {
            self.peers.place(from, coordinate);
        }
        match header.message {
            Message::Ack(number) => self.answered(header.src, number, true),
            Message::ForwardedAck { origin, probe_number } => self.answered(origin, probe_number, false),
            Message::PingReq { target, probe_number } if self.relayed.len() < RELAYED_MAX => {
                let relayed = Relayed { asker: from, target: target.address, number: probe_number };
                self.relayed.insert(relayed);
                self.later(self.now + self.timing.indirect().mul_f64(SILENCE), Later::Silent(relayed));
            }
            Message::IndirectAck { target, probe_number } => {
                self.relayed.remove(&Relayed { asker: target.address, target: from, number: probe_number });
            }
            _ => {}
        }
    }

    /// The probe was answered, by the probed one itself or by way of another one.
    fn answered(&mut self, id: Id, number: ProbeNumber, itself: bool) {
        let Some(probe) = self.probe.as_mut().filter(|probe| (probe.id, probe.number, probe.answered) == (id, number, false)) else {
            return;
        };
        probe.answered = true;
        let round_trip = self.now.saturating_sub(probe.sent);
        self.health = self.health.saturating_sub(1);
        if let Some(other) = self.peers.coordinate(id.address).filter(|_| itself) {
            let rng = &mut self.rng;
            self.vivaldi.observe(&other, round_trip, || rng.random());
        }
    }

    fn worsen(&mut self) {
        self.health = (self.health + 1).min(HEALTH_MAX);
    }

    /// A member that was asked to try says that it is there and got no answer.
    pub(super) fn relay_is_there(&mut self, by: Id, number: ProbeNumber) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.number == number)
            && self.peers.life(by.address) == Some(by.bump)
            && probe.relays.remove(&by.address)
        {
            probe.silent += 1;
        }
    }

    /// Tells who has asked for it that there was no answer, so that it does not doubt itself.
    pub(super) fn tell_of_silence(&mut self, relayed: Relayed) {
        if self.relayed.remove(&relayed) {
            let notice = Notice::Silent { number: relayed.number, by: *self.probing.identity() };
            self.send(relayed.asker, &[], Some(notice));
        }
    }
}
