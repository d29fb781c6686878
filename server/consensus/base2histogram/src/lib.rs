//! A stand-in for the crate of the same name, with exactly what openraft calls of it.
//!
//! openraft keeps statistics of its batches in histograms of that crate, which this product never
//! reads. The original precomputes tables for all its sixteen resolutions when the first histogram
//! is made: about 24 MiB that stay resident in every agent, and time at every start. Here a
//! histogram is one counter for each power of two, and its percentiles are the upper ends of those
//! ranges. `[patch.crates-io]` in the root manifest puts it in the original's place.

use std::fmt;
use std::marker::PhantomData;

/// One range for zero and one for each bit length.
const RANGES: usize = u64::BITS as usize + 1;

/// Counts values by their bit length. `T` is the original's tag for time slots and has no meaning
/// here.
#[derive(Clone)]
pub struct Histogram<T = ()> {
    counts: Box<[u64; RANGES]>,
    slots: PhantomData<T>,
}

impl<T> Histogram<T> {
    /// An empty histogram.
    pub fn new() -> Self {
        Histogram { counts: Box::new([0; RANGES]), slots: PhantomData }
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value `count` times.
    pub fn record_n(&mut self, value: u64, count: u64) {
        self.counts[(u64::BITS - value.leading_zeros()) as usize] += count;
    }

    /// How many values were counted.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Percentiles of what was counted, each rounded up to one below a power of two.
    pub fn percentile_stats(&self) -> PercentileStats {
        let at = |permille| self.quantile(permille);
        PercentileStats {
            samples: self.total(),
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The upper end of the range in which the value at `permille` lies; 0 when nothing was counted.
    fn quantile(&self, permille: u64) -> u64 {
        let wanted = (u128::from(self.total()) * u128::from(permille)).div_ceil(1000);
        let mut seen = 0;
        for (bits, count) in self.counts.iter().enumerate() {
            seen += u128::from(*count);
            if seen >= wanted && seen > 0 {
                return u64::MAX.checked_shr(u64::BITS - bits as u32).unwrap_or(0);
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Histogram<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.percentile_stats().fmt(f)
    }
}

impl<T> PartialEq for Histogram<T> {
    fn eq(&self, other: &Self) -> bool {
        self.counts == other.counts
    }
}

impl<T> Eq for Histogram<T> {}

/// Percentiles of a histogram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name says which percentile it is")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples, p50 {}, p90 {}, p99 {}", self.samples, self.p50, self.p90, self.p99)
    }
}

/// Several histograms, one line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    lines: Vec<(String, PercentileStats)>,
}

impl AsciiChart {
    /// No lines yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one line more.
    pub fn add(mut self, name: &str, histogram: Histogram) -> Self {
        self.lines.push((name.to_owned(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, stats) in &self.lines {
            writeln!(f, "{name}: {stats}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_upper_ends_of_powers_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats().p99, 0);
        (0..98).for_each(|_| histogram.record(5));
        histogram.record(0);
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p1, stats.p50, stats.p99, stats.p99_9), (100, 0, 7, 7, u64::MAX));
    }
}
