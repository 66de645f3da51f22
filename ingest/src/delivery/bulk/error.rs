//! The reasons why the domain did not index a bulk item or accept a request, and the consequences.

use std::fmt;

use hyper::StatusCode;

/// The reason why the domain did not index an item, or accept a request.
///
/// It displays without what may quote the event; [`BulkError::full_text`] is for where the event itself goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BulkError {
    /// The status of the item or the response; 0 if there was no response.
    pub status: u16,
    /// The error's type, such as `mapper_parsing_exception`; may be empty.
    pub error_type: String,
    /// The error's reason; may be empty.
    pub reason: String,
    /// True if it has the engine's own form. A proxy's error is about the request, not about a document.
    pub is_from_engine: bool,
}

/// The next step for an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None: it is in the index.
    Done,
    /// Send it again, later.
    Retry,
    /// Send a degraded document: this one does not fit.
    Degrade,
    /// Give up.
    Fail,
}

/// Decides by an item's status and error. A request's status and error mean the same, except that it has no document.
#[must_use]
pub(super) fn classify(status: u16, error_type: &str, reason: &str) -> Verdict {
    match status {
        // A conflict: the index has this version of the document or a later one.
        200..=299 | 409 => Verdict::Done,
        // 0 means no response. The others mean too much load, or a missing node.
        0 | 408 | 429 | 500..=599 => Verdict::Retry,
        // Transient: a full disk, an overloaded domain, or credentials that were just replaced.
        403 if RETRIED_TYPES.contains(&error_type) || RETRIED_REASONS.iter().any(|part| reason.contains(part)) => {
            Verdict::Retry
        }
        // The index, not the document, is at fault: a degraded document would be rejected for the same reason.
        400 if is_about_domain(error_type, reason) => Verdict::Fail,
        // A mapping conflict, too many fields, a term that is too long: engines have many names for it, and new ones.
        400 | 413 => Verdict::Degrade,
        _ => Verdict::Fail,
    }
}

/// Returns whether an error with 400 is about the domain's state, and quotes nothing of the event.
fn is_about_domain(error_type: &str, reason: &str) -> bool {
    // A value of the event, which such an error quotes, may say the same.
    let may_quote_event = error_type.ends_with("parsing_exception");
    INDEX_TYPES.contains(&error_type) || !may_quote_event && DOMAIN_REASONS.iter().any(|part| reason.contains(part))
}

impl BulkError {
    /// Creates the error of a request without a response.
    #[must_use]
    pub fn no_response(reason: impl Into<String>) -> Self {
        Self { status: 0, error_type: String::new(), reason: reason.into(), is_from_engine: false }
    }

    /// Creates the error of a response that has not the engine's form.
    pub(super) fn of_request(status: StatusCode, reason: impl Into<String>) -> Self {
        Self { status: status.as_u16(), error_type: String::new(), reason: reason.into(), is_from_engine: false }
    }

    /// Returns the next step for an item with this error.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        match classify(self.status, &self.error_type, &self.reason) {
            // A proxy that rejects a document by itself would reject its degraded form, too.
            Verdict::Degrade if self.status == 400 && !self.is_from_engine => Verdict::Fail,
            verdict => verdict,
        }
    }

    /// Returns all that the domain answered, which may quote the event.
    #[must_use]
    pub fn full_text(&self) -> String {
        let parts = [&self.status.to_string(), &self.error_type, &self.reason];
        parts.into_iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join(" ")
    }

    /// Returns the name of the field that a mapping error is about, or the limit that is reached: never a value.
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

impl fmt::Display for BulkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // These statuses are about the sender, the time or the domain's state, not about what is in the document.
        let is_quotable = matches!(self.status, 0 | 200 | 401 | 403 | 404 | 429)
            || self.status == 400 && is_about_domain(&self.error_type, &self.reason);
        let status = if self.status == 0 { String::new() } else { self.status.to_string() };
        let reason = if is_quotable { self.reason.as_str() } else { self.subject().unwrap_or_default() };
        let mut parts = [status.as_str(), &self.error_type, reason].into_iter().filter(|part| !part.is_empty());
        f.write_str(parts.next().unwrap_or("no reason"))?;
        parts.try_for_each(|part| write!(f, " {part}"))?;
        if matches!(self.status, 300..=399) {
            f.write_str(" the endpoint redirects, as a login page does; write the domain's own endpoint")?;
        }
        if self.reason.contains(DATA_STREAM) {
            f.write_str("; remove data_stream from the index template that matches the name")?;
        }
        if self.status == 400 && !self.is_from_engine {
            f.write_str(" from a proxy in front of the domain")?;
        }
        Ok(())
    }
}

