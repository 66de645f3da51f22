//! Reads a log file once: its events, and the hash of its uncompressed bytes.

use std::io::{self, ErrorKind, Read};

use anyhow::Context as _;
use flate2::read::MultiGzDecoder;
use ring::digest::{Context, SHA256};
use tokio::task::spawn_blocking;

use super::files::BucketFile;
use crate::load::classify::find_items;
use crate::load::classify::item::Item;
use crate::load::input::ByteReader;
use crate::load::source::Sources;
use crate::load::values::{PieceKind, ValueReader};
use crate::payload::LogEvent;

/// The content of a log file.
#[derive(Debug, Default)]
pub(super) struct LogContent {
    /// The hash in hexadecimal digits.
    pub(super) sha256: String,
    /// The events and their accounts.
    pub(super) events: Vec<(String, LogEvent)>,
    /// The reasons why parts of it are not events.
    pub(super) unreadable: Vec<String>,
}

/// Reads a log file.
pub(super) fn read(input: ByteReader, is_gzip: bool) -> anyhow::Result<LogContent> {
    let mut input = Hashing { input: decompress(input, is_gzip), context: Context::new(&SHA256) };
    let mut content = LogContent::default();
    let mut values = ValueReader::new(&mut input);
    while let Some(piece) = values.next()? {
        if piece.kind == PieceKind::Member {
            continue;
        }
        for item in find_items(&String::from_utf8_lossy(&piece.bytes)) {
            match item {
                Item::Record { owner, event, .. } => content.events.push((owner, event)),
                Item::Failed(failed) => content.unreadable.push(failed.reason),
                Item::Delivery(_) | Item::Foreign(_) => content.unreadable.push("not a CloudTrail record".to_owned()),
            }
        }
    }
    io::copy(&mut input, &mut io::sink())?;
    content.sha256 = hex::encode(input.context.finish());
    Ok(content)
}

/// Reads a whole digest file: its uncompressed bytes, and their hash in hexadecimal digits.
pub(super) fn read_digest(input: ByteReader, is_gzip: bool) -> anyhow::Result<(Vec<u8>, String)> {
    let mut input = Hashing { input: decompress(input, is_gzip).take(MAX_DIGEST), context: Context::new(&SHA256) };
    let mut bytes = Vec::new();
    input.read_to_end(&mut bytes).context("cannot be decompressed")?;
    Ok((bytes, hex::encode(input.context.finish())))
}

fn decompress(input: ByteReader, is_gzip: bool) -> ByteReader {
    if is_gzip { Box::new(MultiGzDecoder::new(input)) } else { input }
}

/// A reader that hashes what it reads.
struct Hashing<R> {
    input: R,
    context: Context,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.input.read(buffer)?;
        self.context.update(&buffer[..length]);
        Ok(length)
    }
}

/// The largest digest that is read; one lists some hundred bytes for each log file of an hour.
const MAX_DIGEST: u64 = 256 * 1024 * 1024;

/// The reason why a log file has no content.
#[derive(Debug)]
pub(super) enum ReadError {
    /// It cannot be opened: that says nothing of its content.
    Unavailable(anyhow::Error),
    /// The object is not a log file.
    Malformed(anyhow::Error),
}

/// Reads the log file from where it is.
pub(super) async fn read_source(sources: &Sources, file: &BucketFile) -> Result<LogContent, ReadError> {
    let input = sources.open(&file.source).await.map_err(ReadError::Unavailable)?;
    let is_gzip = file.is_gzip();
    let read = spawn_blocking(move || read(input, is_gzip)).await;
    read.map_err(anyhow::Error::from).flatten().map_err(|error| match error.downcast_ref::<io::Error>() {
        Some(reason) if reason.kind() == ErrorKind::PermissionDenied => ReadError::Unavailable(error),
        _ => ReadError::Malformed(error),
    })
}
