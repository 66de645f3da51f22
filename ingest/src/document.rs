//! A log event as a document.

use bytes::Bytes;

/// What is sent to the index for one log event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The index, such as `cwl-2026.01.31`.
    pub index: String,
    /// The id; none where the domain takes none (time-series collections).
    pub id: Option<String>,
    /// The document: one JSON object without line breaks.
    pub source: Bytes,
}
