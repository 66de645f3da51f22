//! The record of a received request.

use bytes::Bytes;

use crate::verify::Request;

/// A request as received on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The number of its connection, counted from 1.
    pub connection: usize,
    /// The method.
    pub method: String,
    /// The request target, undecoded.
    pub target: String,
    /// All header lines in order, with the names as spelled on the wire.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
    /// The ARN of the session that signed it, if its credentials are of a role that the domain's STS let assume.
    pub signer: Option<String>,
    /// The reason why it was rejected; `None` if it was accepted.
    pub refusal: Option<String>,
}

impl Seen {
    /// Returns a header's value, the first one if there are several; `None` also if it is not text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).next().and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Returns all values of a header.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        self.headers
            .iter()
            .filter(move |(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request { method: &self.method, target: &self.target, headers: &self.headers, body: &self.body }
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(self.target.as_str(), |(path, _)| path)
    }
}
