//! Request outcomes: the names that error responses, the access log and the metrics share.

use std::fmt;

use hyper::StatusCode;
use strum::{IntoStaticStr, VariantArray};

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub(crate) enum Outcome {
    /// The complete upstream response reached the client's socket.
    Forwarded,
    /// A browser was redirected to the home page.
    Redirected,
    /// The client disconnected before the response ended.
    ClientLeft,
    /// The proxy stopped before the response ended: `limits.drain` was over.
    CutAtShutdown,
    /// The client's grant ended before the response did.
    #[strum(serialize = "grant_revoked")]
    Revoked,
    /// The domain broke off its response, or exceeded the read timeout.
    UpstreamBrokeOff,
    /// The head is ambiguous (request smuggling), or is not HTTP.
    MalformedRequest,
    /// The target has no canonical form.
    MalformedTarget,
    /// A trusted proxy forwarded a hop that is not an address.
    MalformedForwardedFor,
    /// The body's chunks are malformed, or the connection ended within it.
    MalformedBody,
    /// The request cannot be signed or forwarded, whatever its target.
    #[strum(serialize = "unsupported_request")]
    Unsupported,
    /// The client is not on the allowlist.
    #[strum(serialize = "client_not_allowed")]
    NotAllowed,
    /// CSRF: a page of another site sent a write.
    #[strum(serialize = "cross_site_write")]
    CrossSite,
    /// The client's grant is read-only.
    #[strum(serialize = "read_only_grant")]
    ReadOnly,
    /// The head exceeded the header timeout (slowloris).
    HeadTimeout,
    /// The body exceeded the read timeout.
    BodyTimeout,
    /// The body exceeds the size limit.
    BodyTooLarge,
    /// The target exceeds the length limit.
    TargetTooLong,
    // Not about the client: the same request can succeed under another host name.
    /// The host is not served (DNS rebinding protection).
    UnknownHost,
    /// The client's entry has used up its quota.
    QuotaExceeded,
    /// The head exceeds the size limit.
    HeadTooLarge,
    /// The domain cannot be reached.
    #[strum(serialize = "upstream_unreachable")]
    Unreachable,
    /// The domain broke off before its response, or the response is malformed.
    #[strum(serialize = "upstream_broken_reply")]
    BrokenReply,
    /// The domain rejected the signature.
    #[strum(serialize = "upstream_refused_signature")]
    RefusedSignature,
    /// The domain rejected the credentials as unknown or expired.
    #[strum(serialize = "upstream_refused_credentials")]
    RefusedCredentials,
    /// Load shedding: too many bodies are buffered.
    TooBusy,
    /// The access log cannot be written, and `log.on_failure` is `refuse`.
    LogUnwritable,
    /// No credentials to sign with exist (fail closed).
    NoCredentials,
    /// The domain accepted no connection in time.
    #[strum(serialize = "upstream_connect_timeout")]
    ConnectTimeout,
    /// The domain did not respond in time.
    #[strum(serialize = "upstream_timeout")]
    ResponseTimeout,
    /// The proxy itself failed.
    #[strum(serialize = "internal_error")]
    Internal,
}

impl Outcome {
    /// Returns the name: `error.type` of a rejection, `outcome` in the access log and the metrics.
    pub(crate) const fn name(self) -> &'static str {
        self.into_str()
    }

    /// Returns the status of a rejection of this kind; `None` if the response is the domain's.
    pub(crate) const fn status(self) -> Option<StatusCode> {
        Some(match self {
            Self::Forwarded
            | Self::Redirected
            | Self::ClientLeft
            | Self::CutAtShutdown
            | Self::Revoked
            | Self::UpstreamBrokeOff => return None,
            Self::MalformedRequest
            | Self::MalformedTarget
            | Self::MalformedForwardedFor
            | Self::MalformedBody
            | Self::Unsupported => StatusCode::BAD_REQUEST,
            Self::NotAllowed | Self::CrossSite | Self::ReadOnly => StatusCode::FORBIDDEN,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Unreachable | Self::BrokenReply | Self::RefusedSignature | Self::RefusedCredentials => {
                StatusCode::BAD_GATEWAY
            }
            Self::TooBusy | Self::LogUnwritable | Self::NoCredentials => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::ResponseTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_page_lists_each_rejection_and_its_status() {
        let page = include_str!("../../docs/rejections.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
        let mut listed: Vec<(&str, &str)> = rows
            .filter(|(status, _)| status.parse::<u16>().is_ok())
            .flat_map(|(status, rest)| {
                let kinds = rest.split(" | ").next().unwrap().split(", ");
                kinds.map(move |kind| (status, kind.trim_matches('`')))
            })
            .collect();
        let statuses: Vec<(String, &str)> = Outcome::VARIANTS
            .iter()
            .filter_map(|outcome| Some((outcome.status()?.as_str().to_owned(), outcome.name())))
            .collect();
        let mut expected: Vec<(&str, &str)> = statuses.iter().map(|(status, name)| (status.as_str(), *name)).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }

    #[test]
    fn access_log_page_lists_every_other_outcome() {
        let page = include_str!("../../docs/access-log.md");
        let row = page.lines().find(|line| line.starts_with("| `status`, `outcome` |")).unwrap();
        for outcome in Outcome::VARIANTS.iter().filter(|outcome| outcome.status().is_none()) {
            assert!(row.contains(&format!("`{outcome}`")), "{outcome} is missing");
        }
    }

    #[test]
    fn dashboard_counts_each_rejection_and_nothing_else() {
        let definitions = include_str!("../../dashboards/access-log.toml");
        let query = definitions.lines().find_map(|line| line.strip_prefix("query = 'NOT outcome:(")).unwrap();
        let mut others: Vec<&str> = query.trim_end_matches(")'").split(" OR ").collect();
        let answered = Outcome::VARIANTS.iter().filter(|outcome| outcome.status().is_none());
        let mut expected: Vec<&str> = answered.map(|outcome| outcome.name()).collect();
        others.sort_unstable();
        expected.sort_unstable();
        assert_eq!(others, expected);
    }
}
