//! Reads files into chunks of log events, on a blocking thread while earlier chunks are sent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use tokio::sync::mpsc::Sender;

use super::classify::item::{FailedValue, Item};
use super::classify::{self, Line};
use super::days::Days;
use super::input::{self, ByteReader};
use super::values::{Piece, PieceKind, ValueReader};
use crate::document::access_line::{self, GateLine};
use crate::document::identity::{Identity, UNDATED};
use crate::payload::{LogBatch, LogEvent};

/// Log events that are sent together, of one file or of several, and notes about these files.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    /// The accounts, groups and streams that the events are from; their own events are in `events`.
    pub(super) batches: Vec<LogBatch>,
    /// The events.
    pub(super) events: Vec<LocatedEvent>,
    /// Counts and failures to report once the chunk is read.
    pub(super) notes: Vec<FileNote>,
    /// The approximate size of the documents and the notes, in bytes.
    bytes: usize,
}

/// A log event and its place.
#[derive(Debug)]
pub(super) struct LocatedEvent {
    /// The number of the file.
    pub(super) file: usize,
    /// The line where the value begins that the event is in.
    pub(super) line: u64,
    /// The number of its batch in the chunk.
    pub(super) batch: usize,
    /// The event.
    pub(super) event: LogEvent,
}

/// The counts of a file in addition to its events.
#[derive(Debug)]
pub(super) enum FileNote {
    /// Something is not indexed.
    Failed {
        /// The number of the file.
        file: usize,
        /// The first line and the last.
        lines: Option<(u64, u64)>,
        /// The value and the reason.
        failed: FailedValue,
    },
    /// Values of another kind were passed over in a file that has events too.
    Foreign(&'static str, usize),
    /// The number of events of other days.
    OtherDays(usize),
    /// All of a file was read; its last events are in this chunk or in one before.
    End(usize, Ending),
}

/// The result of reading a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It has events, or values that could be.
    Read,
    /// All of its values are of this kind.
    Foreign(&'static str),
    /// It is empty.
    Empty,
    /// It cannot be read, or none of its values can.
    Unreadable,
}

/// An error: the receiver of the chunks was dropped.
#[derive(Debug)]
pub(super) struct ReceiverClosed;

/// Reads files one after another.
#[derive(Debug)]
pub(super) struct ChunkReader {
    out: Sender<Chunk>,
    days: Days,
    /// Set if access lines of trailgate are indexed.
    access_log: bool,
    chunk: Chunk,
}

/// The counts of the file that is being read.
#[derive(Debug, Default)]
struct FileCounts {
    events: usize,
    failed: usize,
    other_days: usize,
    foreign: BTreeMap<&'static str, usize>,
    /// Consecutive lines that are not JSON.
    region: Option<(u64, u64, FailedValue)>,
}

impl ChunkReader {
    pub(super) fn new(out: Sender<Chunk>, days: Days, access_log: bool) -> Self {
        Self { out, days, access_log, chunk: Chunk::default() }
    }

    /// Reads the file with this number and name.
    pub(super) fn read(
        &mut self,
        file: usize,
        name: &str,
        input: anyhow::Result<ByteReader>,
    ) -> Result<(), ReceiverClosed> {
        let mut found = FileCounts::default();
        let text = input.and_then(|input| input::decode_text(input).map_err(anyhow::Error::from));
        let has_values = match text {
            Ok(text) => self.read_values(file, name, ValueReader::new(text), &mut found)?,
            Err(error) => {
                self.fail(file, None, FailedValue::unreadable(format!("{error:#}")), &mut found);
                true
            }
        };
        if found.other_days > 0 {
            self.chunk.notes.push(FileNote::OtherDays(found.other_days));
        }
        let is_foreign = found.events + found.other_days + found.failed == 0;
        let kind = found.foreign.keys().next().copied().filter(|_| is_foreign);
        if kind.is_none() {
            self.chunk.notes.extend(found.foreign.iter().map(|(kind, count)| FileNote::Foreign(kind, *count)));
        }
        let ending = match kind {
            Some(kind) => Ending::Foreign(kind),
            None if found.failed > 0 && found.events + found.other_days == 0 => Ending::Unreadable,
            None if has_values => Ending::Read,
            None => Ending::Empty,
        };
        self.chunk.notes.push(FileNote::End(file, ending));
        self.chunk.bytes += NOTE_BYTES;
        self.send_if_full()
    }

    /// Sends the last chunk.
    pub(super) fn finish(mut self) -> Result<(), ReceiverClosed> {
        self.send()
    }

    /// Reads all values of a file; returns whether there are any.
    fn read_values(
        &mut self,
        file: usize,
        name: &str,
        mut values: ValueReader<ByteReader>,
        found: &mut FileCounts,
    ) -> Result<bool, ReceiverClosed> {
        loop {
            match values.next() {
                Ok(Some(piece)) => self.add(file, name, piece, found)?,
                Ok(None) => break,
                Err(error) => {
                    self.end_region(file, found);
                    let line = values.line();
                    let failed = FailedValue::unreadable(format!("cannot be read any further: {error}"));
                    self.fail(file, Some((line, line)), failed, found);
                    return Ok(true);
                }
            }
            self.send_if_full()?;
        }
        self.end_region(file, found);
        Ok(values.has_values())
    }

