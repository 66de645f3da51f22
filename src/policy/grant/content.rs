//! The format of a body: its media type and content coding, and its decoded bytes.

use std::io::Read as _;

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use hyper::header::{self, HeaderMap};
use trailgate_client::HashedBody;

use super::DenyReason;

/// The format of a body that a request's headers declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    media: Media,
    coding: Coding,
}

/// A media type, in the classes that servers parse differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`, or a type that ends in `+json`.
    Json,
    /// `multipart/form-data`, in which browsers upload files.
    Multipart,
    /// YAML, CBOR or Smile. The engine parses them, the proxy does not.
    Binary,
    /// Any other type, several types, or none.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Identity,
    Gzip,
    /// A coding that the proxy does not decode, or several.
    Other,
}

impl Content {
    /// The format of a body that is not inspected.
    pub(super) const UNREAD: Self = Self { media: Media::Other, coding: Coding::Other };

    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self { media: media(headers), coding: coding(headers) }
    }

    pub(super) fn media(self) -> Media {
        self.media
    }

    /// Returns the bytes of a JSON body.
    pub(super) fn json(self, body: &HashedBody) -> Result<Bytes, DenyReason> {
        if self.media == Media::Json { self.decode(body) } else { Err(DenyReason::Unreadable) }
    }

    /// Returns the bytes of a multipart body.
    pub(super) fn form(self, body: &HashedBody) -> Result<Bytes, DenyReason> {
        if self.media == Media::Multipart { self.decode(body) } else { Err(DenyReason::Unreadable) }
    }

    /// Returns the decoded bytes of `body`, or fails if it is larger than [`READABLE`].
    pub(super) fn decode(self, body: &HashedBody) -> Result<Bytes, DenyReason> {
        if body.len() > READABLE {
            return Err(DenyReason::TooLong);
        }
        match self.coding {
            Coding::Identity => Ok(body.to_bytes()),
            Coding::Gzip => gunzip(&body.to_bytes()),
            Coding::Other => Err(DenyReason::Unreadable),
        }
    }

    /// Returns the decoded bytes of a search. Without a content coding the size is not limited.
    pub(super) fn decode_search(self, body: &HashedBody) -> Result<Bytes, DenyReason> {
        if self.coding == Coding::Identity { Ok(body.to_bytes()) } else { self.decode(body) }
    }
}

/// Decompresses one gzip member. Trailing bytes are rejected, because servers differ on a second member.
fn gunzip(compressed: &[u8]) -> Result<Bytes, DenyReason> {
    let mut decoder = GzDecoder::new(compressed);
    let mut bytes = Vec::new();
    let limit = READABLE as u64 + 1;
    (&mut decoder).take(limit).read_to_end(&mut bytes).map_err(|_| DenyReason::Unreadable)?;
    if bytes.len() > READABLE {
        return Err(DenyReason::TooLong);
    }
    if !decoder.into_inner().is_empty() {
        return Err(DenyReason::Unreadable);
    }
    Ok(bytes.into())
}

/// Classifies the media type. A body can be a valid form and valid JSON at once, so only JSON's own types are JSON.
fn media(headers: &HeaderMap) -> Media {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let Some(Ok(value)) = first.map(|value| value.to_str()) else { return Media::Other };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if ["yaml", "cbor", "smile"].iter().any(|name| essence.contains(name)) {
        return Media::Binary;
    }
    if second.is_some() || value.contains(',') {
        return Media::Other;
    }
    let subtype = essence.strip_prefix("application/").unwrap_or_default();
    let is_token = subtype.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte));
    if is_token && (subtype == "json" || subtype.ends_with("+json") && !subtype.starts_with('+')) {
        Media::Json
    } else if essence == "multipart/form-data" {
        Media::Multipart
    } else {
        Media::Other
    }
}

fn coding(headers: &HeaderMap) -> Coding {
    let mut codings = headers.get_all(header::CONTENT_ENCODING).iter();
    match (codings.next().map(|value| value.as_bytes().trim_ascii().to_ascii_lowercase()).as_deref(), codings.next()) {
        (None | Some(b"" | b"identity"), None) => Coding::Identity,
        (Some(b"gzip"), None) => Coding::Gzip,
        _ => Coding::Other,
    }
}

/// Size limit of an inspected body in bytes: more than Kibana sends, and little compared with the memory for bodies.
pub(super) const READABLE: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use hyper::header::HeaderValue;

    use super::*;

    fn content(media: &'static str, coding: Option<&'static str>) -> Content {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
        if let Some(coding) = coding {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
        }
        Content::of(&headers)
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(coding: Option<&'static str>, body: Vec<u8>) -> Result<Bytes, DenyReason> {
        content("application/json", coding).json(&HashedBody::from(Bytes::from(body)))
    }

    #[test]
    fn json_is_recognised_by_its_media_type() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/vnd.elasticsearch+json; compatible-with=7",
            "application/vnd.elasticsearch+json;compatible-with=8",
        ] {
            assert_eq!(content(json, None).media(), Media::Json, "{json}");
        }
        for other in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/json, text/plain",
            "application/+json",
            "text/vnd.x+json",
            "application/x-json+yaml;a=+json",
            "application/x www+json",
        ] {
            assert_ne!(content(other, None).media(), Media::Json, "{other}");
        }
        for binary in ["application/yaml", "application/cbor", "application/smile", "application/vnd.x+cbor"] {
            assert_eq!(content(binary, None).media(), Media::Binary, "{binary}");
        }
    }

    #[test]
    fn gzip_is_the_only_coding_decoded() {
        assert_eq!(read(Some("gzip"), gzip(b"{}")).as_deref(), Ok(&b"{}"[..]));
        assert_eq!(read(Some("identity"), b"{}".to_vec()).as_deref(), Ok(&b"{}"[..]));
        for coding in ["deflate", "br", "gzip, gzip", "x-gzip"] {
            assert_eq!(read(Some(coding), gzip(b"{}")), Err(DenyReason::Unreadable), "{coding}");
        }
    }

    #[test]
    fn gzip_with_trailing_bytes_is_rejected() {
        assert_eq!(read(Some("gzip"), [gzip(b"{}"), gzip(b"{}")].concat()), Err(DenyReason::Unreadable));
        assert_eq!(read(Some("gzip"), [gzip(b"{}"), b" ".to_vec()].concat()), Err(DenyReason::Unreadable));
        let mut cut = gzip(b"{}");
        cut.pop();
        assert_eq!(read(Some("gzip"), cut), Err(DenyReason::Unreadable));
        assert_eq!(read(Some("gzip"), b"{}".to_vec()), Err(DenyReason::Unreadable));
    }

    #[test]
    fn decompression_is_bounded() {
        assert_eq!(read(Some("gzip"), gzip(&vec![b' '; READABLE])).map(|bytes| bytes.len()), Ok(READABLE));
        assert_eq!(read(Some("gzip"), gzip(&vec![b' '; READABLE + 1])), Err(DenyReason::TooLong));
        assert_eq!(read(None, vec![b' '; READABLE + 1]), Err(DenyReason::TooLong));
    }
}
