//! Events: fired to every agent of the datacenter, and those that concern this one.
//!
//! Whether an event concerns an agent is decided once, when it comes: a service that is registered later brings none
//! of them back. What concerns it goes into a ring, numbered in the order in which it came, and whoever
//! follows goes on behind the number that it has read. So none is told twice, and none is missed that is still
//! in the ring, whatever its Lamport time.

pub mod ring;
pub mod subscription;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::future::Future;

use gossip::Arrived;
pub use gossip::{Event, Feed, NewEvent, PAYLOAD_MAX};
use metrics::counter;
use parking_lot::Mutex;
use regex::{Regex, RegexBuilder};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cluster::PoolKind;
use crate::error::{Error, Reason};
use crate::exec;
use crate::{Caller, Right, Service};
use ring::Ring;
use subscription::Subscription;

/// Most memory that an expression may need once it is compiled, in bytes.
const EXPRESSION_MAX: usize = 1 << 20;

/// The events that concern this agent.
pub(crate) struct Book {
    ring: Mutex<Ring>,
    changes: watch::Sender<u64>,
}

impl Default for Book {
    fn default() -> Self {
        Book { ring: Mutex::default(), changes: watch::Sender::new(0) }
    }
}

/// Which events are meant: regular expressions, empty for all.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The name itself.
    pub name: String,
    /// Over the event's own filter of nodes.
    pub node: String,
    /// Over its filter of services.
    pub service: String,
    /// Over its filter of tags.
    pub tag: String,
}

impl Selection {
    /// All events of this name, or all if it is empty.
    pub fn named(name: impl Into<String>) -> Self {
        Selection { name: name.into(), ..Selection::default() }
    }

    fn compile(&self) -> Result<Chosen, Error> {
        let compiled = |what, text: &str| (!text.is_empty()).then(|| expression(what, text)).transpose();
        let Selection { name, node, service, tag } = self;
        Ok(Chosen { name: name.clone(), filters: [compiled("node", node)?, compiled("service", service)?, compiled("tag", tag)?] })
    }
}

/// A selection, ready to be asked.
struct Chosen {
    name: String,
    filters: [Option<Regex>; 3],
}

impl Chosen {
    fn matches(&self, event: &Event) -> bool {
        let own = [&event.node_filter, &event.service_filter, &event.tag_filter];
        let mut filters = self.filters.iter().zip(own);
        (self.name.is_empty() || self.name == event.name)
            && filters.all(|(filter, own)| filter.as_ref().is_none_or(|filter| filter.is_match(own)))
    }
}

fn expression(what: &str, text: &str) -> Result<Regex, Error> {
    let compiled = RegexBuilder::new(text).size_limit(EXPRESSION_MAX).build();
    compiled.map_err(|error| Error::invalid(format!("the {what} filter `{text}` is no regular expression: {error}")))
}

impl Service {
    /// Fires an event to every agent of the datacenter. What is refused is counted.
    pub fn fire_event(&self, caller: &Caller, event: NewEvent) -> Result<Event, Error> {
        self.authorize(caller, Right::EventWrite(&event.name))?;
        refuse(&event).map_or_else(|| self.fire_any(event), Err).inspect_err(|_| event_refused())
    }

    pub(crate) fn fire_any(&self, event: NewEvent) -> Result<Event, Error> {
        self.pool(PoolKind::Lan)?.fire(event).map_err(|error| match error {
            gossip::Error::Busy(why) => Error::new(Reason::Overloaded, why),
            error => Error::new(Reason::InvalidArgument, error.to_string()),
        })
    }

    /// The latest events that concern this agent, in the order in which they came.
    pub fn events(&self, caller: &Caller, selection: &Selection) -> Result<Vec<Arrived>, Error> {
        self.authorize(caller, Right::AgentRead)?;
        let chosen = selection.compile()?;
        self.read_events()?;
        let since = self.inner.events.ring.lock().since(0);
        Ok(since.events.into_iter().filter(|arrived| chosen.matches(&arrived.event)).collect())
    }

    /// Follows the events called `name`, or all if it is empty: from now on, or from after the event `after`.
    pub fn subscribe_events(&self, caller: &Caller, name: &str, after: Option<[u8; 16]>) -> Result<Subscription, Error> {
        self.authorize(caller, Right::AgentRead)?;
        self.read_events()?;
        Ok(Subscription::begin(self.inner.events.clone(), name, after))
    }

