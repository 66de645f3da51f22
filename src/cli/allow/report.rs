//! The reports of `trailgate allow`, as text and as JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;
use similar::TextDiff;

use super::row::{Row, State};
use super::{Change, List, Listed, search};
use crate::human::count_entries;

/// A report of all entries, in the file's order.
#[derive(Debug, Serialize)]
pub(super) struct Listing {
    file: PathBuf,
    entries: Vec<Row>,
}

impl Listing {
    pub(super) fn new(list: &List, now: SystemTime) -> Self {
        let entries = list.entries.iter().map(|listed| Row::new(listed, now)).collect();
        Self { file: list.file.clone(), entries }
    }
}

impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |state| self.entries.iter().filter(|row| row.state == state).count();
        let (expired, soon) = (count(State::Expired), count(State::EndsSoon));
        let number = self.entries.len();
        let file = self.file.display();
        writeln!(f, "{file}: {}, {expired} expired, {soon} expiring within a week", count_entries(number))?;
        let ends: Vec<String> = self.entries.iter().map(Row::end).collect();
        let block_width = self.entries.iter().map(|row| row.cidr.len()).max().unwrap_or_default();
        let end_width = ends.iter().map(String::len).max().unwrap_or_default();
        for (row, end) in self.entries.iter().zip(ends) {
            let Row { line, cidr, name, access, .. } = row;
            writeln!(f, "line {line:<4} {cidr:block_width$}  {access}  {end:end_width$}  {name}")?;
        }
        Ok(())
    }
}

/// A report of the entries by name.
#[derive(Debug, Serialize)]
pub(super) struct ByName {
    people: Vec<Person>,
}

#[derive(Debug, Serialize)]
struct Person {
    name: String,
    entries: Vec<Row>,
}

impl ByName {
    pub(super) fn new(list: &List, now: SystemTime) -> Self {
        let mut people = BTreeMap::<_, Vec<_>>::new();
        for listed in list.entries.iter().filter(|listed| !listed.entry.has_expired(now)) {
            people.entry(listed.entry.name.to_string()).or_default().push(Row::new(listed, now));
        }
        Self { people: people.into_iter().map(|(name, entries)| Person { name, entries }).collect() }
    }
}

impl fmt::Display for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.people.is_empty() {
            writeln!(f, "no entry is in effect: every client is rejected")?;
        }
        for Person { name, entries } in &self.people {
            writeln!(f, "{name}")?;
            for row in entries {
                writeln!(f, "{}", format!("  {}  {}  {}", row.cidr, row.access, row.end()).trim_end())?;
            }
        }
        Ok(())
    }
}

/// A report of an edit, or of a dry run.
#[derive(Debug, Serialize)]
pub(super) struct Changed {
    file: PathBuf,
    dry_run: bool,
    removed: Option<Row>,
    added: Option<Row>,
    /// The entry that still allows the same addresses after a removal, or that applied to them before an addition.
    around: Option<Row>,
    /// True if every client is rejected.
    is_empty: bool,
    diff: String,
}

impl Changed {
    /// Compares `list` with the result of `change`.
    pub(super) fn new(list: &List, change: &Change, dry_run: bool, now: SystemTime) -> anyhow::Result<Self> {
        let new = List::parse(list.file.clone(), change.text.clone())?;
        let added = change.added.as_ref().and_then(|entry| new.entries.iter().find(|listed| listed.entry == *entry));
        let changed = added.or(change.removed.as_ref());
        let around = changed.and_then(|listed| search::covering_entry(&new.entries, listed.entry.cidr, now));
        let row = |listed: &Listed| Row::new(listed, now);
        let (old, changed) = (list.file.display().to_string(), format!("{} (changed)", list.file.display()));
        Ok(Self {
            file: list.file.clone(),
            dry_run,
            removed: change.removed.as_ref().map(row),
            added: added.map(row),
            around: around.map(row),
            is_empty: new.entries.is_empty(),
            diff: TextDiff::from_lines(&list.text, &change.text).unified_diff().header(&old, &changed).to_string(),
        })
    }
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dry_run {
            write!(f, "{}", self.diff)?;
            return writeln!(f, "nothing is changed: this is a dry run");
        }
        if let Some(row) = &self.removed {
            writeln!(f, "removed {row}")?;
        }
        if let Some(row) = &self.added {
            writeln!(f, "added {row}")?;
        }
        match (&self.around, &self.added) {
            (Some(around), None) => writeln!(f, "the same addresses are still allowed by {around}")?,
            (Some(around), Some(_)) if self.removed.is_none() => writeln!(f, "until now {around} decided on it")?,
            _ => {}
        }
        if self.is_empty {
            writeln!(f, "the allowlist is empty: every client is rejected")?;
        }
        Ok(())
    }
}
