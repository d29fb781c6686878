//! The state at rest: what was persisted is what is loaded, whole.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};

use proptest::prelude::*;
use state::kv::KvHeader;
use state::{Change, KvEntry, LogIndex, MetaRow, Millis, Node, Tombstone};

use super::*;

fn open(dir: &Path) -> StateStore {
    StateStore::open(dir, StateOptions { map_bytes: 64 << 20 }).unwrap()
}

fn entry(key: &[u8], value: &[u8], index: u64) -> KvEntry {
    let header = KvHeader { modify_index: LogIndex(index), create_index: LogIndex(index), ..KvHeader::default() };
    KvEntry::new(key, value, header)
}

fn put(key: &[u8], value: &[u8], index: u64) -> (RowKey, Option<Row>) {
    let entry = entry(key, value, index);
    (RowKey::Kv(entry.clone()), Some(Row::Kv(entry)))
}

fn delete(key: &[u8]) -> (RowKey, Option<Row>) {
    (RowKey::Kv(entry(key, b"", 0)), None)
}

fn change(index: u64) -> Arc<ChangeBatch> {
    let entry = entry(b"key", format!("value {index}").as_bytes(), index);
    Arc::new(ChangeBatch { index: LogIndex(index), changes: vec![Change::KvPut { entry }] })
}

fn persist(store: &StateStore, rows: Vec<(RowKey, Option<Row>)>, meta: &[u8]) {
    store.persist(Persist { rows, history: &[], history_floor: 0, meta }).unwrap();
}

/// All rows as text, with the values of keys.
fn rows(store: &StateStore) -> (Vec<String>, Loaded) {
    let mut rows = Vec::new();
    let loaded = store
        .load(|row| {
            let value = if let Row::Kv(entry) = &row { entry.value().to_vec() } else { Vec::new() };
            rows.push(format!("{row:?} {}", String::from_utf8_lossy(&value)));
        })
        .unwrap();
    (rows, loaded)
}

fn keys(store: &StateStore) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut keys = BTreeMap::new();
    store
        .load(|row| {
            if let Row::Kv(entry) = row {
                keys.insert(entry.key().to_vec(), entry.value().to_vec());
            }
        })
        .unwrap();
    keys
}

#[test]
fn a_new_state_is_empty_and_has_no_mark() {
    let dir = tempfile::tempdir().unwrap();
    let (rows, loaded) = rows(&open(&dir.path().join("made/on/demand")));
    assert!(rows.is_empty() && loaded.history.is_empty());
    assert_eq!((loaded.meta, loaded.history_floor), (None, 0));
}

#[test]
fn every_kind_of_row_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let written: Vec<Row> = vec![
        Row::Meta(MetaRow { applied: LogIndex(9), incarnation: 77, ..MetaRow::default() }),
        Row::Kv(entry(b"a", b"1", 3)),
        Row::Tombstone { key: b"b"[..].into(), prefix: false, tombstone: Tombstone { index: LogIndex(4), at: Millis(5) } },
        Row::Tombstone { key: b""[..].into(), prefix: true, tombstone: Tombstone { index: LogIndex(6), at: Millis(7) } },
        Row::Node(Arc::new(Node { name: "Node-1".into(), ..Node::default() }), LogIndex(8)),
        Row::Service(Arc::new(state::Service { node: "Node-1".into(), id: "web".into(), ..Default::default() })),
        Row::Check(Arc::new(state::Check { node: "Node-1".into(), id: "alive".into(), ..Default::default() })),
        Row::ServiceIndex { name: "web".into(), index: LogIndex(9), gone: Some(Millis(1)) },
    ];
    let puts = written.iter().rev().map(|row| (encode::key_of(row), Some(row.clone())));
    store.persist(Persist { rows: puts, history: &[change(8), change(9)], history_floor: 8, meta: b"mark" }).unwrap();
    drop(store);
    let (loaded_rows, loaded) = rows(&open(dir.path()));
    let shown = |row: &Row| format!("{row:?} {}", if matches!(row, Row::Kv(_)) { "1" } else { "" });
    assert_eq!(loaded_rows, written.iter().map(shown).collect::<Vec<_>>());
    assert_eq!(loaded.history.iter().map(|batch| batch.index.0).collect::<Vec<_>>(), [8, 9]);
    assert_eq!((loaded.history_floor, loaded.meta, loaded.rows), (8, Some("mark".into()), 8));
}

