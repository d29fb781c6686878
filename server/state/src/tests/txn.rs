//! Transactions: all or nothing, each step seeing the ones before.

use super::*;
use crate::{KvVerb, Refusal, TxnOp};

fn op(verb: KvVerb, key: &str, value: &str, index: u64) -> TxnOp {
    let (key, value) = (key.as_bytes().into(), value.as_bytes().into());
    TxnOp::Kv { verb, key, value, flags: 0, index: LogIndex(index), session: None }
}

#[test]
fn later_steps_see_earlier_ones_and_all_share_one_index() {
    let mut machine = Machine::default();
    let ops = vec![op(KvVerb::Set, "a", "1", 0), op(KvVerb::Set, "b", "2", 0), op(KvVerb::Get, "a", "", 0)];
    let (outcome, changes) = machine.run(Operation::Txn(ops));
    let Outcome::Txn(results) = outcome else { panic!("{outcome:?}") };
    assert_eq!(results.len(), 3);
    assert_eq!((results[2].entry.value(), results[2].with_value), (&b"1"[..], true));
    assert_eq!(changes.len(), 2);
    assert_eq!(machine.tables.kv_get(b"a").index, machine.tables.kv_get(b"b").index);
}

#[test]
fn one_failing_step_undoes_all_and_every_failing_step_is_named() {
    let mut machine = Machine::default();
    machine.done(put("a", "1"));
    let ops = vec![
        op(KvVerb::Set, "a", "2", 0),
        op(KvVerb::Cas, "a", "3", 99),
        op(KvVerb::Get, "missing", "", 0),
        op(KvVerb::CheckNotExists, "a", "", 0),
    ];
    let (outcome, changes) = machine.run(Operation::Txn(ops));
    let Outcome::Refused(Refusal::Txn { failures }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failures.iter().map(|failure| failure.op_index).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(failures[0].what, "failed to set key \"a\", index is stale");
    assert!(changes.is_empty());
    assert_eq!(machine.value("a").as_deref(), Some("1"));
}

#[test]
fn each_verb_does_what_it_says() {
    let mut machine = Machine::default();
    let at = machine.done(put("t/a", "1"));
    machine.done(put("t/b", "2"));
    let cases: [(Vec<TxnOp>, Result<usize, &str>); 9] = [
        (vec![op(KvVerb::GetTree, "t/", "", 0)], Ok(2)),
        (vec![op(KvVerb::GetOrEmpty, "none", "", 0)], Ok(1)),
        (vec![op(KvVerb::CheckIndex, "t/a", "", at)], Ok(1)),
        (vec![op(KvVerb::CheckIndex, "t/a", "", 77)], Err("failed index check for key \"t/a\", current modify index 1 != 77")),
        (vec![op(KvVerb::CheckNotExists, "none", "", 0)], Ok(0)),
        (vec![op(KvVerb::CheckSession, "t/a", "", 0)], Err("missing session")),
        (vec![op(KvVerb::DeleteCas, "t/a", "", 77)], Err("failed to delete key \"t/a\", index is stale")),
        (vec![op(KvVerb::Cas, "new", "x", 0)], Ok(1)),
        (vec![op(KvVerb::DeleteTree, "t/", "", 0), op(KvVerb::GetTree, "t/", "", 0)], Ok(0)),
    ];
    for (ops, expected) in cases {
        match (machine.run(Operation::Txn(ops.clone())).0, expected) {
            (Outcome::Txn(results), Ok(count)) => assert_eq!(results.len(), count, "{ops:?}"),
            (Outcome::Refused(Refusal::Txn { failures }), Err(what)) => assert_eq!(failures[0].what, what),
            (outcome, expected) => panic!("{ops:?}: {outcome:?} instead of {expected:?}"),
        }
    }
}
