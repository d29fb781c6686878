//! Identifiers, indexes and times: small newtypes so that one cannot be taken for another.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A shared, immutable string: cloning it is one counter.
pub type Str = Arc<str>;

/// A position in the Raft log, from 1. It is the one revision number of everything: `0` means
/// "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogIndex(pub u64);

impl LogIndex {
    /// Before the first entry of the log.
    pub const ZERO: LogIndex = LogIndex(0);
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch by the proposer's clock. Never goes backwards once applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

/// The id of a session: a UUID in 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub [u8; 16]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, byte) in self.0.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not a UUID of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID of the form `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`")]
pub struct NotAUuid;

impl FromStr for SessionId {
    type Err = NotAUuid;

    fn from_str(text: &str) -> Result<Self, NotAUuid> {
        if text.len() != 36 || !text.is_ascii() {
            return Err(NotAUuid);
        }
        let mut bytes = [0u8; 16];
        let mut filled = 0;
        let mut digits = text.as_bytes();
        while let Some((&first, rest)) = digits.split_first() {
            if first == b'-' {
                if !matches!(36 - digits.len(), 8 | 13 | 18 | 23) {
                    return Err(NotAUuid);
                }
                digits = rest;
                continue;
            }
            let (pair, rest) = digits.split_at_checked(2).ok_or(NotAUuid)?;
            let high = (pair[0] as char).to_digit(16).ok_or(NotAUuid)?;
            let low = (pair[1] as char).to_digit(16).ok_or(NotAUuid)?;
            *bytes.get_mut(filled).ok_or(NotAUuid)? = (high * 16 + low) as u8;
            filled += 1;
            digits = rest;
        }
        if filled == 16 { Ok(SessionId(bytes)) } else { Err(NotAUuid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_id_reads_back_what_it_prints() {
        let id = SessionId(*b"0123456789abcdef");
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn a_malformed_uuid_is_refused() {
        for text in [
            "",
            "x",
            "30313233-3435-3637-3839-61626364656",
            "3031323334353637-3839-6162-6364-6566----",
            "é0313233-3435-3637-3839-6162636465",
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(NotAUuid), "{text}");
        }
    }
}
