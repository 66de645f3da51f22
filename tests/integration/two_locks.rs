//! Two locks: the route table of the proxy, and the security plug-in of a real engine behind the stand-in domain, which
//! passes on the role and the session that signed.

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use self::rig::{
    CONTRACTOR, EDITOR, Locks, MASTER, OWN_ACCOUNT, READER, READING_EDITOR, Secured, THIRD_PARTY, UNLOCKED, send,
};
use crate::program::command;
use crate::roles::{arn, connect, entry, role_line};
use crate::support::{json as body, patiently};

const ROUTES: &str = include_str!("../data/kibana-traffic/routes.tsv");

/// Runs each of the tests on both engines.
macro_rules! on_each_engine {
    ($($test:ident)*) => {
        mod opensearch_2 {
            const ENGINE: super::Secured =
                super::Secured { name: "opensearch-security", version: "OpenSearch_2.19", column: "os2" };
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs Java"]
                async fn $test() {
                    super::$test(&ENGINE).await;
                }
            )*
        }

        mod opensearch_3 {
            const ENGINE: super::Secured =
                super::Secured { name: "opensearch-security-3", version: "OpenSearch_3.4", column: "os3" };
            $(
                #[tokio::test(flavor = "multi_thread")]
                #[ignore = "needs Java"]
                async fn $test() {
                    super::$test(&ENGINE).await;
                }
            )*
        }
    };
}

on_each_engine! {
    auditor_role_rejects_every_write_without_the_proxy
    proxy_rejects_every_write_without_the_engines_roles
    reader_searches_and_keeps_saved_objects_by_the_auditor_role
    editor_role_writes_events_and_no_users
    third_party_sees_the_events_of_its_account_only
    third_party_opens_dashboards_and_writes_nothing
    roles_mapped_again_stay_the_same
    audit_log_names_the_signer_of_the_access_log
    doctor_warns_of_a_role_for_readers_that_writes
}

/// Returns the write routes of the engine, with names in place of their parameters.
fn writes(engine: &Secured) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let column = engine.column;
    ROUTES.lines().skip(1).filter_map(move |line| {
        let mut columns = line.split('\t');
        let (method, path, class, servers) = (columns.next()?, columns.next()?, columns.next()?, columns.next()?);
        let is_engines = class == "write" && servers.split(' ').any(|server| server == column);
        let named = path.split('/').map(|part| match part {
            "{index}" | "{target}" => "cwl-2026.11.22",
            "{id}" => "1",
            part if part.contains('{') => "trailgate",
            part => part,
        });
        is_engines.then(|| (method, named.collect::<Vec<_>>().join("/")))
    })
}

/// Returns a body with which the route would write.
fn harm(method: &str, path: &str) -> &'static str {
    match path.rsplit('/').next().unwrap_or_default() {
        _ if method == "DELETE" => "",
        "_bulk" | "stream" => "{\"delete\":{\"_index\":\"cwl-2026.11.22\",\"_id\":\"1\"}}\n",
        "_delete_by_query" => r#"{"query":{"match_all":{}}}"#,
        "_reindex" => r#"{"source":{"index":"cwl-2026.11.22"},"dest":{"index":"cwl-copy"}}"#,
        "_aliases" => r#"{"actions":[{"add":{"index":"cwl-2026.11.22","alias":"cwl-alias"}}]}"#,
        "settings" => r#"{"persistent":{"action.destructive_requires_name":"true"}}"#,
        "_settings" => r#"{"index":{"refresh_interval":"77s"}}"#,
        "_mapping" | "_mappings" => r#"{"properties":{"added":{"type":"keyword"}}}"#,
        _ if path.contains("/_update/") => r#"{"doc":{"eventName":"changed"}}"#,
        _ if path.contains("_index_template") => r#"{"index_patterns":["cwl-*"],"template":{}}"#,
        _ if path.contains("_component_template") => r#"{"template":{}}"#,
        _ if path.contains("_template") => r#"{"index_patterns":["cwl-*"]}"#,
        _ if path.contains("/pipeline/") => r#"{"processors":[]}"#,
        _ if path.contains("/rolesmapping/") => r#"{"backend_roles":["a"]}"#,
        _ => "{}",
    }
}

