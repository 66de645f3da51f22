//! A file's bytes as UTF-8 text: decompressed, and out of UTF-16.

mod utf16;

#[cfg(test)]
mod tests;

use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;

use self::utf16::Utf16;

/// A reader that any thread may have.
pub(crate) type ByteReader = Box<dyn Read + Send>;

/// The reason why a file's bytes are not text.
#[derive(Debug, thiserror::Error)]
pub(super) enum ByteReaderError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is compressed or coded in a format that is not read here.
    #[error("is {0}; {1}")]
    Unsupported(&'static str, &'static str),
}

/// Returns the text of `input`: that of gzip data as often as it is wrapped, UTF-16 as UTF-8, and all else as it is.
pub(super) fn decode_text(mut input: ByteReader) -> Result<ByteReader, ByteReaderError> {
    for _ in 0..MAX_LAYERS {
        let (start, whole) = peek(input)?;
        input = match &start[..] {
            [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(whole)),
            [0xff, 0xfe, ..] | [b'{' | b'[', 0, ..] => return Ok(Box::new(Utf16::new(whole, u16::from_le_bytes))),
            [0xfe, 0xff, ..] | [0, b'{' | b'[', ..] => return Ok(Box::new(Utf16::new(whole, u16::from_be_bytes))),
            start => {
                let known = UNSUPPORTED
                    .iter()
                    .find(|(at, magic, ..)| start.get(*at..).is_some_and(|start| start.starts_with(magic)));
                return known.map_or(Ok(whole), |(_, _, what, advice)| Err(ByteReaderError::Unsupported(what, advice)));
            }
        };
    }
    Err(ByteReaderError::Unsupported("gzip nested more than four times", "decompress it first"))
}

/// Reads the first bytes and puts them back, together with an error behind them.
fn peek(mut input: ByteReader) -> io::Result<(Vec<u8>, ByteReader)> {
    let mut start = Vec::with_capacity(PEEKED);
    let rest: ByteReader = match input.by_ref().take(PEEKED as u64).read_to_end(&mut start) {
        Ok(_) => input,
        Err(error) if start.is_empty() => return Err(error),
        Err(error) => Box::new(FailedReader(Some(error))),
    };
    Ok((start.clone(), Box::new(Cursor::new(start).chain(rest))))
}

/// A reader that returns an error once, and then nothing.
struct FailedReader(Option<io::Error>);

impl Read for FailedReader {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Enough for the mark of a tar archive, which is not at its beginning.
const PEEKED: usize = 262;

/// Firehose compresses what CloudWatch Logs compressed; no service compresses more often.
const MAX_LAYERS: usize = 4;

/// Formats by the bytes that they have at an offset, and what to do.
const UNSUPPORTED: [(usize, &[u8], &str, &str); 6] = [
    (0, b"PK\x03\x04", "a zip archive", "load it with: unzip -p FILE | trailgate-ingest load … -"),
    (257, b"ustar", "a tar archive", "load it with: tar -xOf FILE | trailgate-ingest load … -"),
    (0, &[0x28, 0xb5, 0x2f, 0xfd], "zstd data", "load it with: zstdcat FILE | trailgate-ingest load … -"),
    (0, b"BZh", "bzip2 data", "load it with: bzcat FILE | trailgate-ingest load … -"),
    (0, &[0xfd, b'7', b'z', b'X', b'Z'], "xz data", "load it with: xzcat FILE | trailgate-ingest load … -"),
    (0, b"PAR1", "a Parquet file", "load CloudTrail's own files instead"),
];
