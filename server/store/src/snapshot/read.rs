//! From a file to rows, every byte of it verified.

use std::collections::BTreeMap;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use proto::storage::v1 as pb;
use sha2::{Digest, Sha256};
use state::Row;

use crate::encode::{Malformed, row};
use crate::snapshot::{Count, DIGEST, Damage, END, HEAD, HEADER, Header, MAGIC, PART_BYTES_MAX, ROWS, Summary, VERSION, kind};

/// Reads a file that comes in pieces of any size.
#[derive(Default)]
pub struct Reader {
    buffer: BytesMut,
    /// Of all bytes before `at`.
    digest: Sha256,
    /// Where in the file the buffer begins.
    at: u64,
    header: Option<Header>,
    counts: BTreeMap<&'static str, Count>,
    rows: u64,
    /// The digest of the part that was read last.
    latest: [u8; DIGEST],
    /// Its end was read.
    ended: bool,
}

impl Reader {
    /// Takes the next bytes of the file.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What the snapshot is of, as soon as that was read.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The rows of the next part. `None` when more bytes are needed, or when the end was read.
    ///
    /// # Errors
    ///
    /// [`Damage`]; the reader is of no use afterwards.
    pub fn next_part(&mut self) -> Result<Option<Vec<Row>>, Damage> {
        if self.at == 0 && !self.open()? {
            return Ok(None);
        }
        while let Some((kind, from, payload)) = self.part()? {
            let unknown = |source| Damage::Unknown { from, source };
            match kind {
                HEADER if self.header.is_none() => {
                    let header = pb::SnapshotHeader::decode(payload).map_err(|error| unknown(error.into()))?;
                    self.header = Some(header.into());
                }
                ROWS if self.header.is_some() => return self.rows(payload).map(Some).map_err(unknown),
                END if self.header.is_some() => {
                    let end = pb::SnapshotEnd::decode(payload).map_err(|error| unknown(error.into()))?;
                    if end.rows != self.rows {
                        return Err(Damage::Miscounted { said: end.rows, found: self.rows });
                    }
                    self.ended = true;
                }
                _ => return Err(unknown(Malformed::Unknown("kind"))),
            }
        }
        Ok(None)
    }

    /// Ends the file: it must have been read to its end.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it is cut.
    pub fn finish(self) -> Result<Summary, Damage> {
        let cut = Damage::Cut { at: self.at + self.buffer.len() as u64, from: self.at };
        let Some(header) = self.header.filter(|_| self.ended) else { return Err(cut) };
        Ok(Summary { header, format: VERSION, counts: self.counts, rows: self.rows, bytes: self.at, digest: self.latest })
    }

    /// The first bytes, which say what the file is.
    fn open(&mut self) -> Result<bool, Damage> {
        let seen = self.buffer.len().min(MAGIC.len());
        if self.buffer[..seen] != MAGIC[..seen] {
            return Err(Damage::Foreign);
        }
        if self.buffer.len() < MAGIC.len() + 4 {
            return Ok(false);
        }
        let found = (&self.buffer[MAGIC.len()..]).get_u32_le();
        if found != VERSION {
            return Err(Damage::Version { found });
        }
        self.take(MAGIC.len() + 4);
        Ok(true)
    }

    /// The next part, verified: its kind, where it begins, and what it carries.
    fn part(&mut self) -> Result<Option<(u8, u64, Bytes)>, Damage> {
        let from = self.at;
        if self.ended {
            return if self.buffer.is_empty() { Ok(None) } else { Err(Damage::Longer { at: from }) };
        }
        if self.buffer.len() < HEAD {
            return Ok(None);
        }
        let mut head = &self.buffer[..HEAD];
        let (kind, len) = (head.get_u8(), head.get_u32_le() as usize);
        if crc32fast::hash(&self.buffer[..HEAD - 4]) != head.get_u32_le() || len > PART_BYTES_MAX {
            return Err(Damage::Changed { from, to: from + HEAD as u64, what: "the length of a part does not fit its checksum" });
        }
        if self.buffer.len() < HEAD + len + DIGEST {
            return Ok(None);
        }
        let part = self.take(HEAD + len);
        let expected = self.digest.clone().finalize();
        if expected[..] != self.buffer[..DIGEST] {
            let to = from + (HEAD + len + DIGEST) as u64;
            return Err(Damage::Changed { from, to, what: "its bytes do not fit their digest" });
        }
        self.take(DIGEST);
        self.latest = expected.into();
        Ok(Some((kind, from, part.slice(HEAD..))))
    }

    fn rows(&mut self, payload: Bytes) -> Result<Vec<Row>, Malformed> {
        let part = pb::SnapshotRows::decode(payload)?;
        let mut rows = Vec::with_capacity(part.rows.len());
        for bytes in part.rows {
            let row = row::decode(&bytes)?;
            if matches!(row, Row::Staged(..)) {
                return Err(Malformed::Unknown("row"));
            }
            let count = self.counts.entry(kind(&row)).or_default();
            count.rows += 1;
            count.bytes += bytes.len() as u64;
            self.rows += 1;
            rows.push(row);
        }
        Ok(rows)
    }

    /// Takes bytes out of the buffer, into the digest.
    fn take(&mut self, len: usize) -> Bytes {
        let taken = self.buffer.split_to(len).freeze();
        self.digest.update(&taken);
        self.at += len as u64;
        taken
    }
}
