//! Takes what is logged to those who listen: a layer of `tracing` over [`service::monitor::Feed`].
//!
//! It is switched off for each place in the program whose lines nobody wants, so that the level
//! asked for by a listener may be finer than the one that is written, and costs nothing afterwards.

use std::fmt;
use std::time::SystemTime;

use service::monitor::{Feed, Level, Line};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};
use tracing_subscriber::registry::LookupSpan;

/// A feed, and the layer that fills it.
pub(crate) fn layer<S>() -> (Feed, impl Layer<S> + Send + Sync)
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let feed = Feed::new(tracing::callsite::rebuild_interest_cache);
    (feed.clone(), Told(feed.clone()).with_filter(Wanted(feed)))
}

struct Told(Feed);

impl<S: Subscriber> Layer<S> for Told {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut values = Values::default();
        event.record(&mut values);
        let metadata = event.metadata();
        self.0.publish(Line {
            time: SystemTime::now(),
            level: level(metadata),
            target: metadata.target().to_owned(),
            message: values.message,
            fields: values.fields,
        });
    }
}

/// Lets through what somebody wants.
struct Wanted(Feed);

impl Wanted {
    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        // Libraries speak up only when something is wrong, as in the log that is written.
        let least = if metadata.target().starts_with("lictor") {
            Level::Trace
        } else if metadata.target().starts_with("openraft") {
            Level::Error
        } else {
            Level::Warn
        };
        metadata.is_event() && self.0.wanted().is_some_and(|wanted| level(metadata) >= wanted.max(least))
    }
}

impl<S> Filter<S> for Wanted {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) { Interest::always() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(match self.0.wanted() {
            None => LevelFilter::OFF,
            Some(Level::Trace) => LevelFilter::TRACE,
            Some(Level::Debug) => LevelFilter::DEBUG,
            Some(Level::Info) => LevelFilter::INFO,
            Some(Level::Warn) => LevelFilter::WARN,
            Some(Level::Error) => LevelFilter::ERROR,
        })
    }
}

fn level(metadata: &Metadata<'_>) -> Level {
    match *metadata.level() {
        tracing::Level::TRACE => Level::Trace,
        tracing::Level::DEBUG => Level::Debug,
        tracing::Level::INFO => Level::Info,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::ERROR => Level::Error,
    }
}

/// The message of an event, and its other values.
#[derive(Default)]
struct Values {
    message: String,
    fields: Vec<(String, String)>,
}

impl Values {
    fn put(&mut self, field: &Field, value: String) {
        match field.name() {
            "message" => self.message = value,
            name => self.fields.push((name.to_owned(), value)),
        }
    }
}

impl Visit for Values {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_filter_opens_and_closes_with_its_listeners() {
        let (feed, layer) = layer();
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(target: "lictor_test", tracing::Level::ERROR));
            assert_eq!(feed.wanted(), None);
        });
        assert_eq!(Filter::<tracing_subscriber::Registry>::max_level_hint(&Wanted(feed)), Some(LevelFilter::OFF));
    }
}
