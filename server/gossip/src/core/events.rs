//! Events: fired here, told by others, and from when on they are news.

use std::time::Duration;

use rand::RngExt;

use super::{Core, Output};
use crate::bounds;
use crate::event::{self, Arrived, Event, NewEvent, Origin, QUEUED_MAX};
use crate::options::Error;
use crate::wire::{self, News, State};

impl Core {
    /// Fires an event.
    pub(crate) fn fire(&mut self, now: Duration, new: NewEvent) -> Result<Event, Error> {
        if let Some(refusal) = event::refuse(&new) {
            return Err(Error::Refused(refusal));
        }
        self.now = now;
        // To those who come later it is history, which they ask for.
        let alone = self.size() == 1;
        if !alone && self.make_room() == 0 {
            return Err(Error::Busy(format!(
                "{QUEUED_MAX} events are on their way to the other members already; fire it again in a few seconds"
            )));
        }
        let NewEvent { name, payload, node_filter, service_filter, tag_filter } = new;
        let ltime = self.inbox.lock().events.tick();
        let mut id: [u8; 16] = self.rng.random();
        // The marks of a random UUID (RFC 9562, §5.4).
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        let event = Event { id, ltime, name, payload, node_filter, service_filter, tag_filter };
        if alone {
            self.inbox.lock().events.take(&event, Origin::Own);
        } else {
            let bytes = wire::encode(&News::Event(event.clone()));
            self.probing.add_broadcast(&bytes).map_err(|error| Error::Refused(format!("the event can't be sent: {error}")))?;
            let _ = self.probing.broadcast(&mut self.runtime);
        }
        self.settle(None);
        Ok(event)
    }

    /// Says how many more events may wait to be passed on. The queue is shared with what members say of themselves,
    /// of which there is one for each of them.
    pub(crate) fn make_room(&mut self) -> usize {
        let mut inbox = self.inbox.lock();
        inbox.room = (QUEUED_MAX + inbox.known.len()).saturating_sub(self.probing.custom_broadcast_backlog());
        inbox.room
    }

    /// Whether this is the first meeting with the member that sent `state` and with all that it knows.
    pub(super) fn is_stranger(&self, state: &State) -> bool {
        let mut others = state.members.iter().map(|(record, ..)| record).chain([&state.from]);
        !others.any(|record| record.name != self.me.name && self.entries.contains(&record.name))
    }

    /// Takes over events. They are news when two meet again: they belong to one pool, and one of them was cut off
    /// when it happened. When they meet for the first time, what happened before is the history of the pool that
    /// is joined, and none of its members' business where the newcomer has been.
    pub(super) fn take_events(&mut self, mut events: Vec<Event>, stranger: bool, joins_here: bool) {
        let mut inbox = self.inbox.lock();
        events.retain(|event| !inbox.is_refused(|inbox| bounds::refuse_event(event, inbox.events.clock())));
        let stranger = inbox.events.meet(&events, !joins_here) || stranger;
        if stranger && joins_here {
            return;
        }
        let origin = if stranger { Origin::History } else { Origin::Other };
        for event in events {
            inbox.events.take(&event, origin);
        }
    }

    /// What is told to whom this member compares itself with, and its clock. Until then everybody has compared itself
    /// with somebody.
    pub(super) fn told_events(&self) -> (Vec<Event>, u64) {
        let since = self.now.saturating_sub(2 * self.timing.compare_every(self.size()));
        let mut inbox = self.inbox.lock();
        (inbox.events.kept(since).cloned().collect(), inbox.events.clock())
    }

    /// Tells what has come, and how many were dropped.
    pub(super) fn tell_events(&mut self) {
        let mut inbox = self.inbox.lock();
        self.outputs.extend(inbox.events.arrive(self.now).into_iter().map(Output::Event));
        let (late, held) = (inbox.events.late(), std::mem::take(&mut inbox.held));
        if late + held > 0 {
            self.outputs.push(Output::EventsDropped { late, held });
        }
    }

    /// What has come after the event `number`, and the number of the last one.
    pub(crate) fn events_since(&self, number: u64) -> (Vec<Arrived>, u64) {
        let inbox = self.inbox.lock();
        (inbox.events.since(number), inbox.events.arrived())
    }

    /// Where the Lamport clock stands.
    pub(crate) fn clock(&self) -> u64 {
        self.inbox.lock().events.clock()
    }
}
