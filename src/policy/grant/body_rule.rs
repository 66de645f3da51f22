//! Body rules: the conditions of a route on the request's body.

use super::objects::Kind;
use super::statement::Language;

/// The condition that a body has to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyRule {
    /// No condition.
    None,
    /// The statement only reads.
    Statement(Language),
    /// The body does not name `_all`, which would end the searches of other clients.
    Cursors,
    /// The keep-alive of the scroll is within the limit.
    Scroll,
    /// The keep-alive of the searches' points in time is within the limit.
    Searches,
    /// [`Self::Searches`] for a search template.
    Template,
    /// The nested call is a function of the engine's client that only reads.
    ApiCaller,
    /// The search has only known members, so that it cannot become another call.
    Search,
    /// [`Self::Search`] for each search of a batch.
    Batch,
    /// The body is unambiguous JSON.
    Json,
    /// No expression makes the server fetch (SSRF).
    Timelion,
    /// No setting makes the server fetch (SSRF).
    Settings,
    /// The saved object of this kind does not make the server fetch (SSRF).
    Object(Kind),
    /// [`Self::Object`] for many objects.
    Objects,
    /// [`Self::Object`] for objects in a file.
    Import,
    /// [`Self::Object`] for a document in Kibana's own index.
    Document {
        /// The kind that the path names.
        kind: Kind,
        /// Set if the body is a partial update.
        is_update: bool,
    },
    /// The link's target is a page of the same server (no open redirect).
    ShortLink,
}
