//! The types of the route table.

use super::engines::Engines;
use super::statement::Language;

/// A row of the route table. The first that matches a request decides; a request without a match is rejected.
pub(super) struct Rule {
    pub(super) backend: Backend,
    /// Methods, separated by blanks. `GET` includes `HEAD`.
    pub(super) methods: &'static str,
    /// Path patterns below the backend's prefix: see [`fits`](super::path::fits).
    pub(super) paths: &'static [&'static str],
    /// The engines that have the route as an API. On others with mapping types, only `GET` and `HEAD` are permitted.
    pub(super) engines: Engines,
    pub(super) verdict: Verdict,
    /// A description of the route, or the reason for its rejection.
    pub(super) what: &'static str,
}

/// The server that handles the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// Elasticsearch or OpenSearch, called directly or through Kibana.
    Engine,
    /// Kibana or Dashboards, below its prefix.
    Kibana,
}

/// The decision on a request that matches a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Permitted, whatever the query and the body contain.
    Allow,
    /// Rejected, although it looks harmless.
    Refuse,
    /// Writes Kibana's own index. Permitted with known query parameters only.
    OwnIndex,
    /// Permitted if the statement, in the query or the body, only reads.
    Statement(Language),
    /// Ends searches. Permitted unless the body names `_all`.
    Cursors,
    /// Decided by the nested engine call in the query.
    Console,
    /// Decided by the nested engine call in the body.
    ApiCaller,
    /// Searches. Permitted if the body cannot turn it into another call.
    Search,
    /// [`Self::Search`] for many searches.
    Batch,
    /// Searches. Permitted if the body is unambiguous JSON.
    Json,
    /// Evaluates expressions. Permitted if no function in the body fetches (SSRF).
    Timelion,
    /// Writes settings. Permitted if none makes the server fetch (SSRF).
    Settings,
    /// Writes a saved object of the type in the path. Permitted if it does not make the server fetch (SSRF).
    Object,
    /// [`Self::Object`] for many objects, each with its type.
    Objects,
    /// [`Self::Object`] for a form with a file of objects.
    Import,
    /// Creates a short link. Permitted if its target is a page of the same server.
    ShortLink,
    /// Counts the usage of pages in a saved object.
    UsageCounter,
}

impl Verdict {
    /// Returns whether the body decides, so that the query must have no parameter that could replace it.
    pub(super) fn is_said_by_body(self) -> bool {
        match self {
            Self::Statement(_) | Self::Cursors | Self::ApiCaller | Self::Search | Self::Batch | Self::Timelion => true,
            Self::Allow
            | Self::Refuse
            | Self::OwnIndex
            | Self::Console
            | Self::Json
            | Self::Settings
            | Self::Object
            | Self::Objects
            | Self::Import
            | Self::ShortLink
            | Self::UsageCounter => false,
        }
    }

    /// Returns whether the request writes a saved object.
    pub(super) fn saves(self) -> bool {
        matches!(
            self,
            Self::OwnIndex
                | Self::Settings
                | Self::Object
                | Self::Objects
                | Self::Import
                | Self::ShortLink
                | Self::UsageCounter
        )
    }
}
