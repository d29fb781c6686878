//! What a member remembers over a restart.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What is remembered over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) clock: u64,
    pub(crate) left: bool,
    pub(crate) peers: Vec<SocketAddr>,
}

/// What was remembered; nothing when there is nothing that can be read.
pub(crate) fn recall(path: &Path) -> Memory {
    let Ok(bytes) = std::fs::read(path) else { return Memory::default() };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, file = %path.display(), "what was remembered of the pool can't be read and is not used");
        Memory::default()
    })
}

/// Replaces a small file, for nobody else to read.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}
