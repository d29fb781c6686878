//! Transactions: all or nothing, each step seeing the ones before.

use super::*;
use crate::{Fence, KvVerb, Refusal, RowVerb, SessionId, TxnFailure, TxnOp, TxnResult, TxnRow};

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
    let TxnRow::Kv { entry, with_value } = &results[2].row else { panic!("{results:?}") };
    assert_eq!((entry.value(), *with_value), (&b"1"[..], true));
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

fn on_node(verb: RowVerb, name: &str, index: u64) -> TxnOp {
    TxnOp::Node { verb, node: Box::new(node(name)), index: LogIndex(index) }
}

fn on_service(verb: RowVerb, node: &str, id: &str, index: u64) -> TxnOp {
    TxnOp::Service { verb, node: node.into(), service: Box::new(web(id, &["a"]).unwrap()), index: LogIndex(index) }
}

fn on_check(verb: RowVerb, node: &str, id: &str, service_id: &str, index: u64) -> TxnOp {
    TxnOp::Check { verb, node: node.into(), check: Box::new(check(id, service_id, Status::Passing)), index: LogIndex(index) }
}

fn committed(machine: &mut Machine, ops: Vec<TxnOp>) -> Vec<TxnResult> {
    match machine.run(Operation::Txn(ops)).0 {
        Outcome::Txn(results) => results,
        outcome => panic!("{outcome:?}"),
    }
}

