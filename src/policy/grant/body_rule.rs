//! The rules for bodies.

use super::objects::Kind;
use super::statement::Language;

/// The rule that a body has to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyRule {
    /// None: it may be anything.
    None,
    /// Its statement reads.
    Statement(Language),
    /// It does not end the searches of others.
    Cursors,
    /// It keeps a scroll open for no longer than is allowed.
    Scroll,
    /// Its searches keep points in time open for no longer than is allowed.
    Searches,
    /// The same, for a template of a search.
    Template,
    /// It calls a function of the engine's client that reads.
    ApiCaller,
    /// It stays a search.
    Search,
    /// Each of its searches stays a search.
    Batch,
    /// It is JSON with one meaning.
    Json,
    /// None of its expressions fetches (SSRF).
    Timelion,
    /// None of its settings makes the server fetch (SSRF).
    Settings,
    /// The saved object of this kind does not make the server fetch (SSRF).
    Object(Kind),
    /// The same, for many objects.
    Objects,
    /// The same, for objects in a file.
    Import,
    /// The same, for a document in Kibana's own index.
    Document {
        /// The kind that the path names.
        kind: Kind,
        /// Whether it is a part of the document.
        is_update: bool,
    },
    /// Its link leads to a page of the same server.
    ShortLink,
}
