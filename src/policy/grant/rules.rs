//! The parts of a rule of the route table.

use super::engines::Engines;
use super::statement::Language;

/// One row of the table. The first that fits a request decides; a request that fits none is rejected.
pub(super) struct Rule {
    pub(super) backend: Backend,
    /// Separated by blanks. `HEAD` goes wherever `GET` goes.
    pub(super) methods: &'static str,
    /// Patterns of paths below the backend's prefix: see [`fits`](super::path::fits).
    pub(super) paths: &'static [&'static str],
    /// The engines that know the route, so that a method other than `GET` may pass.
    pub(super) engines: Engines,
    pub(super) verdict: Verdict,
    /// The name of what it reads, or the reason of its rejection.
    pub(super) what: &'static str,
}

/// The server that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    /// Elasticsearch or OpenSearch, asked directly or through Kibana.
    Engine,
    /// Kibana or Dashboards, below its prefix.
    Kibana,
}

/// The decision on a request that fits.
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
    /// It searches, if the body is JSON with one meaning.
    Json,
    /// It computes, if no function in the body fetches.
    Timelion,
    /// It writes settings, if none makes the server fetch.
    Settings,
    /// It writes a saved object of the type that the path names, if that does not make the server fetch.
    Object,
    /// The same, for many objects, each with its type.
    Objects,
    /// The same, for a form with a file of objects.
    Import,
    /// It makes a short link, if that leads to a page of the same server.
    ShortLink,
    /// It counts how the pages are used, in a saved object.
    UsageCounter,
}

impl Verdict {
    /// Returns whether the body decides, so that the query must not.
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

    /// Returns whether a saved object is written.
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
