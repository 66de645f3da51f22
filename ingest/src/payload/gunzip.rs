//! Decompression within a limit.

use std::io::Read as _;

use flate2::bufread::GzDecoder;

use super::error::PayloadError;

/// Decompresses `compressed`, unless the result is more than `limit` bytes.
///
/// Consecutive gzip members are one text, as in RFC 1952. Bytes after them that are no gzip are ignored.
pub(super) fn gunzip(compressed: &[u8], limit: usize) -> Result<Vec<u8>, PayloadError> {
    let mut text = Vec::with_capacity(claimed_length(compressed).min(limit));
    let mut rest = compressed;
    loop {
        let mut decoder = GzDecoder::new(rest);
        let room = u64::try_from(limit - text.len()).unwrap_or(u64::MAX);
        // One byte more than the limit shows whether the text exceeds it.
        decoder.by_ref().take(room.saturating_add(1)).read_to_end(&mut text)?;
        if text.len() > limit {
            return Err(PayloadError::TooLarge);
        }
        rest = decoder.into_inner();
        if !rest.starts_with(&MAGIC) {
            return Ok(text);
        }
    }
}

/// Returns whether `bytes` begin as gzip data does.
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&MAGIC)
}

/// Returns the length that the last four bytes claim, within what compression can reach: a claim alone costs no memory.
fn claimed_length(compressed: &[u8]) -> usize {
    let claimed = compressed.last_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    usize::try_from(claimed).unwrap_or(usize::MAX).min(compressed.len().saturating_mul(TYPICAL_GROWTH))
}

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Log data rarely shrinks to less than a sixteenth; where it does, the text grows as it is read.
const TYPICAL_GROWTH: usize = 16;
