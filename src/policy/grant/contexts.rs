//! Search contexts, which stay open on the domain: scrolls, points in time, asynchronous searches, SQL cursors.
//!
//! Each holds memory and files on every shard that it searches, and all clients share the few hundred that a node
//! permits. So a read grant limits the keep-alive of a context, and a quota limits their number for each entry.

use std::time::Duration;

use memchr::memmem;
use serde::Deserialize;
use trailgate_client::HashedBody;

use super::body_rule::BodyRule;
use super::content::{Content, Media};
use super::deny_reason::shown;
use super::{Call, DenyReason, ReadOnly};

/// The load of a request on the domain, which the quota of its entry counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Not counted: pages and their assets.
    None,
    /// A call that ends with its response.
    Call,
    /// A call that opens a search with this keep-alive.
    Open(Duration),
    /// A call that extends an open search by this keep-alive from now.
    Extend(Duration),
    /// A call that ends an open search, if the response's status is a success.
    End,
}

/// Returns the body rule and the load of an engine call whose route has `body_rule`.
///
/// Rejects a keep-alive above the limit, in the query or in its `source`.
pub(super) fn decide(call: &Call<'_>, segments: &[&str], body_rule: BodyRule) -> Result<(BodyRule, Load), ReadOnly> {
    let query = call.target.query().unwrap_or_default();
    let requested =
        if query.contains("scroll") || query.contains("keep_alive") { requested_keep_alive(call)? } else { None };
    let is_among = |names: &[&str]| segments.iter().any(|segment| names.contains(segment));
    let is_async = is_among(&["_asynchronous_search"]);
    let is_cursor = is_among(&["scroll"]) && is_among(&["_search"]);
    let load = match call.method {
        // OpenSearch's response to ending a point in time does not reveal whether it existed.
        "DELETE" if is_async || is_cursor => Load::End,
        "DELETE" => Load::Call,
        "POST" if is_async => {
            Load::Open(requested.ok_or_else(|| call.deny(DenyReason::NoKeepAlive(call.context.longest)))?)
        }
        "POST" if is_among(&["point_in_time"]) => Load::Open(requested.unwrap_or(call.context.longest)),
        _ if is_cursor => Load::Extend(requested.unwrap_or(call.context.longest)),
        _ if is_async => requested.map_or(Load::Call, Load::Extend),
        _ => requested.map_or(Load::Call, Load::Open),
    };
    let body_rule = match body_rule {
        BodyRule::None if is_cursor && call.method != "DELETE" => BodyRule::Scroll,
        BodyRule::None if is_among(&["_search", "_msearch", "_asynchronous_search"]) => {
            if is_among(&["template"]) {
                BodyRule::Template
            } else {
                BodyRule::Searches
            }
        }
        other => other,
    };
    if matches!(body_rule, BodyRule::Searches | BodyRule::Template)
        && query.contains("source=")
        && let Some((_, source)) = call.parameters()?.iter().find(|(name, _)| name == "source")
    {
        // The engine reads it in place of the body.
        check_searches(source.as_bytes(), body_rule, call.context.longest).map_err(|why| call.deny(why))?;
    }
    Ok((body_rule, load))
}

/// Returns the keep-alive that the query requests. Rejects one above the limit.
fn requested_keep_alive(call: &Call<'_>) -> Result<Option<Duration>, ReadOnly> {
    let mut longest = None;
    for (name, value) in call.parameters()? {
        // Engines up to 6 also split parameters at `;`.
        if name.contains(';') || value.contains(';') {
            return Err(call.deny(DenyReason::Ambiguous));
        }
        if ["scroll", "keep_alive"].contains(&name.as_str()) {
            let requested = check_keep_alive(&value, call.context.longest).map_err(|why| call.deny(why))?;
            longest = longest.max(Some(requested));
        }
    }
    Ok(longest)
}

/// Parses a keep-alive as the engine does, and rejects more than `longest`.
pub(super) fn check_keep_alive(text: &str, longest: Duration) -> Result<Duration, DenyReason> {
    let too_long = || DenyReason::KeepAlive { asked: shown(text), longest };
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let nanos: u64 = match unit.to_ascii_lowercase().as_str() {
        "nanos" => 1,
        "micros" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        // Only zero has no unit.
        "" if number == "0" => 1,
        _ => return Err(too_long()),
    };
    let asked = number.parse::<u64>().ok().and_then(|number| number.checked_mul(nanos)).map(Duration::from_nanos);
    asked.filter(|asked| *asked <= longest).ok_or_else(too_long)
}

/// Checks the body of a search or of many, and returns the load if it differs from the head's.
pub(super) fn check_search_body(
    content: Content,
    body: &HashedBody,
    body_rule: BodyRule,
    longest: Duration,
) -> Result<Option<Load>, DenyReason> {
    if content.media() == Media::Binary {
        return Err(DenyReason::Unreadable);
    }
    check_searches(&content.decode_search(body)?, body_rule, longest)
}

