//! What a user would notice, on the real binary, from outside: one module a subject.
#![allow(clippy::unwrap_used, reason = "all of it is test: a panic is the message")]

mod agent;
mod bad_input;
mod blocking;
mod catalog;
mod checks;
mod cli;
mod cluster;
mod crash;
mod debug;
mod disk_full;
mod dns;
mod exclusive;
mod exec;
mod grpc;
mod handlers;
mod health;
mod hosts;
mod kv;
mod lock;
mod maintenance;
mod monitor;
mod operator;
mod partition;
mod powercut;
mod readme;
mod recover;
mod reload;
mod same_answer;
mod session;
mod snapshot;
mod start;
mod tidy;
mod tour;
mod txn;
mod watch;
