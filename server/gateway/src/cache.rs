//! Encoded lists that many clients ask for.
//!
//! A list of a thousand instances is a megabyte of JSON, and hundreds of clients ask for the same
//! one. An encoded list is kept beside the very rows that it shows, and handed out for as long as
//! an answer consists of those rows: not equal ones, the same. Rows are immutable and shared, so
//! that this takes a comparison of addresses and can't be wrong, whatever index they have.

use std::collections::HashMap;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use parking_lot::Mutex;
use state::Instance;

/// Smallest body worth keeping, in bytes: what is smaller is encoded faster than it is found.
const BODY_BYTES_MIN: usize = 8 * 1024;

/// A list, encoded.
pub(crate) struct Encoded {
    rows: Vec<Arc<Instance>>,
    pub(crate) body: Bytes,
    gzip: OnceLock<Bytes>,
    used: AtomicU64,
}

impl Encoded {
    /// The body compressed: the first to ask does it, everybody shares.
    pub(crate) fn gzip(&self) -> Bytes {
        self.gzip.get_or_init(|| gzip(&self.body)).clone()
    }

    fn shows(&self, rows: &[Arc<Instance>]) -> bool {
        self.rows.len() == rows.len() && self.rows.iter().zip(rows).all(|(kept, row)| Arc::ptr_eq(kept, row))
    }

    /// The memory that keeping it takes, about: a compressed body is an eighth of it at most.
    fn cost(&self) -> usize {
        self.body.len() + self.body.len() / 8 + self.rows.len() * size_of::<usize>()
    }
}

/// Encoded lists by the question that they answer.
pub(crate) struct Cache {
    kept: Mutex<Kept>,
    clock: AtomicU64,
    bytes_max: usize,
}

#[derive(Default)]
struct Kept {
    lists: HashMap<Box<[u8]>, Arc<Encoded>>,
    bytes: usize,
}

impl Cache {
    /// A cache of at most so many bytes.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Cache { kept: Mutex::default(), clock: AtomicU64::new(0), bytes_max }
    }

    /// The encoded form of `rows` for `question`: the one that is kept, or else a new one. What a
    /// question leads to must depend on nothing but itself and the rows.
    pub(crate) fn encoded(
        &self,
        question: &[u8],
        rows: Vec<Arc<Instance>>,
        encode: impl FnOnce(&[Arc<Instance>]) -> Bytes,
    ) -> Arc<Encoded> {
        let now = self.clock.fetch_add(1, Ordering::Relaxed);
        let found = self.kept.lock().lists.get(question).cloned();
        if let Some(found) = found.filter(|found| found.shows(&rows)) {
            found.used.store(now, Ordering::Relaxed);
            return found;
        }
        let body = encode(&rows);
        let encoded = Arc::new(Encoded { rows, body, gzip: OnceLock::new(), used: AtomicU64::new(now) });
        if encoded.body.len() >= BODY_BYTES_MIN && encoded.cost() <= self.bytes_max {
            self.keep(question, encoded.clone());
        }
        encoded
    }

    fn keep(&self, question: &[u8], encoded: Arc<Encoded>) {
        let mut kept = self.kept.lock();
        kept.bytes += encoded.cost();
        if let Some(replaced) = kept.lists.insert(question.into(), encoded) {
            kept.bytes -= replaced.cost();
        }
        while kept.bytes > self.bytes_max {
            let oldest = kept.lists.iter().min_by_key(|(_, encoded)| encoded.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|(question, _)| question.clone()) else { return };
            if let Some(dropped) = kept.lists.remove(&oldest) {
                kept.bytes -= dropped.cost();
            }
        }
    }
}

/// Compresses, quickly rather than well.
pub(crate) fn gzip(body: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    let written = encoder.write_all(body).and_then(|()| encoder.finish());
    written.expect("writing to memory does not fail").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<Arc<Instance>> {
        (0..count).map(|_| Arc::new(Instance::new(Arc::default(), Arc::default(), Vec::new()))).collect()
    }

    fn body(size: usize) -> Bytes {
        vec![b'x'; size].into()
    }

    #[test]
    fn the_same_rows_are_encoded_once_and_other_rows_anew() {
        let cache = Cache::new(1 << 20);
        let first = rows(3);
        let encoded = cache.encoded(b"q", first.clone(), |_| body(10_000));
        assert!(Arc::ptr_eq(&encoded, &cache.encoded(b"q", first.clone(), |_| unreachable!())));
        assert_eq!(cache.encoded(b"other", first.clone(), |_| body(9_000)).body.len(), 9_000);
        assert_eq!(cache.encoded(b"q", rows(3), |_| body(11_000)).body.len(), 11_000, "equal rows are not the same rows");
        assert_eq!(cache.encoded(b"q", first[..2].to_vec(), |_| body(12_000)).body.len(), 12_000);
    }

    #[test]
    fn memory_is_bounded_and_the_least_used_goes_first() {
        let cache = Cache::new(25_000);
        let rows = rows(1);
        let ask = |question: &[u8]| {
            let mut fresh = false;
            cache.encoded(question, rows.clone(), |_| {
                fresh = true;
                body(10_000)
            });
            fresh
        };
        assert!(ask(b"a") && ask(b"b"));
        assert!(!ask(b"a"), "a is used more recently than b");
        assert!(ask(b"c"));
        assert!(!ask(b"a") && !ask(b"c"));
        assert!(ask(b"b"));
        assert!(cache.kept.lock().bytes <= 25_000);
    }

    #[test]
    fn small_bodies_are_not_kept() {
        let cache = Cache::new(1 << 20);
        cache.encoded(b"q", rows(1), |_| body(100));
        assert!(cache.kept.lock().lists.is_empty());
    }
}
