//! Deadlines by key: the earliest first, each key once.
//!
//! There is no clock here. Whoever drives this sleeps until [`Deadlines::next`] and then takes what
//! is [`Deadlines::due`]; both are O(log n), and an idle key costs two map entries and no task.

use std::collections::{BTreeMap, BTreeSet};

/// Deadlines of type `T` by key.
#[derive(Clone, Debug)]
pub struct Deadlines<T, K> {
    order: BTreeSet<(T, K)>,
    by_key: BTreeMap<K, T>,
}

impl<T, K> Default for Deadlines<T, K> {
    fn default() -> Self {
        Deadlines { order: BTreeSet::new(), by_key: BTreeMap::new() }
    }
}

impl<T: Ord + Copy, K: Ord + Clone> Deadlines<T, K> {
    /// Sets the deadline of `key`, in place of the one it had.
    pub fn set(&mut self, key: K, at: T) {
        self.remove(&key);
        self.order.insert((at, key.clone()));
        self.by_key.insert(key, at);
    }

    /// Forgets the deadline of `key` and says when it would have been.
    pub fn remove(&mut self, key: &K) -> Option<T> {
        let (key, at) = self.by_key.remove_entry(key)?;
        self.order.remove(&(at, key));
        Some(at)
    }

    /// The deadline of `key`.
    pub fn get(&self, key: &K) -> Option<T> {
        self.by_key.get(key).copied()
    }

    /// The earliest deadline of all.
    pub fn next(&self) -> Option<T> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest key whose deadline is not after `now`.
    pub fn due(&mut self, now: T) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    /// How many keys have a deadline.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether no key has a deadline.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_each_key_once() {
        let mut deadlines = Deadlines::default();
        deadlines.set("late", 30);
        deadlines.set("moved", 10);
        deadlines.set("soon", 20);
        deadlines.set("moved", 25);
        assert_eq!(deadlines.next(), Some(20));
        assert_eq!(deadlines.due(19), None);
        assert_eq!(deadlines.due(29), Some("soon"));
        assert_eq!(deadlines.due(29), Some("moved"));
        assert_eq!(deadlines.due(29), None);
        assert_eq!(deadlines.len(), 1);
    }

    #[test]
    fn what_was_removed_is_never_due() {
        let mut deadlines = Deadlines::default();
        deadlines.set("gone", 1);
        assert_eq!(deadlines.remove(&"gone"), Some(1));
        assert_eq!(deadlines.remove(&"gone"), None);
        assert_eq!(deadlines.due(100), None);
        assert!(deadlines.is_empty());
    }
}
