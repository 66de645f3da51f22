use hyper::StatusCode;

use crate::support::{Rig, get, header, json, request};

#[tokio::test]
async fn a_request_is_signed_and_its_answer_comes_back() {
    let rig = Rig::new().await;
    let response = rig.get("/").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(json(&response)["tagline"], "You Know, for Search");
    let seen = rig.domain.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].refusal, None);
    assert_eq!(seen[0].header("host"), Some(rig.domain.address().to_string().as_str()));
}

#[tokio::test]
async fn documents_written_by_bulk_are_found_by_search() {
    let rig = Rig::new().await;
    let bulk = "{\"index\":{\"_index\":\"cwl-2026.01.01\",\"_id\":\"1\"}}\n{\"eventName\":\"RunInstances\"}\n";
    let headers = [("content-type", "application/x-ndjson")];
    let response = rig.send(request("POST", "/_bulk?refresh=true", &headers, bulk)).await;
    assert_eq!(json(&response)["errors"], false);
    let query = r#"{"query":{"term":{"eventName":"RunInstances"}}}"#;
    let headers = [("content-type", "application/json")];
    let response = rig.send(request("GET", "/cwl-*/_search", &headers, query)).await;
    assert_eq!(json(&response)["hits"]["hits"][0]["_id"], "1");
}

#[tokio::test]
async fn a_connection_carries_many_requests_to_one_connection_of_the_domain() {
    let rig = Rig::new().await;
    let mut connection = rig.connect().await;
    for _ in 0..10 {
        assert_eq!(connection.send(get("/_cluster/health")).await.status(), StatusCode::OK);
    }
    assert_eq!(rig.domain.connections(), 1);
}

#[tokio::test]
async fn each_answer_names_its_request() {
    let rig = Rig::new().await;
    let (first, second) = (rig.get("/").await, rig.get("/").await);
    let (first, second) = (header(&first, "trailgate-request-id"), header(&second, "trailgate-request-id"));
    assert!(first.is_some());
    assert_ne!(first, second);
    assert_eq!(rig.access_line().await["id"], first.unwrap());
}
