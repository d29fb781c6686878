//! Latencies, counted in buckets whose width is less than a hundredth of their value.

use std::time::Duration;

/// Sub-buckets of each power of two, as a number of bits.
const BITS: u32 = 7;

/// Buckets for every 64-bit number of nanoseconds.
const BUCKETS: usize = (64 - BITS as usize + 1) << BITS;

/// Counts of latencies. Recording allocates nothing.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; BUCKETS].into(), total: 0, max: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all that another one has counted.
    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The latency that a share of all, from 0 to 1, did not exceed; zero when there is none.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(upper(index).min(self.max));
            }
        }
        Duration::ZERO
    }
}

/// The bucket of a value: its power of two, and the bits behind the leading one.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    let (row, column) = (shift as usize, (value >> shift) as usize);
    (row << BITS) + column
}

/// The largest value of a bucket.
fn upper(index: usize) -> u64 {
    let row = (index >> BITS).saturating_sub(1);
    let column = (index - (row << BITS)) as u64;
    ((u128::from(column) + 1) << row).saturating_sub(1).min(u64::MAX.into()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_that_ends_within_a_hundredth_above_it() {
        for power in 0..64 {
            for offset in [0, 1, 3, 77, 1001] {
                let value = (1u64 << power).saturating_add(offset);
                let end = upper(bucket(value));
                assert!(end >= value, "{value} is above the end {end} of its bucket");
                assert!((end - value) as f64 <= value as f64 / 100.0, "{value} is counted as {end}");
            }
        }
        assert_eq!(upper(bucket(u64::MAX)), u64::MAX);
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        let near = |share: f64, micros: f64| (histogram.quantile(share).as_secs_f64() * 1e6 / micros - 1.0).abs() < 0.01;
        assert!(near(0.5, 500.0) && near(0.99, 990.0) && near(1.0, 1000.0));
        assert_eq!(Histogram::default().quantile(0.5), Duration::ZERO);
    }
}
