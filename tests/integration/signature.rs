//! The proxy's signer against the stand-in's verifier, which accepts a signature only if every way of reading a URL
//! agrees on it.

use std::time::SystemTime;

use fake_domain::verify::{self, Verifier};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method};
use jiff::Timestamp;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};
use trailgate_client::{Signer, SigningParams, Target};
use trailgate_testkit::signing_key;

/// Returns strings that servers parse in more than one way, mixed with arbitrary text.
fn ambiguous_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2F", "%25", "%", "+", "%2B", "%20", "&", "=", ";", "?"
        ])
        .prop_map(str::to_owned),
        "%[0-9a-fA-F]{2}",
        "[ -~]{0,4}",
        "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn signature_is_valid_under_every_url_interpretation(
        method in prop::sample::select(vec![Method::GET, Method::POST, Method::PUT, Method::DELETE, Method::HEAD]),
        path in ambiguous_text(),
        query in prop::option::of(ambiguous_text()),
        token in prop::option::of("[A-Za-z0-9+/=]{20}"),
        body in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let Ok(target) = Target::canonical(&format!("/{path}"), query.as_deref()) else { return Ok(()) };
        let authority = Authority::from_static("search-trail-abc123.eu-west-1.es.amazonaws.com");
        let body_sha256 = hex::encode(Sha256::digest(&body));
        let (credentials, time) = (signing_key(token.as_deref()), SystemTime::now());
        let (method, body_sha256, credentials) = (&method, body_sha256.as_str(), &credentials);
        let mut headers = HeaderMap::new();
        let signing = SigningParams { method, target: &target, body_sha256, credentials, time };
        Signer::new(&authority, "eu-west-1", "es").sign(&signing, &mut headers);

        let headers: Vec<(String, Vec<u8>)> =
            headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        let request = verify::Request { method: method.as_str(), target: target.as_str(), headers: &headers, body: &body };
        let credentials = verify::Credentials { session_token: token, ..verify::Credentials::default() };
        let verifier = Verifier { credentials, region: "eu-west-1".to_owned(), service: "es".to_owned() };
        prop_assert_eq!(verifier.check(&request, Timestamp::now()).map_err(|refusal| refusal.message()), Ok(()));
    }
}
