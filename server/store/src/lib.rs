//! Everything Lictor keeps on disk.
//!
//! Two file formats with two jobs stand side by side in one data directory:
//!
//! - [`log`]: the Raft log, vote and commit mark, in append-only segments. An acknowledgement waits for it,
//!   so it costs exactly one device flush however many writes share it.
//!
//! Whatever is found broken is refused with an [`Error`] that names the file, the reason and the remedy;
//! nothing is repaired by guessing, because a guess can undo an acknowledged write.

mod error;
pub mod log;

pub use error::Error;
