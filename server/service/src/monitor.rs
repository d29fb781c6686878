//! The log of this agent, told to whoever listens while it is written.
//!
//! A [`Feed`] hands each line to every listener that wants its level, through a queue of its own.
//! Writing a line never waits: when a queue is full the line is counted instead, and the count goes
//! with the next line that fits. Nobody listening costs nothing, because the feed knows the least
//! grave level that somebody wants, and what is below it is not even put together.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::{Caller, Error, Right, Service};

/// Lines that wait for one listener. A burst of a few hundred lines passes without loss.
const QUEUE: usize = 512;

/// How grave a line is; the graver, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Every step.
    Trace,
    /// For those who look for a fault.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What may become a fault.
    Warn,
    /// What a person should look at.
    Error,
}

impl Level {
    const ALL: [Level; 5] = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];

    /// The level by the name that Consul has for it.
    pub fn parse(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "trace" => Level::Trace,
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" | "warning" => Level::Warn,
            "err" | "error" => Level::Error,
            _ => return None,
        })
    }

    /// Its name in lower case.
    pub fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
        }
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub time: SystemTime,
    /// How grave.
    pub level: Level,
    /// Which part of the agent.
    pub target: String,
    /// What happened.
    pub message: String,
    /// The values it is about, by their names.
    pub fields: Vec<(String, String)>,
}

/// A line as one listener gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The line.
    pub line: Arc<Line>,
    /// Lines just before it that were lost because the listener was slow.
    pub dropped: u64,
}

struct Listener {
    id: u64,
    level: Level,
    queue: mpsc::Sender<Told>,
    dropped: u64,
}

#[derive(Default)]
struct Listeners {
    all: Vec<Listener>,
    last_id: u64,
}

struct Inner {
    listeners: Mutex<Listeners>,
    /// The least grave level that is wanted; [`NOBODY`] when nobody listens.
    wanted: AtomicU8,
    /// Called when `wanted` changes, outside of every lock.
    rewanted: Box<dyn Fn() + Send + Sync>,
}

/// Above every level.
const NOBODY: u8 = Level::Error as u8 + 1;

/// Where lines come in and go out. Cheap to clone.
#[derive(Clone)]
pub struct Feed {
    inner: Arc<Inner>,
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("wanted", &self.wanted()).finish_non_exhaustive()
    }
}

impl Feed {
    /// A feed without listeners. `rewanted` is called each time that [`Feed::wanted`] has changed.
    pub fn new(rewanted: impl Fn() + Send + Sync + 'static) -> Self {
        let inner = Inner { listeners: Mutex::default(), wanted: AtomicU8::new(NOBODY), rewanted: Box::new(rewanted) };
        Feed { inner: Arc::new(inner) }
    }

    /// The least grave level that somebody wants.
    pub fn wanted(&self) -> Option<Level> {
        Level::ALL.get(usize::from(self.inner.wanted.load(Ordering::Relaxed))).copied()
    }

    /// Tells a line to those who want it, without ever waiting for them.
    pub fn publish(&self, line: Line) {
        let line = Arc::new(line);
        let mut listeners = self.inner.listeners.lock();
        for listener in listeners.all.iter_mut().filter(|listener| listener.level <= line.level) {
            let told = Told { line: line.clone(), dropped: listener.dropped };
            match listener.queue.try_send(told) {
                Ok(()) => listener.dropped = 0,
                Err(_) => listener.dropped += 1,
            }
        }
    }

    fn listen(&self, level: Level) -> Lines {
        let (queue, lines) = mpsc::channel(QUEUE);
        let mut listeners = self.inner.listeners.lock();
        listeners.last_id += 1;
        let id = listeners.last_id;
        listeners.all.push(Listener { id, level, queue, dropped: 0 });
        drop(listeners);
        self.reconsider();
        Lines { feed: self.clone(), id, lines }
    }

    fn reconsider(&self) {
        let listeners = self.inner.listeners.lock();
        let wanted = listeners.all.iter().map(|listener| listener.level as u8).min().unwrap_or(NOBODY);
        let before = self.inner.wanted.swap(wanted, Ordering::Relaxed);
        drop(listeners);
        if before != wanted {
            (self.inner.rewanted)();
        }
    }
}

/// What one listener hears. Dropping it ends the listening.
#[derive(Debug)]
pub struct Lines {
    feed: Feed,
    id: u64,
    lines: mpsc::Receiver<Told>,
}

impl Lines {
    /// The next line, once there is one. May be cancelled without losing a line.
    pub async fn next(&mut self) -> Option<Told> {
        self.lines.recv().await
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.feed.inner.listeners.lock().all.retain(|listener| listener.id != self.id);
        self.feed.reconsider();
    }
}

impl Service {
    /// Listens to the log of this agent, from `level` up.
    pub fn monitor(&self, caller: &Caller, feed: &Feed, level: Level) -> Result<Lines, Error> {
        self.authorize(caller, Right::AgentRead)?;
        Ok(feed.listen(level))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn line(level: Level, message: &str) -> Line {
        Line { time: SystemTime::UNIX_EPOCH, level, target: "lictor".into(), message: message.into(), fields: Vec::new() }
    }

    #[tokio::test]
    async fn a_listener_hears_its_level_and_graver_ones() {
        let feed = Feed::new(|| ());
        let mut lines = feed.listen(Level::Warn);
        feed.publish(line(Level::Info, "unheard"));
        feed.publish(line(Level::Warn, "first"));
        feed.publish(line(Level::Error, "second"));
        assert_eq!(lines.next().await.unwrap().line.message, "first");
        assert_eq!(lines.next().await.unwrap().line.message, "second");
    }

    #[tokio::test]
    async fn lines_that_a_slow_listener_loses_are_counted_where_they_are_missing() {
        let feed = Feed::new(|| ());
        let mut lines = feed.listen(Level::Info);
        for _ in 0..QUEUE + 3 {
            feed.publish(line(Level::Info, "early"));
        }
        assert_eq!(lines.next().await.unwrap().dropped, 0);
        feed.publish(line(Level::Info, "late"));
        feed.publish(line(Level::Info, "lost again"));
        let mut counts = Vec::new();
        for _ in 0..QUEUE {
            let told = lines.next().await.unwrap();
            counts.push((told.line.message.clone(), told.dropped));
        }
        assert_eq!(counts.last(), Some(&("late".to_owned(), 3)));
        assert!(counts[..QUEUE - 1].iter().all(|(message, dropped)| message == "early" && *dropped == 0));
        feed.publish(line(Level::Info, "after"));
        assert_eq!(lines.next().await.unwrap().dropped, 1);
    }

    #[test]
    fn the_level_that_is_wanted_follows_the_listeners() {
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let feed = Feed::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(feed.wanted(), None);
        let warn = feed.listen(Level::Warn);
        let debug = feed.listen(Level::Debug);
        let info = feed.listen(Level::Info);
        assert_eq!(feed.wanted(), Some(Level::Debug));
        drop(debug);
        assert_eq!(feed.wanted(), Some(Level::Info));
        drop(warn);
        assert_eq!((feed.wanted(), calls.load(Ordering::Relaxed)), (Some(Level::Info), 3), "nothing has changed, so nobody was told");
        drop(info);
        assert_eq!((feed.wanted(), calls.load(Ordering::Relaxed)), (None, 4));
    }
}
