//! The request id, which links a response, its access line and its events.

use std::fmt;

use hyper::header::{HeaderName, HeaderValue};

/// The response header that carries the request id.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("trailgate-request-id");

/// A request id of 16 hexadecimal digits.
#[derive(Clone)]
pub struct RequestId(hex::Buffer<8>);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RequestId {
    /// Creates the id of `number`.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(hex::Buffer::new().const_format(&number.to_be_bytes()))
    }

    /// Returns the digits of the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).expect("hexadecimal digits are visible characters")
    }
}
