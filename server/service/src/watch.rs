//! Watches that never lose a change.
//!
//! ```text
//!   apply ──▶ ring (history, bounded) ──▶ dispatcher ──▶ groups ──▶ streams, blocked queries
//! ```
//!
//! The state machine appends each command's changes to the [`ring`] and goes on: it never waits for
//! a reader. The dispatcher walks the ring and hands every change to the groups that it concerns;
//! a group is all watchers of one [`Target`], and what they receive is built and encoded once. A
//! reader whose queue is full is marked, and catches up from the ring when it reads again; only
//! when the ring has forgotten what it needs is it told so ([`ResetReason`]) and given a snapshot.

mod delta;
mod groups;
mod hub;
mod ring;
mod snapshot;
mod stream;
mod target;

pub use delta::{Chunk, Delta, Event, Format};
pub use hub::{Hub, Waiter};
pub use stream::{Cursor, ResetReason, Start, WatchEvent, WatchStream};
pub use target::{CheckScope, Target};
