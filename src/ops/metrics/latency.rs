//! Counts of latencies in buckets of half an octave, from which quantiles are estimated to within a fifth.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counts since the start, by bucket.
#[derive(Debug)]
pub(crate) struct Latencies([AtomicU64; BUCKETS]);

/// A snapshot of the counts, or the difference of two.
pub(crate) type LatencyCounts = [u64; BUCKETS];

impl Default for Latencies {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; BUCKETS])
    }
}

impl Latencies {
    pub(crate) fn observe(&self, latency: Duration) {
        if let Some(count) = self.0.get(bucket(latency)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn counts(&self) -> LatencyCounts {
        self.0.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}

/// Returns the latency in milliseconds that `quantile` of the counted requests do not exceed, if there are any.
pub(crate) fn estimate_quantile(counts: &[u64], quantile: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    // Counts are far below the largest integer that a float represents exactly.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let rank = (total as f64 * quantile).ceil() as u64;
    let mut seen = 0;
    let bucket = counts.iter().position(|count| {
        seen += count;
        seen >= rank.max(1)
    })?;
    Some(middle_ms(bucket))
}

/// Returns the bucket of `latency`: the position of its highest bit, and the bit below it.
fn bucket(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(SHORTEST_US);
    let octave = us.ilog2();
    let is_upper_half = us >> (octave - 1) & 1;
    let index = 2 * (octave - SHORTEST_US.ilog2()) as usize + usize::from(is_upper_half == 1);
    index.min(BUCKETS - 1)
}

/// Returns the middle of a bucket in milliseconds.
fn middle_ms(bucket: usize) -> f64 {
    let octave = f64::exp2(f64::from(u32::try_from(bucket / 2).unwrap_or_default())) * 0.064;
    if bucket.is_multiple_of(2) { octave * 1.25 } else { octave * 1.75 }
}

/// The lower bound of the first bucket, which also counts what is faster.
const SHORTEST_US: u64 = 64;
/// Half octaves from 64 µs to 9 minutes.
pub(crate) const BUCKETS: usize = 46;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_contains_its_middle() {
        for index in 0..BUCKETS {
            let middle = Duration::from_secs_f64(middle_ms(index) / 1000.0);
            assert_eq!(bucket(middle), index, "{middle:?}");
        }
        assert_eq!(bucket(Duration::ZERO), 0);
        assert_eq!(bucket(Duration::from_hours(1)), BUCKETS - 1);
    }

    #[test]
    fn quantile_is_within_a_fifth() {
        let latencies = Latencies::default();
        for ms in 1..=1000 {
            latencies.observe(Duration::from_millis(ms));
        }
        for (quantile, expected) in [(0.5, 500.0), (0.99, 990.0)] {
            let estimate = estimate_quantile(&latencies.counts(), quantile).unwrap();
            assert!((estimate / expected - 1.0).abs() < 0.2, "{quantile}: {estimate}");
        }
        assert_eq!(estimate_quantile(&[0; BUCKETS], 0.5), None);
    }
}
