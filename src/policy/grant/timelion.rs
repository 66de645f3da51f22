//! Timelion expressions (Timeline in Dashboards): functions that Kibana's server runs for a client.
//!
//! Some functions fetch from an address in a setting (server-side request forgery, SSRF). One assigns to any property
//! of an object (prototype pollution, CVE-2019-7609).

use serde_json::Value;

use super::DenyReason;
use super::access_log::names::list_reaches;
use super::deny_reason::shown;
use super::search::{check_plain, known, object};

/// Checks the body of a route that evaluates expressions: `{"sheet":[…],"time":{…}}`.
pub(super) fn check_run(body: &Value) -> Result<(), DenyReason> {
    let body = object(body)?;
    known(body, &["extended", "sheet", "time"])?;
    if let Some(time) = body.get("time") {
        let time = object(time)?;
        known(time, &["from", "interval", "mode", "timezone", "to"])?;
        time.iter().try_for_each(|(name, value)| check_plain(name, value))?;
    }
    let sheet = body.get("sheet").and_then(Value::as_array).ok_or(DenyReason::Unreadable)?;
    sheet.iter().try_for_each(|cell| check(cell.as_str().ok_or(DenyReason::Unreadable)?))
}

/// Rejects an expression that cannot be tokenised, or that calls a function outside of [`HARMLESS`].
pub(super) fn check(expression: &str) -> Result<(), DenyReason> {
    check_text(expression)?;
    if let Some(name) = INHERITED.iter().find(|name| expression.contains(**name)) {
        return Err(DenyReason::Prototype((*name).to_owned()));
    }
    let last_slow = last_of(expression, QUANTIFIED).map(|(at, _)| at);
    let mut rest = expression;
    let mut depth = 0_usize;
    // Only a dot at the start of a token begins a function. Within a word it is part of the word.
    let mut is_in_word = false;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '"' | '\'' => {
                rest = after_text(rest, c).ok_or(DenyReason::Unreadable)?;
                is_in_word = false;
            }
            '.' if !is_in_word => {
                let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if !after.starts_with('(') {
                    return Err(DenyReason::Unreadable);
                }
                if !HARMLESS.contains(&name) {
                    return Err(DenyReason::Fetches(format!(".{}()", shown(name))));
                }
                if name == "label" && last_slow >= Some(expression.len() - after.len()) {
                    return Err(DenyReason::Named("has a regular expression that can take unbounded time"));
                }
                rest = after;
            }
            '(' => {
                depth += 1;
                is_in_word = false;
            }
            ')' => {
                depth = depth.checked_sub(1).ok_or(DenyReason::Unreadable)?;
                is_in_word = false;
            }
            ',' | '=' | ' ' | '\t' | '\n' | '\r' => is_in_word = false,
            _ => is_in_word = true,
        }
        if depth > DEPTH {
            return Err(DenyReason::Unreadable);
        }
    }
    if depth == 0 { Ok(()) } else { Err(DenyReason::Unreadable) }
}

/// Rejects an expression that passed [`check`], if it searches an index of the access log, or does not name one.
///
/// Without the argument `index`, Kibana searches an index of its settings, which is every index by default.
pub(super) fn check_indices(expression: &str) -> Result<(), DenyReason> {
    /// A call or a group that is not closed yet.
    struct Group {
        searches: bool,
        names_index: bool,
        arguments: usize,
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut rest = expression;
    let mut is_argument = false;
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_whitespace() {
            rest = rest.trim_ascii_start();
            continue;
        }
        if is_argument && let Some(group) = groups.last_mut().filter(|group| group.searches) {
            group.arguments += 1;
            match index_argument(rest) {
                Some(Ok(index)) if !list_reaches(index) => group.names_index = true,
                Some(Err(why)) => return Err(why),
                Some(Ok(_)) => return Err(DenyReason::access_log(None)),
                // The fourth argument is the index, unless it has another name.
                None if group.arguments > 3 && !is_named(rest) => return Err(DenyReason::access_log(None)),
                None => {}
            }
        }
        rest = &rest[c.len_utf8()..];
        is_argument = c == ',' || c == '(';
        match c {
            '"' | '\'' => rest = after_text(rest, c).ok_or(DenyReason::Unreadable)?,
            '(' => groups.push(Group { searches: false, names_index: false, arguments: 0 }),
            ')' => {
                let group = groups.pop().ok_or(DenyReason::Unreadable)?;
                if group.searches && !group.names_index {
                    return Err(DenyReason::access_log(None));
                }
            }
            '.' => {
                let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
                let (name, after) = rest.split_at(end);
                if let Some(arguments) = after.strip_prefix('(') {
                    let name = name.rsplit('.').next().unwrap_or_default();
                    let searches = ["es", "elasticsearch", "opensearch"].contains(&name);
                    groups.push(Group { searches, names_index: false, arguments: 0 });
                    is_argument = true;
                    rest = arguments;
                } else {
                    rest = after;
                }
            }
            _ => {}
        }
    }
    if groups.is_empty() { Ok(()) } else { Err(DenyReason::Unreadable) }
}

