//! Everything Lictor keeps on disk.
//!
//! Two file formats with two jobs stand side by side in one [data directory](data_dir):
//!
//! - [`log`]: the Raft log, vote and commit mark, in append-only segments. An acknowledgement waits for it,
//!   so it costs exactly one device flush however many writes share it.
//!
//! - [`state_store`]: the rows of the state machine in LMDB, written in the background. Each of its transactions
//!   moves the state from one exact log index to a later one, so a restart loads it and replays the rest of the log.
//!
//! Whatever is found broken is refused with an [`Error`] that names the file, the reason and the remedy;
//! nothing is repaired by guessing, because a guess can undo an acknowledged write.

pub mod data_dir;
pub mod encode;
mod error;
pub mod log;
pub mod pieces;
pub mod snapshot;
pub mod state_store;

pub use error::Error;
pub use state_store::MAX_KEY_BYTES;
