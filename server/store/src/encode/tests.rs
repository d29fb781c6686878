//! What is encoded reads back the same, and nothing else is taken for it.

pub(crate) mod sample;

use proptest::prelude::*;
use state::{Change, Command, Operation, Row};

use super::*;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_command_reads_back_the_same(command in sample::command()) {
        prop_assert_eq!(command::decode(command::encode(&command)), Ok(command));
    }

    #[test]
    fn a_row_reads_back_the_same_alone_and_in_a_snapshot(row in sample::row()) {
        let shown = format!("{row:?}");
        let again = row::decode(&row::encode(&row)).unwrap();
        prop_assert_eq!(format!("{again:?}"), &*shown);
        prop_assert_eq!(value(&again), value(&row));
        let (table, _) = row_key(&key_of(&row));
        let again = row::decode_value(table, &row::encode_value(&row)).unwrap();
        prop_assert_eq!(format!("{again:?}"), &*shown);
        prop_assert_eq!(row_key(&key_of(&again)), row_key(&key_of(&row)));
    }

    #[test]
    fn a_batch_of_changes_reads_back_the_same(batch in sample::batch()) {
        let bytes = encode_changes(&batch);
        let again = decode_changes(&bytes).unwrap();
        prop_assert_eq!(format!("{again:?}"), format!("{batch:?}"));
        prop_assert_eq!(encode_changes(&again), bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = command::decode(&bytes[..]);
        let _ = row::decode(&bytes);
        let _ = decode_changes(&bytes);
        for table in Table::ALL {
            let _ = row::decode_value(table, &bytes);
        }
    }

    #[test]
    fn damaged_messages_never_panic(command in sample::command(), batch in sample::batch(), at: prop::sample::Index, to: u8) {
        let mut bytes = command::encode(&command).to_vec();
        let place = at.index(bytes.len());
        bytes[place] = to;
        let _ = command::decode(&bytes[..]);
        let mut bytes = encode_changes(&batch);
        if !bytes.is_empty() {
            let place = at.index(bytes.len());
            bytes[place] = to;
            let _ = decode_changes(&bytes);
        }
    }
}

/// The value of a key, which is not part of how an entry is shown.
fn value(row: &Row) -> Option<Vec<u8>> {
    match row {
        Row::Kv(entry) => Some(entry.value().to_vec()),
        _ => None,
    }
}

#[test]
fn what_a_later_release_may_add_is_refused_and_not_ignored() {
    let unknown = pb::Command { at_ms: 7, ..pb::Command::default() };
    assert_eq!(command::decode(&unknown.encode_to_vec()[..]), Err(Malformed::Unknown("operation")));
    let op = pb::Txn { ops: vec![pb::TxnOp { op: None }] };
    let unknown = pb::Command { at_ms: 7, operation: Some(pb::command::Operation::Txn(op)), fence: None };
    assert_eq!(command::decode(&unknown.encode_to_vec()[..]), Err(Malformed::Unknown("op")));
    let check = pb::Check { status: 99, ..pb::Check::default() };
    assert_eq!(row::decode_value(Table::Checks, &check.encode_to_vec()).unwrap_err(), Malformed::Unknown("status"));
    let batch = pb::ChangeBatch { index: 7, changes: vec![pb::Change { change: None }] };
    assert_eq!(decode_changes(&batch.encode_to_vec()).unwrap_err(), Malformed::Unknown("change"));
}

#[test]
fn a_session_of_the_wrong_length_is_refused() {
    let set = pb::KvSet { lock: Some(pb::kv_set::Lock::Acquire(Bytes::from_static(b"short"))), ..pb::KvSet::default() };
    let command = pb::Command { at_ms: 7, operation: Some(pb::command::Operation::KvSet(set)), fence: None };
    assert_eq!(command::decode(&command.encode_to_vec()[..]), Err(Malformed::Unknown("lock")));
}

#[test]
fn a_change_without_either_side_is_refused() {
    let change = pb::change::Change::Node(pb::NodeChange::default());
    let batch = pb::ChangeBatch { index: 7, changes: vec![pb::Change { change: Some(change) }] };
    assert_eq!(decode_changes(&batch.encode_to_vec()).unwrap_err(), Malformed::Missing("after"));
}

#[test]
fn an_ordinary_command_is_small() {
    let write = state::KvWrite::Set {
        key: b"service/config".to_vec().into(),
        value: vec![7; 256].into(),
        flags: 0,
        compare: state::Compare::Any,
        lock: state::LockAction::Keep,
    };
    let command = Command { at: state::Millis(1_700_000_000_000), operation: Operation::Kv(write) };
    assert!(command::encode(&command).len() < 256 + 14 + 20);
}

#[test]
fn the_samples_reach_every_kind_of_change() {
    let changes = sample::every_change();
    assert_eq!(changes.len(), 7);
    let batch = ChangeBatch { index: state::LogIndex(1), changes };
    let again = decode_changes(&encode_changes(&batch)).unwrap();
    assert!(matches!(
        again.changes[..],
        [
            Change::KvPut { .. },
            Change::KvDelete { .. },
            Change::Node { .. },
            Change::Instance { .. },
            Change::Check { .. },
            Change::Service { .. },
            Change::Session { .. },
        ]
    ));
}
