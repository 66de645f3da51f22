//! Edits of the allowlist's text: adds, replaces or removes an entry.
//!
//! `toml_edit` locates the entries and formats the values. All other text is copied byte for byte, so comments, order
//! and line endings stay; a document that `toml_edit` writes loses CRLF.

use std::ops::Range;

use jiff::Timestamp;
use toml_edit::{Array, ArrayOfTables, Datetime, Document, InlineTable, Item, Table, TomlError, Value};

use crate::policy::allowlist::Entry;
use crate::policy::cidr;
use crate::policy::grant::Access;

/// The text of an allowlist, and the positions of its entries.
#[derive(Debug)]
pub(super) struct Text<'a> {
    text: &'a str,
    layout: Layout,
}

/// The syntax of the entries, in their order.
#[derive(Debug)]
enum Layout {
    /// Tables, `[[allow]]`, each from its header to its last value. Also used for a list without entries.
    Tables(Vec<Range<usize>>),
    /// An array, `allow = [{…}]`: the range of the brackets, and those of the items.
    Array { array: Range<usize>, items: Vec<Range<usize>> },
}

impl<'a> Text<'a> {
    /// Locates the entries of a text that the proxy's own parser accepts.
    pub(super) fn read(text: &'a str) -> Result<Self, TomlError> {
        let document = Document::parse(text)?;
        let layout = match document.get("allow") {
            Some(Item::ArrayOfTables(tables)) => Layout::of_tables(tables),
            Some(Item::Value(Value::Array(array))) => Layout::of_array(array),
            _ => Layout::Tables(Vec::new()),
        };
        Ok(Self { text, layout })
    }

    /// Returns the line, counted from 1, on which each entry begins.
    pub(super) fn lines(&self) -> impl Iterator<Item = usize> {
        self.entries().iter().map(|entry| 1 + self.text[..entry.start].matches('\n').count())
    }

    /// Returns the text with `entry` added as the last one.
    pub(super) fn with(&self, entry: &Entry) -> String {
        match &self.layout {
            Layout::Tables(_) => self.ending_in(self.text, &self.table(entry)),
            Layout::Array { items, .. } if items.is_empty() && self.empty_array_line().is_some() => {
                let without = self.splice(self.empty_array_line().unwrap_or_default(), "");
                self.ending_in(&without, &self.table(entry))
            }
            Layout::Array { array, items } => self.with_item(array, items, &inline(entry)),
        }
    }

    /// Returns the text with entry `index` replaced by `entry`. Removes comments within it, and keeps those above it.
    pub(super) fn with_replaced(&self, index: usize, entry: &Entry) -> String {
        match &self.layout {
            Layout::Tables(tables) => self.splice(self.to_line_end(&tables[index]), &self.table(entry)),
            Layout::Array { items, .. } => self.splice(items[index].clone(), &inline(entry)),
        }
    }

    /// Returns the text without entry `index` and the comments that belong to it.
    pub(super) fn without(&self, index: usize) -> String {
        match &self.layout {
            Layout::Tables(tables) => {
                let without = self.splice(self.whole_table(&tables[index]), "");
                // An allowlist without entries must state it.
                if tables.len() == 1 { self.ending_in(&without, NO_ENTRIES) } else { without }
            }
            Layout::Array { array, items } => self.splice(self.whole_item(array, items, index), ""),
        }
    }

    /// Returns `text` followed by a blank line and `last`.
    fn ending_in(&self, text: &str, last: &str) -> String {
        let eol = self.eol();
        let is_apart = text.len() == self.start() || text.ends_with("\n\n") || text.ends_with("\n\r\n");
        let ended = if text.len() == self.start() || text.ends_with('\n') { "" } else { eol };
        let apart = if is_apart { "" } else { eol };
        format!("{text}{ended}{apart}{last}{eol}")
    }

    /// Returns the range of the line `allow = []`, if there is one.
    fn empty_array_line(&self) -> Option<Range<usize>> {
        let mut start = self.start();
        for line in self.text[start..].split_inclusive('\n') {
            if line.trim() == NO_ENTRIES {
                return Some(start..start + line.len());
            }
            start += line.len();
        }
        None
    }

    /// Returns the lines to remove with a table. An adjacent comment belongs to the entry, one between two entries to
    /// the entry below, and one on the first line to the file.
    fn whole_table(&self, table: &Range<usize>) -> Range<usize> {
        let first_line = self.line_start(table.start);
        let above = self.lines_above(first_line, is_comment);
        let mut start = if above == self.start() { first_line } else { above };
        let mut end = self.line_end(table.end);
        let below = self.lines_below(end, is_comment);
        if below == self.text.len() || self.lines_below(below, is_blank) > below {
            end = below;
        }
        // Also removes the blank lines on one side.
        end = self.lines_below(end, is_blank);
        if end == self.text.len() {
            start = self.lines_above(start, is_blank);
        }
        start..end
    }

