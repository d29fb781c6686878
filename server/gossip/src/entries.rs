//! Everybody that is shown, by name, by address and by node id.

use std::hash::{BuildHasher, Hash, RandomState};
use std::net::SocketAddr;

use hashbrown::HashTable;
use slab::Slab;

use crate::member::Entry;

/// Members by name. Of those that lived at an address, one may be up.
///
/// Entries lie in one place, and all indices hold their numbers only: a pool of thousands in one
/// process has millions of them.
#[derive(Default)]
pub(crate) struct Entries {
    slots: Slab<Entry>,
    by_name: HashTable<u32>,
    /// Kept in step with `by_name`: news name addresses, and a pool of thousands is not searched for each.
    by_address: HashTable<u32>,
    by_node_id: HashTable<u32>,
    hasher: RandomState,
}

impl Entries {
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.slots.get(self.find(name)? as usize)
    }

    /// For changing how a member is; where it is changes by [`Entries::insert`] only.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        let at = self.find(name)?;
        self.slots.get_mut(at as usize)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// Everybody, in no order that means anything.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().map(|(_, entry)| entry)
    }

    /// Whoever lives or lived at `address`.
    pub(crate) fn at(&self, address: SocketAddr) -> impl Iterator<Item = &Entry> + Clone {
        let same_hash = self.by_address.iter_hash(self.hash(&address));
        same_hash.filter_map(|at| self.slots.get(*at as usize)).filter(move |entry| entry.record.id.address == address)
    }

    /// Whoever is or was the node with this id.
    pub(crate) fn of_node<'e>(&'e self, node_id: &'e str) -> impl Iterator<Item = &'e Entry> + Clone {
        let same_hash = self.by_node_id.iter_hash(self.hash(node_id));
        same_hash.filter_map(|at| self.slots.get(*at as usize)).filter(move |entry| &*entry.record.node_id == node_id)
    }

    pub(crate) fn has_address(&self, address: &SocketAddr) -> bool {
        self.at(*address).next().is_some()
    }

    /// Shows `entry`, in place of what was shown of its name.
    pub(crate) fn insert(&mut self, entry: Entry) {
        if let Some(at) = self.find(&entry.record.name) {
            let slot = &mut self.slots[at as usize];
            if slot.record.id.address == entry.record.id.address && slot.record.node_id == entry.record.node_id {
                *slot = entry;
                return;
            }
        }
        self.remove(&entry.record.name.clone());
        let (name, address, node_id) =
            (self.hash(&*entry.record.name), self.hash(&entry.record.id.address), self.hash(&*entry.record.node_id));
        let at = u32::try_from(self.slots.insert(entry)).expect("members are bounded far below four thousand million");
        let Entries { slots, by_name, by_address, by_node_id, hasher } = self;
        by_name.insert_unique(name, at, |at| hasher.hash_one(&*slots[*at as usize].record.name));
        by_address.insert_unique(address, at, |at| hasher.hash_one(slots[*at as usize].record.id.address));
        by_node_id.insert_unique(node_id, at, |at| hasher.hash_one(&*slots[*at as usize].record.node_id));
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Entry> {
        let at = self.find(name)?;
        let record = &self.slots[at as usize].record;
        let (by_name, address, node_id) = (self.hash(name), self.hash(&record.id.address), self.hash(&*record.node_id));
        for (index, hash) in [(&mut self.by_name, by_name), (&mut self.by_address, address), (&mut self.by_node_id, node_id)] {
            if let Ok(found) = index.find_entry(hash, |other| *other == at) {
                found.remove();
            }
        }
        Some(self.slots.remove(at as usize))
    }

    /// Removes those that `gone` says are, and returns them.
    pub(crate) fn take(&mut self, gone: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let names: Vec<_> = self.values().filter(|entry| gone(entry)).map(|entry| entry.record.name.clone()).collect();
        names.iter().filter_map(|name| self.remove(name)).collect()
    }

    fn find(&self, name: &str) -> Option<u32> {
        self.by_name.find(self.hash(name), |at| &*self.slots[*at as usize].record.name == name).copied()
    }

    fn hash<T: Hash + ?Sized>(&self, what: &T) -> u64 {
        self.hasher.hash_one(what)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::member::{Id, Record, Status};

    fn entry(name: &str, port: u16) -> Entry {
        let id = Id { address: SocketAddr::from(([127, 0, 0, 1], port)), bump: 1 };
        let record = Record { name: name.into(), node_id: "".into(), id, version: 1, tags: BTreeMap::new(), leaving: false, pruned: false };
        Entry { record: Arc::new(record), status: Status::Alive, since: Duration::ZERO }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_member_that_moves_is_found_where_it_is_now_only() {
        let mut entries = Entries::default();
        let at = |entries: &Entries, port| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            (entries.at(address).map(|entry| entry.record.name.to_string()).collect::<BTreeSet<_>>(), entries.has_address(&address))
        };
        entries.insert(entry("a", 1));
        entries.insert(entry("b", 1));
        assert_eq!(at(&entries, 1).0, names(&["a", "b"]));
        entries.insert(entry("a", 2));
        assert_eq!((at(&entries, 1).0, at(&entries, 2).0), (names(&["b"]), names(&["a"])));
        assert_eq!(entries.take(|entry| &*entry.record.name == "b").len(), 1);
        assert!(entries.remove("a").is_some());
        assert_eq!((at(&entries, 1).1, at(&entries, 2).1, entries.values().count()), (false, false, 0));
    }
}
