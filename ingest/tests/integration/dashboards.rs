use std::collections::BTreeSet;

use fake_domain::Fault;
use hyper::{HeaderMap, Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::Instant;
use trailgate_ingest::dashboards::definitions::{BarSplit, Definitions, Panel, PanelContent, PanelScope};
use trailgate_ingest::dashboards::install::{
    DashboardSet, InstallError, InstallPlan, InstallResult, ObjectState, ObjectStore, install_dashboards,
};
use trailgate_ingest::dashboards::{ACCESS_LOG_PATTERN, ACCESS_LOG_SOURCE, SOURCE};
use trailgate_ingest::delivery::DeliveryLimits;
use trailgate_ingest::domain::RequestBody;
use trailgate_ingest::function::Function;
use trailgate_ingest::setup;
use trailgate_testkit::{sample_access_lines, sample_events};

use crate::payloads::log_data_at;
use crate::rig::{Rig, TIMEOUT};
use crate::server::Server;

fn event_dashboards() -> DashboardSet {
    let definitions = Definitions::parse(SOURCE).unwrap();
    let mapping = setup::index_mapping().unwrap();
    DashboardSet { definitions, pattern: "cwl-*".to_owned(), mapping }
}

fn access_log_dashboards() -> DashboardSet {
    let definitions = Definitions::parse(ACCESS_LOG_SOURCE).unwrap();
    let mapping = setup::access_log_mapping().unwrap();
    DashboardSet { definitions, pattern: ACCESS_LOG_PATTERN.to_owned(), mapping }
}

async fn installed(rig: &Rig, is_forced: bool) -> Result<InstallResult, InstallError> {
    let plan = InstallPlan { sets: vec![event_dashboards(), access_log_dashboards()], is_forced };
    install_dashboards(&rig.domain, &plan, TIMEOUT).await
}

fn count(installed: &InstallResult, state: ObjectState) -> usize {
    installed.objects.iter().filter(|(_, _, other)| *other == state).count()
}

/// Returns the queries of a panel. Each has to find something, or a part of the panel stays empty.
fn queries(definitions: &Definitions, panel: &Panel) -> Vec<String> {
    let query = match &panel.scope {
        PanelScope::All => "*".to_owned(),
        PanelScope::Query(query) => query.clone(),
        PanelScope::Search(id) => definitions.searches.iter().find(|search| search.id == *id).unwrap().query.clone(),
    };
    match &panel.content {
        PanelContent::OverTime(BarSplit::Into(pieces)) => {
            pieces.iter().map(|(_, piece)| format!("({query}) AND ({piece})")).collect()
        }
        _ => vec![query],
    }
}

/// Returns a panel's aggregations: its fields, nested, or the time.
fn aggregations(definitions: &Definitions, panel: &Panel) -> Value {
    let terms = |field: &String| json!({ "terms": { "field": field } });
    match &panel.content {
        PanelContent::Table { by, .. } => by.iter().rev().fold(json!({}), |within, field| {
            let mut level = terms(field);
            level["aggs"] = within;
            json!({ "by": level })
        }),
        PanelContent::Pie { by: field, .. } | PanelContent::OverTime(BarSplit::By(field, _)) => {
            json!({ "by": terms(field) })
        }
        PanelContent::OverTime(_) => {
            json!({ "by": { "date_histogram": { "field": definitions.time, "interval": "day" } } })
        }
        PanelContent::Note(_) | PanelContent::Count | PanelContent::Events => json!({}),
    }
}

/// Returns the depth to which a response has buckets.
fn depth(answer: &Value) -> usize {
    answer["by"]["buckets"]
        .as_array()
        .and_then(|buckets| buckets.iter().map(|bucket| 1 + depth(bucket)).max())
        .unwrap_or(0)
}

/// Writes the sample events and access lines by the function, and asks for what each panel shows.
async fn each_panel_finds_what_it_is_for(name: &str) {
    let mut server = Server::start(name, &[]).await;
    server.rig.settings.document_options.access_log = true;
    let rig = &server.rig;
    let function = Function::new(&rig.settings, rig.domain.clone(), DeliveryLimits::default());
    let events = sample_events().unwrap().into_iter().zip(LAGS.into_iter().cycle()).map(|(event, lag)| {
        let happened: Timestamp = serde_json::from_value(event["eventTime"].clone()).unwrap();
        (happened + lag, event.to_string())
    });
    let now = Timestamp::now();
    let lines = sample_access_lines(now).unwrap().into_iter().map(|line| (now, line.to_string()));
    for data in [log_data_at(0, events), log_data_at(0, lines)] {
        let payload = json!({ "awslogs": { "data": data } }).to_string();
        let outcome = function.invoke(payload.as_bytes(), Instant::now() + TIMEOUT, now).await;
        outcome.response.unwrap();
    }
    rig.ask(Method::POST, "/cwl-*,gate-*/_refresh", &Value::Null).await;

    assert_eq!(empty_panels(rig, &event_dashboards()).await, NOT_IN_THE_SAMPLE);
    assert_eq!(empty_panels(rig, &access_log_dashboards()).await, [""; 0]);
}

/// Returns the ids of the panels that find nothing, or nothing in one of their parts.
async fn empty_panels(rig: &Rig, set: &DashboardSet) -> Vec<String> {
    let definitions = &set.definitions;
    let mut empty = BTreeSet::new();
    for panel in definitions.dashboards.iter().flat_map(|dashboard| &dashboard.panels) {
        let aggregations = aggregations(definitions, panel);
        let levels = match &panel.content {
            PanelContent::Note(_) => continue,
            PanelContent::Table { by, .. } => by.len(),
            PanelContent::Pie { .. } | PanelContent::OverTime(_) => 1,
            PanelContent::Count | PanelContent::Events => 0,
        };
        for query in queries(definitions, panel) {
            let query = json!({ "query_string": { "query": query, "analyze_wildcard": true } });
            let search = json!({ "size": 1, "query": query, "aggs": aggregations });
            let answer = rig.ask(Method::POST, &format!("/{}/_search", set.pattern), &search).await;
            let hits = answer["hits"]["hits"].as_array().unwrap();
            if hits.is_empty() || depth(&answer["aggregations"]) < levels {
                empty.insert(panel.id.clone());
            }
        }
    }
    empty.into_iter().collect()
}

/// Delays between a sample event and its log record, used in rotation: one for each bar.
const LAGS: [SignedDuration; 4] = [
    SignedDuration::from_mins(4),
    SignedDuration::from_mins(14),
    SignedDuration::from_mins(59),
    SignedDuration::from_hours(7),
];

/// Kinds of events that the sample lacks: callers of other accounts, root, failed logins.
const NOT_IN_THE_SAMPLE: [&str; 6] =
    ["count-degraded", "count-kms", "count-login-failed", "count-network-acl", "count-root", "cross-account-calls"];

/// As Kibana makes its index when it starts, and as it is then used.
async fn dashboards_install_once_and_keep_changes(engine: &str, index: &Value, config: &str, mine: &str) {
    let server = Server::start(engine, &[]).await;
    let rig = &server.rig;
    assert!(matches!(installed(rig, false).await, Err(InstallError::NoKibana(_))));
    rig.ask(Method::PUT, "/.kibana", index).await;
    let settings = if config.contains("/doc/") { json!({ "type": "config", "config": {} }) } else { json!({}) };
    rig.ask(Method::PUT, &format!("{config}?refresh=true"), &settings).await;

    let first = installed(rig, false).await.unwrap();
    assert_eq!(count(&first, ObjectState::Installed), first.objects.len());
    let second = installed(rig, false).await.unwrap();
    assert_eq!(count(&second, ObjectState::Current), second.objects.len());
    assert_eq!((first.is_default, second.is_default), (true, false));

    let change = json!({ "title": "Mine" });
    let change = if mine.contains("/doc/") { json!({ "dashboard": change }) } else { change };
    rig.ask(Method::POST, &format!("{mine}/_update"), &json!({ "doc": change })).await;
    let kept = installed(rig, false).await.unwrap();
    assert_eq!(count(&kept, ObjectState::Kept), 1);
    assert!(
        kept.to_string()
            .ends_with("kept, because a user changed it: dashboard \"Account overview\"; --force replaces it\n")
    );
    let forced = installed(rig, true).await.unwrap();
    assert_eq!((count(&forced, ObjectState::Replaced), count(&forced, ObjectState::Kept)), (1, 0));
}

/// Timelion gives its sheets this mapping before it saves the first one, in Kibana 5.1's `_saved_sheet.js`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn timelion_maps_its_sheets_after_install_on_elasticsearch_5() {
    let server = Server::start("elasticsearch-5.6", &[]).await;
    let rig = &server.rig;
    rig.ask(Method::PUT, "/.kibana", &json!({})).await;
    installed(rig, false).await.unwrap();
    let (text, integer) = (json!({ "type": "text" }), json!({ "type": "integer" }));
    let sheet = json!({
        "title": text, "hits": integer, "description": text, "timelion_sheet": text, "timelion_interval": text,
        "timelion_chart_height": integer, "timelion_columns": integer, "version": integer,
        "kibanaSavedObjectMeta": { "properties": { "searchSourceJSON": text } },
    });
    let mapping = json!({ "timelion-sheet": { "properties": sheet } });
    rig.ask(Method::PUT, "/.kibana/_mapping/timelion-sheet", &mapping).await;
}

