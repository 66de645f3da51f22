//! What names a request in its answer, in the access log and in the other log.

use std::fmt;

use hyper::header::{HeaderName, HeaderValue};

/// The header of an answer that has the name.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("trailgate-request-id");

/// A name, as 16 hexadecimal digits.
#[derive(Clone)]
pub struct RequestId(hex::Buffer<8>);

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl RequestId {
    /// The name made of `number`.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(hex::Buffer::new().const_format(&number.to_be_bytes()))
    }

    /// Its digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn to_header(&self) -> HeaderValue {
        HeaderValue::from_str(self.as_str()).expect("hexadecimal digits are visible characters")
    }
}
