//! News that ride on the probing's packets: which are new here, and which make others superfluous.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foca::{BroadcastHandler, Invalidates};
use metrics::counter;
use parking_lot::Mutex;

use crate::bounds::{self, Horizon};
use crate::entries::Entries;
use crate::event::{Event, Events, Origin};
use crate::member::{Id, Record};
use crate::suspicions::Suspicions;
use crate::wire::{self, News};

/// Most members whose descriptions are held: a bound on what strangers can make one keep.
pub(crate) const MEMBERS_MAX: usize = 100_000;

/// What is known of whom, as far as news need it.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) known: HashMap<Arc<str>, Known>,
    pub(crate) events: Events,
    pub(crate) suspicions: Suspicions,
    pub(crate) news: Vec<News>,
    pub(crate) horizon: Horizon,
    /// How many more events may wait to be passed on.
    pub(crate) room: usize,
    /// Events that were not passed on, until it is told.
    pub(crate) held: u64,
    /// Something that was not believed, until it is told.
    pub(crate) refused: Option<&'static str>,
}

pub(crate) struct Known {
    record: Arc<Record>,
    pub(crate) alive: bool,
    /// Since when nobody of this name is shown any more.
    gone: Option<Box<Duration>>,
}

/// Takes news out of packets, and says which are new.
pub(crate) struct Reader {
    pub(crate) inbox: Arc<Mutex<Inbox>>,
}

/// What makes older news superfluous.
pub(crate) enum Key {
    Record(Arc<str>, (u64, u64)),
    Event([u8; 16]),
    Suspicion { of: SocketAddr, by: SocketAddr },
}

impl Invalidates for Key {
    fn invalidates(&self, other: &Self) -> bool {
        match (self, other) {
            (Key::Record(name, age), Key::Record(other, older)) => name == other && age >= older,
            (Key::Event(id), Key::Event(other)) => id == other,
            (Key::Suspicion { of, by }, Key::Suspicion { of: other, by: another }) => of == other && by == another,
            _ => false,
        }
    }
}

impl BroadcastHandler<Id> for Reader {
    type Key = Key;
    type Error = Unreadable;

    fn receive_item(&mut self, data: &[u8], sender: Option<&Id>) -> Result<Option<Key>, Unreadable> {
        let news: News = wire::decode(data).map_err(|_| Unreadable)?;
        let mut inbox = self.inbox.lock();
        let key = match &news {
            News::Event(event) => {
                let origin = if sender.is_none() { Origin::Own } else { Origin::Other };
                return Ok(inbox.take_event(event, origin).then_some(Key::Event(event.id)));
            }
            News::Suspicion(suspicion) if inbox.is_refused(|inbox| bounds::refuse_id(&suspicion.of, &mut inbox.horizon)) => None,
            News::Suspicion(suspicion) => {
                inbox.suspicions.take(suspicion).then_some(Key::Suspicion { of: suspicion.of.address, by: suspicion.by })
            }
            News::Record(record) => inbox.note(record).then(|| Key::Record(record.name.clone(), record.age())),
        };
        if key.is_some() {
            inbox.news.push(news);
        }
        Ok(key)
    }
}

/// News that mean nothing.
#[derive(Debug, thiserror::Error)]
#[error("news that can't be read")]
pub(crate) struct Unreadable;

impl Inbox {
    /// Takes note of a description; true when it is newer than what is known. A name that a living
    /// member has is not given to one at another address.
    pub(crate) fn note(&mut self, record: &Arc<Record>) -> bool {
        if let Some(known) = self.known.get(&record.name) {
            let same = known.record.is_same(record);
            if !same && known.alive {
                counter!("consul_gossip_name_conflicts").increment(1);
                tracing::warn!(name = %record.name, address = %record.id.address, "another node uses the name of a living one; the first one keeps it: give each node a name of its own");
                return false;
            }
            // Of two that are gone the later one counts.
            if known.record.age() >= record.age() {
                return false;
            }
        } else if self.known.len() >= MEMBERS_MAX {
            self.refused = Some("more members than a pool can have");
            return false;
        }
        if !self.believes(record) {
            return false;
        }
        let known = Known { record: record.clone(), alive: false, gone: None };
        self.known.insert(record.name.clone(), known);
        true
    }

    /// Takes note of what a member that is up says of itself, however old it is, if nobody else has its name: it was
    /// forgotten, or has the name of one that is gone.
    pub(crate) fn note_again(&mut self, record: &Arc<Record>, shown: bool) -> bool {
        let fits = |known: &&mut Known| !(known.alive || shown && known.record.is_same(record));
        self.known.get_mut(&record.name).filter(fits).map(|known| known.record = record.clone()).is_some()
    }

    /// What was said of members that nobody is to show any more.
    pub(crate) fn pruned(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.known.values().map(|known| &known.record).filter(|record| record.pruned)
    }

    /// Whether a description is within all bounds.
    pub(crate) fn believes(&mut self, record: &Record) -> bool {
        !self.is_refused(|inbox| bounds::refuse(record, &mut inbox.horizon))
    }

    /// Takes an event; true when it is to be passed on. Who hears of more than it can pass on leaves it to the others,
    /// and to the next comparison.
    fn take_event(&mut self, event: &Event, origin: Origin) -> bool {
        if self.is_refused(|inbox| bounds::refuse_event(event, inbox.events.clock())) || !self.events.take(event, origin) {
            return false;
        }
        let passed_on = self.room > 0;
        self.room = self.room.saturating_sub(1);
        self.held += u64::from(!passed_on);
        passed_on
    }

    /// Notes what `check` finds wrong, if anything.
    pub(crate) fn is_refused(&mut self, check: impl FnOnce(&mut Inbox) -> Option<&'static str>) -> bool {
        let refusal = check(self);
        self.refused = refusal.or(self.refused);
        refusal.is_some()
    }

    /// Forgets those who have not been shown for `kept`. Until then old news of them, which others
    /// may still hold, bring nobody back.
    pub(crate) fn forget(&mut self, now: Duration, kept: Duration, shown: &Entries) {
        self.known.retain(|name, known| {
            if shown.contains(name) {
                known.gone = None;
                return true;
            }
            now.saturating_sub(**known.gone.get_or_insert_with(|| Box::new(now))) < kept
        });
    }
}
