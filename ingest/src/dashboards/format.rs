//! The two formats of saved objects, and the kinds of objects.

use serde_json::{Value, json};

/// A format of saved objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    /// That of Kibana 5, which Kibana 6 reads as well: objects name each other in their own text.
    Kibana5,
    /// That of Kibana 7.10 and all `OpenSearch` Dashboards: objects name each other in a list of references.
    Kibana7,
}

/// The kind of a saved object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// An index pattern: which indices are searched.
    IndexPattern,
    /// A saved search.
    Search,
    /// One panel.
    Visualization,
    /// A page of them.
    Dashboard,
}

impl ObjectKind {
    /// Returns Kibana's name of the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IndexPattern => "index-pattern",
            Self::Search => "search",
            Self::Visualization => "visualization",
            Self::Dashboard => "dashboard",
        }
    }

    /// Returns the release whose format the attributes have: the last that `OpenSearch` Dashboards has a migration of
    /// this kind for, in its `index_pattern_migrations.ts`, `search_migrations.ts`, `dashboard_migrations.ts` and
    /// `visualization_migrations.ts`. It changes attributes of an older release, which would look like a change by a
    /// user.
    pub(super) fn migration_version(self) -> &'static str {
        match self {
            Self::IndexPattern => "7.6.0",
            Self::Search | Self::Dashboard => "7.9.3",
            Self::Visualization => "7.10.0",
        }
    }
}

impl ExportFormat {
    /// Returns a query in Lucene's syntax.
    pub(super) fn query(self, query: &str) -> Value {
        match self {
            Self::Kibana5 if query.is_empty() => self.query("*"),
            Self::Kibana5 => json!({ "query_string": { "query": query, "analyze_wildcard": true } }),
            Self::Kibana7 => json!({ "query": query, "language": "lucene" }),
        }
    }

    /// Returns the link to a search or a dashboard from a page of Kibana.
    pub(super) fn page_link(self, kind: ObjectKind, id: &str) -> String {
        let (id, application) = (object_id(id), if kind == ObjectKind::Search { "discover" } else { "dashboard" });
        match self {
            Self::Kibana5 => format!("#/{application}/{id}"),
            Self::Kibana7 if kind == ObjectKind::Search => format!("discover#/view/{id}"),
            Self::Kibana7 => format!("dashboards#/view/{id}"),
        }
    }
}

/// Returns the id of an object of ours, which no user's object has.
pub(super) fn object_id(id: &str) -> String {
    format!("trailgate-{id}")
}