fn undone(machine: &mut Machine, ops: Vec<TxnOp>) -> Vec<TxnFailure> {
    match machine.run(Operation::Txn(ops)).0 {
        Outcome::Refused(Refusal::Txn { failures }) => failures,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_machine_with_its_service_and_check_appears_at_one_index() {
    use RowVerb::*;
    let mut machine = Machine::default();
    let ops = vec![on_node(Set, "n1", 0), on_service(Cas, "n1", "w1", 0), on_check(Set, "n1", "c1", "w1", 0), op(KvVerb::Set, "k", "v", 0)];
    let results = committed(&mut machine, ops);
    let at = machine.tables.applied();
    let indexes: Vec<LogIndex> = results
        .iter()
        .map(|result| match &result.row {
            TxnRow::Kv { entry, .. } => entry.modify_index(),
            TxnRow::Node(row) => row.modify_index,
            TxnRow::Service(row) => row.modify_index,
            TxnRow::Check(row) => row.modify_index,
            TxnRow::Nothing => LogIndex::ZERO,
        })
        .collect();
    assert_eq!(indexes, [at; 4]);
    let web = machine.tables.service("web").value.expect("it is registered");
    let instance = web.instances.values().next().unwrap();
    assert_eq!((instance.checks.len(), instance.status), (1, Status::Passing));
}

#[test]
fn a_step_on_the_catalog_fails_with_its_reason_and_undoes_the_rest() {
    use RowVerb::*;
    let mut machine = Machine::default();
    let at = machine.done(register("n1", web("w1", &[]), vec![check("c1", "w1", Status::Passing)]));
    let stale = at + 7;
    let cases = [
        (on_node(Get, "n2", 0), "node \"n2\" doesn't exist"),
        (on_node(Cas, "n1", stale), "failed to set node \"n1\", index is stale"),
        (on_node(DeleteCas, "n1", stale), "failed to delete node \"n1\", index is stale"),
        (on_service(Get, "n1", "w2", 0), "service \"w2\" on node \"n1\" doesn't exist"),
        (on_service(Cas, "n1", "w1", 0), "failed to set service \"w1\" on node \"n1\", index is stale"),
        (on_service(Set, "n2", "w1", 0), "node `n2` is not registered"),
        (on_check(Cas, "n1", "c1", "w1", stale), "failed to set check \"c1\" on node \"n1\", index is stale"),
        (on_check(Set, "n1", "c2", "w9", 0), "service `w9` is not registered on node `n1`"),
        (on_check(CheckIndex, "n1", "c1", "", stale), "failed index check for check \"c1\" on node \"n1\", current modify index 1 != 8"),
        (on_check(DeleteCas, "n1", "c9", "", 0), "failed to delete check \"c9\" on node \"n1\", index is stale"),
    ];
    for (step, what) in cases {
        let failures = undone(&mut machine, vec![op(KvVerb::Set, "k", "v", 0), on_node(Delete, "n9", 0), step]);
        assert_eq!((failures.len(), failures[0].op_index, &*failures[0].what), (1, 2, what));
        assert_eq!(machine.value("k"), None, "{what}");
    }
    assert!(matches!(*undone(&mut machine, vec![on_node(Get, "n2", 0)])[0].cause, Refusal::UnknownNode { .. }));
    assert!(matches!(*undone(&mut machine, vec![on_check(Get, "n1", "x", "", 0)])[0].cause, Refusal::UnknownCheck { .. }));
}

#[test]
fn rows_of_the_catalog_go_as_they_came() {
    use RowVerb::*;
    let mut machine = Machine::default();
    let at = machine.done(register("n1", web("w1", &[]), vec![check("c1", "w1", Status::Passing)]));
    committed(&mut machine, vec![on_check(DeleteCas, "n1", "c1", "", at), on_service(Delete, "n1", "w1", 0), on_node(Delete, "n1", 0)]);
    assert!(machine.tables.find_node("n1").is_none());
    assert!(machine.tables.service("web").value.is_none());
    let rows = committed(&mut machine, vec![on_node(GetOrEmpty, "n1", 0), on_node(CheckNotExists, "n1", 0), on_node(Delete, "n1", 0)]);
    assert_eq!(rows, [TxnResult { op_index: 0, row: TxnRow::Nothing }]);
}

#[test]
fn a_node_is_found_by_its_id_whatever_it_is_called_now() {
    let mut machine = Machine::default();
    let id = "3f0c0f5e-0000-4000-8000-000000000001";
    let input = NodeInput { id: id.into(), ..node("n1") };
    machine.done(Operation::Register(Box::new(Registration { node: input, ..Default::default() })));
    let by_id = NodeInput { id: id.to_uppercase().into(), ..Default::default() };
    let rows = committed(&mut machine, vec![TxnOp::Node { verb: RowVerb::Get, node: Box::new(by_id), index: LogIndex::ZERO }]);
    assert!(matches!(&rows[0].row, TxnRow::Node(row) if &*row.name == "n1"), "{rows:?}");
}

#[test]
fn a_transaction_under_a_stale_fence_does_nothing() {
    let mut machine = Machine::default();
    machine.done(register("n1", None, vec![check("alive", "", Status::Passing)]));
    let session = SessionId([7; 16]);
    machine.done(Operation::SessionCreate(Box::new(super::session::session(session))));
    let lock = |verb, session| TxnOp::Kv {
        verb,
        key: b"lock"[..].into(),
        value: Box::default(),
        flags: 0,
        index: LogIndex::ZERO,
        session: Some(session),
    };
    committed(&mut machine, vec![lock(KvVerb::Lock, session)]);
    let held = |token| TxnOp::Held(Fence { key: b"lock"[..].into(), token });
    let grant = machine.tables.applied();
    committed(&mut machine, vec![held(grant), op(KvVerb::Set, "a", "1", 0)]);
    let failures = undone(&mut machine, vec![held(LogIndex(grant.0 - 1)), op(KvVerb::Set, "a", "2", 0)]);
    assert!(matches!(*failures[0].cause, Refusal::StaleFence { .. }), "{failures:?}");
    committed(&mut machine, vec![held(grant), TxnOp::SessionDestroy(session)]);
    let failures = undone(&mut machine, vec![held(grant), op(KvVerb::Set, "a", "3", 0)]);
    assert_eq!((failures[0].op_index, machine.value("a").as_deref()), (0, Some("1")));
    let failures = undone(&mut machine, vec![lock(KvVerb::Lock, session)]);
    assert!(matches!(*failures[0].cause, Refusal::UnknownSession { .. }));
}
