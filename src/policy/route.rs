//! Route classes: the kind of a call by its path, for the access log.
//!
//! The classes follow the route table of the read grant, and a test compares the two. They are computed from the path's
//! segments alone, without decoding: a class describes a request and decides nothing.

/// The class of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// Searches, counts and what explains them.
    Searches,
    /// Searches that stay open: scrolls, points in time, asynchronous searches.
    OpenSearches,
    /// SQL and PPL.
    Statements,
    /// Documents by their ids, and writes of documents.
    Documents,
    /// Indices, mappings, settings, aliases, templates.
    Metadata,
    /// The state of the cluster.
    Status,
    /// Plug-ins of the engine and their pages.
    Plugins,
    /// Snapshots, users, and what makes the domain work.
    Administration,
    /// Pages of Kibana, their assets, and the requests of pages.
    Pages,
    /// Saved objects, settings and short links.
    SavedObjects,
    /// The console of Kibana.
    Console,
    /// Calls that index management carries.
    NestedCalls,
    /// A path of no class.
    Other,
}

impl Route {
    /// Returns the class of `path`, which is canonical or as the client sent it.
    pub(crate) fn of(path: &str) -> Self {
        let mut segments = path.split('/').filter(|segment| !segment.is_empty());
        let mut rest = segments.clone();
        match segments.next() {
            Some("_plugin") if segments.next() == Some("kibana") => of_kibana(segments),
            Some("_dashboards") => of_kibana(segments),
            _ => of_engine(&mut rest),
        }
    }

    /// Returns the name in the access log.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Searches => "searches",
            Self::OpenSearches => "open_searches",
            Self::Statements => "statements",
            Self::Documents => "documents",
            Self::Metadata => "metadata",
            Self::Status => "status",
            Self::Plugins => "plugins",
            Self::Administration => "administration",
            Self::Pages => "pages",
            Self::SavedObjects => "saved_objects",
            Self::Console => "console",
            Self::NestedCalls => "nested_calls",
            Self::Other => "other",
        }
    }
}

fn of_kibana<'a>(mut segments: impl Iterator<Item = &'a str> + Clone) -> Route {
    let mut inner = segments.clone();
    // A space of Kibana, or a workspace of Dashboards, has all routes again.
    if matches!(inner.next(), Some("s" | "w")) {
        inner.next();
        segments = inner;
    }
    match segments.next() {
        Some("api") => of_kibana_api(segments),
        Some("internal") => match (segments.next(), segments.next()) {
            (Some("search" | "bsearch" | "_msearch"), _)
            | (Some("index-pattern-management"), Some("preview_scripted_field")) => Route::Searches,
            _ => Route::Pages,
        },
        Some("elasticsearch" | "es_admin") => {
            let is_own = segments.clone().next().is_some_and(|index| index.starts_with(".kibana"));
            if is_own { Route::SavedObjects } else { of_engine(&mut segments) }
        }
        Some("shorten") => Route::SavedObjects,
        _ => Route::Pages,
    }
}

fn of_kibana_api<'a>(mut segments: impl Iterator<Item = &'a str>) -> Route {
    match (segments.next(), segments.next()) {
        (Some("console"), Some("proxy")) => Route::Console,
        (Some("ism"), Some("apiCaller" | "accountInfo")) => Route::NestedCalls,
        (Some("saved_objects" | "short_url" | "shorten_url"), _)
        | (Some("kibana" | "opensearch-dashboards"), Some("settings" | "dashboards" | "management")) => {
            Route::SavedObjects
        }
        (Some("kibana"), Some("legacy_scroll_start" | "legacy_scroll_continue")) => Route::OpenSearches,
        (Some("kibana" | "opensearch-dashboards"), Some("suggestions"))
        | (Some("timelion" | "timeline"), Some("run"))
        | (Some("metrics"), Some("vis"))
        | (Some("home"), Some("hits_status")) => Route::Searches,
        (Some("sql_console" | "ppl"), _) => Route::Statements,
        (Some("ism" | "alerting" | "anomaly_detectors" | "reporting" | "notifications" | "geospatial"), _) => {
            Route::Plugins
        }
        _ => Route::Pages,
    }
}

