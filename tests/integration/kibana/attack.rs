//! The attacks of the table against a real Kibana and its engine, neither of which may change.

use std::time::Duration;

use fake_domain::Options;
use hyper::StatusCode;
use serde_json::Value;
use tokio::time::sleep;
use trailgate_testkit::KibanaStack;

use crate::attacks::{all_are_rejected, page_responses};
use crate::support::{Rig, Setup, allow, json, patiently, request};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Node"]
async fn attacks_change_neither_kibana_nor_its_engine() {
    let stack = KibanaStack::start(|_| ()).await.unwrap();
    let domain = Options { backend: stack.backend(), ..Options::default() };
    let rig = Rig::with(Setup { domain, ..Setup::default() }).await;
    let content_type = [("content-type", "application/json")];
    for index in ["cwl-2026.11.22", "cwl-2026.11.23", "gate-2026.11.29"] {
        let target = format!("/{index}/cloudtrail/1?refresh=true");
        let event = "{\"@timestamp\":\"2026-11-22T00:00:00Z\",\"eventName\":\"DeleteTrail\"}";
        assert_eq!(rig.send(request("PUT", &target, &content_type, event)).await.status(), 201);
    }
    rig.learn_engine().await;
    patiently(until_kibana_is_set_up(&rig)).await;

    let before = state(&rig).await;
    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    all_are_rejected(&rig, &[KIBANA]).await;
    rig.allow(&allow("127.0.0.1"));
    assert_eq!(state(&rig).await, before);
    assert_eq!(json(&rig.get(&format!("{KIBANA}/api/status")).await)["status"]["overall"]["state"], "green");

    rig.allow(&allow("127.0.0.1").replace("full", "read"));
    for (status, asked) in page_responses(&rig, &[KIBANA]).await {
        // Most are routes of Dashboards, which Kibana does not know.
        assert_ne!(status, StatusCode::FORBIDDEN, "{asked}");
        if asked.contains("/api/timelion/") || asked.contains("/api_server") || asked.contains("/shorten") {
            assert_eq!(status, StatusCode::OK, "{asked}");
        }
    }
}

/// Waits until Kibana has written its own settings, which it does some time after it calls itself green.
async fn until_kibana_is_set_up(rig: &Rig) {
    while rig.get("/.kibana/config/5.1.1").await.status() != StatusCode::OK {
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(rig.send(request("POST", "/.kibana/_refresh", &[], "")).await.status(), StatusCode::OK);
}

/// Returns all that the attacks could have changed: indices and documents, Kibana's own included, and the number of
/// flushes of each index, which only requests cause in so short a time.
async fn state(rig: &Rig) -> Vec<Value> {
    let mut state = Vec::new();
    for target in STATE {
        let response = rig.get(target).await;
        assert_eq!(response.status(), StatusCode::OK, "{target}");
        state.push(json(&response));
    }
    state
}

const STATE: [&str; 4] = [
    "/_cluster/state/metadata?filter_path=metadata",
    "/_all/_search?sort=_doc&size=1000&version=true&filter_path=hits.hits",
    "/_stats/flush?filter_path=indices.*.total.flush.total",
    "/_nodes/stats/indices/search?filter_path=nodes.*.indices.search.open_contexts",
];

const KIBANA: &str = "/_plugin/kibana";
