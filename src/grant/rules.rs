//! What a rule of the [`TABLE`] says, and which one decides.

use super::engines::Engines;
use super::path::fits;
use super::statement::Language;
use super::table::TABLE;

/// One line of the table. The first that fits a request decides; what fits none is refused.
pub(super) struct Rule {
    pub(super) place: Place,
    /// Separated by blanks. `HEAD` goes wherever `GET` goes.
    pub(super) methods: &'static str,
    /// What [`fits`] takes, below the place.
    pub(super) paths: &'static [&'static str],
    /// Where a method other than `GET` passes.
    pub(super) engines: Engines,
    pub(super) verdict: Verdict,
    /// What it is, or why it is refused.
    pub(super) what: &'static str,
}

/// Which server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Elasticsearch or OpenSearch, asked directly or through Kibana.
    Engine,
    /// Kibana or Dashboards, below its prefix.
    Kibana,
}

/// What becomes of a request that fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It reads, whatever its query and body say.
    Allow,
    /// It is refused, though it looks harmless.
    Refuse,
    /// It writes Kibana's own index, if its query has nothing unusual.
    OwnIndex,
    /// The statement, in the query or the body, tells.
    Statement(Language),
    /// It ends searches, if the body does not say `_all`.
    Cursors,
    /// The call to the engine that stands in the query tells.
    Console,
    /// The call to the engine that stands in the body tells.
    ApiCaller,
    /// It searches, if the body does not turn it into something else.
    Search,
    /// The same, for many searches.
    Batch,
}

impl Verdict {
    /// Whether the body has a say.
    pub(super) fn needs_body(self) -> bool {
        match self {
            Self::Statement(_) | Self::Cursors | Self::ApiCaller | Self::Search | Self::Batch => true,
            Self::Allow | Self::Refuse | Self::OwnIndex | Self::Console => false,
        }
    }
}

/// The first rule that fits.
pub(super) fn find(place: Place, method: &str, segments: &[&str]) -> Option<&'static Rule> {
    let method = if method == "HEAD" { "GET" } else { method };
    TABLE.iter().find(|rule| {
        rule.place == place
            && rule.methods.split(' ').any(|known| known == method)
            && rule.paths.iter().any(|pattern| fits(pattern, segments))
    })
}
