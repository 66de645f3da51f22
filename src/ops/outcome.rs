//! How a request can end: the one list of names that answers, the access log and the metrics share.

use std::fmt;

use hyper::StatusCode;

/// Declares [`Outcome`] from one table, so that no name can be missing from [`Outcome::ALL`].
macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $(, $status:ident)?;)*) => {
        /// How a request ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            /// Every outcome, in the order of the variants.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            /// The outcome's name: `error.type` of a refusal, `outcome` in the access log and the metrics.
            #[must_use]
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The status that a refusal of this kind is answered with; `None` where the answer is the domain's.
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
    /// The domain's whole answer reached the client's socket.
    Forwarded = "forwarded";
    /// A browser was sent to the home page.
    Redirected = "redirected";
    /// The client went away before the answer's end.
    ClientLeft = "client_left";
    /// The proxy stopped before the answer's end: `limits.drain` was over.
    CutAtShutdown = "cut_at_shutdown";
    /// The client's grant ended before the answer did.
    Revoked = "grant_revoked";
    /// The domain broke off its answer, or said nothing more for too long.
    UpstreamBrokeOff = "upstream_broke_off";
    /// The head can be read in more than one way, or is no HTTP.
    MalformedRequest = "malformed_request", BAD_REQUEST;
    /// The target has no canonical spelling.
    MalformedTarget = "malformed_target", BAD_REQUEST;
    /// A trusted proxy passed on a hop that is no address.
    MalformedForwardedFor = "malformed_forwarded_for", BAD_REQUEST;
    /// The body's chunks are broken, or the connection ended within it.
    MalformedBody = "malformed_body", BAD_REQUEST;
    /// The request cannot be signed or forwarded, whatever it asks for.
    Unsupported = "unsupported_request", BAD_REQUEST;
    /// The client is not on the list.
    NotAllowed = "client_not_allowed", FORBIDDEN;
    /// A page of another site sent a request that changes something.
    CrossSite = "cross_site_write", FORBIDDEN;
    /// The client may only read.
    ReadOnly = "read_only_grant", FORBIDDEN;
    /// The head did not come in time.
    HeadTimeout = "head_timeout", REQUEST_TIMEOUT;
    /// The body did not come in time.
    BodyTimeout = "body_timeout", REQUEST_TIMEOUT;
    /// The body is larger than one may be.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE;
    /// The target is longer than a URL can be.
    TargetTooLong = "target_too_long", URI_TOO_LONG;
    // It is about the name, not about the client: under another one it may well be answered.
    /// The host asked for is not answered.
    UnknownHost = "unknown_host", MISDIRECTED_REQUEST;
    /// The client's entry has used up its quota.
    QuotaExceeded = "quota_exceeded", TOO_MANY_REQUESTS;
    /// The head is larger than one may be.
    HeadTooLarge = "head_too_large", REQUEST_HEADER_FIELDS_TOO_LARGE;
    /// The domain cannot be reached.
    Unreachable = "upstream_unreachable", BAD_GATEWAY;
    /// The domain broke off before its answer, or answered nonsense.
    BrokenReply = "upstream_broken_reply", BAD_GATEWAY;
    /// The domain did not take the signature.
    RefusedSignature = "upstream_refused_signature", BAD_GATEWAY;
    /// The domain does not know the credentials, or finds them expired.
    RefusedCredentials = "upstream_refused_credentials", BAD_GATEWAY;
    /// Too many bodies are held at once.
    TooBusy = "too_busy", SERVICE_UNAVAILABLE;
    /// The access log cannot be written, and `log.on_failure` is `refuse`.
    LogUnwritable = "log_unwritable", SERVICE_UNAVAILABLE;
    /// There is nothing to sign with.
    NoCredentials = "no_credentials", SERVICE_UNAVAILABLE;
    /// The domain took no connection in time.
    ConnectTimeout = "upstream_connect_timeout", GATEWAY_TIMEOUT;
    /// The domain did not answer in time.
    ResponseTimeout = "upstream_timeout", GATEWAY_TIMEOUT;
    /// The gate itself failed.
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
    fn rejections_page_names_every_rejection_with_its_status() {
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
            // That the gate may fail is nothing to look up.
            .filter(|&&outcome| outcome != Outcome::Internal)
            .filter_map(|outcome| Some((outcome.status()?.as_str().to_owned(), outcome.name())))
            .collect();
        let mut expected: Vec<(&str, &str)> = statuses.iter().map(|(status, name)| (status.as_str(), *name)).collect();
        listed.sort_unstable();
        expected.sort_unstable();
        assert_eq!(listed, expected);
    }

    #[test]
    fn access_log_page_names_every_other_outcome() {
        let page = include_str!("../../docs/access-log.md");
        let row = page.lines().find(|line| line.starts_with("| `status`, `outcome` |")).unwrap();
        for outcome in Outcome::ALL.iter().filter(|outcome| outcome.status().is_none()) {
            assert!(row.contains(&format!("`{outcome}`")), "{outcome} is missing");
        }
    }
}
