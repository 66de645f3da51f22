//! The scan of a day: finds the documents that have no event of a file.

use jiff::ToSpan as _;
use jiff::civil::Date;

use super::{Comparison, Run};
use crate::verify::chain::MissingFile;
use crate::verify::compare::{day_of, event_day, is_expected_index, time_of, window_day};
use crate::verify::files::DELIVERY_DAYS;
use crate::verify::report::{Finding, Kind};
use crate::verify::search::Hit;

impl Run {
    /// Finds the documents of `day`, by index or by time, that no file has.
    pub(super) async fn scan(&mut self, comparison: &Comparison, day: Date) -> anyhow::Result<()> {
        let search = &comparison.search;
        // Each document that has an event was found: if there are no more in the index, none is without one.
        let tally = self.report.in_index(day);
        if tally.is_uncertain || search.count_in_index(day).await? != tally.matched {
            let mut pages = search.open_index(day).await?;
            while let Some(hits) = search.next_page(&mut pages).await? {
                self.judge(comparison, day, &hits);
            }
        }
        let mut pages = search.open_other_indices(day).await?;
        while let Some(hits) = search.next_page(&mut pages).await? {
            self.judge(comparison, day, &hits);
        }
        Ok(())
    }

    /// Adds the documents that have no event of a file.
    fn judge(&mut self, comparison: &Comparison, day: Date, hits: &[Hit]) {
        let prefix = &comparison.options.prefix;
        let earliest = self.period.from.saturating_sub(DELIVERY_DAYS.days());
        for hit in hits {
            let key = hit.key();
            if self.elsewhere.contains(&key) || self.matched.values().any(|keys| keys.contains(&key)) {
                continue;
            }
            let time = time_of(&hit.source, "eventTime");
            let event_day = event_day(&hit.source).or_else(|| window_day(&hit.index, prefix, &hit.source));
            // The scan of its own day judges it: in another index it may not find the document, whose mapping may differ.
            let has_own_scan = event_day.is_some_and(|event_day| {
                event_day != day
                    && self.period.contains(event_day)
                    && is_expected_index(&hit.index, prefix, event_day, &hit.source)
            });
            if has_own_scan {
                continue;
            }
            // A late delivery of a day before the period, in the index of its day or of the delivery's.
            let is_edge = event_day.is_some_and(|day| {
                (earliest..self.period.from).contains(&day) && is_expected_index(&hit.index, prefix, day, &hit.source)
            });
            let is_missing_files = time.is_some_and(|time| {
                self.evidence.missing.iter().any(|file: &MissingFile| file.may_have(time, &hit.source))
            });
            let delivered = time_of(&hit.source, "@timestamp").map(day_of);
            let record = self.report.day(day);
            if is_edge || is_missing_files {
                record.counts.not_compared += 1;
                continue;
            }
            if self.elsewhere.insert(key) {
                record.elsewhere.push(key);
            }
            record.counts.in_domain += 1;
            record.counts.extra += 1;
            let last = self.period.to.tomorrow().unwrap_or(self.period.to);
            let reason = match delivered.filter(|delivered| *delivered > last) {
                None => "no file has this document's event".to_owned(),
                Some(delivered) => format!(
                    "no file has this document's event; its @timestamp is of {delivered}: verify with --to {delivered}, \
                     which reads the files of that day"
                ),
            };
            record.findings.add(Finding::new(Kind::ExtraDocument, Some(day), &hit.place(), reason));
        }
    }
}
