//! The route table of a read grant. docs/read-grant.md shows it, and a test compares the two.
//!
//! On Elasticsearch up to 7 and OpenSearch 1, `POST /a/_new` indexes a document of the type `_new` if `_new` is not an
//! API yet, and `POST /a/b/_new` one with the id `_new`. So a rule with such a path names the engines that have the API
//! by [`Rule::on`].

use super::engines::Engines;
use super::path::fits;
use super::rules::Backend::{Engine, Kibana};
use super::rules::{Backend, Rule, Verdict};
use super::statement::Language;

/// All rules. The first match decides.
pub(super) const TABLE: &[Rule] = &[
    rule(
        Engine,
        "GET POST",
        &[
            "{index}?/{type}?/_search",
            "{index}?/{type}?/_search/template",
            "{index}?/{type}?/_msearch",
            "{index}?/{type}?/_msearch/template",
            "{index}?/{type}?/_count",
            "{index}?/{type}?/_validate/query",
            "{index}?/_search_shards",
            "{index}?/_analyze",
            "_render/template/{doc}?",
        ],
        Verdict::Allow,
        "searches",
    ),
    rule(Engine, "GET POST", &["{index}?/_field_caps"], Verdict::Allow, "searches").on(FIELD_CAPS),
    rule(Engine, "GET POST", &["{index}?/_rank_eval"], Verdict::Allow, "searches").on(RANK_EVAL),
    rule(Engine, "GET POST", &["{index}?/_field_stats", "{index}?/_suggest"], Verdict::Allow, "searches")
        .on(UNTIL_ELASTICSEARCH_5),
    rule(
        Engine,
        "GET POST",
        &[
            "{index}?/{type}?/_mget",
            "{index}?/{type}?/_mtermvectors",
            "{index}/{type}/_termvectors",
            "{index}/{type}/{doc}/_termvectors",
            "{index}/{type}/{doc}/_explain",
        ],
        Verdict::Allow,
        "documents",
    ),
    rule(Engine, "GET POST", &["{index}/_termvectors/{id}?", "{index}/_explain/{id}"], Verdict::Allow, "documents")
        .on(TYPELESS),
    rule(
        Engine,
        "GET",
        &["{index}/_doc/{id}", "{index}/_source/{id}", "{index}/{type}/{doc}", "{index}/{type}/{doc}/_source"],
        Verdict::Allow,
        "documents",
    ),
    rule(
        Engine,
        "POST",
        &["_search/scroll/{cursor}?", "_plugins|_opendistro/_asynchronous_search"],
        Verdict::Allow,
        "searches that stay open",
    ),
    rule(Engine, "POST", &["{index}/_search/point_in_time"], Verdict::Allow, "searches that stay open")
        .on(POINT_IN_TIME),
    rule(
        Engine,
        "GET",
        &["_search/scroll/{cursor}?", "_plugins|_opendistro/_asynchronous_search/{doc}"],
        Verdict::Allow,
        "searches that stay open",
    ),
    rule(Engine, "DELETE", &["_plugins|_opendistro/_asynchronous_search/{doc}"], Verdict::Allow, "the end of a search"),
    rule(
        Engine,
        "DELETE",
        &["_search/scroll/{cursor}?", "_search/point_in_time"],
        Verdict::Cursors,
        "the end of a search, but not of `_all`",
    ),
    rule(
        Engine,
        "GET POST",
        &["_sql", "_sql/translate", "_plugins|_opendistro/_sql", "_plugins|_opendistro/_sql/_explain"],
        Verdict::Statement(Language::Sql),
        "`SELECT`, `SHOW`, `DESCRIBE`, `EXPLAIN`: the statement is checked",
    ),
    rule(
        Engine,
        "GET POST",
        &["_plugins|_opendistro/_ppl", "_plugins|_opendistro/_ppl/_explain"],
        Verdict::Statement(Language::Ppl),
        "`search`, `source`, `describe`, `show`, `explain`: the statement is checked",
    ),
    rule(Engine, "POST", &["_sql/close", "_plugins|_opendistro/_sql/close"], Verdict::Allow, "the end of a search"),
    rule(
        Engine,
        "GET",
        &[
            "{index}?/_refresh",
            "{index}?/_flush/…",
            "{index}?/_cache/clear",
            "{index}?/_forcemerge",
            "{index}?/_reload_search_analyzers",
            "_plugins|_opendistro/_knn/warmup/…",
        ],
        Verdict::Refuse,
        "starts work on the domain, although it is a `GET`",
    ),
    rule(
        Engine,
        "GET",
        &["_nodes|_cluster/…/hot_threads|hotthreads", "_nodes|_cluster/…/_shutdown|shutdown", "_shutdown"],
        Verdict::Refuse,
        "stops or slows down every node",
    ),
    rule(
        Engine,
        "GET",
        &["_plugins|_opendistro/_notifications/feature/test/…"],
        Verdict::Refuse,
        "sends a message, although it is a `GET`",
    ),
    rule(
        Engine,
        "GET",
        &["_search/point_in_time/_all", "_cat/pit_segments/…"],
        Verdict::Refuse,
        "lists the points in time of all clients, which any client could then use and end",
    ),
    rule(
        Engine,
        "GET POST",
        &["_scripts/painless/_execute", "_scripts/painless/_context", "_ingest/pipeline/{id}?/_simulate"],
        Verdict::Refuse,
        "runs code that the client sends",
    ),
    rule(
        Engine,
        "GET",
        &["_plugins|_opendistro/_security/api/account"],
        Verdict::Allow,
        "the proxy's identity at the domain; every page of Dashboards requests it",
    ),
    rule(
        Engine,
        "GET",
        &["_cluster/state/…", "_cluster/settings", "_snapshot/…", "_security/…", "_plugins|_opendistro/_security/…"],
        Verdict::Refuse,
        "shows users, settings, or the location of snapshots",
    ),
    rule(
        Engine,
        "GET",
        &[
            "",
            "{index}",
            "{index}?/_mapping|_mappings/{name}?",
            "{index}?/_mapping|_mappings/{name}?/field/{field}",
            "{index}?/_settings/{name}?",
            "{index}?/_alias|_aliases/{name}?",
            "_template|_index_template|_component_template|_data_stream/{name}?",
            "_resolve/index/{name}",
            "_ingest|_search/pipeline/{doc}?",
            "_scripts/{doc}",
            "_scripts/{type}/{doc}",
        ],
        Verdict::Allow,
        "indices and their metadata",
    ),
    rule(
        Engine,
        "GET",
        &[
            "_cat|_list/…",
            "_cluster/health/{index}?",
            "_cluster/stats/…",
            "_cluster/pending_tasks",
            "_nodes/{node}?/{name}?",
            "_nodes/{node}?/stats|usage/{name}?/{name}?",
            "_tasks/{doc}?",
            "_remote/info",
            "_script_context|_script_language",
            "{index}?/_stats/{name}?",
            "{index}?/_segments|_recovery|_shard_stores",
        ],
        Verdict::Allow,
        "state of the cluster",
    ),
    rule(Engine, "GET POST", &["_cluster/allocation/explain"], Verdict::Allow, "state of the cluster"),
    rule(
        Engine,
        "GET POST",
        &[
            "_plugins|_opendistro/_ism/explain/{index}?",
            "_plugins|_opendistro/_alerting/monitors/_search",
            "_plugins|_opendistro/_anomaly_detection/detectors/_search",
            "_plugins|_opendistro/_anomaly_detection/detectors/results/_search",
        ],
        Verdict::Allow,
        "state of plug-ins",
    ),
    rule(
        Engine,
        "GET",
        &[
            "_plugins|_opendistro/_ism/policies/{doc}?",
            "_plugins|_opendistro/_alerting/monitors/{doc}",
            "_plugins|_opendistro/_anomaly_detection/detectors/{doc}",
            "_plugins|_opendistro/_sql|_ppl/stats",
        ],
        Verdict::Allow,
        "state of plug-ins",
    ),
    rule(
        Kibana,
        "GET",
        &[
            "",
            "app|bundles|built_assets|dlls|fonts|node_modules|plugins|translations|ui/…",
            "{build}/bundles/…",
            "bootstrap.js|bootstrap-anonymous.js|startup.js|favicon.ico",
            "status|login|logout",
            "goto/{doc}",
        ],
        Verdict::Allow,
        "pages and their assets",
    ),
    rule(
        Kibana,
        "GET POST PUT DELETE",
        &["api/console/proxy"],
        Verdict::Console,
        "the console: decided by the call that it carries, in `uri`, or in `path` and `method`",
    ),
    rule(
        Kibana,
        "POST",
        &["api/ism/apiCaller|accountInfo"],
        Verdict::ApiCaller,
        "index management: decided by the call that the body carries",
    ),
    rule(
        Kibana,
        "POST",
        &["internal/search/es|ese|opensearch|opensearch-with-long-numerals/{doc}?"],
        Verdict::Search,
        "searches: the body is checked, because it could turn a search into another call",
    ),
    rule(Kibana, "POST", &["internal/bsearch"], Verdict::Batch, "the same, in a batch"),
    rule(Kibana, "DELETE", &["internal/search/es|ese|opensearch/{doc}"], Verdict::Allow, "the end of a search"),
    rule(
        Kibana,
        "POST",
        &[
            "internal/_msearch",
            "api/metrics/vis/data",
            "api/kibana|opensearch-dashboards/suggestions/values/{index}",
            "api/kibana/legacy_scroll_start|legacy_scroll_continue",
            "internal/index-pattern-management/preview_scripted_field",
            "api/home/hits_status",
            "api/alerting/_search|_indices|_aliases|_mappings",
            "api/alerting/monitors/_search",
            "api/geospatial/_indices",
        ],
        Verdict::Json,
        "searches",
    ),
    rule(
        Kibana,
        "POST",
        &["api/timelion|timeline/run"],
        Verdict::Timelion,
        "Timelion expressions: rejected if a function fetches from another server (SSRF)",
    ),
    rule(
        Kibana,
        "POST",
        &[
            "api/sql_console/query|queryjson|querycsv|querytext|translate",
            "api/sql_console/sqlquery|sqljson|sqlcsv|sqltext|translatesql",
        ],
        Verdict::Statement(Language::Sql),
        "as for the engine's SQL",
    ),
    rule(
        Kibana,
        "POST",
        &["api/sql_console/pplquery|ppljson|pplcsv|ppltext|translateppl", "api/ppl/search"],
        Verdict::Statement(Language::Ppl),
        "as for the engine's PPL",
    ),
    rule(
        Kibana,
        "GET",
        &[
            "api/status|stats|features|capabilities|sample_data|licensing",
            "api/console/api_server|es_config|opensearch_config",
            "api/index_patterns/_fields_for_wildcard|_fields_for_time_pattern",
            "api/saved_objects/_find",
            "api/saved_objects/{type}/{doc}",
            "api/saved_objects/resolve/{type}/{doc}",
            "api/kibana/{index}/field_capabilities",
            "api/kibana|opensearch-dashboards/settings/{doc}?",
            "api/kibana|opensearch-dashboards/dashboards/export",
            "api/kibana|opensearch-dashboards/home/tutorials/{doc}?",
            "api/kibana|opensearch-dashboards/scripts/languages",
            "api/kibana|opensearch-dashboards/management/saved_objects/_find|_allowed_types",
            "api/kibana|opensearch-dashboards/management/saved_objects/relationships?/{type}/{doc}",
            "api/short_url/{doc}",
            "api/spaces/space/{doc}?",
            "api/timelion|timeline/functions",
            "api/timelion|timeline/validate/es",
            "api/metrics/fields",
            "internal/index-pattern-management/resolve_index/{index}",
            "api/ism/_indices|_data_streams|_aliases|policies|managedIndices|rollups|transforms/{doc}?",
            "api/ism/_snapshots|_repositores/{doc}?",
            "api/ism/_notifications/channels",
            "api/notifications/features|get_configs",
            "api/alerting/monitors|alerts|destinations|workflows|_plugins|_settings|_health/{doc}?",
            "api/anomaly_detectors/detectors/{doc}?",
            "api/reporting/reports|reportDefinitions/{doc}?",
            "api/v1/restapiinfo",
            "api/v1/auth/authinfo|dashboardsinfo|kibanainfo|type",
            "api/v1/configuration/account",
            "api/v1/multitenancy/tenant|tenants|info",
        ],
        Verdict::Allow,
        "requests of pages",
    ),
    rule(
        Kibana,
        "POST",
        &[
            "api/core/capabilities",
            "api/capabilities",
            "api/saved_objects/_bulk_get|bulk_get|_bulk_resolve|_export|_find",
            "api/kibana|opensearch-dashboards/management/saved_objects/scroll/counts|export",
        ],
        Verdict::Allow,
        "requests of pages",
    ),
    rule(
        Kibana,
        "POST PUT DELETE",
        &["api/saved_objects/{type}/{doc}?"],
        Verdict::Object,
        "saved objects: rejected if one makes the server fetch (SSRF)",
    ),
    rule(
        Kibana,
        "POST PUT DELETE",
        &["api/kibana|opensearch-dashboards/settings/{doc}?"],
        Verdict::Settings,
        "settings: rejected if one makes the server fetch (SSRF) or lifts a limit",
    ),
    rule(
        Kibana,
        "POST PUT",
        &[
            "api/saved_objects/_bulk_create|_bulk_update|_bulk_delete",
            "api/kibana|opensearch-dashboards/dashboards/import",
        ],
        Verdict::Objects,
        "saved objects in bulk: the same",
    ),
    rule(
        Kibana,
        "POST",
        &["api/saved_objects/_import|_resolve_import_errors"],
        Verdict::Import,
        "saved objects by import: the same",
    ),
    rule(
        Kibana,
        "POST PUT",
        &["shorten", "api/shorten_url|short_url"],
        Verdict::ShortLink,
        "short links to pages of the same server",
    ),
    rule(
        Kibana,
        "POST PUT",
        &["api/ui_metric/report", "api/ui_counters/_report"],
        Verdict::UsageCounter,
        "usage counters",
    ),
    rule(
        Kibana,
        "POST PUT",
        &["api/v1/multitenancy/tenant", "auth/login|logout"],
        Verdict::Allow,
        "the client's own session",
    ),
    rule(
        Kibana,
        "POST PUT DELETE",
        &["elasticsearch|es_admin/{kibana}/{type}/{doc}", "elasticsearch|es_admin/{kibana}/_doc/{doc}"],
        Verdict::OwnIndex,
        "saved objects of Kibana 4 to 6",
    ),
    rule(
        Kibana,
        "POST PUT",
        &[
            "elasticsearch|es_admin/{kibana}/_create/{doc}",
            "elasticsearch|es_admin/{kibana}/{type}/{doc}/_create",
            "elasticsearch|es_admin/{kibana}/_mapping/{type}",
        ],
        Verdict::OwnIndex,
        "saved objects of Kibana 4 to 6",
    ),
    rule(
        Kibana,
        "POST",
        &[
            "elasticsearch|es_admin/{kibana}/{type}",
            "elasticsearch|es_admin/{kibana}/_doc",
            "elasticsearch|es_admin/{kibana}/_update/{doc}",
            "elasticsearch|es_admin/{kibana}/{type}/{doc}/_update",
            "elasticsearch|es_admin/{kibana}/_refresh",
        ],
        Verdict::OwnIndex,
        "saved objects of Kibana 4 to 6",
    ),
];

