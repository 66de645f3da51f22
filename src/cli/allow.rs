//! `trailgate allow`: the allowlist from the shell.
//!
//! [`text`] edits the text, and [`locked_file`] replaces the file. In between, the proxy's own parser has to read the
//! intended entries from the new text. [`search`] looks up an address by longest prefix match, as the proxy does.
//! [`report`] is printed.

mod locked_file;
mod report;
mod row;
mod search;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use ipnet::IpNet;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use self::locked_file::LockedFile;
use self::report::{ByName, Changed, Listing};
use self::row::Row;
use self::text::Text;
use crate::cli::args::{Add, Allow, AllowVerb};
use crate::cli::output::print_report;
use crate::config::Config;
use crate::policy::allowlist::{self, Entry, LoadError};
use crate::policy::cidr::{self, CidrError};

/// Runs the subcommand at `now`. The exit code is 1 if the queried address is rejected.
pub fn run(allow: &Allow, now: SystemTime) -> anyhow::Result<ExitCode> {
    let file = match &allow.file {
        Some(file) => file.clone(),
        None => Config::load(&allow.config)?.allowlist,
    };
    match &allow.verb {
        AllowVerb::List => print_report(&Listing::new(&List::read(file)?, now), allow.json)?,
        AllowVerb::Who => print_report(&ByName::new(&List::read(file)?, now), allow.json)?,
        AllowVerb::Check { address } => {
            let list = List::read(file)?;
            let found = search::find(&list, *address, now);
            print_report(&found, allow.json)?;
            return Ok(if found.allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        AllowVerb::Add(add) => {
            let entry = entry(add, now)?;
            print_report(&change(&file, add.dry_run, now, |list| list.add(entry, add.replace))?, allow.json)?;
        }
        AllowVerb::Remove(remove) => {
            print_report(&change(&file, remove.dry_run, now, |list| list.remove(&remove.entry, now))?, allow.json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A parsed allowlist, with its entries in the file's order.
#[derive(Debug)]
struct List {
    file: PathBuf,
    text: String,
    entries: Vec<Listed>,
}

/// An entry and the line on which it begins.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Listed {
    entry: Entry,
    line: usize,
}

/// A changed allowlist that is not written yet.
#[derive(Debug)]
struct Change {
    text: String,
    /// The entries that the new text has to contain.
    entries: Vec<Entry>,
    removed: Option<Listed>,
    added: Option<Entry>,
}

impl List {
    fn read(file: PathBuf) -> anyhow::Result<Self> {
        let text = allowlist::read(&file)?;
        Self::parse(file, text)
    }

    fn parse(file: PathBuf, text: String) -> anyhow::Result<Self> {
        let entries = allowlist::parse(&file, &text).map_err(LoadError::from)?;
        let lines: Vec<usize> = Text::read(&text)?.lines().collect();
        ensure!(lines.len() == entries.len(), "{}: cannot be divided into entries", file.display());
        let entries = entries.into_iter().zip(lines).map(|(entry, line)| Listed { entry, line }).collect();
        Ok(Self { file, text, entries })
    }

    fn add(&self, entry: Entry, may_replace: bool) -> anyhow::Result<Change> {
        let text = Text::read(&self.text)?;
        let mut entries: Vec<Entry> = self.entries.iter().map(|listed| listed.entry.clone()).collect();
        let Some(index) = self.index_of(entry.cidr) else {
            entries.push(entry.clone());
            return Ok(Change { text: text.with(&entry), entries, removed: None, added: Some(entry) });
        };
        let old = &self.entries[index];
        if !may_replace {
            let block = cidr::text(entry.cidr);
            bail!(
                "{}:{}: {block} is already on the list, as {:?}: --replace puts the new entry in its place",
                self.file.display(),
                old.line,
                old.entry.name
            );
        }
        entries[index] = entry.clone();
        let text = text.with_replaced(index, &entry);
        Ok(Change { text, entries, removed: Some(old.clone()), added: Some(entry) })
    }

    fn remove(&self, wanted: &str, now: SystemTime) -> anyhow::Result<Change> {
        let index = match cidr::parse(wanted) {
            Ok(block) => self.index_of(block).with_context(|| self.not_listed(block, now))?,
            Err(CidrError::NotAnAddress) => self.index_named(wanted)?,
            Err(error) => self.index_named(wanted).with_context(|| format!("{wanted:?} {error}"))?,
        };
        let text = Text::read(&self.text)?.without(index);
        let mut entries: Vec<Entry> = self.entries.iter().map(|listed| listed.entry.clone()).collect();
        entries.remove(index);
        Ok(Change { text, entries, removed: Some(self.entries[index].clone()), added: None })
    }

    fn index_of(&self, block: IpNet) -> Option<usize> {
        self.entries.iter().position(|listed| listed.entry.cidr == block)
    }

    fn index_named(&self, name: &str) -> anyhow::Result<usize> {
        let is_named = |index: &usize| *self.entries[*index].entry.name == *name;
        let found: Vec<usize> = (0..self.entries.len()).filter(is_named).collect();
        match *found {
            [index] => Ok(index),
            [] => bail!("{}: no entry is named {name:?}", self.file.display()),
            _ => {
                let place = |index: &usize| {
                    let Listed { entry, line } = &self.entries[*index];
                    format!("{} (line {line})", cidr::text(entry.cidr))
                };
                let places = found.iter().map(place).collect::<Vec<_>>().join(", ");
                bail!("{}: {} entries are named {name:?}: name the block: {places}", self.file.display(), found.len());
            }
        }
    }

    fn not_listed(&self, block: IpNet, now: SystemTime) -> String {
        let around = search::covering_entry(&self.entries, block, now);
        let around = around.map(|wider| format!("; what lets it in is {}", Row::new(wider, now))).unwrap_or_default();
        format!("{}: {} has no entry of its own{around}", self.file.display(), cidr::text(block))
    }
}

/// Reads the allowlist, changes it, and writes the new one. A lock serialises concurrent edits.
fn change(
    file: &Path,
    dry_run: bool,
    now: SystemTime,
    make: impl FnOnce(&List) -> anyhow::Result<Change>,
) -> anyhow::Result<Changed> {
    let place = LockedFile::take(file)?;
    let list = List::read(file.to_owned())?;
    let change = make(&list)?;
    let means = allowlist::parse(file, &change.text).map_err(LoadError::from)?;
    ensure!(
        means == change.entries,
        "{}: not changed: this command cannot edit a file written like this; edit it by hand",
        file.display()
    );
    if !dry_run {
        place.replace(&change.text)?;
    }
    Changed::new(&list, &change, dry_run, now)
}

/// Builds the entry to add at `now`.
fn entry(add: &Add, now: SystemTime) -> anyhow::Result<Entry> {
    let now = Timestamp::try_from(now).context("the clock is out of range")?;
    let expires = match (add.until, add.lasts) {
        (Some(until), _) => Some(until),
        (None, Some(lasts)) => Some(after(now, lasts)?),
        (None, None) => None,
    };
    if let Some(expires) = expires {
        ensure!(expires > now, "the grant would have ended at {expires} already");
    }
    let entry = Entry::new(add.cidr, add.name.clone(), add.access);
    Ok(entry
        .until(expires.map(SystemTime::try_from).transpose()?)
        .signed_by(add.role.clone())
        .with_access_log(add.access_log))
}

/// Returns the expiry of a grant from `now` on, in whole seconds. A day has 24 hours: the expiry is in UTC.
fn after(now: Timestamp, lasts: Span) -> anyhow::Result<Timestamp> {
    let end = now.to_zoned_datetime(TimeZone::UTC).checked_add(lasts).context("this lasts for too long")?.timestamp();
    Ok(Timestamp::from_second(end.as_second())?)
}
