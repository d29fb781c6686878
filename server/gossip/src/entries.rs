//! Everybody that is shown, by name and by address.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::member::Entry;

/// Members by name. Of those that lived at an address, one may be up.
#[derive(Default)]
pub(crate) struct Entries {
    by_name: BTreeMap<Arc<str>, Entry>,
    /// Kept in step with `by_name`: news name addresses, and a pool of thousands is not searched for each.
    by_address: HashMap<SocketAddr, Vec<Arc<str>>>,
}

impl Entries {
    pub(crate) fn get(&self, name: &str) -> Option<&Entry> {
        self.by_name.get(name)
    }

    /// For changing how a member is; where it is changes by [`Entries::insert`] only.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Entry> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.by_name.contains_key(name)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Entry> {
        self.by_name.values()
    }

    /// Whoever lives or lived at `address`, in the order of their coming.
    pub(crate) fn at(&self, address: SocketAddr) -> impl Iterator<Item = &Entry> + Clone {
        self.by_address.get(&address).into_iter().flatten().filter_map(|name| self.by_name.get(name))
    }

    pub(crate) fn has_address(&self, address: &SocketAddr) -> bool {
        self.by_address.contains_key(address)
    }

    /// Shows `entry`, in place of what was shown of its name.
    pub(crate) fn insert(&mut self, entry: Entry) {
        let (name, address) = (entry.record.name.clone(), entry.record.id.address);
        let before = self.by_name.insert(name.clone(), entry);
        match before.map(|before| before.record.id.address) {
            Some(same) if same == address => return,
            Some(other) => self.forget_address(&name, other),
            None => {}
        }
        self.by_address.entry(address).or_default().push(name);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Entry> {
        let entry = self.by_name.remove(name)?;
        self.forget_address(name, entry.record.id.address);
        Some(entry)
    }

    /// Removes those that `gone` says are, and returns them.
    pub(crate) fn take(&mut self, gone: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let names: Vec<Arc<str>> = self.by_name.iter().filter(|(_, entry)| gone(entry)).map(|(name, _)| name.clone()).collect();
        names.iter().filter_map(|name| self.remove(name)).collect()
    }

    fn forget_address(&mut self, name: &str, address: SocketAddr) {
        if let Some(names) = self.by_address.get_mut(&address) {
            names.retain(|other| &**other != name);
            if names.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::member::{Id, Record, Status};

    fn entry(name: &str, port: u16) -> Entry {
        let id = Id { address: SocketAddr::from(([127, 0, 0, 1], port)), bump: 1 };
        let record = Record { name: name.into(), node_id: "".into(), id, version: 1, tags: BTreeMap::new(), leaving: false, pruned: false };
        Entry { record: Arc::new(record), status: Status::Alive, since: Duration::ZERO }
    }

    #[test]
    fn a_member_that_moves_is_found_where_it_is_now_only() {
        let mut entries = Entries::default();
        let at = |entries: &Entries, port| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            (entries.at(address).map(|entry| entry.record.name.to_string()).collect::<Vec<_>>(), entries.has_address(&address))
        };
        entries.insert(entry("a", 1));
        entries.insert(entry("b", 1));
        assert_eq!(at(&entries, 1).0, ["a", "b"]);
        entries.insert(entry("a", 2));
        assert_eq!((at(&entries, 1).0, at(&entries, 2).0), (vec!["b".to_owned()], vec!["a".to_owned()]));
        assert_eq!(entries.take(|entry| &*entry.record.name == "b").len(), 1);
        assert!(entries.remove("a").is_some());
        assert_eq!((at(&entries, 1).1, at(&entries, 2).1, entries.values().count()), (false, false, 0));
    }
}
