//! The last day in buckets of one minute, computed from counters that exist anyway.

use std::collections::VecDeque;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::ops::metrics::{BUCKETS, Totals, estimate_quantile};

/// The counts of each minute of the last day: 200 bytes a minute, so 280 KiB at most.
#[derive(Debug)]
pub(super) struct History {
    started: Instant,
    minutes: VecDeque<Minute>,
    /// The number of minutes that are complete.
    closed: u64,
    /// The counters at the end of the last complete minute.
    last: Totals,
}

#[derive(Clone, Debug)]
struct Minute {
    requests: u32,
    failed: u32,
    rejected: u32,
    latencies: [u32; BUCKETS],
}

/// The last hour and the last day, oldest first. The last point of each is the time until now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Periods {
    /// Points of one minute.
    pub hour: Vec<Point>,
    /// Points of 15 minutes.
    pub day: Vec<Point>,
}

/// The requests of one part of a period.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Completed requests.
    pub requests: u64,
    /// Requests answered with a 5xx status.
    pub failed: u64,
    /// Requests that trailgate rejected with a 4xx status.
    pub rejected: u64,
    /// The median time until the head of the domain's response, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The 99th percentile of that time.
    pub p99_ms: Option<f64>,
}

impl History {
    pub(super) fn start(now: Instant) -> Self {
        Self { started: now, minutes: VecDeque::new(), closed: 0, last: Totals::default() }
    }

    /// Closes the minutes that have passed. The first one contains everything since the last call.
    pub(super) fn record(&mut self, now: Instant, totals: &Totals) {
        let passed = now.saturating_duration_since(self.started).as_secs() / 60;
        if passed <= self.closed {
            return;
        }
        self.push(Minute::between(&self.last, totals));
        // While the machine was suspended, nothing happened.
        for _ in 1..(passed - self.closed).min(DAY as u64) {
            self.push(Minute::between(totals, totals));
        }
        self.closed = passed;
        self.last = totals.clone();
    }

    fn push(&mut self, minute: Minute) {
        if self.minutes.len() == DAY {
            self.minutes.pop_front();
        }
        self.minutes.push_back(minute);
    }

    /// Returns the last hour and the last day.
    pub(super) fn periods(&self, totals: &Totals) -> Periods {
        Periods { hour: self.points(1, 60, totals), day: self.points(15, 96, totals) }
    }

    /// Returns at most `count` points of `width` minutes each.
    fn points(&self, width: usize, count: usize, totals: &Totals) -> Vec<Point> {
        let current = Minute::between(&self.last, totals);
        let latest_first: Vec<&Minute> = std::iter::once(&current).chain(self.minutes.iter().rev()).collect();
        let mut points: Vec<Point> = latest_first.chunks(width).take(count).map(Point::sum).collect();
        points.reverse();
        points
    }
}

impl Minute {
    fn between(before: &Totals, after: &Totals) -> Self {
        let count = |after: u64, before: u64| u32::try_from(after.saturating_sub(before)).unwrap_or(u32::MAX);
        let mut latencies = [0; BUCKETS];
        for (difference, (after, before)) in latencies.iter_mut().zip(after.latencies.iter().zip(&before.latencies)) {
            *difference = count(*after, *before);
        }
        Self {
            requests: count(after.requests, before.requests),
            failed: count(after.failed, before.failed),
            rejected: count(after.rejected, before.rejected),
            latencies,
        }
    }
}

impl Point {
    fn sum(minutes: &[&Minute]) -> Self {
        let sum = |part: fn(&Minute) -> u32| minutes.iter().map(|minute| u64::from(part(minute))).sum();
        let mut latencies = [0; BUCKETS];
        for minute in minutes {
            for (total, count) in latencies.iter_mut().zip(minute.latencies) {
                *total += u64::from(count);
            }
        }
        Self {
            requests: sum(|minute| minute.requests),
            failed: sum(|minute| minute.failed),
            rejected: sum(|minute| minute.rejected),
            p50_ms: estimate_quantile(&latencies, 0.5),
            p99_ms: estimate_quantile(&latencies, 0.99),
        }
    }
}

/// The number of minutes of a day.
const DAY: usize = 24 * 60;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn totals(requests: u64) -> Totals {
        let mut totals = Totals { requests, rejected: requests / 2, ..Totals::default() };
        totals.latencies[20] = requests;
        totals
    }

    fn after(history: &History, minutes: u64) -> Instant {
        history.started + Duration::from_mins(minutes)
    }

    #[test]
    fn each_request_is_in_one_minute() {
        let mut history = History::start(Instant::now());
        for minute in 1..=200 {
            history.record(after(&history, minute), &totals(minute * 10));
        }
        let periods = history.periods(&totals(2004));
        assert_eq!(periods.hour.len(), 60);
        assert_eq!(periods.hour[..59].iter().map(|point| point.requests).sum::<u64>(), 590);
        assert_eq!(periods.hour[59].requests, 4);
        assert_eq!(periods.day.iter().map(|point| point.requests).sum::<u64>(), 2004);
        assert_eq!((periods.hour[0].rejected, periods.hour[0].p50_ms), (5, periods.hour[0].p99_ms));
    }

    #[test]
    fn minutes_without_a_record_are_empty() {
        let mut history = History::start(Instant::now());
        history.record(after(&history, 1), &totals(10));
        history.record(after(&history, 5), &totals(30));
        let counts: Vec<u64> = history.periods(&totals(30)).hour.iter().map(|point| point.requests).collect();
        assert_eq!(counts, [10, 20, 0, 0, 0, 0]);
        assert_eq!(history.periods(&totals(30)).hour[5].p50_ms, None);
    }

    #[test]
    fn minutes_of_more_than_a_day_are_dropped() {
        let mut history = History::start(Instant::now());
        for minute in 1..=2000 {
            history.record(after(&history, minute), &totals(minute));
        }
        history.record(after(&history, 1_000_000), &totals(2000));
        assert_eq!(history.minutes.len(), DAY);
        assert_eq!(history.periods(&totals(2000)).day.len(), 96);
    }
}
