//! The limits of a head, and the reasons of its rejection.

/// The limits of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes of the request line and all headers.
    pub bytes: usize,
    /// Number of headers.
    pub headers: usize,
}

/// The reason why a request's head is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A line ends in LF without CR.
    #[error("a line of the head ends in a bare LF")]
    BareLf,
    /// The first line is not `METHOD TARGET HTTP/1.x`.
    #[error("the request line is malformed")]
    RequestLine,
    /// The target is no URL, most often for a byte that no URL has.
    #[error("the request target is not a URL: percent-encode what cannot stand in one")]
    Target,
    /// A header's name is no token: it is empty, or there is white space around it.
    #[error("a header's name is malformed")]
    HeaderName,
    /// A header's value holds a control character.
    #[error("a header's value holds a control character")]
    HeaderValue,
    /// There is no `Host`, or more than one.
    #[error("the head must have one Host")]
    Host,
    /// The host has a user name before it.
    #[error("the host must not have a user name or password before it")]
    User,
    /// `Content-Length` is no number, or is there twice.
    #[error("Content-Length is malformed or repeated")]
    ContentLength,
    /// `Transfer-Encoding` is not `chunked` alone, or comes with `Content-Length` or in HTTP/1.0.
    #[error("Transfer-Encoding must be chunked, and stand without Content-Length")]
    TransferEncoding,
    /// The head is larger than the limit.
    #[error("the head is too large")]
    TooLarge,
    /// The head did not arrive in time.
    #[error("the head did not arrive in time")]
    Slow,
}