    /// Moves whenever an event comes that concerns this agent.
    pub fn event_changes(&self, caller: &Caller) -> Result<watch::Receiver<u64>, Error> {
        self.authorize(caller, Right::AgentRead)?;
        Ok(self.inner.events.changes.subscribe())
    }

    /// Calls to run programs, from now on.
    pub fn exec_feed(&self, caller: &Caller) -> Result<Feed, Error> {
        self.authorize(caller, Right::AgentRead)?;
        Ok(self.pool(PoolKind::Lan)?.subscribe())
    }

    /// Brings what comes into the ring, until `stop`. To be begun when the services of this machine are known: until
    /// then there are no events here.
    ///
    /// # Errors
    /// The agent takes part in no pool.
    pub fn follow_events(&self, stop: CancellationToken) -> Result<impl Future<Output = ()> + Send + 'static, Error> {
        let mut arrivals = self.pool(PoolKind::Lan)?.arrivals();
        let service = self.clone();
        self.inner.events.ring.lock().open();
        Ok(async move {
            loop {
                arrivals.borrow_and_update();
                if let Err(error) = service.read_events() {
                    return tracing::error!("events are followed no more: {}", error.message);
                }
                match stop.run_until_cancelled(arrivals.changed()).await {
                    Some(Ok(())) => {}
                    Some(Err(_)) | None => return,
                }
            }
        })
    }

    /// Brings into the ring what has come since the last time: whoever fires an event and lists them finds it.
    fn read_events(&self) -> Result<(), Error> {
        let pool = self.pool(PoolKind::Lan)?;
        let book = &self.inner.events;
        let mut ring = book.ring.lock();
        let Some(read) = ring.read() else { return Ok(()) };
        let recent = pool.events_since(read);
        if recent.missed > 0 {
            counter!("consul_gossip_events_missed").increment(recent.missed);
            tracing::warn!(missed = recent.missed, "events came faster than they were read, and are missing here");
        }
        let mut concerning: VecDeque<Arrived> = recent.events.into();
        concerning.retain(|arrived| arrived.event.name != exec::EVENT && self.concerns_me(&arrived.event));
        if ring.take(concerning, recent.last, recent.missed > 0) {
            book.changes.send_replace(recent.last);
        }
        Ok(())
    }

    /// Whether an event's filters let this agent act on it. An expression that can't be read lets
    /// nobody.
    pub fn concerns_me(&self, event: &Event) -> bool {
        let Ok(aim) = Aim::of(event) else { return false };
        if !aim.node.is_match(&self.identity().node_name) {
            return false;
        }
        let Some((service, tag)) = aim.service else { return true };
        let services = self.agent().services(&Caller::default());
        services.values().any(|local| {
            let tagged = tag.as_ref().is_none_or(|tag| local.row.tags.iter().any(|found| tag.is_match(found)));
            tagged && service.is_match(&local.row.name)
        })
    }
}

/// Whom an event is for.
struct Aim {
    node: Regex,
    service: Option<(Regex, Option<Regex>)>,
}

impl Aim {
    fn of(event: &Event) -> Result<Aim, Error> {
        let tag = (!event.tag_filter.is_empty()).then(|| expression("tag", &event.tag_filter)).transpose()?;
        let service = (!event.service_filter.is_empty()).then(|| expression("service", &event.service_filter)).transpose()?;
        Ok(Aim { node: expression("node", &event.node_filter)?, service: service.map(|service| (service, tag)) })
    }
}

/// Counts an event that was refused.
pub fn event_refused() {
    counter!("consul_gossip_events_refused").increment(1);
}

/// What is wrong with an event, before it is handed to gossip.
fn refuse(event: &NewEvent) -> Option<Error> {
    if event.name == exec::EVENT {
        let message = format!("events called `{}` are those of `lictor exec`; use that, or another name", exec::EVENT);
        return Some(Error::new(Reason::InvalidArgument, message));
    }
    let size = event.payload.len();
    if size > PAYLOAD_MAX {
        let message =
            format!("the payload has {size} bytes, and an event carries at most {PAYLOAD_MAX}; put the data into a key and send its name");
        return Some(Error::new(Reason::ValueTooLarge, message).with("size", size).with("limit", PAYLOAD_MAX));
    }
    if event.service_filter.is_empty() && !event.tag_filter.is_empty() {
        return Some(Error::new(Reason::InvalidArgument, "a tag filter needs a service filter; give the service whose tags are meant"));
    }
    let filters = [("node", &event.node_filter), ("service", &event.service_filter), ("tag", &event.tag_filter)];
    filters.into_iter().find_map(|(what, filter)| expression(what, filter).err())
}
