//! The wire contract of Lictor: what its `.proto` files say, as Rust.
//!
//! - [`v1`] is the public API, the package `lictor.v1`: messages, a client and a server trait for
//!   each service. Its comments are those of the `.proto` files.
//! - [`storage`] is what lies on disk; no other process ever sees it.
//! - [`Encoded`] lets a server encode a watched change once and send it to many watches.
//! - [`FILE_DESCRIPTOR_SET`] describes the public API to reflection.
//!
//! Nothing here decides anything. Conversions to and from what the rest of the product works with
//! live beside its borders, and so do the rules.

mod reason;
pub mod shared;

/// The generated code, as a tree of packages.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    reason = "generated: documented and shaped by the `.proto` files, whose linter looks after them"
)]
mod contract {
    include!(concat!(env!("OUT_DIR"), "/contract.rs"));
}

pub use contract::lictor::*;
pub use shared::Encoded;

/// Domain of each `google.rpc.ErrorInfo` that carries a [`v1::ErrorReason`].
pub const ERROR_DOMAIN: &str = "lictor.dev";

/// The public API as an encoded `google.protobuf.FileDescriptorSet`, with imports and comments.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/contract.binpb"));