/// Types of transient errors with 403: they end once the disk has space again.
const RETRIED_TYPES: [&str; 3] =
    ["cluster_block_exception", "index_create_block_exception", "es_rejected_execution_exception"];

/// Parts of the reasons of transient 403 responses by the service in front of the engine.
const RETRIED_REASONS: [&str; 4] =
    ["Request throttled", "blocked by: [FORBIDDEN", "token included in the request is expired", "ExpiredToken"];

/// Types of errors with 400 that no document avoids.
const INDEX_TYPES: [&str; 4] =
    ["index_closed_exception", "invalid_index_name_exception", "type_missing_exception", "validation_exception"];

/// Parts of the reasons of 400 responses that concern the domain's state, which no document avoids: those of old
/// engines for the limit on shards, and those of all engines for a template that makes a data stream of the name or names a
/// missing ingest pipeline, and for an alias of the name.
const DOMAIN_REASONS: [&str; 5] = [
    "maximum shards open",
    "maximum normal shards open",
    DATA_STREAM,
    "pipeline with id [",
    "no write index is defined for alias [",
];

const DATA_STREAM: &str = "only write ops with an op_type of create are allowed in data streams";

#[cfg(test)]
mod tests {
    use super::*;

    const PIPELINE: &str = "pipeline with id [geoip] does not exist";
    const ALIAS: &str =
        "no write index is defined for alias [cwl-2026.01.31]. The write index may be explicitly disabled";
    const SHARDS: &str = "Validation Failed: 1: this action would add [2] total shards, but this cluster currently has \
                          [1]/[1] maximum shards open;";

    #[test]
    fn verdict_depends_on_status_type_and_reason() {
        for (status, error_type, reason, verdict) in [
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
            (400, "illegal_argument_exception", PIPELINE, Verdict::Fail),
            (400, "illegal_argument_exception", ALIAS, Verdict::Fail),
            (400, "mapper_parsing_exception", "Preview of field's value: 'maximum shards open'", Verdict::Degrade),
            (400, "index_closed_exception", "", Verdict::Fail),
            (400, "invalid_index_name_exception", "", Verdict::Fail),
            (404, "index_not_found_exception", "", Verdict::Fail),
            (401, "security_exception", "", Verdict::Fail),
            (302, "", "", Verdict::Fail),
        ] {
            assert_eq!(classify(status, error_type, reason), verdict, "{status} {error_type} {reason}");
        }
    }

    #[test]
    fn error_displays_no_part_of_the_event() {
        let shown = |status, error_type: &str, reason: &str| {
            let (error_type, reason) = (error_type.to_owned(), reason.to_owned());
            BulkError { status, error_type, reason, is_from_engine: true }.to_string()
        };
        assert_eq!(shown(400, "mapper_parsing_exception", "secret"), "400 mapper_parsing_exception");
        assert_eq!(shown(500, "", "secret"), "500");
        assert_eq!(BulkError::no_response("no connection").to_string(), "no connection");
        for (reason, subject) in [
            (
                "failed to parse field [eventTime] of type [date] in document with id '1'. Preview: 'secret'",
                "eventTime",
            ),
            ("failed to parse [eventTime]", "eventTime"),
            ("object mapping for [userIdentity] tried to parse field [secret] as object", "userIdentity"),
            ("Document contains at least one immense term in field=\"x.y\" (whose prefix is secret)", "x.y"),
            ("Limit of total fields [2000] has been exceeded", "Limit of total fields [2000]"),
        ] {
            assert_eq!(shown(400, "x", reason), format!("400 x {subject}"));
        }
        assert_eq!(shown(400, "x", "failed to parse [a secret] text"), "400 x");
    }

    #[test]
    fn error_about_the_domains_state_states_it() {
        let shown = |reason: &str| {
            let (error_type, reason) = ("illegal_argument_exception".to_owned(), reason.to_owned());
            BulkError { status: 400, error_type, reason, is_from_engine: true }.to_string()
        };
        assert!(shown(SHARDS).ends_with("[1]/[1] maximum shards open;"));
        assert!(shown(PIPELINE).ends_with(PIPELINE));
        assert!(shown(DATA_STREAM).ends_with("remove data_stream from the index template that matches the name"));
    }
}
