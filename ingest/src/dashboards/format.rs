//! The two forms of saved objects, and the kinds of objects.

use serde_json::{Value, json};

/// The two forms of saved objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Of Kibana 5, which Kibana 6 reads as well: objects name each other in their own text.
    Kibana5,
    /// Of Kibana 7.10 and all `OpenSearch` Dashboards: objects name each other in a list of references.
    Kibana7,
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Which indices are searched.
    IndexPattern,
    /// A saved search.
    Search,
    /// One panel.
    Visualization,
    /// A page of them.
    Dashboard,
}

impl Kind {
    /// As Kibana calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IndexPattern => "index-pattern",
            Self::Search => "search",
            Self::Visualization => "visualization",
            Self::Dashboard => "dashboard",
        }
    }

    /// The release whose form the attributes have: the last that `OpenSearch` Dashboards has a migration of this kind
    /// for, in its `index_pattern_migrations.ts`, `search_migrations.ts`, `dashboard_migrations.ts` and
    /// `visualization_migrations.ts`. It changes attributes that say an older release, and it would look as if a user
    /// had.
    pub(super) fn migration_version(self) -> &'static str {
        match self {
            Self::IndexPattern => "7.6.0",
            Self::Search | Self::Dashboard => "7.9.3",
            Self::Visualization => "7.10.0",
        }
    }
}

impl Form {
    /// A query in Lucene's syntax.
    pub(super) fn query(self, query: &str) -> Value {
        match self {
            Self::Kibana5 if query.is_empty() => self.query("*"),
            Self::Kibana5 => json!({ "query_string": { "query": query, "analyze_wildcard": true } }),
            Self::Kibana7 => json!({ "query": query, "language": "lucene" }),
        }
    }

    /// Where a page of Kibana finds a search or a dashboard.
    pub(super) fn link(self, kind: Kind, id: &str) -> String {
        let (id, application) = (name(id), if kind == Kind::Search { "discover" } else { "dashboard" });
        match self {
            Self::Kibana5 => format!("#/{application}/{id}"),
            Self::Kibana7 if kind == Kind::Search => format!("discover#/view/{id}"),
            Self::Kibana7 => format!("dashboards#/view/{id}"),
        }
    }
}

/// The id of an object of ours: no user's object has it.
pub(super) fn name(id: &str) -> String {
    format!("trailgate-{id}")
}
