//! Query parameters of Kibana's own routes: rejects path traversal (CVE-2018-17246) and addresses to fetch (SSRF).

use super::DenyReason;
use super::deny_reason::shown;
use super::json::is_inherited;

/// Rejects a parameter of a route below `api` or `internal` that names a file, an address or a prototype.
pub(super) fn check(segments: &[&str], parameters: &[(String, String)]) -> Result<(), DenyReason> {
    let is_api_server = segments == ["api", "console", "api_server"];
    for (at, (name, value)) in parameters.iter().enumerate() {
        let fits = if is_api_server {
            fits_api_server(name, value) && !parameters[..at].iter().any(|(earlier, _)| earlier == name)
        } else {
            !is_inherited(name) && !leads_elsewhere(name, value)
        };
        if !fits {
            return Err(DenyReason::Parameter(shown(name)));
        }
    }
    Ok(())
}

/// Returns whether a parameter of `api_server` is harmless: Kibana loads the file that `apis` names.
fn fits_api_server(name: &str, value: &str) -> bool {
    match name {
        "apis" => value.split(',').all(|api| {
            !api.is_empty()
                && api.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        }),
        "sense_version" => value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@_.-".contains(&byte)),
        "_" => value.bytes().all(|byte| byte.is_ascii_digit()),
        _ => false,
    }
}

/// Returns whether a value has a path traversal or an address. Search terms may contain addresses.
fn leads_elsewhere(name: &str, value: &str) -> bool {
    let is_free_text = ["search", "query", "filter", "nextUrl"].iter().any(|text| name.starts_with(text));
    value.contains(char::is_control)
        || value.split(['/', '\\']).any(|part| part == "..")
        || !is_free_text && value.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn fits(path: &str, name: &str, value: &str, expected: bool) {
        let segments: Vec<&str> = path.split('/').collect();
        let found = check(&segments, &[(name.to_owned(), value.to_owned())]);
        assert_eq!(found.is_ok(), expected, "{path} {name}={value}");
    }

    #[test]
    fn console_definitions_are_named_by_plain_words() {
        let server = "api/console/api_server";
        fits(server, "sense_version", "@@SENSE_VERSION", true);
        fits(server, "apis", "es_5_0", true);
        fits(server, "apis", "es_5_0,es_6_0", true);
        for file in ["../../../../etc/passwd", "es_5_0,../x", "/etc/passwd", "", "es_5_0.js", "..", "a%2fb", "a\0"] {
            fits(server, "apis", file, false);
        }
        fits(server, "apis[]", "es_5_0", false);
        fits(server, "sense_version", "../1", false);
        let twice = ["es_5_0", "es_5_0"].map(|value| ("apis".to_owned(), value.to_owned()));
        assert!(check(&["api", "console", "api_server"], &twice).is_err());
    }

    #[test]
    fn parameter_with_traversal_url_or_prototype_is_rejected() {
        let find = "api/saved_objects/_find";
        fits(find, "search", "https://a.test/x*", true);
        fits(find, "fields", "title", true);
        fits(find, "type", "../../x", false);
        fits(find, "type", "..\\x", false);
        fits(find, "type", "http://127.0.0.1", false);
        fits(find, "search", "a/../b", false);
        fits(find, "__proto__[a]", "1", false);
        fits(find, "a.constructor.b", "1", false);
    }
}
