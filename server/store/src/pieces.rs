//! A state in pieces, each known by what is in it, so that nobody fetches what he has.
//!
//! ```text
//! piece   row … row                     a run of rows in the state's own order
//! row     len u64, little-endian · `len` bytes
//! name    sha256 of the piece
//! ```
//!
//! Where a piece ends is decided by its rows and not by their number (Muthitacharoen et al. 2001, §3.1): a row is the last
//! one if its checksum says so, with a chance that grows with its length. So two states that differ in few rows have most
//! pieces in common, whoever cuts them, and whenever: what was received of the one need not be sent again for the
//! other. [`Arrived`] keeps what has come until all is there.

mod arrived;
#[cfg(test)]
mod tests;

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use state::Tables;

use crate::encode::row;

pub use arrived::{Arrived, rows};

/// Bytes before which no piece ends.
const BYTES_MIN: usize = 64 << 10;

/// Bytes after which every piece ends.
const BYTES_MAX: usize = 1 << 20;

/// Bytes that a piece has on average beyond the least.
const BYTES_MORE: u64 = 192 << 10;

/// What a piece is called: the digest of what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(pub [u8; 32]);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Name {
    /// What `bytes` are called.
    pub fn of(bytes: &[u8]) -> Self {
        Name(Sha256::digest(bytes).into())
    }

    /// A name as it came; `None` when it is none.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Name)
    }
}

/// A piece, without what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it is called.
    pub name: Name,
    /// How many rows it has.
    pub rows: usize,
    /// How many bytes it has.
    pub bytes: u64,
}

/// Cuts rows into pieces as they come.
#[derive(Default)]
struct Cutter {
    bytes: Vec<u8>,
    rows: usize,
}

impl Cutter {
    /// Takes a row, and says whether the piece ends with it.
    fn push(&mut self, row: &[u8]) -> bool {
        self.bytes.extend_from_slice(&(row.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(row);
        self.rows += 1;
        let threshold = (row.len() as u64).saturating_mul(u64::from(u32::MAX) / BYTES_MORE);
        let chosen = self.bytes.len() >= BYTES_MIN && u64::from(crc32fast::hash(row)) < threshold;
        chosen || self.bytes.len() >= BYTES_MAX
    }

    /// The piece so far. Another one begins.
    fn end(&mut self) -> (Piece, &[u8]) {
        let piece = Piece { name: Name::of(&self.bytes), rows: std::mem::take(&mut self.rows), bytes: self.bytes.len() as u64 };
        (piece, &self.bytes)
    }
}

/// Cuts `tables` into pieces, and hands each to `take` with its bytes.
///
/// # Errors
///
/// Whatever `take` fails with, at once.
pub fn cut<E>(tables: &Tables, mut take: impl FnMut(Piece, &[u8]) -> Result<(), E>) -> Result<(), E> {
    let mut cutter = Cutter::default();
    for row in tables.rows() {
        if cutter.push(&row::encode(&row)) {
            let (piece, bytes) = cutter.end();
            take(piece, bytes)?;
            cutter.bytes.clear();
        }
    }
    if cutter.rows > 0 {
        let (piece, bytes) = cutter.end();
        take(piece, bytes)?;
    }
    Ok(())
}

/// The pieces of `tables`.
pub fn of(tables: &Tables) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let Ok(()) = cut(tables, |piece, _| {
        pieces.push(piece);
        Ok::<(), std::convert::Infallible>(())
    });
    pieces
}

/// Hands the rows of those of `pieces` to `take` that `wanted` names by their places, which grow; until that says that it wants no more.
/// `pieces` must be those of `tables`.
pub fn select(tables: &Tables, pieces: &[Piece], wanted: &[u32], mut take: impl FnMut(Vec<Bytes>) -> bool) {
    let (mut from, mut wanted) = (tables.rows(), wanted.iter().copied().peekable());
    for (place, piece) in pieces.iter().enumerate() {
        if wanted.next_if(|next| *next as usize == place).is_some() {
            let rows = from.by_ref().take(piece.rows).map(|row| Bytes::from(row::encode(&row))).collect();
            if !take(rows) {
                return;
            }
        } else if wanted.peek().is_none() {
            return;
        } else if piece.rows > 0 {
            from.nth(piece.rows - 1);
        }
    }
}

/// The bytes of a piece that has these rows.
pub fn join(rows: &[Bytes]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.len() + 8).sum());
    for row in rows {
        bytes.extend_from_slice(&(row.len() as u64).to_le_bytes());
        bytes.extend_from_slice(row);
    }
    bytes
}
