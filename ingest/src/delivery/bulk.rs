//! `_bulk` bodies, and what the replies say of each item.

use std::borrow::Cow;
use std::fmt;

use hyper::StatusCode;
use serde::{Deserialize, Serialize};

use crate::document::Document;

/// Where bodies are posted to. The reply is asked for without most of what is known already: it would be as long as the
/// body. Ids are asked for since a proxy may merge or reorder replies.
pub const PATH: &str = "/_bulk?filter_path=errors,items.*._id,items.*.status,items.*.error";

/// What a body is.
pub const CONTENT_TYPE: &str = "application/x-ndjson";

/// Appends the two lines that index `document`: the action and the source.
///
/// The action is always `index`: with an id it does no harm twice, without one every engine takes it.
pub fn append(body: &mut Vec<u8>, document: &Document, mapping_type: Option<&str>) {
    let metadata = Metadata { index: &document.index, mapping_type, id: document.id.as_deref() };
    serde_json::to_writer(&mut *body, &Action { index: metadata }).expect("three strings can be written to memory");
    body.push(b'\n');
    let start = body.len();
    body.extend_from_slice(&document.source);
    // A line break within a source would make two lines of it, and nonsense of all that follows in the body. JSON has
    // them between its tokens only, where a space is as good.
    if document.source.contains(&b'\n') {
        body[start..].iter_mut().filter(|byte| **byte == b'\n').for_each(|byte| *byte = b' ');
    }
    body.push(b'\n');
}

/// About how many bytes [`append`] appends.
#[must_use]
pub fn cost(document: &Document) -> usize {
    ACTION_BYTES + document.index.len() + document.id.as_ref().map_or(0, String::len) + document.source.len()
}

/// What became of a request.
#[derive(Debug)]
pub enum Outcome {
    /// The domain accepted the request and says of each item what became of it.
    Items(Vec<Item>),
    /// It is not known what became of the items, or nothing did: the same once more, later.
    Retry(Refusal),
    /// The body is refused as a whole: for its length, or for something in it. A document that is refused alone is
    /// degraded only if the refusal's verdict says so.
    Halve(Refusal),
    /// The request is refused whatever its body is.
    Fail(Refusal),
}

/// What became of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The document's id, if the answer has it.
    pub id: Option<String>,
    /// Why it is not in the index; none where it is.
    pub refusal: Option<Refusal>,
}

/// Reads the answer to a request.
#[must_use]
pub fn outcome(status: StatusCode, body: &[u8]) -> Outcome {
    if status.is_success() {
        return match serde_json::from_slice::<Reply<'_>>(body) {
            Ok(reply) => Outcome::Items(reply.items.into_iter().map(|item| item.index.read()).collect()),
            // Whoever wrote that, a proxy or a page for people, may have passed the request on or not.
            Err(_) => Outcome::Retry(Refusal::of_request(status, "what came is no bulk reply")),
        };
    }
    let refusal = match serde_json::from_slice(body) {
        Ok(RequestError { error: Some(error), .. }) => Refusal::new(status.as_u16(), error),
        Ok(RequestError { message: Some(message), .. }) => Refusal::of_request(status, message),
        _ => Refusal::of_request(status, ""),
    };
    match (status, refusal.verdict()) {
        (StatusCode::BAD_REQUEST, Verdict::Fail) if refusal.is_of_engine => Outcome::Fail(refusal),
        (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, _) => Outcome::Halve(refusal),
        (_, Verdict::Retry) => Outcome::Retry(refusal),
        _ => Outcome::Fail(refusal),
    }
}

/// Why the domain did not index an item, or take a request.
///
/// It displays without what may quote the event; [`Refusal::in_full`] is for where the event itself goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The status of the item or the response; 0 when there was no response.
    pub status: u16,
    /// The error's type, such as `mapper_parsing_exception`; may be empty.
    pub kind: String,
    /// The error's reason; may be empty.
    pub reason: String,
    /// Whether the engine says so, in its own form. What a proxy says is about the request, not about a document.
    pub is_of_engine: bool,
}

/// What is to be done about an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: it is in the index.
    Done,
    /// Send it again, later.
    Retry,
    /// The document does not fit: send a degraded one.
    Degrade,
    /// Give up.
    Fail,
}

