//! Starts the real binary, talks to it as users do, and ends it in every way a process can end.
//!
//! ```text
//!   Setup ──start──▶ Node ──┬─ http()    requests, byte for byte as given    http
//!                           ├─ client()  gRPC, the Rust client               lictor-client
//!                           ├─ dig()     the real dig                        dig
//!                           ├─ cli()     the binary's own commands           cli
//!                           └─ kill, stop, restart, pause, resume            node
//! ```
//!
//! Every node has a loopback address of its own and lets the system choose its ports, so that any
//! number of tests run side by side, and a node that comes back finds its ports free. What must
//! have the usual ports runs [`isolated`]: alone in a network of its own.
//!
//! A node that is dropped at the end of a test is killed, and the test fails if it has logged an
//! error that the test did not announce with [`Node::expect_error`].
//!
//! The binary is `$LICTOR_BIN`, or else what [`binary`] builds.
#![allow(clippy::unwrap_used, reason = "the whole crate is a test: a panic is the message")]

mod addresses;
mod binary;
mod cli;
mod dig;
mod http;
mod isolated;
mod log;
mod node;
mod setup;
mod tool;
mod web;

pub use addresses::Addresses;
pub use binary::{binary, repository};
pub use cli::Ran;
pub use dig::Dig;
pub use http::{Http, Response};
pub use isolated::isolated;
pub use log::Log;
pub use node::Node;
pub use setup::Setup;
pub use tool::{run, tool};
pub use web::Web;

use std::time::Duration;

/// How long a test waits for what must happen: long, so that a busy machine fails nothing.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until an expression is `Some`, `Ok` or `true`, and gives what is inside; panics with the
/// last value, and with the text that follows, once the deadline has passed.
///
/// ```
/// use std::time::Duration;
/// let mut left = 3;
/// harness::eventually!(Duration::from_secs(5), {
///     left -= 1;
///     left == 0
/// });
/// ```
#[macro_export]
macro_rules! eventually {
    ($deadline:expr, $condition:expr $(,)?) => {
        $crate::eventually!($deadline, $condition, "`{}`", stringify!($condition))
    };
    ($deadline:expr, $condition:expr, $($text:tt)+) => {{
        let begun = ::std::time::Instant::now();
        let deadline: ::std::time::Duration = $deadline;
        loop {
            match $crate::Awaited::arrived($condition) {
                Ok(value) => break value,
                Err(last) if begun.elapsed() > deadline => {
                    panic!("not within {deadline:?}: {}; at last {last}", format_args!($($text)+))
                }
                Err(_) => ::std::thread::sleep($crate::POLL_INTERVAL),
            }
        }
    }};
}

/// How often [`eventually!`] looks.
pub const POLL_INTERVAL: Duration = Duration::from_millis(15);

/// What can be waited for with [`eventually!`].
pub trait Awaited {
    /// What is there once it has arrived.
    type Value;

    /// The value, or what there is instead.
    fn arrived(self) -> Result<Self::Value, String>;
}

impl Awaited for bool {
    type Value = ();

    fn arrived(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".into())
    }
}

impl<T> Awaited for Option<T> {
    type Value = T;

    fn arrived(self) -> Result<T, String> {
        self.ok_or_else(|| "nothing".into())
    }
}

impl<T, E: std::fmt::Debug> Awaited for Result<T, E> {
    type Value = T;

    fn arrived(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:?}"))
    }
}
