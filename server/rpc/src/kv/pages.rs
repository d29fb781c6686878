//! A list of keys, page by page, from one snapshot, made as the reader reads.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use proto::v1;
use service::kv::KvRange;
use service::{Error, Limits};
use state::KvEntry;
use tonic::Status;

use crate::convert::kv::{entry, entry_without_value};
use crate::page::page_size;
use crate::status::invalid;

/// A page is closed once its keys and values have this many bytes: well below the 4 MiB that a
/// client takes unless configured, however large a single value may be by default.
const PAGE_BYTES: usize = 512 * 1024;

/// What is told of each key, and how many on a page.
pub(super) struct Shape {
    prefix_len: usize,
    keys_only: bool,
    separator: Bytes,
    page_size: usize,
    /// How many entries and folders may still be told.
    left: u64,
    after: After,
}

/// Where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    /// At the first key.
    Start,
    /// After this key.
    Key(Vec<u8>),
    /// After every key that begins with this.
    Folder(Vec<u8>),
}

/// The pages of one list.
pub(crate) type PageStream = futures::stream::Iter<Pages>;

/// Makes one page after the other.
pub(crate) struct Pages {
    range: KvRange,
    shape: Shape,
    meta: v1::ResponseMeta,
    done: bool,
}

/// What a page tells next.
enum Item<'a> {
    Entry(&'a KvEntry),
    Folder(&'a [u8]),
}

impl Shape {
    pub(super) fn new(
        prefix: &[u8],
        keys_only: bool,
        separator: Bytes,
        page_size_asked: u32,
        page_token: &str,
        limit: u64,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let after = After::from_token(page_token, prefix)?;
        let page_size = page_size(page_size_asked, limits.page_size_max);
        let left = if limit == 0 { u64::MAX } else { limit };
        Ok(Shape { prefix_len: prefix.len(), keys_only, separator, page_size, left, after })
    }
}

/// The pages of `range`; the first is there even if it is empty.
pub(super) fn stream(range: KvRange, shape: Shape, meta: v1::ResponseMeta) -> PageStream {
    futures::stream::iter(Pages { range, shape, meta, done: false })
}

impl Iterator for Pages {
    type Item = Result<v1::ListResponse, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let page = self.page();
        self.done = page.next_page_token.is_empty() || self.shape.left == 0;
        Some(Ok(page))
    }
}

impl Pages {
    fn page(&mut self) -> v1::ListResponse {
        let mut page = v1::ListResponse { meta: Some(self.meta.clone()), ..v1::ListResponse::default() };
        let (mut told, mut bytes, mut last) = (0, 0, self.shape.after.clone());
        let full = |told: usize, bytes: usize, left: u64| told == self.shape.page_size || bytes >= PAGE_BYTES || left == 0;
        let mut left = self.shape.left;
        for item in items(&self.range, &self.shape) {
            if full(told, bytes, left) {
                page.next_page_token = last.token();
                break;
            }
            match item {
                Item::Entry(row) => {
                    let row_told = if self.shape.keys_only { entry_without_value(row) } else { entry(row) };
                    bytes += row_told.key.len() + row_told.value.len();
                    last = After::Key(row.key().to_vec());
                    page.entries.push(row_told);
                }
                Item::Folder(folder) => {
                    bytes += folder.len();
                    last = After::Folder(folder.to_vec());
                    page.folders.push(Bytes::copy_from_slice(folder));
                }
            }
            told += 1;
            left -= 1;
        }
        self.shape.after = last;
        self.shape.left = left;
        page
    }
}

/// Entries and folders in bytewise order, each folder once.
fn items<'a>(range: &'a KvRange, shape: &'a Shape) -> impl Iterator<Item = Item<'a>> {
    let (after, seen): (Option<&[u8]>, &[u8]) = match &shape.after {
        After::Start => (None, b""),
        After::Key(key) => (Some(key), b""),
        After::Folder(folder) => (Some(folder), folder),
    };
    let mut folder: &[u8] = seen;
    range.iter_after(after).filter_map(move |entry| {
        let key = entry.key();
        if !folder.is_empty() && key.starts_with(folder) {
            return None;
        }
        match fold(key, shape.prefix_len, &shape.separator) {
            Some(found) => {
                folder = found;
                Some(Item::Folder(found))
            }
            None => Some(Item::Entry(entry)),
        }
    })
}

/// What is told of `key` instead of itself: everything up to and with the first separator after
/// the prefix.
fn fold<'a>(key: &'a [u8], prefix_len: usize, separator: &[u8]) -> Option<&'a [u8]> {
    if separator.is_empty() {
        return None;
    }
    let found = key[prefix_len..].windows(separator.len()).position(|window| window == separator)?;
    Some(&key[..prefix_len + found + separator.len()])
}

impl After {
    fn token(&self) -> String {
        let (kind, rest): (u8, &[u8]) = match self {
            After::Start => return String::new(),
            After::Key(key) => (b'k', key),
            After::Folder(folder) => (b'f', folder),
        };
        let mut bytes = Vec::with_capacity(1 + rest.len());
        bytes.push(kind);
        bytes.extend_from_slice(rest);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn from_token(token: &str, prefix: &[u8]) -> Result<Self, Error> {
        if token.is_empty() {
            return Ok(After::Start);
        }
        let unknown = || invalid("page_token", "no server made this token for this prefix; begin with an empty one");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        match bytes.split_first() {
            Some((b'k', key)) if key.starts_with(prefix) => Ok(After::Key(key.to_vec())),
            Some((b'f', folder)) if folder.starts_with(prefix) && !folder.is_empty() => Ok(After::Folder(folder.to_vec())),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_is_folded_at_the_first_separator_after_the_prefix() {
        assert_eq!(fold(b"a/b/c", 2, b"/"), Some(&b"a/b/"[..]));
        assert_eq!(fold(b"a/b", 2, b"/"), None);
        assert_eq!(fold(b"a/b/c", 0, b""), None);
        assert_eq!(fold(b"a::b::c", 0, b"::"), Some(&b"a::"[..]));
    }

    #[test]
    fn a_token_of_another_list_is_refused() {
        let token = After::Key(b"a/b".to_vec()).token();
        assert!(After::from_token(&token, b"b/").is_err());
        assert!(After::from_token("%", b"").is_err());
    }

    proptest! {
        #[test]
        fn a_token_is_read_back(key: Vec<u8>) {
            let after = After::Key(key.clone());
            prop_assert_eq!(After::from_token(&after.token(), &key).unwrap(), after);
        }
    }
}
