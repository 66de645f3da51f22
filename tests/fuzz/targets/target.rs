//! The canonical target against a slow reading of the same URL: what it decodes to must be what the client meant, and
//! there must be no second spelling of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode;
use trailgate_client::Target;

fuzz_target!(|input: (&str, Option<&str>)| {
    let (path, query) = input;
    // What hyper hands over: a path that begins with a slash, and neither part holds what ends it.
    let path = format!("/{}", path.replace(['?', '#'], ""));
    let query = query.map(|query| query.replace('#', ""));
    match (Target::canonical(&path, query.as_deref()), segments(&path)) {
        (Ok(target), Some(expected)) => {
            assert_eq!(segments(target.path()).as_ref(), Some(&expected), "{path:?}");
            assert_eq!(pairs(target.query()), pairs(query.as_deref()), "{query:?}");
            assert!(target.as_str().bytes().all(is_sent), "{target:?}");
            let again = Target::canonical(target.path(), target.query()).expect("a canonical target is one");
            assert_eq!(again.as_str(), target.as_str());
        }
        (Err(_), None) => {}
        (Ok(target), None) => panic!("{path:?} has no meaning, and became {target:?}"),
        (Err(error), Some(_)) => panic!("{path:?} {query:?} is refused: {error}"),
    }
});

/// Returns the decoded segments with dot segments resolved, or `None` if the path is invalid.
fn segments(path: &str) -> Option<Vec<Vec<u8>>> {
    let mut resolved: Vec<Vec<u8>> = Vec::new();
    let mut ends_open = false;
    for segment in path.strip_prefix('/')?.split('/') {
        let bytes = segment.as_bytes();
        let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        if (0..bytes.len()).any(|at| bytes[at] == b'%' && !is_escape(at)) {
            return None;
        }
        let decoded: Vec<u8> = percent_decode(bytes).collect();
        if decoded.iter().any(u8::is_ascii_control) {
            return None;
        }
        ends_open = matches!(&decoded[..], b"" | b"." | b"..");
        match &decoded[..] {
            b"" | b"." => {}
            b".." => drop(resolved.pop()?),
            _ => resolved.push(decoded),
        }
    }
    if ends_open {
        resolved.push(Vec::new());
    }
    Some(resolved)
}

/// Returns the decoded pairs in their order. `+` is a space, and a name without `=` has an empty value.
fn pairs(query: Option<&str>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let decoded = |text: &str| percent_decode(text.replace('+', " ").as_bytes()).collect();
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let pairs = pairs.map(|(name, value)| (decoded(name), decoded(value)));
    // Those of a presigned URL are the signer's, and are removed.
    pairs.filter(|(name, _): &(Vec<u8>, _)| !name.to_ascii_lowercase().starts_with(b"x-amz-")).collect()
}

fn is_sent(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~/%?&=".contains(&byte)
}
