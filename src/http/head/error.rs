//! The limits of a request head, and the reasons for its rejection.

/// The limits of a request head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Maximum bytes of the request line and all headers.
    pub bytes: usize,
    /// Maximum number of headers.
    pub headers: usize,
}

/// The reason for which a request head is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Plain HTTP on a listener with TLS.
    #[error("this port speaks https: write https:// instead of http://")]
    Unencrypted,
    /// A line ends in LF without CR.
    #[error("a line of the head ends in a bare LF")]
    BareLf,
    /// The first line is not `METHOD TARGET HTTP/1.x`.
    #[error("the request line is malformed")]
    RequestLine,
    /// The target is not a URL, mostly because of a byte that no URL has.
    #[error("the request target is not a URL: percent-encode what cannot stand in one")]
    Target,
    /// A header name is not a token: it is empty, or has white space around it.
    #[error("a header's name is malformed")]
    HeaderName,
    /// A header value contains a control character.
    #[error("a header's value holds a control character")]
    HeaderValue,
    /// `Host` is missing or repeated.
    #[error("the head must have one Host")]
    Host,
    /// The host is preceded by userinfo.
    #[error("the host must not have a user name or password before it")]
    User,
    /// `Content-Length` is not a number, or is repeated.
    #[error("Content-Length is malformed or repeated")]
    ContentLength,
    /// `Transfer-Encoding` is not exactly `chunked`, or comes with `Content-Length` or in HTTP/1.0.
    #[error("Transfer-Encoding must be chunked, and stand without Content-Length")]
    TransferEncoding,
    /// The head exceeds a limit.
    #[error("the head is too large")]
    TooLarge,
    /// The head did not arrive in time.
    #[error("the head did not arrive in time")]
    Slow,
}
