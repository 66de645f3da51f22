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

    /// Returns whether files that were delivered on `day` may have events of these days: the last events of a day are
    /// delivered on the next.
    #[must_use]
    pub fn may_be_delivered(&self, day: Date) -> bool {
        self.from.is_none_or(|from| from <= day) && self.to.is_none_or(|to| day <= to.tomorrow().unwrap_or(to))
    }
}
