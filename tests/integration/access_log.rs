use std::sync::Arc;

use fake_domain::{Fault, Times};
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::support::{Rig, Setup, allow, get, request};

/// Returns the fields of a line that are the same in each run.
fn without_variable_fields(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    for name in ["time", "id", "upstream_ms", "total_ms", "domain_request_id"] {
        assert!(fields.remove(name).is_some(), "{name} is missing");
    }
    line
}

#[tokio::test]
async fn forwarded_request_is_one_access_log_line() {
    let rig = Rig::new().await;
    let response =
        rig.send(request("POST", "/cwl-*/_count?q=a+b", &[("content-type", "application/json")], "{}")).await;
    let line = rig.access_line().await;
    assert!(line["total_ms"].as_f64() >= line["upstream_ms"].as_f64());
    assert!(line["domain_request_id"].is_string());
    let expected = json!({
        "client": "127.0.0.1",
        "entry": "auditor",
        "access": "full",
        "method": "POST",
        "target": "/cwl-%2A/_count?q=a%20b",
        "route": "searches",
        "status": response.status().as_u16(),
        "bytes_in": 2,
        "bytes_out": response.body().len(),
        "outcome": "forwarded",
    });
    assert_eq!(without_variable_fields(line), expected);
}

#[tokio::test]
async fn rejection_is_one_access_log_line() {
    let rig = Rig::with(Setup { allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let response = rig.get("/_search?X-Amz-Signature=secret").await;
    let line = rig.access_line().await;
    assert_eq!((&line["upstream_ms"], &line["domain_request_id"]), (&Value::Null, &Value::Null));
    let expected = json!({
        "client": "127.0.0.1",
        "entry": null,
        "access": null,
        "method": "GET",
        "target": "/_search",
        "route": "searches",
        "status": 403,
        "bytes_in": 0,
        "bytes_out": response.body().len(),
        "outcome": "client_not_allowed",
    });
    assert_eq!(without_variable_fields(line), expected);
}

#[tokio::test]
async fn hostile_target_of_a_refused_request_is_one_line() {
    let rig = Rig::with(Setup { allow: allow("203.0.113.7"), ..Setup::default() }).await;
    let long = [b"/".to_vec(), b"%22%7D%0A".repeat(7 * 1024)].concat();
    let targets: [&[u8]; 5] = [
        &long,
        b"/\xff\xfe\x80/_search",
        b"/%FF%00%C0%0A{\"time\":1}",
        b"/\"}{\"client\":\"203.0.113.9\",\"outcome\":\"forwarded\"}",
        b"/\x1b[31m\r{\"lost_lines\":3}",
    ];
    for (number, target) in targets.into_iter().enumerate() {
        let head = [b"GET ", target, b" HTTP/1.1\r\nhost: gate.test\r\nconnection: close\r\n\r\n"].concat();
        rig.raw(&head).await;
        let line = rig.access_line().await;
        assert_eq!(line["client"], "127.0.0.1", "{number}: {line}");
        assert_ne!(line["outcome"], "forwarded", "{number}: {line}");
        // What is logged next is the next request, not a rest of this one.
        rig.get(&format!("/next-{number}")).await;
        assert_eq!(rig.access_line().await["target"], format!("/next-{number}"));
    }
}

#[tokio::test]
async fn client_that_closes_before_the_response_is_logged() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::Hang, Times::Once);
    let mut connection = rig.connect().await;
    let sent = tokio::spawn(async move { connection.begin(get("/slow")).await });
    rig.domain.wait_for_requests(1).await;
    sent.abort();
    let line = rig.access_line().await;
    assert_eq!(line["outcome"], "client_left");
    assert_eq!(line["target"], "/slow");
    assert_eq!(line["status"], Value::Null);
}

#[tokio::test]
async fn client_that_closes_during_the_response_is_logged() {
    let rig = Rig::new().await;
    rig.domain.fault(Fault::HoldBody(Arc::new(Notify::new())), Times::Once);
    let mut connection = rig.connect().await;
    drop(connection.begin(get("/")).await);
    drop(connection);
    let line = rig.access_line().await;
    assert_eq!(line["outcome"], "client_left");
    assert_eq!(line["status"], 200);
}

#[tokio::test]
async fn secrets_of_a_request_are_not_logged() {
    let rig = Rig::new().await;
    let headers = [("authorization", "Basic c2VjcmV0"), ("cookie", "sid=secret")];
    rig.send(request("POST", "/x?X-Amz-Security-Token=secret", &headers, "secret")).await;
    let line = rig.access_line().await.to_string();
    assert!(!line.contains("secret") && !line.contains("c2VjcmV0") && !line.contains("Signature"), "{line}");
}
