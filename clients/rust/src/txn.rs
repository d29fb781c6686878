//! Transactions, step by step.

use bytes::Bytes;
use proto::v1;
use proto::v1::precondition::Row;
use proto::v1::txn_operation::Operation;

use crate::read::{Consistency, write_options};

/// Several operations at one revision: all of them take place, or none.
///
/// ```
/// use lictor_client::Txn;
///
/// let create_both = Txn::new().check_absent("a").put("a", "1").check_absent("b").put("b", "2").get("counter");
/// assert_eq!(create_both.len(), 5);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Txn {
    datacenter: String,
    consistency: Consistency,
    fence: Option<v1::Fence>,
    operations: Vec<v1::TxnOperation>,
}

impl Txn {
    /// No operations yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs it in another datacenter.
    pub fn datacenter(mut self, name: impl Into<String>) -> Self {
        self.datacenter = name.into();
        self
    }

    /// How current a transaction has to be that only reads.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Reads one key.
    pub fn get(self, key: impl AsRef<[u8]>) -> Self {
        self.push(None, Operation::KvGet(copied(key)))
    }

    /// Reads the keys under a prefix.
    pub fn list(self, prefix: impl AsRef<[u8]>) -> Self {
        self.push(None, Operation::KvList(copied(prefix)))
    }

    /// Writes one key.
    pub fn put(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>) -> Self {
        self.push(None, put(key, value, 0))
    }

    /// Writes one key with flags.
    pub fn put_with_flags(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>, flags: u64) -> Self {
        self.push(None, put(key, value, flags))
    }

    /// Writes one key that must have this `modify_index`; 0 means that it must not exist.
    pub fn put_if(self, key: impl AsRef<[u8]>, value: impl Into<Bytes>, modify_index: u64) -> Self {
        self.push(Some(at(modify_index)), put(key, value, 0))
    }

    /// Removes one key.
    pub fn delete(self, key: impl AsRef<[u8]>) -> Self {
        self.push(None, Operation::KvDelete(copied(key)))
    }

    /// Removes one key that must have this `modify_index`.
    pub fn delete_if(self, key: impl AsRef<[u8]>, modify_index: u64) -> Self {
        self.push(Some(at(modify_index)), Operation::KvDelete(copied(key)))
    }

    /// Removes the keys under a prefix.
    pub fn delete_prefix(self, prefix: impl AsRef<[u8]>) -> Self {
        self.push(None, Operation::KvDeletePrefix(copied(prefix)))
    }

    /// Fails unless the key has this `modify_index`.
    pub fn check_modify_index(self, key: impl AsRef<[u8]>, modify_index: u64) -> Self {
        self.push(Some(Row::ModifyIndex(modify_index)), Operation::KvCheck(copied(key)))
    }

    /// Fails if the key exists.
    pub fn check_absent(self, key: impl AsRef<[u8]>) -> Self {
        self.push(Some(Row::Absent(true)), Operation::KvCheck(copied(key)))
    }

    /// Fails unless the session holds the lock of the key.
    pub fn check_held_by(self, key: impl AsRef<[u8]>, session_id: impl Into<String>) -> Self {
        self.push(Some(Row::HeldBy(session_id.into())), Operation::KvCheck(copied(key)))
    }

    /// Registers or changes a node.
    pub fn put_node(self, node: v1::Node) -> Self {
        self.push(None, Operation::NodePut(node))
    }

    /// Removes a node with all that is on it.
    pub fn delete_node(self, name: impl Into<String>) -> Self {
        self.push(None, Operation::NodeDelete(name.into()))
    }

    /// Registers or changes an instance on a node.
    pub fn put_service(self, node: impl Into<String>, service: v1::Service) -> Self {
        self.push(None, Operation::ServicePut(v1::TxnServicePut { node: node.into(), service: Some(service) }))
    }

    /// Removes an instance with its checks.
    pub fn delete_service(self, node: impl Into<String>, service_id: impl Into<String>) -> Self {
        self.push(None, Operation::ServiceDelete(v1::ServiceKey { node: node.into(), service_id: service_id.into() }))
    }

    /// Registers or changes a check of the node that it names.
    pub fn put_check(self, check: v1::Check) -> Self {
        self.push(None, Operation::CheckPut(check))
    }

    /// Removes one check.
    pub fn delete_check(self, node: impl Into<String>, check_id: impl Into<String>) -> Self {
        self.push(None, Operation::CheckDelete(v1::CheckKey { node: node.into(), check_id: check_id.into() }))
    }

    /// Lets the whole take place only while this lock is held: `STALE_FENCE` otherwise.
    pub fn fence(mut self, fence: v1::Fence) -> Self {
        self.fence = Some(fence);
        self
    }

    /// Adds an operation of the contract as it is.
    pub fn operation(mut self, operation: v1::TxnOperation) -> Self {
        self.operations.push(operation);
        self
    }

    /// How many operations there are.
    pub fn len(&self) -> usize {
        self.operations.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    pub(crate) fn wire(self) -> v1::TxnRequest {
        let Txn { datacenter, consistency, fence, mut operations } = self;
        // Steps run in their order, so that the fence of the first one guards them all.
        if let (Some(fence), Some(first)) = (fence, operations.first_mut()) {
            first.precondition.get_or_insert_default().fence = Some(fence);
        }
        v1::TxnRequest { options: write_options(&datacenter), operations, consistency: consistency.into() }
    }

    fn push(mut self, row: Option<Row>, operation: Operation) -> Self {
        let precondition = row.map(|row| v1::Precondition { row: Some(row), fence: None });
        self.operations.push(v1::TxnOperation { precondition, operation: Some(operation) });
        self
    }
}

fn put(key: impl AsRef<[u8]>, value: impl Into<Bytes>, flags: u64) -> Operation {
    Operation::KvPut(v1::TxnKvPut { key: copied(key), value: value.into(), flags, lock: None })
}

/// The row at an index, where 0 stands for its absence.
fn at(modify_index: u64) -> Row {
    if modify_index == 0 { Row::Absent(true) } else { Row::ModifyIndex(modify_index) }
}

fn copied(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}