/// Returns true if the engine has written nothing for this request.
fn is_rejected(response: &Response<Bytes>) -> bool {
    if !response.status().is_success() {
        return true;
    }
    // A bulk request answers for each item.
    let Ok(answer) = serde_json::from_slice::<Value>(response.body()) else { return false };
    let items = answer["items"].as_array().into_iter().flatten();
    let statuses: Vec<_> = items.filter_map(|item| item.as_object()?.values().next()?["status"].as_u64()).collect();
    !statuses.is_empty() && statuses.iter().all(|status| *status == 403)
}

async fn auditor_role_rejects_every_write_without_the_proxy(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    let before = it.state().await;
    let (mut rejected, mut passed) = (0, Vec::new());
    for (method, path) in writes(engine) {
        let response = it.send(UNLOCKED, method, &path, harm(method, &path)).await;
        if is_rejected(&response) || HARMLESS.contains(&(method, path.as_str())) {
            rejected += usize::from(response.status() == StatusCode::FORBIDDEN);
        } else {
            passed.push(format!("{method} {path}: {} {:?}", response.status(), response.body()));
        }
    }
    assert!(passed.is_empty(), "{passed:#?}");
    assert!(rejected > 100, "the plug-in has rejected {rejected} only");
    assert_eq!(it.state().await, before);
    // The same requests write where the second lock is open, too.
    let mut written = 0;
    for (method, path) in writes(engine) {
        written += usize::from(!is_rejected(&it.send(MASTER, method, &path, harm(method, &path)).await));
    }
    assert!(written > 50, "only {written} of the requests write with the master's role");
    assert_ne!(it.state().await, before);
    // Each was signed by the auditor's role.
    let seen = it.roles.domain.seen();
    let unlocked = seen.iter().filter(|seen| seen.signer.as_deref().is_some_and(|it| it.ends_with("/unlocked")));
    assert!(unlocked.clone().count() > 100);
    assert!(
        unlocked
            .clone()
            .all(|seen| seen.signer.as_deref() == Some("arn:aws:sts::123456789012:assumed-role/Auditor/unlocked"))
    );
}

async fn proxy_rejects_every_write_without_the_engines_roles(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    let before = it.state().await;
    let seen = it.roles.domain.seen().len();
    for (method, path) in writes(engine) {
        let response = it.send(READING_EDITOR, method, &path, harm(method, &path)).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(body(&response)["error"]["type"], "read_only_grant", "{method} {path}");
    }
    assert_eq!(it.roles.domain.seen().len(), seen);
    assert_eq!(it.state().await, before);
}

async fn reader_searches_and_keeps_saved_objects_by_the_auditor_role(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    for target in [
        "/",
        "/_cluster/health",
        "/_cat/indices/cwl-*?format=json",
        "/cwl-*/_search?q=eventName:Event1",
        "/cwl-*/_count",
        "/cwl-*/_mapping",
        "/cwl-*/_field_caps?fields=*",
        "/_resolve/index/cwl-*",
        "/_cat/count/cwl-*?format=json",
    ] {
        it.get(READER, target).await;
    }
    let searches = "{\"index\":\"cwl-*\"}\n{\"size\":0,\"aggs\":{\"a\":{\"terms\":{\"field\":\"eventName\"}}}}\n";
    let found = it.send(READER, "POST", "/_msearch", searches).await;
    assert_eq!(body(&found)["responses"][0]["hits"]["total"]["value"], 15, "{found:?}");
    let scrolled = it.send(READER, "POST", "/cwl-*/_search?scroll=1m&size=5", "{}").await;
    let scroll = json!({ "scroll": "1m", "scroll_id": body(&scrolled)["_scroll_id"] }).to_string();
    assert_eq!(it.send(READER, "POST", "/_search/scroll", &scroll).await.status(), StatusCode::OK);
    // As Dashboards' server does with the role of the user.
    let dashboard = r#"{"type":"dashboard","dashboard":{"title":"Events"}}"#;
    let saved = it.send(UNLOCKED, "PUT", "/.kibana_1/_doc/dashboard:1?refresh=true", dashboard).await;
    assert_eq!(saved.status(), StatusCode::CREATED, "{saved:?}");
    assert_eq!(it.get(UNLOCKED, "/.kibana_1/_doc/dashboard:1").await["found"], true);
}