const FIELD_CAPS: Engines = Engines::all().elasticsearch_from((5, 4));
const RANK_EVAL: Engines = Engines::all().elasticsearch_from((6, 2));
const UNTIL_ELASTICSEARCH_5: Engines = Engines::all().elasticsearch_below((6, 0)).no_opensearch();
const TYPELESS: Engines = Engines::all().elasticsearch_from((7, 0));
const POINT_IN_TIME: Engines = Engines::all().no_elasticsearch().opensearch_from((2, 4));

const fn rule(
    backend: Backend,
    methods: &'static str,
    paths: &'static [&'static str],
    verdict: Verdict,
    what: &'static str,
) -> Rule {
    Rule { backend, methods, paths, engines: Engines::all(), verdict, what }
}

impl Rule {
    /// Restricts the rule to the engines that have its paths as an API.
    const fn on(mut self, engines: Engines) -> Self {
        self.engines = engines;
        self
    }
}

/// Returns the first rule that matches a call.
pub(super) fn find(backend: Backend, method: &str, segments: &[&str]) -> Option<&'static Rule> {
    let method = if method == "HEAD" { "GET" } else { method };
    TABLE.iter().find(|rule| {
        rule.backend == backend
            && rule.methods.split(' ').any(|known| known == method)
            && rule.paths.iter().any(|pattern| fits(pattern, segments))
    })
}
