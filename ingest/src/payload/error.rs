//! The errors of a payload that cannot be read.

use serde_json::error::Category;

/// The reason why a payload has no log events.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// It is not JSON, or not of the expected shape. Without serde's own message, which can quote the event: this error
    /// is logged.
    // Without serde's own words, which can quote what stands there: this goes into logs.
    #[error("invalid JSON: {} at line {}, column {}", kind(.0), .0.line(), .0.column())]
    Json(#[from] serde_json::Error),
    /// The data is not base64.
    #[error("data is not base64: {0}")]
    Base64(#[from] base64::DecodeError),
    /// The data is not gzip, or breaks off.
    #[error("cannot decompress data: {0}")]
    Gzip(#[from] std::io::Error),
    /// The data is longer than any delivery, once decompressed.
    #[error("data exceeds {MAX_DECOMPRESSED} bytes when decompressed")]
    TooLarge,
    /// It is JSON, but of no service that is known here.
    #[error("neither a CloudWatch Logs subscription event nor Kinesis or SQS records of such events")]
    Unknown,
}

fn kind(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Io => "unreadable",
        Category::Syntax => "malformed",
        Category::Data => "of an unexpected type",
        Category::Eof => "cut off",
    }
}

/// Maximum bytes of a delivery after decompression.
///
/// An asynchronous invocation has at most 1 MiB, a Kinesis record at most 10 MiB, and CloudTrail's events shrink to a
/// tenth: real deliveries are far below this limit, and the function's memory is above it.
pub const MAX_DECOMPRESSED: usize = 64 * 1024 * 1024;
