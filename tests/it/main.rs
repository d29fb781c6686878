//! What a user would notice, on the real binary, from outside: one module a subject.
#![allow(clippy::unwrap_used, reason = "all of it is test: a panic is the message")]

mod blocking;
mod kv;
mod readme;
mod tour;
mod txn;
