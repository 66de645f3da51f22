//! Tests with tables of all routes, recorded sessions, and spellings that hide a write.

use std::fmt::Write as _;

use fastrand::Rng;
use serde::Deserialize;

use super::super::table::TABLE;
use super::*;

const ROUTES: &str = include_str!("../../../../tests/data/kibana-traffic/routes.tsv");
const REQUESTS: &str = include_str!("../../../../tests/data/kibana-traffic/requests.jsonl");

#[test]
fn read_grant_page_has_the_route_table() {
    let mut table = "| | methods | paths | engines | |\n|---|---|---|---|---|\n".to_owned();
    for rule in TABLE {
        let place = match rule.backend {
            Backend::Engine => "engine",
            Backend::Kibana => "Kibana",
        };
        let paths: Vec<_> = rule.paths.iter().map(|path| format!("`/{}`", path.replace('|', "\\|"))).collect();
        let engines = if rule.backend == Backend::Engine { rule.engines.to_string() } else { String::new() };
        let refused = if rule.verdict == Verdict::Refuse { "**rejected**: " } else { "" };
        writeln!(table, "| {place} | {} | {} | {engines} | {refused}{} |", rule.methods, paths.join(" "), rule.what)
            .unwrap();
    }
    let page = include_str!("../../../../docs/read-grant.md");
    let (_, rest) = page.split_once("<!-- read grant: begin -->\n").unwrap();
    let (shown, _) = rest.split_once("<!-- read grant: end -->").unwrap();
    assert!(shown.trim() == table.trim(), "docs/read-grant.md should say:\n{table}");
}

#[derive(Deserialize)]
struct Recorded {
    kind: String,
    method: String,
    target: String,
    content_type: Option<String>,
    #[serde(default)]
    body: String,
    source: String,
}

impl Recorded {
    fn engine(&self) -> &'static str {
        match self.source.as_str() {
            "kibana-5.1" | "elasticsearch 5.5.3" => "Elasticsearch_5.6",
            _ => "OpenSearch_2.19",
        }
    }
}

/// Asserts that those recorded requests pass with this access level whose kind and target `is_permitted` accepts.
fn check_recordings(access: Access, is_permitted: fn(&str, &str) -> bool) {
    let mut wrong = String::new();
    for line in REQUESTS.lines() {
        let recorded: Recorded = serde_json::from_str(line).unwrap();
        let engine = recorded.engine();
        let Recorded { kind, method, target, content_type, body, .. } = recorded;
        let found = check_as(access, engine, &method, &target, content_type.as_deref(), &body);
        if found.is_ok() != is_permitted(&kind, &target) {
            writeln!(wrong, "{kind} {method} {target} {body}: {found:?}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn recorded_sessions_pass_except_for_their_writes() {
    check_recordings(Access::Read, |kind, _| ["read", "saved_object"].contains(&kind));
}

#[test]
fn view_grant_is_read_grant_without_saved_objects() {
    // Opening a short link is permitted: Dashboards stores only its access count.
    check_recordings(Access::View, |kind, target| kind == "read" || target.contains("/goto/"));
}

/// Returns method and path of the routes that write, or are rejected for another reason.
fn writes() -> impl Iterator<Item = (&'static str, String)> {
    ROUTES.lines().skip(1).filter_map(|line| {
        let mut columns = line.split('\t');
        let (method, path, class) = (columns.next()?, columns.next()?, columns.next()?);
        let is_engines = !path.starts_with("/api") && !path.starts_with("/elasticsearch");
        let is_write = matches!(class, "write" | "refused") && is_engines;
        is_write.then(|| (method, filled(path)))
    })
}

/// Fills a path template with names.
fn filled(template: &str) -> String {
    let fill = |segment: &str| match segment {
        "{index}" => "cwl-2023.07.10".to_owned(),
        "{type}" => "cloudtrail".to_owned(),
        name => name.trim_matches(['{', '}']).to_owned(),
    };
    template.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[test]
fn no_write_passes_in_any_spelling() {
    let mut rng = Rng::with_seed(7);
    let mut count = 0;
    for (method, path) in writes() {
        for wrapping in 0..WRAPPINGS {
            wrapped(&mut rng, wrapping, method, &path);
        }
        for _ in 0..100 {
            let (wrapping, spelled) = (rng.usize(..WRAPPINGS), random_spelling(&mut rng, &path));
            wrapped(&mut rng, wrapping, method, &spelled);
            count += 1;
        }
    }
    assert!(count > 40_000, "{count} spellings");
}

/// Checks that a write is rejected, nested in one of the forms that reach the engine.
#[track_caller]
fn wrapped(rng: &mut Rng, wrapping: usize, method: &str, path: &str) {
    let inner = escaped(rng, path);
    let lower = method.to_lowercase();
    let call = serde_json::json!({ "method": method, "path": path, "body": {} });
    let call = serde_json::json!({ "endpoint": "transport.request", "data": call }).to_string();
    match wrapping {
        0 => rejects(method, path),
        1 => rejects(method, &format!("/_plugin/kibana/elasticsearch{path}")),
        2 => rejects(method, &format!("/_dashboards/s/x/es_admin{path}")),
        3 => rejects(method, &format!("/_plugin/kibana/api/console/proxy?uri={inner}&_=1")),
        4 => rejects(method, &format!("/_plugin/kibana/api/console/proxy?uri=_search&uri={inner}")),
        5 => rejects("POST", &format!("/_dashboards/api/console/proxy?p%61th={inner}&method={lower}")),
        6 => rejects("POST", &format!("/_dashboards/api/console/proxy?path=_search&path={inner}&method={method}")),
        7 => rejects("POST", &format!("/_dashboards/api/console/proxy?path={inner}&method=GET&method={method}")),
        _ => body("POST", "/_dashboards/api/ism/apiCaller", &call, false),
    }
}

const WRAPPINGS: usize = 9;

/// Returns another spelling of the path: equivalent, or equivalent to some server.
fn random_spelling(rng: &mut Rng, path: &str) -> String {
    let mut spelled = String::new();
    for c in path.chars() {
        match c {
            '/' => spelled.push_str(rng.choice(["/", "/", "/", "//", "/./", "/x/../", "/%2e/", "/y/%2E%2e/"]).unwrap()),
            c if rng.u8(..8) == 0 => push_escape(rng, &mut spelled, c),
            c => spelled.push(c),
        }
    }
    if rng.u8(..8) == 0 {
        spelled.push('/');
    }
    if rng.u8(..16) == 0 {
        // An escaped slash is a separator to servers that decode first.
        let at = spelled.rfind('/').unwrap();
        if at > 0 {
            spelled.replace_range(at..=at, "%2F");
        }
    }
    if rng.u8(..16) == 0 {
        spelled = spelled.replace('%', "%25");
    }
    spelled
}

/// Escapes a path as the value of a parameter.
fn escaped(rng: &mut Rng, path: &str) -> String {
    let mut escaped = String::new();
    for c in path.chars() {
        match c {
            '/' | '%' | '?' | '&' | '+' => push_escape(rng, &mut escaped, c),
            c => escaped.push(c),
        }
    }
    escaped
}

fn push_escape(rng: &mut Rng, out: &mut String, c: char) {
    let byte = u32::from(c);
    let escape = if rng.bool() { format!("%{byte:02x}") } else { format!("%{byte:02X}") };
    out.push_str(&escape);
}
