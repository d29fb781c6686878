//! Nodes, services and checks: their rows, and what a registration does to them.

pub mod check;
pub mod deregister;
pub(crate) mod edit;
pub mod node;
pub mod register;
pub mod service;