#[tokio::test]
async fn dashboards_are_imported_by_kibana_7_and_changes_kept() {
    let rig = Rig::new().await;
    let first = installed(&rig, false).await.unwrap();
    assert_eq!((first.store, first.is_default), (ObjectStore::Api("/_plugin/kibana"), true));
    assert_eq!(count(&first, ObjectState::Installed), first.objects.len());
    let second = installed(&rig, false).await.unwrap();
    assert_eq!((count(&second, ObjectState::Current), second.is_default), (second.objects.len(), false));

    let mine = json!({ "attributes": { "title": "Mine" } }).to_string();
    let headers = HeaderMap::from_iter([("kbn-xsrf".parse().unwrap(), "test".parse().unwrap())]);
    let body = RequestBody { bytes: mine.into(), content_type: "application/json", is_gzip: false };
    let path = "/_plugin/kibana/api/saved_objects/dashboard/trailgate-account";
    let changed = rig.domain.send_with(Method::PUT, path, headers, body, TIMEOUT).await.unwrap();
    assert_eq!(changed.status, StatusCode::OK);
    let kept = installed(&rig, false).await.unwrap();
    assert_eq!((count(&kept, ObjectState::Kept), count(&kept, ObjectState::Current)), (1, kept.objects.len() - 1));
    assert!(kept.has_changed() && !second.has_changed());
    let forced = installed(&rig, true).await.unwrap();
    assert_eq!((count(&forced, ObjectState::Replaced), count(&forced, ObjectState::Kept)), (1, 0));
}