async fn editor_role_writes_events_and_no_users(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    let event = r#"{"eventName":"New"}"#;
    assert_eq!(it.send(EDITOR, "PUT", "/cwl-2026.11.23/_doc/1", event).await.status(), StatusCode::CREATED);
    assert_eq!(
        it.send(MASTER, "PUT", "/gate-2026.11.23/_doc/1?refresh=true", event).await.status(),
        StatusCode::CREATED
    );
    assert_eq!(it.get(EDITOR, "/gate-*/_count").await["count"], 1);
    assert_eq!(it.send(UNLOCKED, "GET", "/gate-2026.11.23/_count", "").await.status(), StatusCode::FORBIDDEN);
    let template = r#"{"index_patterns":["cwl-*"],"template":{"settings":{"number_of_replicas":0}}}"#;
    let made = it.send(EDITOR, "PUT", "/_index_template/trailgate-cwl", template).await;
    assert_eq!(made.status(), StatusCode::OK, "{made:?}");
    let dashboard = r#"{"type":"dashboard","dashboard":{"title":"Events"}}"#;
    let saved = it.send(EDITOR, "PUT", "/.kibana_1/_doc/dashboard:1", dashboard).await;
    assert_eq!(saved.status(), StatusCode::CREATED, "{saved:?}");
    let mapping = r#"{"backend_roles":["arn:aws:iam::123456789012:role/Editor"]}"#;
    for (method, target, body) in [
        ("PUT", "/_plugins/_security/api/rolesmapping/all_access", mapping),
        ("PUT", "/_plugins/_security/api/internalusers/me", r#"{"password":"correct horse battery staple 1A"}"#),
        ("GET", "/_plugins/_security/api/internalusers", ""),
        ("DELETE", "/_plugins/_security/api/rolesmapping/trailgate-auditor", ""),
        ("PUT", "/other/_doc/1", event),
        // Access lines are evidence, too.
        ("PUT", "/gate-2026.11.23/_doc/1", event),
        ("PUT", "/_cluster/settings", r#"{"persistent":{"action.destructive_requires_name":"true"}}"#),
    ] {
        let response = it.send(EDITOR, method, target, body).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{method} {target}: {response:?}");
    }
}

async fn third_party_sees_the_events_of_its_account_only(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    let truth = it.get(MASTER, &format!("/cwl-*/_count?q=recipientAccountId:{OWN_ACCOUNT}")).await["count"].clone();
    assert_eq!(truth, 5);
    let counts = async |client| {
        let search = it.send(client, "POST", "/cwl-*/_search", "{\"size\":100,\"track_total_hits\":true}").await;
        let hits = body(&search)["hits"].clone();
        let aggregated = "{\"size\":0,\"aggs\":{\"a\":{\"terms\":{\"field\":\"recipientAccountId\"}}}}";
        let aggregated = body(&it.send(client, "POST", "/cwl-*/_search", aggregated).await);
        let accounts = aggregated["aggregations"]["a"]["buckets"].as_array().unwrap().clone();
        let many = body(&it.send(client, "POST", "/_msearch", "{\"index\":\"cwl-*\"}\n{\"size\":0}\n").await);
        let scrolled = body(&it.send(client, "POST", "/cwl-*/_search?scroll=1m&size=100", "{}").await);
        let page = scrolled["hits"]["hits"].as_array().unwrap().len();
        let totals = [
            hits["total"]["value"].clone(),
            json!(hits["hits"].as_array().unwrap().len()),
            it.get(client, "/cwl-*/_count").await["count"].clone(),
            accounts.iter().map(|bucket| bucket["doc_count"].as_u64().unwrap()).sum::<u64>().into(),
            many["responses"][0]["hits"]["total"]["value"].clone(),
            json!(page),
            it.get(client, "/_cat/count/cwl-*?format=json").await[0]["count"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                .into(),
        ];
        (totals, accounts.len(), hits)
    };
    let (all, accounts, _) = counts(MASTER).await;
    assert!(all.iter().all(|count| *count == 15) && accounts == 2, "{all:?}");
    for client in [THIRD_PARTY, CONTRACTOR] {
        let (own, accounts, hits) = counts(client).await;
        assert!(own.iter().all(|count| *count == truth) && accounts == 1, "{own:?}");
        for hit in hits["hits"].as_array().unwrap() {
            assert_eq!(hit["_source"]["recipientAccountId"], OWN_ACCOUNT);
            let address = hit["_source"].get("sourceIPAddress");
            assert_eq!(address.is_none(), client == CONTRACTOR, "a field that the example hides: {hit}");
        }
        // A document of another account is not there, by its id, either.
        assert_eq!(it.send(client, "GET", "/cwl-2026.11.22/_doc/1", "").await.status(), StatusCode::NOT_FOUND);
    }
}

async fn third_party_opens_dashboards_and_writes_nothing(engine: &Secured) {
    let list = entry(8, "unlocked third party", &format!("access = \"full\"\n{}", role_line("ThirdParty")));
    let it = Locks::start(engine, &[], &list).await;
    let dashboard = r#"{"type":"dashboard","dashboard":{"title":"Events"}}"#;
    let saved = it.send(EDITOR, "PUT", "/.kibana_1/_doc/dashboard:1?refresh=true", dashboard).await;
    assert_eq!(saved.status(), StatusCode::CREATED, "{saved:?}");
    assert_eq!(it.get(8, "/.kibana_1/_doc/dashboard:1").await["found"], true);
    let before = it.state().await;
    let passed: Vec<_> = {
        let mut passed = Vec::new();
        for (method, path) in writes(engine) {
            let response = it.send(8, method, &path, harm(method, &path)).await;
            if !is_rejected(&response) && !HARMLESS.contains(&(method, path.as_str())) {
                passed.push(format!("{method} {path}: {} {:?}", response.status(), response.body()));
            }
        }
        passed
    };
    assert!(passed.is_empty(), "{passed:#?}");
    let saved = it.send(8, "PUT", "/.kibana_1/_doc/dashboard:1", dashboard).await;
    assert_eq!(saved.status(), StatusCode::FORBIDDEN, "{saved:?}");
    assert_eq!(it.state().await, before);
}

async fn roles_mapped_again_stay_the_same(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    let before = it.state().await;
    it.map_roles().await;
    assert_eq!(it.state().await, before);
}

async fn audit_log_names_the_signer_of_the_access_log(engine: &Secured) {
    let list: String = (11..=30).map(|number| entry(number, &format!("Auditor № {number}"), "")).collect();
    let mut it = Locks::start(engine, &["plugins.security.audit.type=internal_opensearch"], &list).await;
    let address = it.roles.program.address;
    let clients: Vec<_> = (11..=30)
        .map(|number| {
            tokio::spawn(async move {
                let mut connection = connect(address, number).await;
                for turn in 0..50 {
                    let found = send(&mut connection, "GET", &format!("/cwl-*/_search?q=n{number}x{turn}"), "").await;
                    assert_eq!(found.status(), StatusCode::OK);
                }
            })
        })
        .collect();
    let query = |target: &str| target.split_once("q=").map(|(_, query)| query.to_owned());
    let mut logged = BTreeMap::new();
    while logged.len() < 1000 {
        let line = it.roles.program.access_line().await;
        if line["entry"].as_str().is_some_and(|entry| entry.starts_with("Auditor")) {
            logged
                .insert(query(line["target"].as_str().unwrap()).unwrap(), line["signer"].as_str().unwrap().to_owned());
        }
    }
    for client in clients {
        client.await.unwrap();
    }
    let signed: BTreeMap<_, _> = it
        .roles
        .domain
        .seen()
        .into_iter()
        .filter_map(|seen| Some((query(&seen.target).filter(|query| query.starts_with('n'))?, seen.signer?)))
        .collect();
    // The plug-in writes its log in the background.
    let written = async {
        loop {
            let of_auditors = "audit_category:AUTHENTICATED+AND+_exists_:audit_rest_request_params.q";
            let target = format!("/security-auditlog-*/_search?size=2000&q={of_auditors}");
            let found = it.send(MASTER, "GET", &target, "").await;
            let audited: BTreeMap<_, _> = body(&found)["hits"]["hits"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|hit| &hit["_source"])
                .filter_map(|it| {
                    let query = it["audit_rest_request_params"]["q"].as_str()?.to_owned();
                    Some((query, it["audit_request_effective_user"].as_str()?.to_owned()))
                })
                .filter(|(query, _)| query.starts_with('n'))
                .collect();
            if audited.len() >= 1000 {
                return audited;
            }
            sleep(Duration::from_millis(500)).await;
        }
    };
    let audited = patiently(written).await;
    assert_eq!((logged.len(), signed.len(), audited.len()), (1000, 1000, 1000));
    for (query, signer) in &logged {
        let arn = format!("arn:aws:sts::123456789012:assumed-role/{signer}");
        assert_eq!((&signed[query], &audited[query]), (&arn, &arn), "{query}");
    }
    assert_eq!(logged.values().collect::<BTreeSet<_>>().len(), 20);
}

async fn doctor_warns_of_a_role_for_readers_that_writes(engine: &Secured) {
    let it = Locks::start(engine, &[], "").await;
    let before = it.state().await;
    let steps = async |role: &str| {
        let config = it.roles.program.file("trailgate.toml");
        let mut doctor = command(&["doctor", "--config", &config, "--json", "--role", &arn(role)]);
        doctor.env("AWS_ENDPOINT_URL_STS", it.roles.sts.url()).env("AWS_EC2_METADATA_DISABLED", "true");
        let output = patiently(doctor.output()).await.unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let steps = report["steps"].as_array().unwrap().clone();
        let steps = steps.into_iter().filter(|step| step["step"].as_str().unwrap().starts_with("role"));
        steps.map(|step| (step["status"].clone(), step["text"].as_str().unwrap().to_owned())).collect::<Vec<_>>()
    };
    let expected = |write: (&str, String), role: &str| {
        vec![
            (json!("passed"), format!("{} can be assumed", arn(role))),
            (json!("passed"), format!("{role} can search cwl-*")),
            (json!(write.0), write.1),
        ]
    };
    assert_eq!(steps("Auditor").await, expected(("passed", "Auditor cannot write".to_owned()), "Auditor"));
    let problem = format!("{} signs for readers, and can write to cwl-*", arn("Master"));
    assert_eq!(steps("Master").await, expected(("warning", problem), "Master"));
    assert_eq!(it.state().await, before, "doctor has written");
}

/// Routes of the table that the engine answers without writing: the first lists the node of the name `shutdown`.
const HARMLESS: [(&str, &str); 2] = [("GET", "/_nodes/shutdown"), ("POST", "/_plugins/_security/health")];
