//! The parser of the allowlist file (TOML). It returns the entries, or the first mistake with its line.

use std::{
    collections::HashSet,
    iter,
    ops::Range,
    path::{Path, PathBuf},
    time::SystemTime,
};

use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde_spanned::Spanned;
use thiserror::Error;
use toml::{Value, value::Datetime};
use trailgate_client::{NotRoleArn, RoleArn};

use super::entry::Entry;
use crate::policy::cidr::{self, CidrError};
use crate::policy::grant::Access;

/// A mistake in an allowlist: its position and the correction. The message is always one line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}:{line}: {mistake}", .file.display())]
pub struct EntryError {
    file: PathBuf,
    line: usize,
    mistake: Mistake,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFile {
    allow: Option<Vec<Spanned<WrittenEntry>>>,
}

/// An entry as written. Every key is optional, because serde's message for a missing key does not say what to write.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenEntry {
    cidr: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    access: Option<Spanned<String>>,
    expires: Option<Spanned<Value>>,
    role: Option<Spanned<String>>,
    access_log: Option<bool>,
}

/// Parses the text of an allowlist to its entries, in file order. `file` is only for the messages.
pub(crate) fn parse(file: &Path, text: &str) -> Result<Vec<Entry>, EntryError> {
    let (mut entries, mut blocks) = (Vec::new(), HashSet::new());
    parse_each(file, text, |entry| {
        let is_new = blocks.insert(entry.cidr);
        entries.push(entry);
        is_new
    })?;
    Ok(entries)
}

/// Passes the entries to `add` one after another, so that no second list of them is in memory. `add` returns false for
/// an entry whose block it has already. Returns whether the file states `allow = []`.
pub(super) fn parse_each(file: &Path, text: &str, mut add: impl FnMut(Entry) -> bool) -> Result<bool, EntryError> {
    let at = |start: usize| move |mistake| EntryError { file: file.to_owned(), line: line(text, start), mistake };
    let mut says_so = false;
    for part in parts(text) {
        let base = part.start;
        let written: WrittenFile = toml::from_str(&text[part]).map_err(|error| {
            let start = base + error.span().map_or(0, |span| span.start);
            at(start)(Mistake::Toml { message: one_line(error.message()), found: found(text, start) })
        })?;
        says_so |= written.allow.as_ref().is_some_and(Vec::is_empty);
        for entry in written.allow.unwrap_or_default() {
            let header = base + entry.span().start;
            let WrittenEntry { cidr, name, access, expires, role, access_log } = entry.into_inner();

            let written_cidr = cidr.ok_or(Mistake::NoCidr).map_err(at(header))?;
            let cidr_start = base + written_cidr.span().start;
            let cidr = cidr::parse(written_cidr.get_ref())
                .map_err(|error| Mistake::Cidr { cidr: written_cidr.get_ref().clone(), error })
                .map_err(at(cidr_start))?;

            let written = name.ok_or(Mistake::NoName).map_err(at(header))?;
            let start = base + written.span().start;
            let name = self::name(written.get_ref()).map_err(at(start))?;

            let access = match access {
                Some(written) => self::access(written.get_ref()).map_err(at(base + written.span().start))?,
                None => Access::default(),
            };
            let expires = match expires {
                Some(written) => {
                    let (start, end) = (base + written.span().start, base + written.span().end);
                    Some(instant(written.get_ref(), &text[start..end]).map_err(at(start))?)
                }
                None => None,
            };
            let role = match role {
                Some(written) => Some(self::role(written.get_ref()).map_err(at(base + written.span().start))?),
                None => None,
            };
            let entry = Entry::new(cidr, name, access).until(expires).signed_by(role);
            if !add(entry.with_access_log(access_log.unwrap_or_default())) {
                let (written, block) = (written_cidr.into_inner(), cidr::text(cidr));
                let first = line(text, find_block(text, cidr).unwrap_or_default());
                return Err(at(cidr_start)(Mistake::Duplicate { written, block, first }));
            }
        }
    }
    Ok(says_so)
}

/// Returns the position of the first `cidr` that means `block`, in a text that is valid up to there. Parses the text
/// again: only a mistake needs a position, so none is kept for the valid entries.
fn find_block(text: &str, block: IpNet) -> Option<usize> {
    parts(text).into_iter().find_map(|part| {
        let base = part.start;
        let written: WrittenFile = toml::from_str(&text[part]).ok()?;
        let mut blocks = written.allow?.into_iter().filter_map(|entry| entry.into_inner().cidr);
        let first = blocks.find(|written| cidr::parse(written.get_ref()).is_ok_and(|found| found == block))?;
        Some(base + first.span().start)
    })
}

