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

#[cfg(test)]
mod tests {
    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn reflection_describes_the_public_api_with_its_comments_and_nothing_else() {
        let set = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let file = |name: &str| set.file.iter().find(|file| file.name() == name);

        let kv = file("lictor/v1/kv.proto").expect("the key-value service is public");
        assert_eq!(kv.service[0].name(), "KvService");
        let locations = &kv.source_code_info.as_ref().expect("comments are kept").location;
        assert!(locations.iter().any(|at| at.leading_comments().contains("Reads one key.")));
        assert!(file("google/protobuf/duration.proto").is_some(), "imports are included");
        assert!(set.file.iter().all(|file| { file.package() == "lictor.v1" || file.package() == "google.protobuf" }));
    }
}
