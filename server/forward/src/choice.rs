//! Which server is asked: one is kept for a while, and those that were of no help are asked last.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long one server is kept, at least; up to half as long is added by chance.
const KEEP: Duration = Duration::from_secs(120);

/// How long a server is asked last that was silent, or could not answer.
const LAST: Duration = Duration::from_secs(10);

/// What is known of servers by having asked them.
#[derive(Default)]
pub(crate) struct Choice {
    /// The server that is kept of each datacenter, and until when.
    kept: Mutex<HashMap<String, (String, Instant)>>,
    /// Servers that were of no help, and until when they are asked last.
    last: Mutex<HashMap<String, Instant>>,
}

impl Choice {
    /// Puts servers in the order in which they are asked: the one that is kept, then the others by chance,
    /// and last those that were of no help.
    pub(crate) fn order(&self, datacenter: &str, mut servers: Vec<String>) -> Vec<String> {
        for at in (1..servers.len()).rev() {
            servers.swap(at, rand::random_range(0..=at));
        }
        let kept = self.kept.lock().get(datacenter).filter(|(_, until)| Instant::now() < *until).map(|(address, _)| address.clone());
        if let Some(at) = kept.and_then(|kept| servers.iter().position(|address| *address == kept)) {
            servers.swap(0, at);
        }
        // Asked once for each: the time that it depends on goes on.
        servers.sort_by_cached_key(|address| self.is_last(address));
        servers
    }

    /// Whether it was of no help lately.
    pub(crate) fn is_last(&self, address: &str) -> bool {
        self.last.lock().get(address).is_some_and(|until| Instant::now() < *until)
    }

    pub(crate) fn keep(&self, datacenter: &str, address: &str) {
        let mut kept = self.kept.lock();
        let until = Instant::now() + KEEP.mul_f64(1.0 + rand::random::<f64>() / 2.0);
        match kept.get_mut(datacenter) {
            Some((kept, until)) if kept == address && Instant::now() < *until => {}
            _ => drop(kept.insert(datacenter.to_owned(), (address.to_owned(), until))),
        }
    }

    /// Keeps none of a datacenter any more.
    pub(crate) fn drop_kept(&self, datacenter: &str) {
        self.kept.lock().remove(datacenter);
    }

    pub(crate) fn ask_last(&self, address: &str) {
        let (mut last, now) = (self.last.lock(), Instant::now());
        last.retain(|_, until| now < *until);
        last.insert(address.to_owned(), now + LAST);
    }
}
