//! The days whose events are loaded.

use jiff::civil::Date;

/// The days whose events are wanted, both included.
#[derive(Clone, Copy, Debug, Default)]
pub struct Days {
    /// The first day, in UTC.
    pub from: Option<Date>,
    /// The last day, in UTC.
    pub to: Option<Date>,
}

/// Parses a day as `2026-01-31`. A time or a zone behind it is rejected rather than ignored: days are in UTC.
pub fn parse_day(text: &str) -> Result<Date, InvalidDay> {
    let is_day = text.len() == "2026-01-31".len() && text.bytes().filter(|byte| *byte == b'-').count() == 2;
    is_day.then(|| text.parse().ok()).flatten().ok_or(InvalidDay)
}

/// A text that is not a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a day in UTC, like 2026-01-31")]
pub struct InvalidDay;

impl Days {
    /// Returns whether all days are wanted.
    #[must_use]
    pub fn are_all(&self) -> bool {
        self.from.is_none() && self.to.is_none()
    }

    /// Returns whether `day` is one of them.
    #[must_use]
    pub fn contain(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to)
    }

    /// Returns whether files that were delivered on one of these days may have events of the wanted ones.
    #[must_use]
    pub fn may_be_delivered_within(&self, first: Date, last: Date) -> bool {
        let end = self.to.map(|to| to.tomorrow().unwrap_or(to));
        self.from.is_none_or(|from| from <= last) && end.is_none_or(|end| first <= end)
    }

    /// Returns whether files that were delivered on `day` may have events of these days: the last events of a day are
    /// delivered on the next.
    #[must_use]
    pub fn may_be_delivered(&self, day: Date) -> bool {
        self.may_be_delivered_within(day, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn day_with_a_time_or_a_zone_is_rejected() {
        assert_eq!(parse_day("2026-01-31"), Ok(Date::constant(2026, 1, 31)));
        for text in [
            "2026-01-31T23:30:00-05:00",
            "2026-01-31T12",
            "2026-01-31[America/New_York]",
            "20260131",
            "+002026-01-31",
            "2026-02-30",
            "yesterday",
            "",
        ] {
            assert_eq!(parse_day(text), Err(InvalidDay), "{text}");
        }
    }
}