/// What an item's status and error mean. A request's status and error mean the same, but that it has no document.
#[must_use]
pub fn classify(status: u16, kind: &str, reason: &str) -> Verdict {
    match status {
        // A conflict: this version of the document or a later one is there.
        200..=299 | 409 => Verdict::Done,
        // 0: no answer. The rest: too much at once, or a node that is away.
        0 | 408 | 429 | 500..=599 => Verdict::Retry,
        // The disk is full, or the domain has too much to do, or the credentials in use have just been replaced.
        403 if RETRIED_KINDS.contains(&kind) || RETRIED_REASONS.iter().any(|part| reason.contains(part)) => {
            Verdict::Retry
        }
        // The index, not the document, is at fault: a degraded document would be refused for the same reason.
        400 if is_of_domain(kind, reason) => Verdict::Fail,
        // A mapping conflict, too many fields, a term that is too long: engines have many names for it, and new ones.
        400 | 413 => Verdict::Degrade,
        _ => Verdict::Fail,
    }
}

/// Whether a refusal with 400 is about the domain's state, and quotes nothing of the event.
fn is_of_domain(kind: &str, reason: &str) -> bool {
    INDEX_KINDS.contains(&kind) || DOMAIN_REASONS.iter().any(|part| reason.contains(part))
}

impl Refusal {
    /// No answer at all, for this reason.
    #[must_use]
    pub fn no_answer(reason: impl Into<String>) -> Self {
        Self { status: 0, kind: String::new(), reason: reason.into(), is_of_engine: false }
    }

    /// What is to be done about it.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match classify(self.status, &self.kind, &self.reason) {
            // A proxy that rejects a document by itself would reject what is left of it, too.
            Verdict::Degrade if self.status == 400 && !self.is_of_engine => Verdict::Fail,
            verdict => verdict,
        }
    }

    /// All that the domain said, which may quote the event.
    #[must_use]
    pub fn in_full(&self) -> String {
        let parts = [&self.status.to_string(), &self.kind, &self.reason];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    }

    fn new(status: u16, error: ItemError<'_>) -> Self {
        let (kind, reason) = match error {
            ItemError::Structured { kind, reason } => (kind, reason.unwrap_or_default()),
            ItemError::Text(reason) => (Cow::Borrowed(""), reason),
        };
        Self { status, kind: kind.into_owned(), reason: reason.into_owned(), is_of_engine: true }
    }

    fn of_request(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status: status.as_u16(), kind: String::new(), reason: reason.into(), is_of_engine: false }
    }

    /// The name of the field that a mapping error is about, or the limit that is reached: never a value.
    fn subject(&self) -> Option<&str> {
        if let Some(start) = self.reason.find("Limit of total fields [") {
            let limit = &self.reason[start..];
            return limit.find(']').map(|end| &limit[..=end]);
        }
        let is_name = |name: &&str| {
            (1..=100).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte))
        };
        ["failed to parse field [", "failed to parse [", "object mapping for [", "immense term in field=\"", "mapper ["]
            .iter()
            .find_map(|lead| self.reason.split_once(lead)?.1.split([']', '"']).next())
            .filter(is_name)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is refused for who asks, for when, or for the state of the domain is not about what is in the document.
        let is_quotable = matches!(self.status, 0 | 200 | 401 | 403 | 404 | 429)
            || self.status == 400 && is_of_domain(&self.kind, &self.reason);
        let status = if self.status == 0 { String::new() } else { self.status.to_string() };
        let reason = if is_quotable { self.reason.as_str() } else { self.subject().unwrap_or_default() };
        let mut parts = [status.as_str(), &self.kind, reason].into_iter().filter(|part| !part.is_empty());
        f.write_str(parts.next().unwrap_or("no reason"))?;
        parts.try_for_each(|part| write!(f, " {part}"))?;
        if self.reason.contains(DATA_STREAM) {
            f.write_str("; remove data_stream from the index template that matches the name")?;
        }
        if self.status == 400 && !self.is_of_engine {
            f.write_str(" from a proxy in front of the domain")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Action<'a> {
    index: Metadata<'a>,
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

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    items: Vec<ReplyItem<'a>>,
}

#[derive(Deserialize)]
struct ReplyItem<'a> {
    // Old engines answer an index action that has no id as the creation that it is.
    #[serde(borrow, alias = "create")]
    index: ItemResult<'a>,
}

#[derive(Deserialize)]
struct ItemResult<'a> {
    #[serde(borrow, rename = "_id")]
    id: Option<Cow<'a, str>>,
    status: u16,
    #[serde(borrow)]
    error: Option<ItemError<'a>>,
}

impl ItemResult<'_> {
    fn read(self) -> Item {
        let is_done = classify(self.status, "", "") == Verdict::Done;
        let refusal = || Refusal::new(self.status, self.error.unwrap_or(ItemError::Text(Cow::Borrowed(""))));
        Item { id: self.id.map(Cow::into_owned), refusal: (!is_done).then(refusal) }
    }
}