/// Returns the value of an argument `index=…`, if `text` begins with one.
fn index_argument(text: &str) -> Option<Result<&str, DenyReason>> {
    let value = text.strip_prefix("index")?.trim_ascii_start().strip_prefix('=')?.trim_ascii_start();
    let quote = value.chars().next().filter(|c| ['"', '\''].contains(c));
    let Some(quote) = quote else {
        let name = value[..value.find([',', ')']).unwrap_or(value.len())].trim_ascii();
        return Some(if is_literal(name) { Ok(name) } else { Err(DenyReason::Unreadable) });
    };
    let inner = &value[1..];
    let after = after_text(inner, quote)?;
    let quoted = &inner[..inner.len() - after.len() - 1];
    Some(if quoted.contains('\\') { Err(DenyReason::Unreadable) } else { Ok(quoted) })
}

/// Returns whether an unquoted value is a text to Timelion, and neither a function nor a keyword.
fn is_literal(name: &str) -> bool {
    !name.starts_with(['.', '@', '$'])
        && !name.contains(|c: char| c.is_ascii_whitespace() || "('\"=".contains(c))
        && !["null", "true", "false", "undefined"].contains(&name)
}

/// Returns whether an argument has a name.
fn is_named(text: &str) -> bool {
    let end = text.find(|c: char| !is_name(c)).unwrap_or(text.len());
    end > 0 && text[end..].trim_ascii_start().starts_with('=')
}

/// Rejects a text that contains a call of a function that fetches, because the text may become an expression later.
pub(super) fn check_text(text: &str) -> Result<(), DenyReason> {
    let mut last_inherited = None;
    for (at, _) in text.match_indices('.') {
        let rest = &text[at + 1..];
        let end = rest.find(|c: char| !is_name(c) || c == '.').unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if !after.trim_start().starts_with('(') {
            continue;
        }
        let name = name.to_ascii_lowercase();
        if FETCHING.contains(&name.as_str()) {
            return Err(DenyReason::Fetches(format!(".{name}()")));
        }
        if name == "props"
            && let Some((at, inherited)) = *last_inherited.get_or_insert_with(|| last_of(text, INHERITED))
            && at >= text.len() - after.len()
        {
            return Err(DenyReason::Prototype(inherited.to_owned()));
        }
    }
    Ok(())
}

/// Returns the last position of one of `names` in a text. Searched once, because a search for each function of the text
/// would take quadratic time.
fn last_of(text: &str, names: &'static [&str]) -> Option<(usize, &'static str)> {
    names.iter().filter_map(|name| Some((text.rfind(name)?, *name))).max()
}

/// Returns the text after the closing `quote`, or `None` if there is none.
fn after_text(rest: &str, quote: char) -> Option<&str> {
    let mut is_escaped = false;
    for (at, c) in rest.char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            c if c == quote => return Some(&rest[at + 1..]),
            _ => {}
        }
    }
    None
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || ".-_".contains(c)
}

/// The limit of nested groups and arguments.
const DEPTH: usize = 64;

/// Functions of Kibana 5 to 7 and of Dashboards that only compute, or search the engine.
const HARMLESS: &[&str] = &[
    "abs",
    "add",
    "aggregate",
    "bars",
    "color",
    "condition",
    "cusum",
    "derivative",
    "divide",
    "elasticsearch",
    "es",
    "first",
    "fit",
    "hide",
    "holt",
    "if",
    "label",
    "legend",
    "lines",
    "log",
    "max",
    "min",
    "movingaverage",
    "movingstd",
    "multiply",
    "mvavg",
    "mvstd",
    "opensearch",
    "plus",
    "points",
    "precision",
    "props",
    "range",
    "scale_interval",
    "static",
    "subtract",
    "sum",
    "title",
    "trend",
    "trim",
    "value",
    "yaxis",
];

const FETCHING: &[&str] = &["graphite", "quandl", "wb", "wbi", "worldbank", "worldbank_indicators"];

/// Ends of quantified groups, with which a regular expression can need exponential time (`ReDoS`).
const QUANTIFIED: &[&str] = &[")+", ")*", "){"];

/// Properties that every object of a JavaScript server inherits.
const INHERITED: &[&str] = &[
    "__proto__",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
    "constructor",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "prototype",
    "toLocaleString",
    "toString",
    "valueOf",
];