    fn add(&mut self, file: usize, name: &str, piece: Piece, found: &mut FileCounts) -> Result<(), ReceiverClosed> {
        let Piece { line, bytes, kind } = piece;
        let text = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into());
        match kind {
            PieceKind::Value => {
                self.end_region(file, found);
                self.add_items(file, name, line, classify::find_items(&text), found)?;
            }
            PieceKind::Member => {
                let mut items = classify::find_items(&text);
                items.retain(|item| !matches!(item, Item::Failed(_)));
                self.add_items(file, name, line, items, found)?;
            }
            PieceKind::Text => match classify::classify_line(&text) {
                Some(Line::Foreign(kind)) => *found.foreign.entry(kind).or_default() += 1,
                Some(Line::Json(json)) => {
                    self.end_region(file, found);
                    self.add_items(file, name, line, classify::find_items(json), found)?;
                }
                None => match &mut found.region {
                    Some((_, last, _)) => *last = line,
                    None => found.region = Some((line, line, FailedValue::text(text))),
                },
            },
            PieceKind::Broken(problem) => {
                self.end_region(file, found);
                found.region = Some((line, line, FailedValue::broken(problem, text)));
            }
        }
        Ok(())
    }

    /// Adds what one JSON value holds. A delivery can hold very many events, so a chunk is sent as soon as it is full.
    fn add_items(
        &mut self,
        file: usize,
        name: &str,
        line: u64,
        items: Vec<Item>,
        found: &mut FileCounts,
    ) -> Result<(), ReceiverClosed> {
        for item in items {
            match item {
                Item::Record { event, .. } if self.skips(&event) => {
                    *found.foreign.entry(ACCESS_LINES).or_default() += 1;
                }
                Item::Record { owner, event, is_dated } => {
                    let batch = LogBatch {
                        owner,
                        log_group: LOG_GROUP.to_owned(),
                        log_stream: name.to_owned(),
                        events: Vec::new(),
                    };
                    let day = is_dated.then(|| day(event.timestamp));
                    self.add_event(file, line, &batch, event, day, found);
                }
                Item::Delivery(mut batch) => {
                    let events = std::mem::take(&mut batch.events);
                    for event in events {
                        if self.skips(&event) {
                            *found.foreign.entry(ACCESS_LINES).or_default() += 1;
                            continue;
                        }
                        let day = self.day_of_delivered(&event);
                        self.add_event(file, line, &batch, event, day, found);
                        self.send_if_full()?;
                    }
                }
                Item::Foreign(kind) => *found.foreign.entry(kind).or_default() += 1,
                Item::Failed(failed) => self.fail(file, Some((line, line)), failed, found),
            }
            self.send_if_full()?;
        }
        Ok(())
    }

    /// Returns whether the event is an access line, which is not indexed by default.
    fn skips(&self, event: &LogEvent) -> bool {
        !self.access_log && access_line::classify(&event.message) == Some(GateLine::Access)
    }

    /// Returns the day of an event in a delivery: of its own time, or else of the delivery's. None if it has neither, and
    /// if all days are wanted, so that no message is parsed for nothing.
    fn day_of_delivered(&self, event: &LogEvent) -> Option<Date> {
        if self.days.are_all() {
            return None;
        }
        let own = Identity::of(&event.message).timestamp;
        [own, event.timestamp].into_iter().find(|time| *time != UNDATED).map(day)
    }

    fn add_event(
        &mut self,
        file: usize,
        line: u64,
        batch: &LogBatch,
        event: LogEvent,
        day: Option<Date>,
        found: &mut FileCounts,
    ) {
        // An event without a time may be of any day.
        if day.is_some_and(|day| !self.days.contain(day)) {
            found.other_days += 1;
            return;
        }
        found.events += 1;
        let batches = &mut self.chunk.batches;
        let index = batches.iter().rposition(|known| known == batch).unwrap_or_else(|| {
            batches.push(batch.clone());
            batches.len() - 1
        });
        self.chunk.bytes += event.message.len() * 9 / 4 + event.id.len() + DOCUMENT_BYTES;
        self.chunk.events.push(LocatedEvent { file, line, batch: index, event });
    }

    fn end_region(&mut self, file: usize, found: &mut FileCounts) {
        if let Some((first, last, failed)) = found.region.take() {
            self.fail(file, Some((first, last)), failed, found);
        }
    }

    fn fail(&mut self, file: usize, lines: Option<(u64, u64)>, failed: FailedValue, found: &mut FileCounts) {
        found.failed += 1;
        self.chunk.bytes += failed.text.len() + NOTE_BYTES;
        self.chunk.notes.push(FileNote::Failed { file, lines, failed });
    }

    fn send_if_full(&mut self) -> Result<(), ReceiverClosed> {
        if self.chunk.bytes < CHUNK_BYTES { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> Result<(), ReceiverClosed> {
        self.out.blocking_send(std::mem::take(&mut self.chunk)).map_err(|_| ReceiverClosed)
    }
}

fn day(milliseconds: i64) -> Date {
    let time = Timestamp::from_millisecond(milliseconds).unwrap_or_default();
    Offset::UTC.to_datetime(time).date()
}

/// The `@log_group` of events that did not come through a log group.
pub(crate) const LOG_GROUP: &str = "cloudtrail-files";
/// The kind of access lines that are passed over.
const ACCESS_LINES: &str = "access lines of trailgate";
/// Approximate bytes of a document in addition to its event.
const DOCUMENT_BYTES: usize = 600;
/// Approximate bytes of a note.
const NOTE_BYTES: usize = 200;
/// The size of a chunk in bytes, about that of one request.
const CHUNK_BYTES: usize = 4 * 1024 * 1024 + 512 * 1024;
