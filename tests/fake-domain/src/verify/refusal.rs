//! Why a signature is not accepted, in the service's own words.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{SKEW, date_text};

/// Why a signature is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request is not signed at all.
    Anonymous {
        /// The request's method, which names the action that is not allowed.
        method: String,
    },
    /// A part of the signature is missing or malformed; the text says which.
    Incomplete(String),
    /// The access key or the session token is not the one expected.
    UnknownToken,
    /// The session token is one that has expired.
    TokenExpired,
    /// Signed for another region.
    Region {
        /// The region the request was signed for.
        given: String,
    },
    /// Signed for another service.
    Service {
        /// The service it should have been.
        expected: String,
    },
    /// Signed too long ago.
    Expired {
        /// When the request says it was signed.
        date: Timestamp,
        /// The domain's time.
        now: Timestamp,
    },
    /// Signed too far in the future.
    NotYet {
        /// When the request says it was signed.
        date: Timestamp,
        /// The domain's time.
        now: Timestamp,
    },
    /// `x-amz-content-sha256` is not the hash of the body that came.
    BodyHash,
    /// The signature is not that of this request.
    Mismatch {
        /// The canonical request with the URL taken as it stands.
        canonical: String,
        /// The string to sign of this canonical request.
        string_to_sign: String,
        /// The first reading of the URL under which the signature does not hold.
        reading: &'static str,
    },
}

impl Refusal {
    /// What the service calls it, in the header `x-amzn-ErrorType`.
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

    /// The answer's body.
    #[must_use]
    pub fn body(&self) -> Value {
        match self {
            // The access policy answers this, in another spelling than the signature check.
            Self::Anonymous { .. } => json!({ "Message": self.message() }),
            _ => json!({ "message": self.message() }),
        }
    }

    /// What the service says.
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

/// The action that a method needs the right to: `es:ESHttpGet`.
fn action(method: &str) -> String {
    let (first, rest) = method.split_at_checked(1).unwrap_or((method, ""));
    format!("es:ESHttp{}{}", first.to_ascii_uppercase(), rest.to_ascii_lowercase())
}
