//! How operations are planned and their answers read back.

use state::kv::KvHeader;
use state::{KvEntry, Refusal};

use super::*;

fn operation(row: Option<Row>, operation: Operation) -> v1::TxnOperation {
    let precondition = row.map(|row| v1::Precondition { row: Some(row), fence: None });
    v1::TxnOperation { precondition, operation: Some(operation) }
}

fn key() -> bytes::Bytes {
    bytes::Bytes::from_static(b"k")
}

fn verbs(operations: Vec<v1::TxnOperation>) -> Vec<KvVerb> {
    let mut plan = Plan::new(operations).unwrap();
    let verb = |op: &TxnOp| match op {
        TxnOp::Kv { verb, .. } => *verb,
        other => panic!("{other:?}"),
    };
    plan.take_ops().iter().map(verb).collect()
}

#[test]
fn operations_become_steps_with_their_comparisons_before_them() {
    use KvVerb::*;
    let put = || Operation::KvPut(v1::TxnKvPut { key: key(), ..Default::default() });
    for (row, does, expected) in [
        (None, put(), vec![Set]),
        (Some(Row::Absent(true)), put(), vec![Cas]),
        (Some(Row::ModifyIndex(3)), put(), vec![Cas]),
        (Some(Row::Present(true)), put(), vec![Get, Set]),
        (None, Operation::KvGet(key()), vec![GetOrEmpty]),
        (Some(Row::ModifyIndex(3)), Operation::KvGet(key()), vec![CheckIndex, GetOrEmpty]),
        (Some(Row::Absent(true)), Operation::KvGet(key()), vec![CheckNotExists]),
        (Some(Row::ModifyIndex(3)), Operation::KvDelete(key()), vec![DeleteCas]),
        (None, Operation::KvDeletePrefix(key()), vec![DeleteTree]),
        (Some(Row::Absent(true)), Operation::KvCheck(key()), vec![CheckNotExists]),
    ] {
        assert_eq!(verbs(vec![operation(row, does)]), expected);
    }
}

#[test]
fn what_cannot_be_done_is_refused_with_its_cause() {
    for (refused, reason) in [
        (vec![], "INVALID_ARGUMENT"),
        (vec![v1::TxnOperation::default()], "INVALID_ARGUMENT"),
        (vec![operation(None, Operation::KvCheck(key()))], "INVALID_ARGUMENT"),
        (vec![operation(Some(Row::Absent(true)), Operation::KvList(key()))], "INVALID_ARGUMENT"),
        (
            vec![operation(Some(Row::HeldBy("00000000-0000-0000-0000-000000000001".into())), Operation::NodeGet("n".into()))],
            "INVALID_ARGUMENT",
        ),
        (vec![operation(None, Operation::SessionDestroy("x".into()))], "INVALID_ARGUMENT"),
    ] {
        assert_eq!(Plan::new(refused).unwrap_err().reason.as_str(), reason);
    }
}

#[test]
fn rows_and_failures_name_the_operation_that_was_asked_for() {
    let get = |row| operation(row, Operation::KvGet(key()));
    let plan = Plan::new(vec![get(Some(Row::Present(true))), get(None)]).unwrap();
    let header = KvHeader { modify_index: LogIndex(5), ..Default::default() };
    let row = |op_index, header| TxnResult { op_index, row: TxnRow::Kv { entry: KvEntry::new(b"k", b"v", header), with_value: true } };

    let told = plan.results(&[row(0, header), row(1, header), row(2, KvHeader::default())]);
    assert_eq!(told.iter().map(|result| (result.operation, result.row.is_some())).collect::<Vec<_>>(), [(0, true), (1, false)]);

    let cause = || Box::new(Refusal::LockHeld { key: "k".into(), holder: SessionId([1; 16]) });
    let failed = |op_index| TxnFailure { op_index, what: "no".into(), cause: cause() };
    let told = plan.failures(&[failed(0), failed(1), failed(2)]);
    assert_eq!(told.iter().map(|failure| failure.operation).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(told[0].refusal.as_ref().unwrap().reason(), v1::ErrorReason::LockHeld);
}

#[test]
fn operations_on_the_catalog_carry_their_fence_and_their_comparison() {
    let fence = v1::Fence { key: key(), token: 7 };
    let precondition = v1::Precondition { row: Some(Row::ModifyIndex(3)), fence: Some(fence) };
    let put = Operation::ServicePut(v1::TxnServicePut { node: "n".into(), service: Some(v1::Service::default()) });
    let mut plan = Plan::new(vec![v1::TxnOperation { precondition: Some(precondition), operation: Some(put) }]).unwrap();
    let ops = plan.take_ops();
    assert!(matches!(&ops[0], TxnOp::Held(fence) if fence.token == LogIndex(7)), "{ops:?}");
    assert!(matches!(&ops[1], TxnOp::Service { verb: RowVerb::CheckIndex, index: LogIndex(3), .. }), "{ops:?}");
    assert!(matches!(&ops[2], TxnOp::Service { verb: RowVerb::Set, .. }), "{ops:?}");
    let error = plan.locate(Error::invalid("no").with("operation", 2));
    assert_eq!(error.details, [("operation", "0".to_owned())]);
}
