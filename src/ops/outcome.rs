//! Request outcomes: the names that error responses, the access log and the metrics share.

use std::fmt;

use hyper::StatusCode;

/// Declares [`Outcome`] from one table, so that [`Outcome::ALL`] is complete.
macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $(, $status:ident)?;)*) => {
        /// The outcome of a request.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            /// All outcomes, in the order of the variants.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            /// Returns the outcome's name: `error.type` of a rejection, `outcome` in the access log and the metrics.
            #[must_use]
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// Returns the status of a rejection of this kind; `None` if the response is the domain's.
            #[must_use]
            pub(crate) const fn status(self) -> Option<StatusCode> {
                match self {
                    $($(Self::$variant => Some(StatusCode::$status),)?)*
                    _ => None,
                }
            }
        }
    };
}

outcomes! {
    /// The complete upstream response reached the client's socket.
    Forwarded = "forwarded";
    /// A browser was redirected to the home page.
    Redirected = "redirected";
    /// The client disconnected before the response ended.
    ClientLeft = "client_left";
    /// The proxy stopped before the response ended: `limits.drain` was over.
    CutAtShutdown = "cut_at_shutdown";
    /// The client's grant ended before the response did.
    Revoked = "grant_revoked";
    /// The domain broke off its response, or exceeded the read timeout.
    UpstreamBrokeOff = "upstream_broke_off";
    /// The head is ambiguous (request smuggling), or is not HTTP.
    MalformedRequest = "malformed_request", BAD_REQUEST;
    /// The target has no canonical form.
    MalformedTarget = "malformed_target", BAD_REQUEST;
    /// A trusted proxy forwarded a hop that is not an address.
    MalformedForwardedFor = "malformed_forwarded_for", BAD_REQUEST;
    /// The body's chunks are malformed, or the connection ended within it.
    MalformedBody = "malformed_body", BAD_REQUEST;
    /// The request cannot be signed or forwarded, whatever its target.
    Unsupported = "unsupported_request", BAD_REQUEST;
    /// The client is not on the allowlist.
    NotAllowed = "client_not_allowed", FORBIDDEN;
    /// CSRF: a page of another site sent a write.
    CrossSite = "cross_site_write", FORBIDDEN;
    /// The client's grant is read-only.
    ReadOnly = "read_only_grant", FORBIDDEN;
    /// The head exceeded the header timeout (slowloris).
    HeadTimeout = "head_timeout", REQUEST_TIMEOUT;
    /// The body exceeded the read timeout.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    /// The body exceeds the size limit.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// The target exceeds the length limit.
    TargetTooLong = "target_too_long", URI_TOO_LONG;
    // Not about the client: the same request can succeed under another host name.
    /// The host is not served (DNS rebinding protection).
    UnknownHost = "unknown_host", MISDIRECTED_REQUEST;
    /// The client's entry has used up its quota.
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS;
    /// The head exceeds the size limit.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The domain cannot be reached.
    Unreachable = "upstream_unreachable", BAD_GATEWAY;
    /// The domain broke off before its response, or the response is malformed.
    BrokenReply = "upstream_broken_reply", BAD_GATEWAY;
    /// The domain rejected the signature.
    RefusedSignature = "upstream_refused_signature", BAD_GATEWAY;
    /// The domain rejected the credentials as unknown or expired.
    RefusedCredentials = "upstream_refused_credentials", BAD_GATEWAY;
    /// Load shedding: too many bodies are buffered.
    TooBusy = "too_busy", SERVICE_UNAVAILABLE;
    /// The access log cannot be written, and `log.on_failure` is `refuse`.
    LogUnwritable = "log_unwritable", SERVICE_UNAVAILABLE;
    /// No credentials to sign with exist (fail closed).
    NoCredentials = "no_credentials", SERVICE_UNAVAILABLE;
    /// The domain accepted no connection in time.
    ConnectTimeout = "upstream_connect_timeout", GATEWAY_TIMEOUT;
    /// The domain did not respond in time.
    ResponseTimeout = "upstream_timeout", GATEWAY_TIMEOUT;
    /// The proxy itself failed.
    Internal = "internal_error", INTERNAL_SERVER_ERROR;
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
        let statuses: Vec<(String, &str)> = Outcome::ALL
            .iter()
            // An internal error needs no entry in the guide.
            .filter(|&&outcome| outcome != Outcome::Internal)
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
        for outcome in Outcome::ALL.iter().filter(|outcome| outcome.status().is_none()) {
            assert!(row.contains(&format!("`{outcome}`")), "{outcome} is missing");
        }
    }

    #[test]
    fn dashboard_counts_each_rejection_and_nothing_else() {
        let definitions = include_str!("../../dashboards/access-log.toml");
        let query = definitions.lines().find_map(|line| line.strip_prefix("query = 'NOT outcome:(")).unwrap();
        let mut others: Vec<&str> = query.trim_end_matches(")'").split(" OR ").collect();
        let answered = Outcome::ALL.iter().filter(|outcome| outcome.status().is_none());
        let mut expected: Vec<&str> = answered.map(|outcome| outcome.name()).collect();
        others.sort_unstable();
        expected.sort_unstable();
        assert_eq!(others, expected);
    }
}
