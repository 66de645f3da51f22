//! Rejected requests, each of which differs in one aspect from an accepted one.

use jiff::{SignedDuration, Timestamp};

use super::{Credentials, Refusal, Request, Verifier, date_text, parse_date, sha256};

const NOW: &str = "20150830T123600Z";

#[test]
fn signed_request_is_accepted() {
    assert_eq!(Signed::new().check(), Ok(()));
}

#[test]
fn signature_over_another_body_is_rejected() {
    let signed = Signed::signing(|signed| signed.remove("x-amz-content-sha256"));
    assert_mismatch(&Signed { body: "{} ", ..signed });
}

#[test]
fn signature_over_another_method_is_rejected() {
    assert_mismatch(&Signed { method: "PUT", ..Signed::new() });
}

#[test]
fn signature_over_another_path_is_rejected() {
    assert_mismatch(&Signed { target: "/trail/_search?size=1", ..Signed::new() });
}

#[test]
fn signature_over_another_query_is_rejected() {
    assert_mismatch(&Signed { target: "/cwl/_search?size=2", ..Signed::new() });
}

#[test]
fn signature_with_another_secret_is_rejected() {
    let mut signed = Signed::new();
    signed.verifier.credentials.secret_key.push('x');
    assert_mismatch(&signed);
}

#[test]
fn changed_signed_header_is_rejected() {
    let mut signed = Signed::new();
    signed.set("host", "other.eu-west-1.es.amazonaws.com");
    assert_mismatch(&signed);
}

#[test]
fn unsigned_header_may_change() {
    let mut signed = Signed::new();
    signed.headers.push(("accept".to_owned(), b"*/*".to_vec()));
    assert_eq!(signed.check(), Ok(()));
}

#[test]
fn spaces_around_and_inside_a_header_value_do_not_count() {
    let signed = Signed::signing(|signed| signed.set("x-note", "one two"));
    let mut spaced = signed;
    spaced.set("x-note", "  one    two ");
    assert_eq!(spaced.check(), Ok(()));
}

#[test]
fn ambiguous_target_is_rejected() {
    for target in [
        "/a*",
        "/a,b",
        "/a//b",
        "/a/./b",
        "/a/../b",
        "/a/%2e%2E/b",
        "/a%2a",
        "/a%2f",
        "/100%",
        "/a?q=a+b",
        "/a?q=a%2bb",
        "/a?q=a=b",
        "/a?q=(a)",
        "/a?q=100%",
        "/a?x&&y",
        "/a?q=%41",
        "/a?",
    ] {
        let result = Signed::signing(|signed| signed.target = target).check();
        // Only the bare question mark is accepted: it is a query without pairs in both readings.
        assert_eq!(result.is_ok(), target == "/a?", "{target}: {result:?}");
    }
}

#[test]
fn unambiguous_target_is_accepted() {
    for target in [
        "/",
        "/a%2A/_search",
        "/a%2Cb%3A%40/",
        "/a%2Fb",
        "/%3Clogs-%7Bnow%2Fd%7D%3E",
        "/a%252Fb%25",
        "/%FF",
        "/%E1%88%B4",
        "/a?v",
        "/a?v=",
        "/a?b=2&b=1&a&B=%FF",
        "/a?q=a%20b%2Bc",
        "/a?_g=%28a%3A%211%29",
    ] {
        assert_eq!(Signed::signing(|signed| signed.target = target).check(), Ok(()), "{target}");
    }
}

