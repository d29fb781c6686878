//! The contract's messages and the product's own types, taken apart field by field.
//!
//! Every message is destructured, so that a field which is added to the contract does not compile
//! until somebody has said here what it means.

pub(crate) mod agent;
pub(crate) mod check;
pub(crate) mod common;
pub(crate) mod definition;
pub(crate) mod kv;
pub(crate) mod lock;
pub(crate) mod node;
pub(crate) mod service;
pub(crate) mod session;
pub(crate) mod txn;
pub(crate) mod watch;
