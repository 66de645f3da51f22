//! Request rates, computed from counters that exist anyway, so that requests pay nothing for them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ops::metrics::Totals;

/// Samples of the counters over the last 15 minutes, 10 seconds apart.
#[derive(Debug)]
pub(super) struct Rates(VecDeque<(Instant, Totals)>);

/// Requests per second over one window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    /// The window in seconds.
    pub window_s: u64,
    /// All requests per second.
    pub requests: f64,
    /// Requests per second answered with a 5xx status.
    pub failed: f64,
    /// Requests per second rejected because the client is not on the allowlist.
    pub refused: f64,
}

impl Rates {
    pub(super) fn start(now: Instant) -> Self {
        Self(VecDeque::from([(now, Totals::default())]))
    }

    /// Stores `totals`, unless the last sample is recent.
    pub(super) fn record(&mut self, now: Instant, totals: &Totals) {
        let is_due = self.0.back().is_none_or(|(at, _)| now.saturating_duration_since(*at) >= STEP);
        if is_due {
            self.0.push_back((now, totals.clone()));
            // The first sample at or before the start of the longest window stays.
            while self.0.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= LONGEST) {
                self.0.pop_front();
            }
        }
    }

    /// Returns the rates over each of [`WINDOWS`], or since the start if that was later.
    pub(super) fn over_windows(&self, now: Instant, totals: &Totals) -> Vec<Rate> {
        WINDOWS.map(|window| self.over(window, now, totals)).to_vec()
    }

    fn over(&self, window: Duration, now: Instant, totals: &Totals) -> Rate {
        let age = |at: Instant| now.saturating_duration_since(at);
        let begin = self.0.iter().rev().find(|(at, _)| age(*at) >= window).or(self.0.front());
        let (at, before) = begin.map_or((now, totals), |(at, totals)| (*at, totals));
        let elapsed = age(at).max(Duration::from_secs(1)).as_secs_f64();
        // A difference of counters is far below the largest integer that a float represents exactly.
        #[expect(clippy::cast_precision_loss)]
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / elapsed;
        Rate {
            window_s: window.as_secs(),
            requests: rate(totals.requests, before.requests),
            failed: rate(totals.failed, before.failed),
            refused: rate(totals.refused, before.refused),
        }
    }
}

const WINDOWS: [Duration; 2] = [Duration::from_mins(1), LONGEST];
const LONGEST: Duration = Duration::from_mins(15);
const STEP: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(requests: u64) -> Totals {
        Totals { requests, failed: requests / 10, ..Totals::default() }
    }

    #[test]
    fn rates_are_over_one_minute_and_fifteen() {
        let start = Instant::now();
        let mut rates = Rates::start(start);
        // Ten requests per second for half an hour, then none for a minute.
        for second in 0..=1800 {
            rates.record(start + Duration::from_secs(second), &totals(second * 10));
        }
        let at = |second| rates.over_windows(start + Duration::from_secs(second), &totals(18_000));
        let [minute, quarter] = at(1800)[..] else { panic!("two windows") };
        assert!((minute.requests - 10.0).abs() < 0.01 && (minute.failed - 1.0).abs() < 0.01, "{minute:?}");
        assert!((quarter.requests - 10.0).abs() < 0.01, "{quarter:?}");
        let [minute, quarter] = at(1860)[..] else { panic!("two windows") };
        assert!(minute.requests.abs() < f64::EPSILON, "{minute:?}");
        assert!((quarter.requests - 9.33).abs() < 0.1, "{quarter:?}");
        assert!(rates.0.len() <= 92, "{} samples", rates.0.len());
    }

    #[test]
    fn rate_after_the_start_is_over_the_elapsed_time() {
        let start = Instant::now();
        let rates = Rates::start(start);
        assert!((rates.over_windows(start + Duration::from_secs(5), &totals(50))[0].requests - 10.0).abs() < 0.01);
        assert!((rates.over_windows(start, &totals(1))[0].requests - 1.0).abs() < 0.01);
    }
}
