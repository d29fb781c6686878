//! Where the news of a watch come from: rows as they stand, or events as they come.

use std::time::Duration;

use lictor_client::{Client, EventStream, WatchEvent, WatchHandle, WatchOptions, v1};
use serde_json::Value;

use crate::watches::rows::Rows;
use crate::watches::{Kind, Subject, shape};

/// The pause before a lost stream of events is opened again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// An id that no event has: after it comes the oldest one that is known.
const BEFORE_ALL: &str = "00000000-0000-0000-0000-000000000000";

/// Most events that wait for a handler; what is older is dropped. As many as an agent keeps.
const EVENTS_MAX: usize = 256;

/// Tells people what a watch has met with.
pub(crate) type Tell = fn(std::fmt::Arguments<'_>);

/// What a handler is to be told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct News {
    /// The revision of rows, the Lamport time of the last event.
    pub(crate) index: u64,
    content: Content,
}

#[derive(Clone, Debug, PartialEq)]
enum Content {
    /// All there is.
    State(Value),
    /// What has happened.
    Events(Vec<Value>),
}

impl News {
    /// All there is, at an index.
    pub(crate) fn state(index: u64, state: Value) -> Self {
        News { index, content: Content::State(state) }
    }

    /// Adds what came later: a newer state takes the place of this one, events come behind.
    pub(crate) fn add(&mut self, later: News) {
        self.index = later.index;
        match (&mut self.content, later.content) {
            (Content::Events(events), Content::Events(more)) => {
                events.extend(more);
                let surplus = events.len().saturating_sub(EVENTS_MAX);
                if surplus > 0 {
                    tracing::warn!(dropped = surplus, "more events came than the handler of a watch could take");
                    events.drain(..surplus);
                }
            }
            (content, later) => *content = later,
        }
    }

    /// The text for a handler.
    pub(crate) fn text(&self) -> String {
        match &self.content {
            Content::State(state) => state.to_string(),
            Content::Events(events) => Value::from(events.clone()).to_string(),
        }
    }

    /// One line for each event, or one for the state.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        let values = match &self.content {
            Content::State(state) => vec![state.clone()],
            Content::Events(events) => events.clone(),
        };
        values.into_iter().map(|value| value.to_string())
    }
}

/// The news of one watch.
pub(crate) enum Source {
    Rows(Box<RowSource>),
    Events(Box<EventSource>),
}

impl Source {
    pub(crate) fn new(client: &Client, subject: Subject, kind: Kind, options: WatchOptions, tell: Tell) -> Self {
        match subject {
            Subject::Rows(target) => {
                let watch = client.watch_with(target, options);
                Source::Rows(Box::new(RowSource { watch, rows: Rows::default(), kind, last: None, tell }))
            }
            Subject::Events(name) => {
                let datacenter = options.read.asked_datacenter().to_owned();
                Source::Events(Box::new(EventSource { client: client.clone(), name, datacenter, after: None, stream: None, tell }))
            }
        }
    }

    /// Begins, so that nothing is missed from here on. Of rows nothing ever is.
    pub(crate) async fn begin(&mut self) {
        if let Source::Events(events) = self {
            while let Err(error) = events.baseline().await {
                (events.tell)(format_args!("{error:#}; trying again in {RETRY_INTERVAL:?}"));
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    /// The next news. May be dropped and called again at any time.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<News>> {
        match self {
            Source::Rows(rows) => rows.next().await,
            Source::Events(events) => Ok(Some(events.next().await)),
        }
    }
}

/// Rows, whole after each change.
pub(crate) struct RowSource {
    watch: WatchHandle,
    rows: Rows,
    kind: Kind,
    /// What was told last: a snapshot that says the same is no news.
    last: Option<Value>,
    tell: Tell,
}

impl RowSource {
    async fn next(&mut self) -> anyhow::Result<Option<News>> {
        loop {
            let Some(event) = self.watch.next().await? else { return Ok(None) };
            interrupted(&event, self.tell);
            let Some(revision) = self.rows.take(event) else { continue };
            let state = shape::of(self.kind, self.rows.by_name.values());
            if self.last.as_ref() != Some(&state) {
                self.last = Some(state.clone());
                return Ok(Some(News::state(revision, state)));
            }
        }
    }
}

/// Events from when this begins, without a gap as long as the agent knows them.
pub(crate) struct EventSource {
    client: Client,
    name: String,
    /// Whose events; empty are the agent's.
    datacenter: String,
    /// The last event that was seen.
    after: Option<String>,
    stream: Option<EventStream>,
    tell: Tell,
}

impl EventSource {
    /// Takes note of the last event there is, after which this begins.
    async fn baseline(&mut self) -> anyhow::Result<()> {
        let seen = self.client.events().listed(&self.name, &self.datacenter).await?;
        self.after = Some(if seen.last_id.is_empty() { BEFORE_ALL.to_owned() } else { seen.last_id });
        Ok(())
    }

    async fn next(&mut self) -> News {
        loop {
            match self.attempt().await {
                Ok(Some(event)) => return News { index: event.lamport_time, content: Content::Events(vec![shape::event(&event)]) },
                Ok(None) => {}
                Err(error) => {
                    (self.tell)(format_args!("{error:#}; trying again in {RETRY_INTERVAL:?}"));
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    /// The next event; nothing when the stream has ended and is to be opened again.
    async fn attempt(&mut self) -> anyhow::Result<Option<v1::Event>> {
        if self.after.is_none() {
            self.baseline().await?;
        }
        let after = self.after.clone().unwrap_or_default();
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => self.stream.insert(self.client.events().subscribe(&self.name, &after, &self.datacenter).await?),
        };
        match stream.next().await {
            Ok(Some((event, gap))) => {
                if gap {
                    (self.tell)(format_args!("events may have been missed: the agent does not keep them any more"));
                }
                self.after = Some(event.id.clone());
                Ok(Some(event))
            }
            Ok(None) => {
                self.stream = None;
                tokio::time::sleep(RETRY_INTERVAL).await;
                Ok(None)
            }
            Err(error) => {
                self.stream = None;
                Err(error.into())
            }
        }
    }
}

/// A lost connection is told; the watch goes on by itself.
pub(crate) fn interrupted(event: &WatchEvent, tell: Tell) {
    if let WatchEvent::Interrupted { error, retry_in } = event {
        tell(format_args!("{error}; trying again in {retry_in:.1?}"));
    }
}