/// Checks the points in time of one search or many. Only a text that may contain one is parsed.
pub(super) fn check_searches(text: &[u8], body_rule: BodyRule, longest: Duration) -> Result<Option<Load>, DenyReason> {
    // The engine's parser also accepts UTF-16 and UTF-32, in which `"pit"` would not be found below.
    if memchr::memchr(0, text).is_some() {
        return Err(DenyReason::Unreadable);
    }
    let holds = |needle: &[u8]| memmem::find(text, needle).is_some();
    if body_rule == BodyRule::Template {
        // A template builds the executed search from strings.
        let is_doubtful = holds(b"pit") || holds(b"keep_alive") || holds(b"\\u");
        return if is_doubtful {
            Err(DenyReason::Named("may extend a point in time: send the search itself"))
        } else {
            Ok(None)
        };
    }
    if !holds(b"\"pit\"") && !holds(b"\\u") {
        return Ok(None);
    }
    let mut load = None;
    for search in serde_json::Deserializer::from_slice(text).into_iter::<PointedSearch>() {
        if let Some(pit) = search.map_err(|_| DenyReason::Unreadable)?.pit {
            let asked = pit.keep_alive.map_or(Ok(longest), |text| check_keep_alive(&text, longest))?;
            load = load.max(Some(asked));
        }
    }
    Ok(load.map(Load::Extend))
}

/// Checks the body that continues a scroll: JSON, or on old engines only the identifier.
pub(super) fn check_scroll_body(
    content: Content,
    body: &HashedBody,
    longest: Duration,
) -> Result<Option<Load>, DenyReason> {
    let text = content.decode(body)?;
    let is_identifier = text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_=+/".contains(byte));
    if is_identifier && content.media() != Media::Binary {
        return Ok(None);
    }
    if content.media() == Media::Binary {
        return Err(DenyReason::Unreadable);
    }
    let Scroll { scroll } = serde_json::from_slice(&text).map_err(|_| DenyReason::Unreadable)?;
    scroll.map(|text| check_keep_alive(&text, longest).map(Load::Extend)).transpose()
}

/// The point in time of a search. A duplicate is an error.
#[derive(Deserialize)]
struct PointedSearch {
    pit: Option<Pit>,
}

#[derive(Deserialize)]
struct Pit {
    keep_alive: Option<String>,
}

#[derive(Deserialize)]
struct Scroll {
    scroll: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_mins(5);

    #[test]
    fn keep_alive_up_to_the_limit_passes() {
        for (text, seconds) in [("1m", 60), ("5m", 300), ("300s", 300), ("0", 0), ("300000ms", 300), (" 1M", 60)] {
            assert_eq!(check_keep_alive(text, LONGEST), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn longer_or_unclear_keep_alive_is_rejected() {
        for text in
            ["24h", "301s", "5.5m", "-1", "5", "", "m", "1w", "99999999999999999999d", "99999999999999d", "1m1m"]
        {
            let why = DenyReason::KeepAlive { asked: shown(text), longest: LONGEST };
            assert_eq!(check_keep_alive(text, LONGEST), Err(why), "{text}");
        }
    }

    #[track_caller]
    fn searches(text: &str, expected: Result<Option<Load>, ()>) {
        assert_eq!(check_searches(text.as_bytes(), BodyRule::Searches, LONGEST).map_err(drop), expected, "{text}");
    }

    #[test]
    fn point_in_time_in_a_search_is_bounded() {
        let minute = Ok(Some(Load::Extend(Duration::from_mins(1))));
        searches(r#"{"pit":{"id":"a","keep_alive":"1m"},"size":1}"#, minute);
        searches("{}\n{\"pit\":{\"id\":\"a\",\"keep_alive\":\"1m\"}}\n{}\n{}\n", minute);
        searches(r#"{"pit":{"id":"a"}}"#, Ok(Some(Load::Extend(LONGEST))));
        searches(r#"{"pit":{"id":"a","keep_alive":"24h"}}"#, Err(()));
        searches("{}\n{\"p\\u0069t\":{\"id\":\"a\",\"keep_alive\":\"24h\"}}\n", Err(()));
        searches(r#"{"pit":{"keep_alive":"1m","keep\u005falive":"24h"}}"#, Err(()));
        searches(r#"{"pit":{"keep_alive":"1m"},"pit":{"keep_alive":"24h"}}"#, Err(()));
        searches("{\0\"\0p\0i\0t\0", Err(()));
        searches(r#"{"query":{"term":{"a":"p\u0069t"}}}"#, Ok(None));
        searches("no JSON, which the engine says better", Ok(None));
    }

    #[test]
    fn point_in_time_in_a_template_is_rejected() {
        let template = |text: &str| check_searches(text.as_bytes(), BodyRule::Template, LONGEST);
        assert_eq!(template(r#"{"source":{"query":{"match_all":{}}},"params":{}}"#), Ok(None));
        for text in [r#"{"source":"{\"pit\":{}}"}"#, r#"{"source":"{\"p\u0069t\":{}}"}"#] {
            assert!(template(text).is_err(), "{text}");
        }
    }
}