#[test]
fn the_history_below_its_floor_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let history: Vec<_> = (1..11).map(change).collect();
    let none = || std::iter::empty::<(RowKey, Option<Row>)>();
    store.persist(Persist { rows: none(), history: &history, history_floor: 1, meta: b"1" }).unwrap();
    store.persist(Persist { rows: none(), history: &[change(11)], history_floor: 9, meta: b"2" }).unwrap();
    let (_, loaded) = rows(&store);
    assert_eq!(loaded.history.iter().map(|batch| batch.index.0).collect::<Vec<_>>(), [9, 10, 11]);
    assert_eq!((loaded.history_floor, loaded.meta), (9, Some("2".into())));
}

#[test]
fn keys_of_every_length_up_to_the_limit_are_kept_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let lengths = [1, 2, 100, 460, 499, 500, 501, 511, 512, 2038, MAX_KEY_BYTES - 1, MAX_KEY_BYTES];
    let names: Vec<Vec<u8>> = lengths.iter().map(|len| vec![b'k'; *len]).collect();
    persist(&store, names.iter().map(|name| put(name, name, 1)).collect(), b"");
    assert_eq!(keys(&store), names.iter().map(|name| (name.clone(), name.clone())).collect());
    persist(&store, names.iter().skip(6).map(|name| delete(name)).collect(), b"");
    assert_eq!(keys(&store).len(), 6);
}

#[test]
fn of_a_row_touched_twice_one_write_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    persist(&store, vec![put(b"a", b"1", 2), put(b"b", b"1", 2), put(b"a", b"1", 2)], b"");
    assert_eq!(keys(&store).len(), 2);
}

#[test]
fn a_state_larger_than_its_map_doubles_the_map() {
    let dir = tempfile::tempdir().unwrap();
    let store = StateStore::open(dir.path(), StateOptions { map_bytes: 1 << 20 }).unwrap();
    for round in 0..8u64 {
        let key = |n: u64| format!("{round}/{n}").into_bytes();
        persist(&store, (0..100).map(|n| put(&key(n), &[7; 4000], 1)).collect(), &round.to_be_bytes());
    }
    assert_eq!(keys(&store).len(), 800);
    drop(store);
    // LMDB takes the map as large as the file needs, whatever is asked for.
    let store = StateStore::open(dir.path(), StateOptions { map_bytes: 1 << 20 }).unwrap();
    assert_eq!(keys(&store).len(), 800);
}

#[test]
fn replacing_leaves_nothing_of_the_old_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.persist(Persist { rows: vec![put(b"old", b"1", 1)], history: &[change(1)], history_floor: 1, meta: b"old" }).unwrap();
    let fresh = (0..40_000u64).map(|n| Ok(Row::Kv(entry(format!("new/{n}").as_bytes(), b"2", 2))));
    store.replace(fresh, 5, b"new").unwrap();
    assert_eq!(rows_mark(&store), b"new");
    drop(store);
    let loaded = open(dir.path()).load(|_| ()).unwrap();
    assert_eq!((loaded.rows, loaded.history.len(), loaded.history_floor), (40_000, 0, 5));
    assert_eq!(loaded.meta, Some("new".into()));
}

#[test]
fn a_replacement_that_breaks_off_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    persist(&store, vec![put(b"old", b"1", 1)], b"old");
    let broken = [Ok(Row::Kv(entry(b"new", b"2", 2))), Err(Error::Closed)];
    assert!(matches!(store.replace(broken, 0, b"new"), Err(Error::Closed)));
    persist(&store, vec![put(b"more", b"2", 2)], b"more");
    assert_eq!(keys(&store).into_keys().collect::<Vec<_>>(), [b"more".to_vec(), b"old".to_vec()]);
    assert!(!dir.path().join("incoming").exists());
}