/// Splits a text at entry headers into parts, each a complete document. This bounds memory: the parser's tree is 25
/// times as large as its text.
///
/// A line that looks like a header is none only within a multi-line string, so a text with such strings is one part.
/// A text with more than blanks and comments before the first header is one part, too, because headers cannot continue
/// entries that are written as `allow = […]`.
fn parts(text: &str) -> Vec<Range<usize>> {
    let is_filler = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    let is_header = |line: &&str| line.trim_start().starts_with("[[allow]]");
    let has_head = !text.trim_start_matches('\u{feff}').lines().take_while(|line| !is_header(line)).all(is_filler);
    if text.len() < PART || has_head || text.contains("\"\"\"") || text.contains("'''") {
        return iter::once(0..text.len()).collect();
    }
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if at - start >= PART && is_header(&line) {
            parts.push(start..at);
            start = at;
        }
        at += line.len();
    }
    parts.push(start..text.len());
    parts
}

/// Validates a name: the access log prints it in one line.
pub(crate) fn name(name: &str) -> Result<String, Mistake> {
    if name.trim().is_empty() {
        return Err(Mistake::EmptyName);
    }
    if name.contains(char::is_control) {
        return Err(Mistake::ControlCharacter { name: name.to_owned() });
    }
    Ok(name.to_owned())
}

fn access(access: &str) -> Result<Access, Mistake> {
    match access {
        "view" => Ok(Access::View),
        "read" => Ok(Access::Read),
        "full" => Ok(Access::Full),
        other => Err(Mistake::Access { access: other.to_owned() }),
    }
}

/// Parses the ARN of a role.
pub(crate) fn role(role: &str) -> Result<RoleArn, Mistake> {
    role.parse().map_err(|error| Mistake::Role { error })
}

/// Parses an expiry. `source` is its spelling in the file, for the messages.
fn instant(expires: &Value, source: &str) -> Result<SystemTime, Mistake> {
    let wrong = |reason| Mistake::Expires { expires: one_line(source), reason };
    let out_of_range = || wrong("is out of range");
    let Value::Datetime(expires) = expires else {
        return Err(wrong("is not a TOML date and time"));
    };
    match expires {
        Datetime { date: None, .. } => Err(wrong("has no date")),
        Datetime { time: None, .. } => Err(wrong("has no time")),
        Datetime { offset: None, .. } => Err(wrong("has no offset from UTC")),
        // The parser below would silently return second 59.
        Datetime { time: Some(time), .. } if time.second == Some(60) => Err(wrong("has a second 60")),
        // Such a date means "never". jiff's maximum is a day earlier, so that it has a date in every time zone.
        Datetime { date: Some(date), .. } if date.year == 9999 => {
            expires.to_string().parse().unwrap_or(Timestamp::MAX).try_into().map_err(|_| out_of_range())
        }
        _ => expires.to_string().parse().and_then(|at: Timestamp| at.try_into()).map_err(|_| out_of_range()),
    }
}

/// Returns the line of the byte at `start`, counted from 1.
fn line(text: &str, start: usize) -> usize {
    1 + text[..start].matches('\n').count()
}

/// Returns the beginning of the line of the byte at `start`.
fn found(text: &str, start: usize) -> String {
    let found = text.lines().nth(line(text, start) - 1).unwrap_or_default();
    one_line(&found.chars().take(QUOTED).collect::<String>())
}

/// Escapes control characters, because messages quote the file and the file may contain anything.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Characters of a quotation. A file may have its whole list in one line.
const QUOTED: usize = 80;

/// Minimum size of a part in bytes, except for the last.
const PART: usize = 16 * 1024;

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum Mistake {
    #[error("{message}, in: {found}")]
    Toml { message: String, found: String },
    #[error(r#"this [[allow]] has no cidr: write cidr = "203.0.113.7/32""#)]
    NoCidr,
    #[error(r#"this [[allow]] has no name: write name = "OWNER""#)]
    NoName,
    #[error("cidr {cidr:?} {error}")]
    Cidr { cidr: String, error: CidrError },
    #[error("cidr {written:?} is {block}, which line {first} has already: remove one of the two")]
    Duplicate { written: String, block: String, first: usize },
    #[error(r#"name is empty: write name = "OWNER""#)]
    EmptyName,
    #[error("name {name:?} has a control character: write it in one line of plain text")]
    ControlCharacter { name: String },
    #[error(r#"access {access:?} is unknown: write "view", "read" or "full""#)]
    Access { access: String },
    #[error("role {error}")]
    Role { error: NotRoleArn },
    #[error("expires {expires} {reason}: write it like 2026-12-31T18:00:00Z, without quotes")]
    Expires { expires: String, reason: &'static str },
}

#[cfg(test)]
mod tests;
