//! Percent escapes in paths and query strings.

use std::borrow::Cow;

/// An escape that is not `%` and two hexadecimal digits.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadEscape;

/// Replaces escapes by the bytes they stand for.
pub(crate) fn decode(text: &str) -> Result<Cow<'_, [u8]>, BadEscape> {
    let bytes = text.as_bytes();
    if !bytes.contains(&b'%') {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            out.push(first);
            continue;
        }
        let (pair, after) = rest.split_at_checked(2).ok_or(BadEscape)?;
        let digit = |byte: u8| (byte as char).to_digit(16).ok_or(BadEscape);
        out.push((digit(pair[0])? * 16 + digit(pair[1])?) as u8);
        rest = after;
    }
    Ok(Cow::Owned(out))
}

/// The same for a name or value of a query string, where `+` stands for a blank.
pub(crate) fn decode_form(text: &str) -> Result<String, BadEscape> {
    let blanks = if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let bytes = decode(&blanks)?.into_owned();
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// Longest text that [`pairs`] makes, in bytes: it travels in a header.
const PAIRS_BYTES_MAX: usize = 4096;

/// Names and values as in a query string. What does not fit is left out.
pub(crate) fn pairs(pairs: &[(&'static str, String)]) -> String {
    let mut out = String::new();
    for (name, value) in pairs {
        let between = if out.is_empty() { "" } else { "&" };
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'~' | b':');
        let escaped: String =
            value.bytes().map(|byte| if plain(&byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect();
        if out.len() + between.len() + name.len() + 1 + escaped.len() <= PAIRS_BYTES_MAX {
            out.push_str(&format!("{between}{name}={escaped}"));
        }
    }
    out
}

/// Escapes everything in a path that may not stand there by itself.
pub(crate) fn encode_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(*byte as char),
            b'/' | b'-' | b'_' | b'.' | b'~' | b'$' | b'&' | b'+' | b',' | b':' | b';' | b'=' | b'@' => out.push(*byte as char),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes_and_plus_only_in_queries() {
        assert_eq!(*decode("a%2Fb%20c+%ff").unwrap(), *b"a/b c+\xff");
        assert_eq!(decode_form("a+b%2B").unwrap(), "a b+");
        for bad in ["%", "%2", "%zz", "a%+1"] {
            assert_eq!(decode(bad), Err(BadEscape), "{bad}");
        }
    }

    #[test]
    fn an_encoded_path_decodes_to_itself() {
        let path: Vec<u8> = (0..=255).collect();
        assert_eq!(*decode(&encode_path(&path)).unwrap(), *path);
    }
}