fn of_engine<'a>(segments: &mut impl Iterator<Item = &'a str>) -> Route {
    let mut names = 0;
    // An engine's own names begin with `_`; `_all` stands for an index.
    let api = segments.find(|segment| {
        let is_api = segment.starts_with('_') && *segment != "_all";
        names += usize::from(!is_api);
        is_api
    });
    match (api, segments.next()) {
        (None, _) if names > 1 => Route::Documents,
        (None, _) | (Some("_search"), Some("pipeline")) => Route::Metadata,
        (Some("_search"), Some("scroll" | "point_in_time"))
        | (Some("_plugins" | "_opendistro"), Some("_asynchronous_search")) => Route::OpenSearches,
        (Some("_sql"), _) | (Some("_plugins" | "_opendistro"), Some("_sql" | "_ppl")) => Route::Statements,
        (Some("_plugins" | "_opendistro"), Some("_security")) => Route::Administration,
        (Some("_plugins" | "_opendistro"), _) => Route::Plugins,
        (Some(api), _) => of_engine_api(api),
    }
}

fn of_engine_api(api: &str) -> Route {
    match api {
        "_search" | "_msearch" | "_count" | "_validate" | "_search_shards" | "_analyze" | "_render" | "_field_caps"
        | "_rank_eval" | "_field_stats" | "_suggest" => Route::Searches,
        "_mget" | "_mtermvectors" | "_termvectors" | "_explain" | "_doc" | "_source" | "_create" | "_update"
        | "_bulk" | "_delete_by_query" | "_update_by_query" | "_reindex" => Route::Documents,
        "_mapping"
        | "_mappings"
        | "_settings"
        | "_alias"
        | "_aliases"
        | "_template"
        | "_index_template"
        | "_component_template"
        | "_data_stream"
        | "_resolve"
        | "_ingest"
        | "_scripts" => Route::Metadata,
        "_cat" | "_list" | "_cluster" | "_nodes" | "_tasks" | "_remote" | "_script_context" | "_script_language"
        | "_stats" | "_segments" | "_recovery" | "_shard_stores" => Route::Status,
        "_refresh"
        | "_flush"
        | "_cache"
        | "_forcemerge"
        | "_reload_search_analyzers"
        | "_shutdown"
        | "_snapshot"
        | "_security"
        | "_close"
        | "_open"
        | "_rollover"
        | "_shrink"
        | "_split"
        | "_clone" => Route::Administration,
        _ => Route::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn route(path: &str, expected: &str) {
        assert_eq!(Route::of(path).name(), expected, "{path}");
    }

    #[test]
    fn path_of_the_engine_has_its_class() {
        route("/", "metadata");
        route("/cwl-%2A/_search", "searches");
        route("/_all/_search", "searches");
        route("/cwl-2026.01.31/event/_search", "searches");
        route("/_search/scroll", "open_searches");
        route("/_plugins/_ppl", "statements");
        route("/cwl-2026.01.31/_doc/_x", "documents");
        route("/cwl-2026.01.31/event/1", "documents");
        route("/_bulk", "documents");
        route("/_cat/indices", "status");
        route("/_snapshot/a/b", "administration");
        route("/_new_in_a_later_version", "other");
        route("", "metadata");
    }

    #[test]
    fn path_of_kibana_has_its_class() {
        route("/_plugin/kibana/app/kibana", "pages");
        route("/_plugin/kibana/api/console/proxy", "console");
        route("/_plugin/kibana/s/audit/api/saved_objects/search/1", "saved_objects");
        route("/_plugin/kibana/elasticsearch/_msearch", "searches");
        route("/_plugin/kibana/es_admin/.kibana/search/1", "saved_objects");
        route("/_dashboards/internal/search/opensearch", "searches");
        route("/_dashboards/api/ism/apiCaller", "nested_calls");
        route("/_dashboards", "pages");
        route("/_plugin", "other");
    }
}