#[test]
fn mismatch_shows_canonical_request_and_string_to_sign() {
    let message = Signed { target: "/cwl%2A/_search?v", ..Signed::new() }.check().unwrap_err().message();
    let expected = "The Canonical String for this request should have been\n'POST\n/cwl%252A/_search\nv=\nhost:";
    assert!(message.contains(expected), "{message}");
    let expected = "The String-to-Sign should have been\n'AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/eu-west-1/es/";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn request_without_a_signature_is_anonymous() {
    let mut signed = Signed::new();
    signed.remove("authorization");
    assert_eq!(
        signed.check().unwrap_err().body().to_string(),
        r#"{"Message":"User: anonymous is not authorized to perform: es:ESHttpPost because no resource-based policy allows the es:ESHttpPost action"}"#
    );
}

#[test]
fn signature_up_to_five_minutes_old_is_accepted() {
    assert_eq!(Signed::new().check_at("20150830T124100Z"), Ok(()));
    assert_eq!(
        Signed::new().check_at("20150830T124500Z").unwrap_err().message(),
        "Signature expired: 20150830T123600Z is now earlier than 20150830T124000Z (20150830T124500Z - 5 min.)"
    );
    assert!(matches!(Signed::new().check_at("20150830T124101Z"), Err(Refusal::Expired { .. })));
}

#[test]
fn signature_up_to_five_minutes_ahead_is_accepted() {
    assert_eq!(Signed::new().check_at("20150830T123100Z"), Ok(()));
    assert_eq!(
        Signed::new().check_at("20150830T123059Z").unwrap_err().message(),
        "Signature not yet current: 20150830T123600Z is still later than 20150830T123559Z (20150830T123059Z + 5 min.)"
    );
}

#[test]
fn unknown_access_key_is_rejected() {
    let mut signed = Signed::new();
    signed.verifier.credentials.access_key = "AKIDOTHER".to_owned();
    assert_eq!(signed.check(), Err(Refusal::UnknownToken));
}

#[test]
fn other_region_is_rejected() {
    let mut signed = Signed::new();
    signed.verifier.region = "us-east-1".to_owned();
    let message = signed.check().unwrap_err().message();
    assert_eq!(message, "Credential should be scoped to a valid region, not 'eu-west-1'.");
}

#[test]
fn other_service_is_rejected() {
    let mut signed = Signed::new();
    signed.verifier.service = "aoss".to_owned();
    let message = signed.check().unwrap_err().message();
    assert_eq!(message, "Credential should be scoped to correct service: 'aoss'.");
}

#[test]
fn scope_of_another_day_is_rejected() {
    let mut signed = Signed::new();
    signed.edit_authorization("/20150830/", "/20150829/");
    assert_incomplete(&signed, "Date in Credential scope");
}

#[test]
fn each_required_header_is_rejected_if_unsigned() {
    for name in ["host", "x-amz-date", "x-amz-content-sha256"] {
        let mut signed = Signed::new();
        signed.edit_authorization(&format!("{name};"), "");
        signed.edit_authorization(&format!(";{name},"), ",");
        assert_incomplete(&signed, &format!("'{name}' must be a 'SignedHeader'"));
    }
}

#[test]
fn missing_signed_header_is_rejected() {
    let mut signed = Signed::signing(|signed| signed.set("x-note", "one"));
    signed.remove("x-note");
    assert_incomplete(&signed, "The signed header 'x-note' is not in the request.");
}

#[test]
fn signed_headers_out_of_order_are_rejected() {
    let mut signed = Signed::new();
    signed.edit_authorization("host;x-amz-content-sha256", "x-amz-content-sha256;host");
    assert_incomplete(&signed, "SignedHeaders must be sorted");
}

#[test]
fn second_authorization_is_rejected() {
    let mut signed = Signed::new();
    signed.headers.push(("Authorization".to_owned(), b"Basic YTpi".to_vec()));
    assert_incomplete(&signed, "The header 'authorization' comes more than once.");
}

#[test]
fn second_host_is_rejected_even_if_both_are_signed() {
    let signed = Signed::signing(|signed| signed.headers.push(("host".to_owned(), b"other".to_vec())));
    assert_incomplete(&signed, "The header 'host' comes more than once.");
}

#[test]
fn basic_authorization_is_rejected() {
    let mut signed = Signed::new();
    signed.set("authorization", "Basic YTpi");
    assert_incomplete(&signed, "Unsupported AWS 'algorithm'.");
}

#[test]
fn signed_hash_of_another_body_is_rejected() {
    let signed = Signed::signing(|signed| signed.set("x-amz-content-sha256", &sha256(b"other")));
    assert_eq!(signed.check(), Err(Refusal::BodyHash));
}

#[test]
fn body_hash_is_optional_for_es() {
    assert_eq!(Signed::signing(|signed| signed.remove("x-amz-content-sha256")).check(), Ok(()));
}

#[test]
fn body_hash_is_required_for_aoss() {
    let signed = Signed::signing(|signed| {
        signed.verifier.service = "aoss".to_owned();
        signed.remove("x-amz-content-sha256");
    });
    assert_incomplete(&signed, "'x-amz-content-sha256' must be a 'SignedHeader'");
}

#[test]
fn temporary_credentials_need_their_token() {
    let with_token = Signed::signing(|signed| {
        signed.verifier.credentials.session_token = Some("token".to_owned());
        signed.set("x-amz-security-token", "token");
    });
    assert_eq!(with_token.check(), Ok(()));

    let mut without = Signed::new();
    without.verifier.credentials.session_token = Some("token".to_owned());
    assert_eq!(without.check(), Err(Refusal::UnknownToken));
}

#[test]
fn unsigned_token_is_rejected() {
    let mut signed = Signed::new();
    signed.verifier.credentials.session_token = Some("token".to_owned());
    signed.set("x-amz-security-token", "token");
    assert_incomplete(&signed, "'x-amz-security-token' must be a 'SignedHeader'");
}

#[test]
fn token_with_permanent_credentials_is_rejected() {
    let signed = Signed::signing(|signed| signed.set("x-amz-security-token", "token"));
    assert_eq!(signed.check(), Err(Refusal::UnknownToken));
}

#[test]
fn date_is_parsed_only_in_its_one_format() {
    let time = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(48);
    assert_eq!(date_text(time), "19700103T000000Z");
    assert_eq!(parse_date("19700103T000000Z"), Some(time));
    for text in ["", "1970-01-03T00:00:00Z", "19700103T000000", "1970013T0000000Z", "19701303T000000Z"] {
        assert_eq!(parse_date(text), None, "{text}");
    }
}

#[track_caller]
fn assert_mismatch(signed: &Signed) {
    let result = signed.check();
    assert!(matches!(result, Err(Refusal::Mismatch { .. })), "{result:?}");
}

#[track_caller]
fn assert_incomplete(signed: &Signed, expected: &str) {
    let result = signed.check();
    let Err(Refusal::Incomplete(what)) = &result else { panic!("{result:?}") };
    assert!(what.starts_with(expected), "{what}");
}

/// A signed request. Later changes to it are not signed.
struct Signed {
    verifier: Verifier,
    method: &'static str,
    target: &'static str,
    headers: Vec<(String, Vec<u8>)>,
    body: &'static str,
}

impl Signed {
    fn new() -> Self {
        Self::signing(|_| ())
    }

    fn signing(change: impl FnOnce(&mut Self)) -> Self {
        let mut signed = Self {
            verifier: Verifier {
                credentials: Credentials::default(),
                region: "eu-west-1".to_owned(),
                service: "es".to_owned(),
            },
            method: "POST",
            target: "/cwl/_search?size=1",
            headers: Vec::new(),
            body: "{}",
        };
        signed.set("host", "search-trail-abc123.eu-west-1.es.amazonaws.com");
        signed.set("x-amz-date", NOW);
        signed.set("x-amz-content-sha256", &sha256(b"{}"));
        change(&mut signed);
        let authorization = signed.verifier.authorization(&signed.request());
        signed.set("authorization", &authorization);
        signed
    }

    fn request(&self) -> Request<'_> {
        Request { method: self.method, target: self.target, headers: &self.headers, body: self.body.as_bytes() }
    }

    fn check(&self) -> Result<(), Refusal> {
        self.check_at(NOW)
    }

    fn check_at(&self, now: &str) -> Result<(), Refusal> {
        self.verifier.check(&self.request(), parse_date(now).expect("a date"))
    }

    fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
    }

    fn remove(&mut self, name: &str) {
        self.headers.retain(|(other, _)| other != name);
    }

    fn edit_authorization(&mut self, from: &str, to: &str) {
        let authorization = self.request().only("authorization").expect("one").expect("a value").replace(from, to);
        self.set("authorization", &authorization);
    }
}
