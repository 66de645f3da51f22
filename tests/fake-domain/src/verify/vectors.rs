//! AWS's own test vectors, as far as they apply to a service that normalizes paths and encodes them twice.

use std::{fs, path::Path};

use serde_json::Value;

use super::{Credentials, Request, Verifier, canonical::*, parse_date};

/// The readings under which a vector's canonical request equals ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fits {
    /// Every reading: the check accepts the request.
    Every,
    /// Only the raw URL: paths that are not normalized or contain raw bytes.
    Raw,
    /// Only the decoded URL: normalized paths, and characters that should have been encoded.
    Decoded,
}

const VECTORS: [(&str, Fits); 39] = [
    ("double-url-encode", Fits::Every),
    ("get-header-key-duplicate", Fits::Every),
    ("get-header-value-multiline", Fits::Every),
    ("get-header-value-order", Fits::Every),
    ("get-header-value-trim", Fits::Every),
    ("get-relative-normalized", Fits::Decoded),
    ("get-relative-relative-normalized", Fits::Decoded),
    ("get-relative-relative-unnormalized", Fits::Raw),
    ("get-relative-unnormalized", Fits::Raw),
    ("get-slash-dot-slash-normalized", Fits::Decoded),
    ("get-slash-dot-slash-unnormalized", Fits::Raw),
    ("get-slash-normalized", Fits::Decoded),
    ("get-slash-pointless-dot-normalized", Fits::Decoded),
    ("get-slash-pointless-dot-unnormalized", Fits::Raw),
    ("get-slash-unnormalized", Fits::Raw),
    ("get-slashes-normalized", Fits::Decoded),
    ("get-slashes-unnormalized", Fits::Raw),
    ("get-space-normalized", Fits::Raw),
    ("get-space-unnormalized", Fits::Raw),
    ("get-unreserved", Fits::Every),
    ("get-utf8", Fits::Raw),
    ("get-vanilla", Fits::Every),
    ("get-vanilla-empty-query-key", Fits::Every),
    ("get-vanilla-query", Fits::Every),
    ("get-vanilla-query-order-encoded", Fits::Every),
    ("get-vanilla-query-order-key-case", Fits::Every),
    ("get-vanilla-query-unreserved", Fits::Every),
    ("get-vanilla-utf8-query", Fits::Decoded),
    ("get-vanilla-with-session-token", Fits::Every),
    ("post-header-key-case", Fits::Every),
    ("post-header-key-sort", Fits::Every),
    ("post-header-value-case", Fits::Every),
    ("post-sts-header-after", Fits::Every),
    ("post-sts-header-before", Fits::Every),
    ("post-vanilla", Fits::Every),
    ("post-vanilla-empty-query-value", Fits::Every),
    ("post-vanilla-query", Fits::Every),
    ("post-x-www-form-urlencoded", Fits::Every),
    ("post-x-www-form-urlencoded-parameters", Fits::Every),
];

#[test]
fn every_vector_on_disk_is_in_the_table() {
    let entries = fs::read_dir(directory()).expect("the vectors are there");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("an entry"))
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().expect("a text name"))
        .collect();
    names.sort();
    assert_eq!(names, VECTORS.map(|(name, _)| name));
}

#[test]
fn canonical_request_yields_string_to_sign_and_signature() {
    for (name, _) in VECTORS {
        let vector = Vector::read(name);
        let (string_to_sign, signature) = vector.verifier.signature(vector.canonical.as_bytes(), &vector.date);
        assert_eq!(string_to_sign, file(name, "header-string-to-sign.txt").trim_end(), "{name}");
        assert!(vector.header("authorization").ends_with(&format!("Signature={signature}")), "{name}");
    }
}

#[test]
fn canonical_request_equals_the_vector_if_readings_fit() {
    for (name, fits) in VECTORS {
        let vector = Vector::read(name);
        let is_canonical = |reading| {
            let signed: Vec<String> = vector.signed_headers().split(';').map(str::to_owned).collect();
            canonical_request(&vector.request(), &signed, reading) == vector.canonical.as_bytes()
        };
        let found = match (is_canonical(RAW), is_canonical(DECODED)) {
            (true, true) => Fits::Every,
            (true, false) => Fits::Raw,
            (false, true) => Fits::Decoded,
            (false, false) => panic!("{name} fits under no reading"),
        };
        assert_eq!(found, fits, "{name}");
    }
}

#[test]
fn check_accepts_only_vectors_that_fit_every_reading() {
    for (name, fits) in VECTORS {
        let vector = Vector::read(name);
        let now = parse_date(&vector.date).expect("a date");
        let result = vector.verifier.check(&vector.request(), now);
        // This vector adds the token after signing, as some services expect. Elasticsearch signs it.
        let accepted = fits == Fits::Every && name != "post-sts-header-after";
        assert_eq!(result.is_ok(), accepted, "{name}: {result:?}");
    }
}

/// A vector's signed request, and the credentials and scope of the signature.
struct Vector {
    verifier: Verifier,
    date: String,
    canonical: String,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: String,
}

impl Vector {
    fn read(name: &str) -> Self {
        let signed = file(name, "header-signed-request.txt");
        let (head, body) = signed.split_once("\n\n").unwrap_or((&signed, ""));
        // A folded line continues the previous value.
        let folded = head.replace("\n ", " ");
        let mut lines = folded.lines();
        let request_line = lines.next().expect("a request line");
        let request_line = request_line.strip_suffix(" HTTP/1.1").unwrap_or(request_line);
        let (method, target) = request_line.split_once(' ').expect("method and target");
        let headers: Vec<(String, Vec<u8>)> = lines
            .map(|line| line.split_once(':').expect("a header"))
            .map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()))
            .collect();
        let mut vector = Self {
            verifier: Verifier { credentials: Credentials::default(), region: String::new(), service: String::new() },
            date: String::new(),
            canonical: file(name, "header-canonical-request.txt"),
            method: method.to_owned(),
            target: target.to_owned(),
            headers,
            body: body.to_owned(),
        };
        vector.date = vector.header("x-amz-date");
        let authorization = vector.header("authorization");
        let scope: Vec<&str> = authorization.split('/').collect();
        (vector.verifier.region, vector.verifier.service) = (scope[2].to_owned(), scope[3].to_owned());
        vector.verifier.credentials.session_token = session_token(name);
        vector
    }

    fn request(&self) -> Request<'_> {
        Request { method: &self.method, target: &self.target, headers: &self.headers, body: self.body.as_bytes() }
    }

    fn header(&self, name: &str) -> String {
        let value = self.request().only(name).expect("one value").expect("a value");
        value.trim().to_owned()
    }

    fn signed_headers(&self) -> String {
        let authorization = self.header("authorization");
        let (_, rest) = authorization.split_once("SignedHeaders=").expect("signed headers");
        rest.split(',').next().expect("a list").to_owned()
    }
}

fn session_token(name: &str) -> Option<String> {
    let context = fs::read(directory().join(name).join("context.json")).ok()?;
    let context: Value = serde_json::from_slice(&context).expect("a JSON context");
    context["credentials"]["token"].as_str().map(str::to_owned)
}

fn file(vector: &str, file: &str) -> String {
    fs::read_to_string(directory().join(vector).join(file)).expect("a readable file")
}

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}