#[tokio::test]
async fn domain_without_kibana_is_reported() {
    let rig = Rig::new().await;
    rig.stand_in.judge_requests(|seen| seen.target.contains("/api/").then(|| Fault::status(404, "{}")));
    let error = installed(&rig, false).await.unwrap_err();
    assert_eq!(error.to_string(), "the domain has no Kibana: neither /_dashboards nor /_plugin/kibana responds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn each_panel_finds_its_events_on_elasticsearch_5() {
    each_panel_finds_what_it_is_for("elasticsearch-5.6").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn each_panel_finds_its_events_on_opensearch_2() {
    each_panel_finds_what_it_is_for("opensearch-2.19").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn dashboards_install_once_and_keep_changes_on_elasticsearch_5() {
    let (config, mine) = ("/.kibana/config/5.1.1", "/.kibana/dashboard/trailgate-account");
    dashboards_install_once_and_keep_changes("elasticsearch-5.6", &json!({}), config, mine).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn dashboards_install_once_and_keep_changes_on_elasticsearch_6() {
    let (config, mine) = ("/.kibana/doc/config:6.8.0", "/.kibana/doc/dashboard:trailgate-account");
    let index = json!({ "mappings": { "doc": { "dynamic": true } } });
    dashboards_install_once_and_keep_changes("elasticsearch-6.8", &index, config, mine).await;
}

#[tokio::test]
async fn dashboards_are_installed_in_the_global_tenant() {
    let rig = Rig::new().await;
    installed(&rig, false).await.unwrap();
    let seen = rig.stand_in.seen();
    let calls: Vec<_> = seen.iter().filter(|seen| seen.target.contains("/api/")).collect();
    assert!(calls.len() > 3);
    assert!(calls.iter().all(|seen| seen.header("securitytenant") == Some("global")), "{calls:?}");
}
