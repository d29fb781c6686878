//! From rows to a file.

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use proto::storage::v1 as pb;
use sha2::{Digest, Sha256};
use state::{Row, Tables};

use crate::encode::row;
use crate::snapshot::{DIGEST, END, HEAD, HEADER, Header, MAGIC, PART_BYTES, ROWS, VERSION};

/// Makes a file, piece by piece.
pub struct Writer {
    /// Of all bytes so far.
    digest: Sha256,
    waiting: Vec<Bytes>,
    waiting_bytes: usize,
    rows: u64,
}

impl Writer {
    /// Begins a file, and returns its first bytes.
    pub fn begin(header: &Header) -> (Self, Bytes) {
        let mut writer = Writer { digest: Sha256::new(), waiting: Vec::new(), waiting_bytes: 0, rows: 0 };
        let mut bytes = BytesMut::from(&MAGIC[..]);
        bytes.put_u32_le(VERSION);
        writer.digest.update(&bytes);
        let part = writer.part(HEADER, &pb::SnapshotHeader::from(header));
        bytes.extend_from_slice(&part);
        (writer, bytes.freeze())
    }

    /// Adds a row, and returns the bytes that are complete now, if any are.
    pub fn push(&mut self, row: &Row) -> Option<Bytes> {
        let bytes = Bytes::from(row::encode(row));
        self.waiting_bytes += bytes.len();
        self.waiting.push(bytes);
        self.rows += 1;
        (self.waiting_bytes >= PART_BYTES).then(|| self.flush())
    }

    /// Ends the file, and returns its last bytes.
    pub fn finish(mut self) -> Bytes {
        let mut bytes = BytesMut::new();
        if !self.waiting.is_empty() {
            bytes.extend_from_slice(&self.flush());
        }
        let end = pb::SnapshotEnd { rows: self.rows };
        bytes.extend_from_slice(&self.part(END, &end));
        bytes.freeze()
    }

    fn flush(&mut self) -> Bytes {
        self.waiting_bytes = 0;
        let rows = std::mem::take(&mut self.waiting);
        self.part(ROWS, &pb::SnapshotRows { rows })
    }

    fn part(&mut self, kind: u8, message: &impl Message) -> Bytes {
        let len = message.encoded_len();
        let mut bytes = BytesMut::with_capacity(HEAD + len + DIGEST);
        bytes.put_u8(kind);
        bytes.put_u32_le(u32::try_from(len).expect("a part ends after one row at the latest, and a row is bounded far below 4 GiB"));
        bytes.put_u32_le(crc32fast::hash(&bytes));
        message.encode(&mut bytes).expect("a buffer that grows takes everything");
        self.digest.update(&bytes);
        let digest = self.digest.clone().finalize();
        self.digest.update(digest);
        bytes.extend_from_slice(&digest);
        bytes.freeze()
    }
}

/// Hands the file that holds all of `tables` to `take`, piece by piece, until that says that it wants no more.
/// Rows that are staged for a restore are no part of the state.
pub fn pieces(header: &Header, tables: &Tables, mut take: impl FnMut(Bytes) -> bool) {
    let (mut writer, first) = Writer::begin(header);
    if !take(first) {
        return;
    }
    for row in tables.rows().filter(|row| !matches!(row, Row::Staged(..))) {
        if let Some(piece) = writer.push(&row)
            && !take(piece)
        {
            return;
        }
    }
    take(writer.finish());
}
