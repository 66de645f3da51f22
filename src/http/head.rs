//! Request smuggling defence: validates each request head before hyper parses it.
//!
//! A signature covers one reading of a request, so an ambiguous request must not pass. hyper is lenient: it accepts a
//! bare LF as a line end, and `Content-Length` together with `Transfer-Encoding`. [`HeadValidator`] rejects these.
//! [`ValidatingStream`](validating_stream::ValidatingStream) puts it between the socket and hyper, which still does the
//! parsing. The rules are those of RFC 9112, sections 2.2, 3, 5 and 6.

mod error;
pub(crate) mod http2;
pub(crate) mod validating_stream;
mod validator;

pub use self::error::{HeadError, HeadLimits};
pub use self::validator::{HeadValidator, encode_target};