#[test]
fn what_an_interrupted_replacement_left_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("incoming")).unwrap();
    fs::write(dir.path().join("incoming/data.mdb"), b"half").unwrap();
    let store = open(dir.path());
    assert!(!dir.path().join("incoming").exists());
    assert!(keys(&store).is_empty());
}

#[test]
fn a_file_that_is_not_a_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("data.mdb"), [7; 20_000]).unwrap();
    let error = StateStore::open(dir.path(), StateOptions::default()).unwrap_err();
    assert!(matches!(error, Error::CorruptState { .. }), "{error}");
    assert!(error.to_string().contains("restore this data directory"), "{error}");
}

#[test]
fn a_file_that_was_cut_short_is_refused_and_does_not_kill_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    persist(&store, (0..2_000u64).map(|n| put(&n.to_be_bytes(), &[7; 300], 1)).collect(), b"");
    drop(store);
    let file = OpenOptions::new().write(true).open(dir.path().join("data.mdb")).unwrap();
    file.set_len(64 << 10).unwrap();
    let outcome = StateStore::open(dir.path(), StateOptions { map_bytes: 64 << 20 }).and_then(|store| store.load(|_| ()));
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::CorruptState { .. }), "{error}");
}

#[test]
fn a_newer_state_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let environment = Environment::open(dir.path(), 64 << 20).unwrap();
    environment.set_version(7);
    environment.close();
    let error = StateStore::open(dir.path(), StateOptions::default()).unwrap_err();
    assert!(matches!(error, Error::TooNew { found: 7, supported: 1, .. }), "{error}");
}

#[test]
fn a_row_that_does_not_read_back_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let bad = Put { table: Table::Kv, key: b"\0bad".to_vec(), value: Some(vec![0xff; 9]) };
    let batch = Batch { puts: vec![bad], history: vec![], history_floor: 0, meta: b"" };
    store.inner.lock().environment().unwrap().write(&batch).unwrap();
    let error = store.load(|_| ()).unwrap_err();
    assert!(error.to_string().contains("a row of `kv` does not read as it was written"), "{error}");
}

#[test]
fn after_a_failed_write_every_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let failed = store.inner.lock().note(Err(Error::Closed));
    assert!(failed.is_err());
    let none = || std::iter::empty::<(RowKey, Option<Row>)>();
    let error = store.persist(Persist { rows: none(), history: &[], history_floor: 0, meta: b"" }).unwrap_err();
    assert!(error.to_string().contains("an earlier one failed: the log is closed"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_transactions_and_restarts_equal_a_map(
        steps in prop::collection::vec(prop::collection::vec(("[ab]{1,3}|a{505,520}", prop::option::of(0..5_000usize)), 0..20), 1..12)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = BTreeMap::new();
        for (nth, step) in steps.iter().enumerate() {
            let store = open(dir.path());
            let mut touched = BTreeMap::new();
            for (key, len) in step {
                let key = key.as_bytes();
                match len {
                    Some(len) => model.insert(key.to_vec(), vec![nth as u8; *len]),
                    None => model.remove(key),
                };
                touched.insert(key.to_vec(), model.get(key).cloned());
            }
            let rows = touched.iter().map(|(key, value)| value.as_ref().map_or_else(|| delete(key), |value| put(key, value, 1)));
            persist(&store, rows.collect(), &nth.to_be_bytes());
            prop_assert_eq!(&keys(&store), &model);
            drop(store);
            let store = open(dir.path());
            prop_assert_eq!(&keys(&store), &model);
            prop_assert_eq!(rows_mark(&store), nth.to_be_bytes());
        }
    }
}

fn rows_mark(store: &StateStore) -> Vec<u8> {
    store.load(|_| ()).unwrap().meta.expect("something was persisted").to_vec()
}