/// Elasticsearch has structured errors since 2.0; 1.5 writes a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum ItemError<'a> {
    Structured {
        #[serde(rename = "type", borrow)]
        kind: Cow<'a, str>,
        #[serde(borrow)]
        reason: Option<Cow<'a, str>>,
    },
    Text(#[serde(borrow)] Cow<'a, str>),
}

/// The engine answers `{"error":…}`; the service in front of it `{"message":…}` or `{"Message":…}`.
#[derive(Deserialize)]
struct RequestError<'a> {
    #[serde(borrow)]
    error: Option<ItemError<'a>>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

/// The parts of an action line that are always there, and some more.
const ACTION_BYTES: usize = 64;

/// Errors with 403 that pass, once there is space on the disk.
const RETRIED_KINDS: [&str; 3] =
    ["cluster_block_exception", "index_create_block_exception", "es_rejected_execution_exception"];

/// What the service in front of the engine says with a 403 that passes.
const RETRIED_REASONS: [&str; 4] =
    ["Request throttled", "blocked by: [FORBIDDEN", "token included in the request is expired", "ExpiredToken"];

/// Errors with 400 that no document avoids.
const INDEX_KINDS: [&str; 4] =
    ["index_closed_exception", "invalid_index_name_exception", "type_missing_exception", "validation_exception"];

/// What engines say with 400 of a state of the domain that no document avoids: old ones of the limit on shards, all of a
/// template that makes a data stream of the name.
const DOMAIN_REASONS: [&str; 3] = ["maximum shards open", "maximum normal shards open", DATA_STREAM];

