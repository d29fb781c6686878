//! Under which key of which database a row lies.
//!
//! LMDB bounds a key by 511 bytes, and an empty one is none at all. So a key begins with one byte that says
//! whether the name follows in full, or, where it is longer than fits, as its first bytes and its SHA-256. Rows
//! carry their names as well, so nothing is ever read back out of a key.

use sha2::{Digest, Sha256};
use state::catalog::node::name_key;
use state::{Row, RowKey};

/// Names up to this length are kept in full.
const WHOLE_MAX: usize = 500;
/// Of longer ones, this much goes before the hash and keeps neighbours together.
const HEAD: usize = 460;

const WHOLE: u8 = 0;
const HASHED: u8 = 1;

/// The databases of rows, one for each kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    Tables,
    Kv,
    Tombstones,
    Nodes,
    Services,
    Checks,
    ServiceIndexes,
    Sessions,
    LockDelays,
    LockQueues,
    LockWaiters,
    Staged,
    Autopilot,
}

impl Table {
    /// Every table, in the order in which a load reads them.
    pub(crate) const ALL: [Table; 13] = [
        Table::Tables,
        Table::Kv,
        Table::Tombstones,
        Table::Nodes,
        Table::Services,
        Table::Checks,
        Table::ServiceIndexes,
        Table::Sessions,
        Table::LockDelays,
        Table::LockQueues,
        Table::LockWaiters,
        Table::Staged,
        Table::Autopilot,
    ];

    /// Where a row lies.
    pub(crate) fn of(row: &Row) -> Table {
        match row {
            Row::Meta(_) => Table::Tables,
            Row::Kv(_) => Table::Kv,
            Row::Tombstone { .. } => Table::Tombstones,
            Row::Node(..) => Table::Nodes,
            Row::Service(_) => Table::Services,
            Row::Check(_) => Table::Checks,
            Row::ServiceIndex { .. } => Table::ServiceIndexes,
            Row::Session(_) => Table::Sessions,
            Row::LockDelay(..) => Table::LockDelays,
            Row::LockQueue(..) => Table::LockQueues,
            Row::LockWaiter(..) => Table::LockWaiters,
            Row::Staged(..) => Table::Staged,
            Row::Autopilot(_) => Table::Autopilot,
        }
    }

    /// The name of its database.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table::Tables => "tables",
            Table::Kv => "kv",
            Table::Tombstones => "tombstones",
            Table::Nodes => "nodes",
            Table::Services => "services",
            Table::Checks => "checks",
            Table::ServiceIndexes => "service_indexes",
            Table::Sessions => "sessions",
            Table::LockDelays => "lock_delays",
            Table::LockQueues => "lock_queues",
            Table::LockWaiters => "lock_waiters",
            Table::Staged => "staged",
            Table::Autopilot => "autopilot",
        }
    }
}

/// The table and the key of a row.
pub(crate) fn row_key(key: &RowKey) -> (Table, Vec<u8>) {
    match key {
        RowKey::Meta => (Table::Tables, encode(&[])),
        RowKey::Kv(entry) => (Table::Kv, encode(entry.key())),
        RowKey::Tombstone { key, prefix } => {
            let name = [&[u8::from(*prefix)][..], key].concat();
            (Table::Tombstones, encode(&name))
        }
        RowKey::Node(name) => (Table::Nodes, encode(name.as_bytes())),
        RowKey::Service(node, id) => (Table::Services, encode(&pair(node, id))),
        RowKey::Check(node, id) => (Table::Checks, encode(&pair(node, id))),
        RowKey::ServiceIndex(name) => (Table::ServiceIndexes, encode(name.as_bytes())),
        RowKey::Session(id) => (Table::Sessions, encode(&id.0)),
        RowKey::LockDelay(key) => (Table::LockDelays, encode(key)),
        RowKey::LockQueue(key) => (Table::LockQueues, encode(key)),
        // No two have the same ticket; the key after it is for people who look.
        RowKey::LockWaiter(key, ticket) => (Table::LockWaiters, encode(&[&ticket.0.to_be_bytes()[..], key].concat())),
        RowKey::Staged(sequence) => (Table::Staged, encode(&sequence.to_be_bytes())),
        RowKey::Autopilot => (Table::Autopilot, encode(&[])),
    }
}

/// The name of a row that stands alone.
pub(crate) fn key_of(row: &Row) -> RowKey {
    match row {
        Row::Meta(_) => RowKey::Meta,
        Row::Kv(entry) => RowKey::Kv(entry.clone()),
        Row::Tombstone { key, prefix, .. } => RowKey::Tombstone { key: key.clone(), prefix: *prefix },
        Row::Node(node, _) => RowKey::Node(name_key(&node.name)),
        Row::Service(service) => RowKey::Service(name_key(&service.node), service.id.clone()),
        Row::Check(check) => RowKey::Check(name_key(&check.node), check.id.clone()),
        Row::Session(session) => RowKey::Session(session.id),
        Row::LockDelay(key, _) => RowKey::LockDelay(key.clone()),
        Row::LockQueue(key, _) => RowKey::LockQueue(key.clone()),
        Row::LockWaiter(key, waiter) => RowKey::LockWaiter(key.clone(), waiter.ticket),
        Row::Staged(sequence, _) => RowKey::Staged(*sequence),
        Row::Autopilot(_) => RowKey::Autopilot,
        Row::ServiceIndex { name, .. } => RowKey::ServiceIndex(name.clone()),
    }
}

/// Two names as one, so that no other two give the same.
fn pair(node: &str, id: &str) -> Vec<u8> {
    let mut name = (node.len() as u64).to_be_bytes().to_vec();
    name.extend_from_slice(node.as_bytes());
    name.extend_from_slice(id.as_bytes());
    name
}

fn encode(name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len().min(WHOLE_MAX));
    if name.len() <= WHOLE_MAX {
        key.push(WHOLE);
        key.extend_from_slice(name);
    } else {
        key.push(HASHED);
        key.extend_from_slice(&name[..HEAD]);
        key.extend_from_slice(&Sha256::digest(name));
    }
    key
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_key_is_longer_than_lmdb_allows_or_empty() {
        for len in [0, 1, WHOLE_MAX, WHOLE_MAX + 1, 4096, 100_000] {
            let key = encode(&vec![7; len]);
            assert!((1..=511).contains(&key.len()), "{len} gives {}", key.len());
        }
    }

    #[test]
    fn long_names_that_differ_at_the_end_have_different_keys() {
        let mut name = vec![7; 4096];
        let key = encode(&name);
        name[4095] = 8;
        assert_ne!(encode(&name), key);
    }

    proptest! {
        #[test]
        fn different_pairs_have_different_keys(a in "[a/]{0,4}", b in "[a/]{0,4}", c in "[a/]{0,4}", d in "[a/]{0,4}") {
            prop_assert_eq!(pair(&a, &b) == pair(&c, &d), (a, b) == (c, d));
        }
    }
}
