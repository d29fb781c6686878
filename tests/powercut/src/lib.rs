//! Power cuts, without pulling a plug.
//!
//! A program runs with the [shim](SHIM) preloaded. The shim lets every file operation through and writes it to a
//! journal; flushes are journaled but not waited for, which makes the run fast. From the journal an [`Image`] is
//! made of what a disk might hold had the power failed at any one operation: what was flushed is there, what was
//! not may be there, or not, or torn into sectors of 512 bytes; a name made, changed or removed is certain only
//! once its directory was flushed. Then the program's own recovery is run on that image.
//!
//! This is harsher than most disks and file systems. It knows nothing of disks that lie about flushes, nor of
//! sectors that go bad.
//!
//! Memory maps that are written to are not seen; LMDB does so only with `MDB_WRITEMAP`, which is never set.

mod image;
mod journal;
pub mod load;
#[allow(clippy::duplicate_mod, reason = "the shim is a crate of its own, which has it too")]
mod record;
#[cfg(any(clippy, rustfmt))]
mod shim;

use std::path::Path;
use std::process::Command;

pub use image::Image;
pub use journal::{Journal, Operation};

/// The library to preload.
pub const SHIM: &str = env!("POWERCUT_SHIM");

/// Makes `command` journal what it does to files below `dir`, which must exist, to the file `journal`, which is
/// added to.
///
/// # Errors
///
/// When `dir` cannot be resolved.
pub fn observe(command: &mut Command, dir: &Path, journal: &Path) -> std::io::Result<()> {
    command.env("LD_PRELOAD", SHIM);
    command.env(record::DIR_VARIABLE, dir.canonicalize()?);
    command.env(record::JOURNAL_VARIABLE, journal);
    Ok(())
}

/// Makes an observed `command` die, as by `kill -9`, as soon as it has written `writes` times, its [`MARKS`] not
/// counted. What it wrote and did not flush is still there for the next program, until the power is cut.
pub fn kill_after(command: &mut Command, writes: usize) {
    command.env(record::KILL_VARIABLE, writes.to_string());
}

/// Name of the file in the observed directory by which a program says what it was promised: what it writes there is
/// journaled in order with everything else, and is no part of an image.
pub const MARKS: &str = record::MARKS;
