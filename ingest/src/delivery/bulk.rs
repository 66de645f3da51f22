//! `_bulk` request bodies, and what their responses say of each item.

mod error;
mod response;

use serde::Serialize;

pub use self::error::{BulkError, Verdict};
pub use self::response::{BulkItem, BulkOutcome, read_response};
use crate::document::Document;

/// The path of the requests.
///
/// `filter_path` leaves out of the response what is known already: it would be as long as the body. Ids stay, because a
/// proxy may merge or reorder responses.
pub const PATH: &str = "/_bulk?filter_path=errors,items.*._id,items.*.status,items.*.error";

/// The media type of the bodies.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// The effect on a document that has the same id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BulkAction {
    /// It is replaced. With an id this is idempotent, and without one every engine accepts it.
    #[default]
    Index,
    /// It stays as it is.
    Create,
}

/// Appends the two lines that index `document`: the action and the source.
pub fn append_document(body: &mut Vec<u8>, document: &Document, mapping_type: Option<&str>, action: BulkAction) {
    let metadata = Metadata { index: &document.index, mapping_type, id: document.id.as_deref() };
    let action = match action {
        BulkAction::Index => ActionLine::Index(metadata),
        BulkAction::Create => ActionLine::Create(metadata),
    };
    serde_json::to_writer(&mut *body, &action).expect("three strings can be written to memory");
    body.push(b'\n');
    let start = body.len();
    body.extend_from_slice(&document.source);
    // A line break within a source would split its line, and shift all that follows in the body. JSON has line breaks
    // only between tokens, where a space means the same.
    if document.source.contains(&b'\n') {
        body[start..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    }
    body.push(b'\n');
}

/// Estimates the bytes that [`append_document`] appends, and never too few.
#[must_use]
pub fn estimate_bytes(document: &Document) -> usize {
    ACTION_BYTES + document.index.len() + document.id.as_ref().map_or(0, String::len) + document.source.len()
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ActionLine<'a> {
    Index(Metadata<'a>),
    Create(Metadata<'a>),
}

#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(rename = "_index")]
    index: &'a str,
    #[serde(rename = "_type", skip_serializing_if = "Option::is_none")]
    mapping_type: Option<&'a str>,
    #[serde(rename = "_id", skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
}

/// The bytes of an action line that are always there, and some more.
const ACTION_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn document(id: Option<&str>, source: &'static str) -> Document {
        Document {
            index: "cwl-2026.01.31".to_owned(),
            id: id.map(str::to_owned),
            source: Bytes::from_static(source.as_bytes()),
            is_degraded: false,
            event_time: None,
        }
    }

    #[track_caller]
    fn appends(document: &Document, mapping_type: Option<&str>, expected: &str) {
        let mut body = Vec::new();
        append_document(&mut body, document, mapping_type, BulkAction::Index);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn bulk_action_has_index_type_and_id() {
        let source = "{\"a\":1}";
        appends(
            &document(Some("id \"1\""), source),
            None,
            "{\"index\":{\"_index\":\"cwl-2026.01.31\",\"_id\":\"id \\\"1\\\"\"}}\n{\"a\":1}\n",
        );
        appends(
            &document(Some("1"), source),
            Some("event"),
            "{\"index\":{\"_index\":\"cwl-2026.01.31\",\"_type\":\"event\",\"_id\":\"1\"}}\n{\"a\":1}\n",
        );
        appends(&document(None, source), None, "{\"index\":{\"_index\":\"cwl-2026.01.31\"}}\n{\"a\":1}\n");
    }

    #[test]
    fn create_leaves_a_document_of_the_id() {
        let mut body = Vec::new();
        append_document(&mut body, &document(Some("1"), "{}"), None, BulkAction::Create);
        let expected = "{\"create\":{\"_index\":\"cwl-2026.01.31\",\"_id\":\"1\"}}\n{}\n";
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn line_break_in_a_source_becomes_a_space() {
        appends(&document(None, "{\n\"a\":\n1}"), None, "{\"index\":{\"_index\":\"cwl-2026.01.31\"}}\n{ \"a\": 1}\n");
    }

    #[test]
    fn estimate_is_never_too_low() {
        let document = document(Some("3671984621"), "{\"a\":1}");
        let mut body = Vec::new();
        append_document(&mut body, &document, Some("_doc"), BulkAction::Create);
        assert!((body.len()..body.len() + 64).contains(&estimate_bytes(&document)));
    }
}
