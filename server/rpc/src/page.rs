//! Pages of lists that are short enough to be made as a whole.
//!
//! A page token names the last row of its page, so that rows which come or go in between neither
//! repeat nor hide others.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use service::Error;

use crate::status::invalid;

/// What a row is ordered by: node or name in the form in which it is compared, then id.
pub(crate) type RowKey = (String, String);

/// Cuts the page of at most `size` rows after `token` out of `rows`, and gives the token of the next
/// one, empty if this is the last.
pub(crate) fn page<T>(
    mut rows: Vec<T>,
    key: impl Fn(&T) -> RowKey,
    size: u32,
    token: &str,
    size_max: usize,
) -> Result<(Vec<T>, String), Error> {
    let after = decode(token)?;
    let size = page_size(size, size_max);
    if after.is_none() && rows.len() <= size && rows.is_sorted_by_key(&key) {
        return Ok((rows, String::new()));
    }
    rows.sort_by_cached_key(&key);
    if let Some(after) = after {
        let start = rows.partition_point(|row| key(row) <= after);
        rows.drain(..start);
    }
    if rows.len() <= size {
        return Ok((rows, String::new()));
    }
    rows.truncate(size);
    let next = rows.last().map(|row| encode(&key(row))).unwrap_or_default();
    Ok((rows, next))
}

/// How many rows a page has when `asked` are asked for.
pub(crate) fn page_size(asked: u32, max: usize) -> usize {
    match asked as usize {
        0 => max.max(1),
        asked => asked.min(max.max(1)),
    }
}

fn encode((first, second): &RowKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{first}\0{second}"))
}

fn decode(token: &str) -> Result<Option<RowKey>, Error> {
    if token.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let key = text.as_deref().and_then(|text| text.split_once('\0'));
    match key {
        Some((first, second)) => Ok(Some((first.to_owned(), second.to_owned()))),
        None => Err(invalid("page_token", "no server made this token; begin with an empty one")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(row: &u32) -> RowKey {
        (format!("{row:03}"), String::new())
    }

    #[test]
    fn pages_tell_every_row_once_whatever_comes_and_goes() {
        let (first, token) = page((0..10).collect(), key, 4, "", 100).unwrap();
        assert_eq!(first, [0, 1, 2, 3]);
        // 2 and 3 are gone, and 4 as well; the rows behind are not missed.
        let (second, token) = page(vec![0, 1, 5, 6, 7, 8, 9], key, 4, &token, 100).unwrap();
        assert_eq!(second, [5, 6, 7, 8]);
        let (third, token) = page((0..10).collect(), key, 4, &token, 100).unwrap();
        assert_eq!((third, token.as_str()), (vec![9], ""));
    }

    #[test]
    fn a_page_is_never_larger_than_allowed_and_a_full_last_one_has_no_next() {
        let (rows, token) = page((0..10).collect(), key, 0, "", 4).unwrap();
        assert_eq!(rows.len(), 4);
        assert!(!token.is_empty());
        assert_eq!(page((0..4).collect(), key, 4, "", 100).unwrap().1, "");
    }

    #[test]
    fn rows_out_of_order_are_told_in_order() {
        assert_eq!(page(vec![2, 1, 0], key, 0, "", 9).unwrap().0, [0, 1, 2]);
    }

    #[test]
    fn a_token_that_nobody_made_is_refused() {
        for token in ["!", "Zm9v"] {
            assert!(page(vec![1], key, 0, token, 9).is_err(), "{token}");
        }
    }
}
