//! Rejections of a signature, in AWS's own words.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{SKEW, date_text};

/// The reason why a signature is rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is not signed.
    Anonymous {
        /// The request's method, which determines the action that is denied.
        method: String,
    },
    /// A part of the signature is missing or malformed; the text says which.
    Incomplete(String),
    /// The access key or the session token is unknown.
    UnknownToken,
    /// The session token has expired.
    TokenExpired,
    /// Signed for another region.
    Region {
        /// The region that the request was signed for.
        given: String,
    },
    /// Signed for another service.
    Service {
        /// The service that it had to be signed for.
        expected: String,
    },
    /// Signed too long ago.
    Expired {
        /// The signature's time.
        date: Timestamp,
        /// The time of the domain's clock.
        now: Timestamp,
    },
    /// Signed too far in the future.
    NotYet {
        /// The signature's time.
        date: Timestamp,
        /// The time of the domain's clock.
        now: Timestamp,
    },
    /// `x-amz-content-sha256` does not match the body.
    BodyHash,
    /// The signature does not match this request.
    Mismatch {
        /// The canonical request for the URL as on the wire.
        canonical: String,
        /// The string to sign of this canonical request.
        string_to_sign: String,
        /// The first reading of the URL under which the signature is invalid.
        reading: &'static str,
    },
}

impl Refusal {
    /// Returns AWS's error type, which the header `x-amzn-ErrorType` has.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        match self {
            Self::Anonymous { .. } => "AccessDeniedException",
            Self::Incomplete(_) => "IncompleteSignatureException",
            Self::UnknownToken => "UnrecognizedClientException",
            Self::TokenExpired => "ExpiredTokenException",
            Self::Region { .. }
            | Self::Service { .. }
            | Self::Expired { .. }
            | Self::NotYet { .. }
            | Self::BodyHash
            | Self::Mismatch { .. } => "InvalidSignatureException",
        }
    }

    /// Returns the body of the response.
    #[must_use]
    pub fn body(&self) -> Value {
        match self {
            // The access policy responds here; it spells the key differently from the signature check.
            Self::Anonymous { .. } => json!({ "Message": self.message() }),
            _ => json!({ "message": self.message() }),
        }
    }

    /// Returns AWS's error message.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::Anonymous { method } => {
                let action = action(method);
                format!(
                    "User: anonymous is not authorized to perform: {action} because no resource-based policy allows \
                     the {action} action"
                )
            }
            Self::Incomplete(what) => what.clone(),
            Self::UnknownToken => "The security token included in the request is invalid.".to_owned(),
            Self::TokenExpired => "The security token included in the request is expired".to_owned(),
            Self::Region { given } => format!("Credential should be scoped to a valid region, not '{given}'."),
            Self::Service { expected } => format!("Credential should be scoped to correct service: '{expected}'."),
            Self::Expired { date, now } => {
                let (date, limit, now) = (date_text(*date), date_text(*now - SKEW), date_text(*now));
                format!("Signature expired: {date} is now earlier than {limit} ({now} - 5 min.)")
            }
            Self::NotYet { date, now } => {
                let (date, limit, now) = (date_text(*date), date_text(*now + SKEW), date_text(*now));
                format!("Signature not yet current: {date} is still later than {limit} ({now} + 5 min.)")
            }
            Self::BodyHash => "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned(),
            Self::Mismatch { canonical, string_to_sign, .. } => format!(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. Consult the service documentation for details.\n\nThe Canonical String \
                 for this request should have been\n'{canonical}'\n\nThe String-to-Sign should have \
                 been\n'{string_to_sign}'\n"
            ),
        }
    }
}

/// Returns the action that a method requires: `es:ESHttpGet`.
fn action(method: &str) -> String {
    let (first, rest) = method.split_at_checked(1).unwrap_or((method, ""));
    format!("es:ESHttp{}{}", first.to_ascii_uppercase(), rest.to_ascii_lowercase())
}
