//! Durations as texts: `1h30m`, `10s`, `1.5s`, `100ms`.

use std::time::Duration;

/// Nanoseconds of each unit.
const UNITS: [(&str, f64); 8] = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a duration: numbers with units, largest first by custom, or a bare `0`. Negative ones are
/// read as zero, because nothing here lasts less than no time.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0f64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let number = &rest[..digits];
        if !number.bytes().any(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let number: f64 = number.parse().ok()?;
        rest = &rest[digits..];
        let len = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == &rest[..len])?;
        total += number * scale;
        rest = &rest[len..];
    }
    if total > i64::MAX as f64 {
        return None;
    }
    Some(if negative { Duration::ZERO } else { Duration::from_nanos(total.round() as u64) })
}

/// Writes milliseconds the way they are written in answers: `0s`, `250ms`, `1m30s`, `1h0m0s`.
pub(crate) fn print_ms(ms: u64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    if ms < 1000 {
        return format!("{ms}ms");
    }
    let (seconds, rest) = (ms / 1000, ms % 1000);
    let fraction = match rest {
        0 => String::new(),
        rest => format!(".{rest:03}").trim_end_matches('0').to_owned(),
    };
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}{fraction}s"),
        (0, minutes) => format!("{minutes}m{seconds}{fraction}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}{fraction}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        let ms = |text: &str| parse(text).map(|duration| duration.as_micros());
        for (text, micros) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000),
            ("1.5s", 1_500_000),
            (".5s", 500_000),
            ("1m30s", 90_000_000),
            ("1h", 3_600_000_000),
            ("250ms", 250_000),
            ("7us", 7),
            ("7µs", 7),
            ("-3s", 0),
        ] {
            assert_eq!(ms(text), Some(micros), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "10", "s", "10x", "1d", "-", ".s", "1 s", "1s2", "99999999999h", "1.2.3s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_and_read_back() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (1500, "1.5s"),
            (10_000, "10s"),
            (60_000, "1m0s"),
            (90_010, "1m30.01s"),
            (3_600_000, "1h0m0s"),
            (86_400_000, "24h0m0s"),
        ] {
            assert_eq!(print_ms(ms), text);
            assert_eq!(parse(text), Some(Duration::from_millis(ms)));
        }
    }
}
