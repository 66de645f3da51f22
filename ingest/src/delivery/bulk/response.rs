//! A `_bulk` response, read item by item.

use std::borrow::Cow;

use hyper::StatusCode;
use serde::Deserialize;

use super::error::{BulkError, Verdict, classify};

/// The result of a request.
#[derive(Debug)]
pub enum BulkOutcome {
    /// The domain accepted the request; the result of each item.
    Items(Vec<BulkItem>),
    /// The items' results are not known, or none was processed: send the same again, later.
    Retry(BulkError),
    /// The body is rejected as a whole: for its length, or for something in it. A document that is rejected alone is
    /// degraded only if the error's verdict says so.
    Halve(BulkError),
    /// The request is rejected whatever its body is.
    Fail(BulkError),
}

/// The result of one item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkItem {
    /// The document's id, if the response has it.
    pub id: Option<String>,
    /// The reason why it is not in the index; none if it is.
    pub error: Option<BulkError>,
}

/// Parses the response to a request.
#[must_use]
pub fn read_response(status: StatusCode, body: &[u8]) -> BulkOutcome {
    if status.is_success() {
        return match serde_json::from_slice::<Success<'_>>(body) {
            Ok(response) => BulkOutcome::Items(response.items.into_iter().map(|item| item.index.into_item()).collect()),
            // A proxy or a login page wrote it, which may have passed the request on or not.
            Err(_) => BulkOutcome::Retry(BulkError::of_request(status, "the response is not a bulk response")),
        };
    }
    let error = match serde_json::from_slice(body) {
        Ok(Failure { error: Some(error), .. }) => error.into_error(status.as_u16()),
        Ok(Failure { message: Some(message), .. }) => BulkError::of_request(status, message),
        _ => BulkError::of_request(status, plain_text(body)),
    };
    match (status, error.verdict()) {
        (StatusCode::BAD_REQUEST, Verdict::Fail) if error.is_from_engine => BulkOutcome::Fail(error),
        (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, _) => BulkOutcome::Halve(error),
        (_, Verdict::Retry) => BulkOutcome::Retry(error),
        _ => BulkOutcome::Fail(error),
    }
}

/// Returns a body that is one short line of plain text, as the service in front of the engine writes it at times.
fn plain_text(body: &[u8]) -> &str {
    let text = str::from_utf8(body).unwrap_or_default().trim();
    let is_line = text.len() <= MAX_LINE && !text.starts_with(['<', '{', '[']) && !text.contains(char::is_control);
    if is_line { text } else { "" }
}

/// The longest line of plain text that is quoted.
const MAX_LINE: usize = 200;

#[derive(Deserialize)]
struct Success<'a> {
    #[serde(borrow)]
    items: Vec<SuccessItem<'a>>,
}

#[derive(Deserialize)]
struct SuccessItem<'a> {
    // Old engines answer an index action without an id as the creation that it is.
    #[serde(borrow, alias = "create")]
    index: ActionResult<'a>,
}

#[derive(Deserialize)]
struct ActionResult<'a> {
    #[serde(borrow, rename = "_id")]
    id: Option<Cow<'a, str>>,
    status: u16,
    #[serde(borrow)]
    error: Option<ErrorBody<'a>>,
}

impl ActionResult<'_> {
    fn into_item(self) -> BulkItem {
        let is_done = classify(self.status, "", "") == Verdict::Done;
        let error = || self.error.unwrap_or(ErrorBody::Text(Cow::Borrowed(""))).into_error(self.status);
        BulkItem { id: self.id.map(Cow::into_owned), error: (!is_done).then(error) }
    }
}

/// The engine's error: structured since Elasticsearch 2.0; 1.5 writes a text.
#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody<'a> {
    Structured {
        #[serde(rename = "type", borrow)]
        error_type: Cow<'a, str>,
        #[serde(borrow)]
        reason: Option<Cow<'a, str>>,
    },
    Text(#[serde(borrow)] Cow<'a, str>),
}

impl ErrorBody<'_> {
    fn into_error(self, status: u16) -> BulkError {
        let (error_type, reason) = match self {
            Self::Structured { error_type, reason } => (error_type, reason.unwrap_or_default()),
            Self::Text(reason) => (Cow::Borrowed(""), reason),
        };
        BulkError { status, error_type: error_type.into_owned(), reason: reason.into_owned(), is_from_engine: true }
    }
}

/// A rejected request: the engine answers `{"error":…}`, the service in front of it `{"message":…}` or `{"Message":…}`.
#[derive(Deserialize)]
struct Failure<'a> {
    #[serde(borrow)]
    error: Option<ErrorBody<'a>>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_read_item_by_item() {
        let body = br#"{"took":3,"errors":true,"items":[
            {"index":{"_id":"1","status":201}},
            {"index":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"failed: \"x\"","caused_by":{}}}},
            {"create":{"status":429,"error":{"type":"es_rejected_execution_exception","reason":null}}},
            {"index":{"status":400,"error":"MapperParsingException[x]"}}]}"#;
        let BulkOutcome::Items(items) = read_response(StatusCode::OK, body) else { panic!("no items") };
        let ids: Vec<_> = items.iter().map(|item| item.id.as_deref()).collect();
        assert_eq!(ids, [Some("1"), None, None, None]);
        let items: Vec<_> = items.into_iter().map(|item| item.error).collect();
        let verdicts: Vec<_> = items.iter().map(|item| item.as_ref().map(BulkError::verdict)).collect();
        assert_eq!(verdicts, [None, Some(Verdict::Degrade), Some(Verdict::Retry), Some(Verdict::Degrade)]);
        assert_eq!(items[1].as_ref().unwrap().full_text(), "400 mapper_parsing_exception failed: \"x\"");
    }

    #[track_caller]
    fn whole(status: u16, body: &str, expected: &str) {
        let read = match read_response(StatusCode::from_u16(status).unwrap(), body.as_bytes()) {
            BulkOutcome::Items(items) => format!("{} items", items.len()),
            BulkOutcome::Retry(error) => format!("retry: {error}"),
            BulkOutcome::Halve(error) => format!("halve: {error}"),
            BulkOutcome::Fail(error) => format!("fail: {error}"),
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn rejected_request_is_retried_halved_or_failed() {
        whole(200, r#"{"errors":false,"items":[]}"#, "0 items");
        whole(200, "<html>", "retry: 200 the response is not a bulk response");
        whole(200, r#"{"errors":false}"#, "retry: 200 the response is not a bulk response");
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
        whole(
            403,
            "Request throttled due to too many requests\n",
            "retry: 403 Request throttled due to too many requests",
        );
        whole(401, "Unauthorized", "fail: 401 Unauthorized");
        whole(403, "two\nlines", "fail: 403");
        let advice = "the endpoint redirects, as a login page does; write the domain's own endpoint";
        whole(302, "<html>", &format!("fail: 302 {advice}"));
    }
}
