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

impl Days {
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