    /// Returns the range to remove with an array item: the item and one comma. If it has lines of its own, the range
    /// includes these, and the comments above and after it.
    fn whole_item(&self, array: &Range<usize>, items: &[Range<usize>], index: usize) -> Range<usize> {
        let item = &items[index];
        let inside = array.end - 1;
        let next = items.get(index + 1).map_or(inside, |next| next.start);
        let comma = self.comma(item.end..next);
        let end = comma.map_or(item.end, |comma| comma + 1);
        let line_start = self.line_start(item.start);
        if is_blank(&self.text[line_start..item.start]) && self.line_end(end) <= next {
            return self.lines_above(line_start, is_comment)..self.line_end(end);
        }
        if index + 1 < items.len() {
            return item.start..self.line_end(end).min(next);
        }
        match index.checked_sub(1).map(|previous| items[previous].end) {
            // The comma before the last item separates nothing any more.
            Some(previous) if comma.is_none() && !self.text[previous..item.start].contains('\n') => previous..item.end,
            _ => item.start..end,
        }
    }

    fn with_item(&self, array: &Range<usize>, items: &[Range<usize>], item: &str) -> String {
        let Some(last) = items.last() else {
            let inside = array.start + 1;
            return self.splice(inside..inside, item);
        };
        let indent = &self.text[self.line_start(last.start)..last.start];
        let inside = array.end - 1;
        let comma = self.comma(last.end..inside);
        let line_end = self.line_end(comma.unwrap_or(last.end));
        if !is_blank(indent) || line_end > inside {
            return self.splice(last.end..last.end, &format!(", {item}"));
        }
        let with = self.splice(line_end..line_end, &format!("{indent}{item},{}", self.eol()));
        // This position is before the first insertion, so the first one has not shifted it.
        if comma.is_some() { with } else { format!("{},{}", &with[..last.end], &with[last.end..]) }
    }

    /// Formats an entry as `[[allow]]`, without the final line ending.
    fn table(&self, entry: &Entry) -> String {
        let mut table = Table::new();
        for (key, item) in values(entry) {
            table.insert(key, Item::Value(item));
        }
        format!("[[allow]]\n{}", table.to_string().trim_end()).replace('\n', self.eol())
    }

    fn entries(&self) -> &[Range<usize>] {
        match &self.layout {
            Layout::Tables(entries) | Layout::Array { items: entries, .. } => entries,
        }
    }

    fn splice(&self, range: Range<usize>, new: &str) -> String {
        [&self.text[..range.start], new, &self.text[range.end..]].concat()
    }

    /// Returns the position of the first comma in `gap`, which otherwise holds only blanks and comments.
    fn comma(&self, gap: Range<usize>) -> Option<usize> {
        let mut in_comment = false;
        let comma = self.text[gap.clone()].find(|c| {
            in_comment = c == '#' || (in_comment && c != '\n');
            c == ',' && !in_comment
        });
        comma.map(|at| gap.start + at)
    }

    /// Extends the range to the end of its last line, without the line ending.
    fn to_line_end(&self, range: &Range<usize>) -> Range<usize> {
        let line = &self.text[range.end..self.line_end(range.end)];
        range.start..range.end + line.trim_end_matches(['\r', '\n']).len()
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(self.start(), |end| end + 1)
    }

    /// Returns the start of the first line, after the byte order mark if there is one.
    fn start(&self) -> usize {
        if self.text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len_utf8() } else { 0 }
    }

    /// Returns the position after the line ending.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |end| at + end + 1)
    }

    /// Returns the start of the consecutive lines of `of_kind` above `at`, which is the start of a line.
    fn lines_above(&self, mut at: usize, of_kind: fn(&str) -> bool) -> usize {
        while at > self.start() && of_kind(&self.text[self.line_start(at - 1)..at]) {
            at = self.line_start(at - 1);
        }
        at
    }

    fn lines_below(&self, mut at: usize, of_kind: fn(&str) -> bool) -> usize {
        while at < self.text.len() && of_kind(&self.text[at..self.line_end(at)]) {
            at = self.line_end(at);
        }
        at
    }

    fn eol(&self) -> &'static str {
        let first = self.text.find('\n').unwrap_or_default();
        if self.text[..first].ends_with('\r') { "\r\n" } else { "\n" }
    }
}

impl Layout {
    fn of_tables(tables: &ArrayOfTables) -> Self {
        let place = |table: &Table| {
            let header = table.span().unwrap_or_default();
            let ends = table.iter().filter_map(|(_, item)| item.span());
            header.start..ends.map(|span| span.end).fold(header.end, usize::max)
        };
        Self::Tables(tables.iter().map(place).collect())
    }

    fn of_array(array: &Array) -> Self {
        let items = array.iter().map(|item| item.span().unwrap_or_default()).collect();
        Self::Array { array: array.span().unwrap_or_default(), items }
    }
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// The text of an allowlist without entries.
const NO_ENTRIES: &str = "allow = []";

fn inline(entry: &Entry) -> String {
    InlineTable::from_iter(values(entry)).to_string()
}

fn values(entry: &Entry) -> Vec<(&'static str, Value)> {
    let mut values = vec![("cidr", Value::from(cidr::text(entry.cidr))), ("name", Value::from(&*entry.name))];
    if entry.access != Access::default() {
        values.push(("access", Value::from(entry.access.to_string())));
    }
    if entry.access_log {
        values.push(("access_log", true.into()));
    }
    if let Some(role) = &entry.role {
        values.push(("role", role.as_str().into()));
    }
    if let Some(expires) = entry.expires.and_then(|at| Timestamp::try_from(at).ok()) {
        let expires = expires.to_string().parse::<Datetime>();
        values.push(("expires", expires.expect("jiff writes RFC 3339, as TOML does").into()));
    }
    values
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

fn is_blank(line: &str) -> bool {
    line.trim().is_empty()
}

#[cfg(test)]
mod tests;
