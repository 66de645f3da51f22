//! The reasons why a read grant rejects a call, with their texts for the client.

use std::time::Duration;

use crate::policy::engine::Engine;

/// The reason why a read grant does not cover a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call} {why}{}", if self.is_of_access_log() { "" } else { ": this address may read only" })]
pub struct ReadOnly {
    /// Method and path of the rejected call, which may be a nested one.
    pub(super) call: String,
    pub(super) why: DenyReason,
}

impl ReadOnly {
    pub(super) fn of_access_log(self) -> Self {
        Self { why: self.why.of_access_log(), ..self }
    }

    /// Returns whether the call was rejected because it could reach the access log's indices.
    #[must_use]
    pub fn is_of_access_log(&self) -> bool {
        matches!(self.why, DenyReason::AccessLog(_) | DenyReason::AccessLogDoubt(_))
    }
}

/// The reason within a [`ReadOnly`]: it follows the name of the call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DenyReason {
    #[error("writes, or is not known to read")]
    Unknown,
    #[error("{0}")]
    Named(&'static str),
    #[error("can be read in more than one way")]
    Ambiguous,
    #[error("has a body that cannot be inspected: send JSON, plain or with one gzip member")]
    Unreadable,
    #[error("has a body of more than 4 MiB or 262,144 values, the limits of inspection: send it in parts")]
    TooLong,
    #[error("has a statement that writes, or is not known to read")]
    Statement,
    #[error("is not an API of {0}, which could index it as a document")]
    NotOnEngine(Engine),
    #[error("is an API of some engines only, and the domain's engine is not known yet")]
    EngineUnknown,
    #[error("would end the searches of all clients")]
    AllSearches,
    #[error("has the member {0:?}, which the pages do not send")]
    Member(String),
    #[error("has the parameter {0:?} in a form that the pages do not send")]
    Parameter(String),
    #[error("names {0:?}, a property of the server's own objects")]
    Prototype(String),
    #[error("would change {0:?}, which is shipped with trailgate: save yours under another id")]
    Shipped(String),
    #[error("saves an object of Kibana, for which this entry needs access = \"read\"")]
    Saves,
    #[error("would make the server fetch: {0}")]
    Fetches(String),
    #[error("changes the setting {0:?}, which can make the server fetch or lift a limit")]
    Setting(String),
    #[error("requests to keep a search open for {asked:?}, and the longest is {} s: see limits.search_keep_alive", longest.as_secs())]
    KeepAlive { asked: String, longest: Duration },
    #[error("does not limit the time for which the search stays open: add keep_alive, of at most {} s", .0.as_secs())]
    NoKeepAlive(Duration),
    #[error(
        "searches {0}, and so the access log (gate-*), for which this entry needs access_log = true: \
         name other indices, such as cwl-*, or exclude it, as *,-gate-* does"
    )]
    AccessLog(String),
    #[error("{0}, and this entry may not read the access log (gate-*)")]
    AccessLogDoubt(Box<Self>),
}

impl DenyReason {
    pub(super) const HIDING_CURSOR: Self =
        Self::Named("has a cursor, which could read the access log (gate-*): select less");

    /// Marks a reason that would be none if the client could see the access log.
    pub(super) fn of_access_log(self) -> Self {
        match self {
            why @ (Self::AccessLog(_) | Self::AccessLogDoubt(_)) => why,
            why => Self::AccessLogDoubt(Box::new(why)),
        }
    }

    /// Returns the reason for a call that names these indices, or none.
    pub(super) fn access_log(indices: Option<&str>) -> Self {
        Self::AccessLog(indices.map_or_else(|| "all indices".to_owned(), shown))
    }
}

/// Sanitises a name for a message: truncates it, and replaces characters that a terminal or a page would interpret.
pub(super) fn shown(name: &str) -> String {
    let is_plain = |c: &char| c.is_ascii_alphanumeric() || "-_.:*@$/".contains(*c);
    name.chars().map(|c| if is_plain(&c) { c } else { '?' }).take(SHOWN).collect()
}

/// Characters of a name that a message repeats.
const SHOWN: usize = 64;

#[cfg(test)]
mod tests {
    #[test]
    fn read_grant_page_explains_each_reason() {
        let page = include_str!("../../../docs/read-grant.md");
        let (_, rest) = page.split_once("### Reasons").unwrap();
        let rows =
            rest.split("\n###").next().unwrap().lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
        let listed: Vec<&str> =
            rows.flat_map(|(reasons, _)| reasons.split("`, `")).map(|it| it.trim_matches('`')).collect();
        let texts = include_str!("deny_reason.rs").split("mod tests").next().unwrap();
        let texts: Vec<&str> = texts.split("#[error(").skip(2).filter(|text| !text.starts_with("\"{0}\")")).collect();
        assert!(!texts.is_empty());
        for text in &texts {
            assert!(listed.iter().any(|reason| text.contains(reason)), "not on the page: {text}");
        }
        for reason in &listed {
            assert!(texts.iter().any(|text| text.contains(reason)), "not a reason: {reason}");
        }
    }
}