#[cfg(test)]
mod tests {
    use super::super::content::READABLE;
    use super::*;

    #[test]
    fn ordinary_expressions_pass() {
        for expression in [
            ".es(*)",
            ".es(index='cwl-*',timefield='@timestamp')",
            ".es(index=cwl-*, timefield=@timestamp, metric=avg:additional.bytes.total).label('mean (avg.)')",
            ".es(q='eventSource:ec2.amazonaws.com (a OR b)').divide(.es()).multiply(0.5).lines(fill=1,width=0.5)",
            "(.es(a), .es(b)).movingaverage(5).label(\"it's \\\"quoted\\\"\")",
            ".es(offset=-1d).props(label=last.week)",
            ".es(split=eventName:5).label('$1', '^.* > eventName:(.*) > .*')",
            "@1:2.abs()",
            "$a=.es(*), $a.if(gt, 1, null)",
            ".static(5), .value(6)",
        ] {
            assert_eq!(check(expression), Ok(()), "{expression}");
            assert_eq!(check_text(expression), Ok(()), "{expression}");
        }
    }

    #[test]
    fn function_that_fetches_is_rejected_at_any_place() {
        for expression in [
            ".graphite('x')",
            ".es(*), .graphite(x)",
            ".es(*).divide(.quandl(code='a'))",
            "(.worldbank('a'))",
            ".wbi()",
            ".wb (x)",
            ".es(q=.worldbank_indicators(a))",
            "@1.graphite(x)",
            "5.graphite(x)",
            ".es(q='.graphite(x)')",
            ".es(q=\"\\\".graphite(x)\")",
            ".GRAPHITE(x)",
            ".graphite\t(x)",
            ".graphite\n(x)",
        ] {
            assert!(matches!(check(expression), Err(DenyReason::Fetches(_))), "{expression}");
        }
    }

    #[test]
    fn unknown_function_is_rejected() {
        for expression in [".constructor(a)", ".es.graphite(x)", ".fetch(a)", ".(a)", ".Es(*)"] {
            assert!(check(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn prototype_pollution_by_props_is_rejected() {
        for expression in [
            ".es(*).props(label.__proto__.env.AAAA='require(\"child_process\")')",
            ".es(*).props(constructor.prototype.a=1)",
            ".es(*).props(toString.call=1)",
            ".es(*).props(a.hasOwnProperty.call=1)",
        ] {
            assert!(matches!(check(expression), Err(DenyReason::Prototype(_))), "{expression}");
            assert!(matches!(check_text(expression), Err(DenyReason::Prototype(_))), "{expression}");
        }
    }

    #[test]
    fn every_cell_of_a_sheet_is_checked() {
        let run = |body: &str| check_run(&serde_json::from_str(body).unwrap());
        assert_eq!(
            run(r#"{"sheet":[".es(*)",".es()"],"time":{"from":"now-1d","to":"now","interval":"auto"}}"#),
            Ok(())
        );
        for body in [
            r#"{"sheet":[".es(*)",".graphite(x)"]}"#,
            r#"{"sheet":[[".graphite(x)"]]}"#,
            r#"{"sheet":".graphite(x)"}"#,
            r#"{"sheet":[],"Sheet":[]}"#,
            r#"{"sheet":[],"time":{"url":"x"}}"#,
            r#"{"sheet":[],"time":{"from":{"a":1}}}"#,
            "{}",
        ] {
            assert!(run(body).is_err(), "{body}");
        }
    }

    #[test]
    fn expression_that_cannot_be_tokenised_is_rejected() {
        for expression in [".es('", ".es(*", ".es(*))", ".es", ".", ".es(\"a\\\")", &"(".repeat(100)] {
            assert_eq!(check(expression), Err(DenyReason::Unreadable), "{expression}");
        }
    }

    #[test]
    fn regular_expression_with_exponential_time_is_rejected() {
        for pattern in ["(a+)+$", "(a|a)*b", "(.*){9}x"] {
            let expression = format!(".es(*).label(aaaaaaaaaaaaaaaaaaaaaa).label('$1', '{pattern}')");
            assert!(check(&expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn longest_expressions_are_checked_in_linear_time() {
        // In quadratic time each would take minutes.
        let repeated = |call: &str| format!(".es(*){}", call.repeat(READABLE / call.len()));
        assert_eq!(check(&repeated(".label(a)")), Ok(()));
        assert_eq!(check(&repeated(".props(a=1)")), Ok(()));
        assert_eq!(check_text(&repeated(".props(")), Ok(()));
        assert!(check(&(repeated(".label(a)") + ".label('(a+)+')")).is_err());
        assert!(check(&(repeated(".props(a=1)") + ".props(toString=1)")).is_err());
    }
}
