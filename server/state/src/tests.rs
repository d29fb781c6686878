//! The state machine from outside: commands in, what a reader and a watcher see out.

mod catalog;
mod kv;
mod lock;
mod lock_model;
mod model;
mod restore;
mod rows;
mod session;
mod txn;

use crate::{
    Change, CheckInput, Command, Compare, Deregistration, Effects, KvWrite, LockAction, LogIndex, Millis, NodeInput, Operation, Outcome,
    Registration, ServiceInput, Status, Tables, apply,
};

/// A state machine with a clock that the test moves.
#[derive(Default)]
struct Machine {
    tables: Tables,
    now: u64,
}

impl Machine {
    /// Applies the next command.
    fn run(&mut self, operation: Operation) -> (Outcome, Vec<Change>) {
        let index = LogIndex(self.tables.applied().0 + 1);
        let mut effects = Effects::default();
        let outcome = apply(&mut self.tables, index, &Command { at: Millis(self.now), operation }, &mut effects);
        (outcome, effects.changes)
    }

    /// Applies the next command, which must be done, and says at which index.
    fn done(&mut self, operation: Operation) -> u64 {
        let (outcome, _) = self.run(operation);
        assert!(!matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        self.tables.applied().0
    }

    fn value(&self, key: &str) -> Option<String> {
        self.tables.kv_get(key.as_bytes()).value.map(|entry| String::from_utf8_lossy(entry.value()).into_owned())
    }
}

fn put(key: &str, value: &str) -> Operation {
    put_if(key, value, Compare::Any)
}

fn put_if(key: &str, value: &str, compare: Compare) -> Operation {
    let (key, value) = (key.as_bytes().into(), value.as_bytes().into());
    Operation::Kv(KvWrite::Set { key, value, flags: 0, compare, lock: LockAction::Keep })
}

fn delete(key: &str) -> Operation {
    Operation::Kv(KvWrite::Delete { key: key.as_bytes().into(), compare: Compare::Any })
}

fn delete_prefix(prefix: &str) -> Operation {
    Operation::Kv(KvWrite::DeletePrefix { prefix: prefix.as_bytes().into() })
}

fn node(name: &str) -> NodeInput {
    NodeInput { name: name.into(), address: "10.0.0.1".into(), datacenter: "dc1".into(), ..Default::default() }
}

fn register(node_name: &str, service: Option<ServiceInput>, checks: Vec<CheckInput>) -> Operation {
    Operation::Register(Box::new(Registration { node: node(node_name), service, checks, ..Default::default() }))
}

fn web(id: &str, tags: &[&str]) -> Option<ServiceInput> {
    let tags = tags.iter().map(|tag| (*tag).into()).collect();
    Some(ServiceInput { id: id.into(), name: "web".into(), tags, port: 80, ..Default::default() })
}

fn check(id: &str, service_id: &str, status: Status) -> CheckInput {
    CheckInput { id: id.into(), name: id.into(), service_id: service_id.into(), status, ..Default::default() }
}

fn deregister(node: &str, service_id: Option<&str>, check_id: Option<&str>) -> Operation {
    let text = |id: Option<&str>| id.map(Into::into);
    Operation::Deregister(Deregistration { node: node.into(), service_id: text(service_id), check_id: text(check_id) })
}
