use proptest::prelude::*;

use super::*;

#[track_caller]
fn path(raw: &str, canonical: &str) {
    assert_eq!(Target::canonical(raw, None).as_ref().map(Target::as_str), Ok(canonical), "{raw}");
}

#[track_caller]
fn query(raw: &str, canonical: &str) {
    let target = Target::canonical("/", Some(raw)).unwrap();
    assert_eq!(target.query().unwrap_or_default(), canonical, "{raw}");
}

#[track_caller]
fn rejects(raw: &str, error: TargetError) {
    assert_eq!(Target::canonical(raw, None), Err(error), "{raw}");
}

#[test]
fn path_is_resolved_and_encoded_strictly() {
    path("/", "/");
    path("/_plugin/kibana/", "/_plugin/kibana/");
    path("/a/b", "/a/b");
    path("/a//b///", "/a/b/");
    path("///", "/");
    path("/i/./x/../_doc/1", "/i/_doc/1");
    path("/a/.", "/a/");
    path("/a/b/..", "/a/");
    path("/a/..", "/");
    path("/a//../b", "/b");
    path("/a/%2e%2E/b", "/b");
    path("/a/.%2e/b/%2e", "/b/");
    path("/...", "/...");
    path("/logs%2Fx/", "/logs%2Fx/");
    path("/i/..%2fx", "/i/..%2Fx");
    path("/cwl-*/a,b:c@d", "/cwl-%2A/a%2Cb%3Ac%40d");
    path("/%3Clogstash-%7Bnow%2Fd%7D%3E/_search", "/%3Clogstash-%7Bnow%2Fd%7D%3E/_search");
    path("/a+b%20c", "/a%2Bb%20c");
    path("/%252e%252e/x", "/%252e%252e/x");
    path("/%7euser/%41", "/~user/A");
    path("/é/%FF", "/%C3%A9/%FF");
    path(r"/a\..\b", "/a%5C..%5Cb");
}

#[test]
fn unsafe_path_is_rejected() {
    rejects("*", TargetError::NoPath);
    rejects("", TargetError::NoPath);
    rejects("/..", TargetError::Climb);
    rejects("/a/../../b", TargetError::Climb);
    rejects("/%2e%2e/b", TargetError::Climb);
    rejects("//..", TargetError::Climb);
    rejects("/100%", TargetError::BadEscape);
    rejects("/a%2/b", TargetError::BadEscape);
    rejects("/a%zz", TargetError::BadEscape);
    rejects("/a%+1", TargetError::BadEscape);
    rejects("/a%00", TargetError::Control);
    rejects("/a%0d%0a", TargetError::Control);
    rejects("/a%7F", TargetError::Control);
}

#[test]
fn query_keeps_every_pair_in_order() {
    query("b=2&a=1&b=1", "b=2&a=1&b=1");
    query("v", "v");
    query("v=", "v=");
    query("=x", "=x");
    query("q=a+b%20c", "q=a%20b%20c");
    query("q=a%2Bb", "q=a%2Bb");
    query("q=100%", "q=100%25");
    query("q=%zz%4", "q=%25zz%254");
    query("q=a;b=c", "q=a%3Bb%3Dc");
    query("q=%FF%0a", "q=%FF%0A");
    query("a&&b&", "a&b");
    query("&&&", "");
    query("_g=(time:(from:now-7d,to:now))", "_g=%28time%3A%28from%3Anow-7d%2Cto%3Anow%29%29");
    query("q=漢?/", "q=%E6%BC%A2%3F%2F");
}

#[test]
fn presigned_url_parameters_are_removed() {
    query("X-Amz-Algorithm=AWS4-HMAC-SHA256&q=1&X-Amz-Signature=abc", "q=1");
    query("x-amz-date=1&%58-Amz-Token=2", "");
    query("x-amzn=1&y=X-Amz-Date", "x-amzn=1&y=X-Amz-Date");
}

#[test]
fn empty_query_has_no_question_mark() {
    assert_eq!(Target::canonical("/a", Some("")).unwrap().as_str(), "/a");
    assert_eq!(Target::canonical("/a", Some("x-amz-date=1")).unwrap().as_str(), "/a");
}

#[test]
fn eight_kib_query_passes_whole() {
    let long = "x".repeat(8192);
    query(&format!("q={long}"), &format!("q={long}"));
}

#[test]
fn url_too_long_when_encoded_is_rejected() {
    rejects(&format!("/{}", "*".repeat(22_000)), TargetError::TooLong);
}

#[test]
fn signed_path_is_encoded_twice_and_query_sorted() {
    let target = Target::canonical("/cwl-*/x%2Fy", Some("b=2&a&b=1&a-b=3&A=4")).unwrap();
    let (mut path, mut query) = (String::new(), String::new());
    target.push_signed_path(&mut path);
    target.push_signed_query(&mut query);
    assert_eq!(path, "/cwl-%252A/x%252Fy");
    assert_eq!(query, "A=4&a=&a-b=3&b=1&b=2");
}

/// Returns paths and queries of parts that servers interpret differently.
fn ambiguous_targets() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("/".to_owned()),
        Just("..".to_owned()),
        Just(".".to_owned()),
        Just("%2e".to_owned()),
        Just("%2F".to_owned()),
        Just("%25".to_owned()),
        Just("%".to_owned()),
        Just("+".to_owned()),
        Just("&".to_owned()),
        Just("=".to_owned()),
        Just("?".to_owned()),
        Just("X-Amz-Date=1".to_owned()),
        "[ -~]{0,3}",
        "\\PC{0,3}",
        "%[0-9a-fA-F]{2}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn canonical_target_is_idempotent(path in ambiguous_targets(), query in proptest::option::of(ambiguous_targets())) {
        if let Ok(once) = Target::canonical(&format!("/{path}"), query.as_deref()) {
            let twice = Target::canonical(once.path(), once.query());
            prop_assert_eq!(twice.as_ref(), Ok(&once));
        }
    }

    #[test]
    fn canonical_target_has_one_reading(path in ambiguous_targets(), query in proptest::option::of(ambiguous_targets())) {
        if let Ok(target) = Target::canonical(&format!("/{path}"), query.as_deref()) {
            prop_assert!(target.path().split('/').skip(1).all(|segment| segment != "." && segment != ".."));
            prop_assert!(!target.path().contains("//"));
            prop_assert!(!target.as_str().contains(['+', ';', ' ']));
        }
    }
}
