//! Durations as operators write them: `10s`, `1h30m`, `1.5h`, `200ms`.

use std::time::Duration;

/// Units with their length in nanoseconds; longer names before those they begin with.
const UNITS: [(&str, f64); 8] = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a duration; `None` when `text` is not one, is negative, or is longer than 290 years.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let (unit, length) = UNITS.iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        nanos += number * length;
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty() && text != "+" && nanos <= i64::MAX as f64).then(|| Duration::from_nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_operators_mean_them() {
        let cases = [
            ("0", Some(0)),
            ("0s", Some(0)),
            ("10s", Some(10_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5h", Some(5_400_000)),
            ("200ms", Some(200)),
            ("87600h", Some(315_360_000_000)),
            ("1m0.5s", Some(60_500)),
            ("", None),
            ("+", None),
            ("10", None),
            ("-1s", None),
            ("s", None),
            ("1d", None),
            ("1.2.3s", None),
            ("9999999h", None),
            ("1 s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text).map(|duration| duration.as_millis()), expected, "{text}");
        }
    }
}