const DATA_STREAM: &str = "only write ops with an op_type of create are allowed in data streams";

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
        append(&mut body, document, mapping_type);
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn an_action_names_what_the_engine_wants() {
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
    fn a_line_break_in_a_source_does_not_end_its_line() {
        appends(&document(None, "{\n\"a\":\n1}"), None, "{\"index\":{\"_index\":\"cwl-2026.01.31\"}}\n{ \"a\": 1}\n");
    }

    #[test]
    fn the_cost_is_not_less_than_what_is_appended() {
        let document = document(Some("3671984621"), "{\"a\":1}");
        let mut body = Vec::new();
        append(&mut body, &document, Some("_doc"));
        assert!((body.len()..body.len() + 64).contains(&cost(&document)));
    }

    const SHARDS: &str = "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has \
                          [1]/[1] maximum shards open;";

    #[test]
    fn a_status_and_a_type_decide() {
        for (status, kind, reason, verdict) in [
            (200, "", "", Verdict::Done),
            (201, "", "", Verdict::Done),
            (409, "version_conflict_engine_exception", "", Verdict::Done),
            (429, "es_rejected_execution_exception", "", Verdict::Retry),
            (429, "circuit_breaking_exception", "", Verdict::Retry),
            (429, "cluster_block_exception", "", Verdict::Retry),
            (503, "unavailable_shards_exception", "", Verdict::Retry),
            (500, "", "", Verdict::Retry),
            (0, "", "no connection", Verdict::Retry),
            (403, "cluster_block_exception", "blocked by: [FORBIDDEN/8/index write (api)];", Verdict::Retry),
            (403, "index_create_block_exception", "", Verdict::Retry),
            (403, "", "ClusterBlockException[blocked by: [FORBIDDEN/8/index write (api)];]", Verdict::Retry),
            (403, "", "Request throttled due to too many requests", Verdict::Retry),
            (403, "", "The security token included in the request is expired", Verdict::Retry),
            (403, "security_exception", "no permissions", Verdict::Fail),
            (403, "", "User: anonymous is not authorized", Verdict::Fail),
            (400, "mapper_parsing_exception", "", Verdict::Degrade),
            (400, "document_parsing_exception", "", Verdict::Degrade),
            (400, "strict_dynamic_mapping_exception", "", Verdict::Degrade),
            (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", Verdict::Degrade),
            (400, "", "MapperParsingException[failed to parse]", Verdict::Degrade),
            (413, "", "", Verdict::Degrade),
            (400, "illegal_argument_exception", SHARDS, Verdict::Fail),
            (400, "illegal_argument_exception", DATA_STREAM, Verdict::Fail),
            (400, "index_closed_exception", "", Verdict::Fail),
            (400, "invalid_index_name_exception", "", Verdict::Fail),
            (404, "index_not_found_exception", "", Verdict::Fail),
            (401, "security_exception", "", Verdict::Fail),
            (302, "", "", Verdict::Fail),
        ] {
            assert_eq!(classify(status, kind, reason), verdict, "{status} {kind} {reason}");
        }
    }

    #[test]
    fn a_reply_is_read_item_by_item() {
        let body = br#"{"took":3,"errors":true,"items":[
            {"index":{"_id":"1","status":201}},
            {"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed: \"x\"","caused_by":{}}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":null}}},
            {"index":{"status":400,"error":"MapperParsingException[x]"}}]}"#;
        let Outcome::Items(items) = outcome(StatusCode::OK, body) else { panic!("no items") };
        let ids: Vec<_> = items.iter().map(|item| item.id.as_deref()).collect();
        assert_eq!(ids, [Some("1"), None, None, None]);
        let items: Vec<_> = items.into_iter().map(|item| item.refusal).collect();
        let verdicts: Vec<_> = items.iter().map(|item| item.as_ref().map(Refusal::verdict)).collect();
        assert_eq!(verdicts, [None, Some(Verdict::Degrade), Some(Verdict::Retry), Some(Verdict::Degrade)]);
        assert_eq!(items[1].as_ref().unwrap().in_full(), "400 mapper_parsing_exception failed: \"x\"");
    }

    #[test]
    fn a_refusal_displays_nothing_that_may_be_of_the_event() {
        let refusal = |status, kind: &str, reason: &str| {
            let (kind, reason) = (kind.to_owned(), reason.to_owned());
            Refusal { status, kind, reason, is_of_engine: true }.to_string()
        };
        assert_eq!(refusal(400, "mapper_parsing_exception", "secret"), "400 mapper_parsing_exception");
        assert_eq!(refusal(500, "", "secret"), "500");
        assert_eq!(Refusal::no_answer("no connection").to_string(), "no connection");
        for (reason, shown) in [
            (
                "failed to parse field [eventTime] of type [date] in document with id '1'. Preview: 'secret'",
                "eventTime",
            ),
            ("failed to parse [eventTime]", "eventTime"),
            ("object mapping for [userIdentity] tried to parse field [secret] as object", "userIdentity"),
            ("Document contains at least one immense term in field=\"x.y\" (whose prefix is secret)", "x.y"),
            ("Limit of total fields [2000] has been exceeded", "Limit of total fields [2000]"),
        ] {
            assert_eq!(refusal(400, "x", reason), format!("400 x {shown}"));
        }
        assert_eq!(refusal(400, "x", "failed to parse [a secret] text"), "400 x");
    }

    #[test]
    fn a_refusal_for_the_domains_state_says_which() {
        let refusal = |reason: &str| {
            let (kind, reason) = ("illegal_argument_exception".to_owned(), reason.to_owned());
            Refusal { status: 400, kind, reason, is_of_engine: true }.to_string()
        };
        assert!(refusal(SHARDS).ends_with("[1]/[1] maximum shards open;"));
        assert!(refusal(DATA_STREAM).ends_with("remove data_stream from the index template that matches the name"));
    }

    #[track_caller]
    fn whole(status: u16, body: &str, expected: &str) {
        let said = match outcome(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            Outcome::Items(items) => format!("{} items", items.len()),
            Outcome::Retry(refusal) => format!("retry: {refusal}"),
            Outcome::Halve(refusal) => format!("halve: {refusal}"),
            Outcome::Fail(refusal) => format!("fail: {refusal}"),
        };
        assert_eq!(said, expected);
    }

    #[test]
    fn a_request_may_be_refused_as_a_whole() {
        whole(200, r#"{"errors":false,"items":[]}"#, "0 items");
        whole(200, "<html>", "retry: 200 what came is no bulk reply");
        whole(200, r#"{"errors":false}"#, "retry: 200 what came is no bulk reply");
        whole(413, r#"{"Message":"Request size exceeded 10485760 bytes"}"#, "halve: 413");
        whole(413, "<html>", "halve: 413");
        whole(
            400,
            r#"{"error":{"type":"action_request_validation_exception"},"status":400}"#,
            "halve: 400 action_request_validation_exception",
        );
        whole(400, "<html>", "halve: 400 from a proxy in front of the domain");
        whole(400, r#"{"error":{"type":"validation_exception","reason":"r"}}"#, "fail: 400 validation_exception r");
        whole(429, r#"{"message":"429 Too Many Requests /_bulk"}"#, "retry: 429 429 Too Many Requests /_bulk");
        whole(503, "", "retry: 503");
        whole(403, r#"{"Message":"User: x is not authorized"}"#, "fail: 403 User: x is not authorized");
        whole(
            403,
            r#"{"error":{"type":"cluster_block_exception","reason":"b"}}"#,
            "retry: 403 cluster_block_exception b",
        );
        whole(404, "", "fail: 404");
    }
}
