use std::io::{Cursor, Write as _};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn read(bytes: Vec<u8>) -> Result<String, ByteReaderError> {
    let mut said = String::new();
    decode_text(Box::new(Cursor::new(bytes)))?.read_to_string(&mut said)?;
    Ok(said)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

fn utf16(said: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    said.encode_utf16().flat_map(bytes).collect()
}

#[test]
fn plain_and_compressed_text_are_read() {
    assert_eq!(read(b"{}".to_vec()).unwrap(), "{}");
    assert_eq!(read(Vec::new()).unwrap(), "");
    assert_eq!(read([gzip(b"{}"), gzip(b"[]")].concat()).unwrap(), "{}[]");
    assert_eq!(read(gzip(&[gzip(b"{}"), gzip(b"[]")].concat())).unwrap(), "{}[]");
}

#[test]
fn utf16_is_read_with_and_without_byte_order_mark() {
    // Pairs that end within a read, wherever it ends.
    let said = format!("{{\"a\":\"{}é\"}}", "\u{1f600}".repeat(40_000));
    assert_eq!(read(utf16(&said, u16::to_le_bytes)).unwrap(), said);
    assert_eq!(read(utf16(&said, u16::to_be_bytes)).unwrap(), said);
    let marked = format!("\u{feff}{said}");
    assert_eq!(read(utf16(&marked, u16::to_le_bytes)).unwrap(), marked);
    assert_eq!(read(utf16(&marked, u16::to_be_bytes)).unwrap(), marked);
    assert_eq!(read(gzip(&utf16(&marked, u16::to_be_bytes))).unwrap(), marked);
}

#[test]
fn truncated_utf16_ends_in_a_replacement_character() {
    assert_eq!(read(b"{\0\"\0x".to_vec()).unwrap(), "{\"\u{fffd}");
    assert_eq!(read(b"{\0\x3d\xd8".to_vec()).unwrap(), "{\u{fffd}");
}

#[test]
fn text_before_an_error_is_read() {
    let whole = gzip(b"{\"a\":1}");
    let mut text = Vec::new();
    let mut reader = decode_text(Box::new(Cursor::new(whole[..whole.len() - 6].to_vec()))).unwrap();
    reader.read_to_end(&mut text).unwrap_err();
    assert_eq!(text, b"{\"a\":1}");
}

#[test]
fn unsupported_format_is_reported() {
    let refused = |bytes: &[u8]| read(bytes.to_vec()).unwrap_err().to_string();
    assert_eq!(refused(b"PK\x03\x04...."), "is a zip archive; load it with: unzip -p FILE | trailgate-ingest load … -");
    assert_eq!(
        refused(b"\x28\xb5\x2f\xfd...."),
        "is zstd data; load it with: zstdcat FILE | trailgate-ingest load … -"
    );
    assert_eq!(refused(b"BZh9...."), "is bzip2 data; load it with: bzcat FILE | trailgate-ingest load … -");
    let mut tar = vec![0; 512];
    tar[..6].copy_from_slice(b"a.json");
    tar[257..262].copy_from_slice(b"ustar");
    let expected = "is a tar archive; load it with: tar -xOf FILE | trailgate-ingest load … -";
    assert_eq!((refused(&tar), refused(&gzip(&tar))), (expected.to_owned(), expected.to_owned()));
    assert_eq!(refused(b"PAR1...."), "is a Parquet file; load CloudTrail's own files instead");
}
