use std::time::Duration;

use fake_domain::{FakeDomain, Fault, Options, Times};
use serde_json::{Value, json};
use trailgate_testkit::{FakeLambda, function, sample_events};

use crate::payloads::{log_data_of, subscription};
use crate::rig::with_timeout;

#[tokio::test]
async fn program_responds_to_each_invocation_and_writes_metrics() {
    let mut lambda = FakeLambda::start(Duration::from_mins(3)).await.unwrap();
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let mut child = function(&[("AWS_LAMBDA_RUNTIME_API", lambda.address()), ("ENDPOINT", &domain.url())])
        .unwrap()
        .spawn()
        .unwrap();

    let (path, answer) = with_timeout(lambda.invoke(subscription(0..10))).await.unwrap();
    assert!(path.ends_with("/invocation/one/response"), "{path}");
    assert_eq!(answer, json!({ "batchItemFailures": [] }));

    domain.fault(Fault::status(503, "away"), Times::UntilCleared);
    lambda.set_time(Duration::from_secs(3));
    let (path, answer) = with_timeout(lambda.invoke(subscription(10..20))).await.unwrap();
    assert!(path.ends_with("/invocation/one/error"), "{path}");
    assert_eq!(answer["errorType"], "NotIndexed");
    let message = answer["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("10 of 10 events not indexed; first reason: out of time"), "{message}");

    child.start_kill().unwrap();
    let output = with_timeout(child.wait_with_output()).await.unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let metrics: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let counts: Vec<_> = metrics.iter().map(|line| (line["indexed"].as_u64(), line["failed"].as_u64())).collect();
    assert_eq!(counts, [(Some(10), Some(0)), (Some(0), Some(10))]);
    assert!(err.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{err}");
    assert!(err.contains("invocation failed") && !err.contains("hunter2"), "{err}");
}

/// The smallest function has 128 MB, for itself and what Amazon Linux needs.
#[tokio::test]
async fn ten_mebibytes_of_documents_fit_the_smallest_function() {
    let mut lambda = FakeLambda::start(Duration::from_mins(3)).await.unwrap();
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let variables = [("AWS_LAMBDA_RUNTIME_API", lambda.address()), ("ENDPOINT", &domain.url())];
    let mut child = function(&variables).unwrap().spawn().unwrap();
    let messages: Vec<String> = sample_events().unwrap().iter().map(Value::to_string).cycle().take(3_500).collect();
    let payload = json!({ "awslogs": { "data": log_data_of(0, &messages) } });
    assert_eq!(with_timeout(lambda.invoke(payload)).await.unwrap().1, json!({ "batchItemFailures": [] }));

    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id().unwrap())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")).unwrap();
    let peak_kib: u64 = peak.trim().parse().unwrap();
    child.start_kill().unwrap();
    let output = String::from_utf8(with_timeout(child.wait_with_output()).await.unwrap().stdout).unwrap();
    let metrics: Value = serde_json::from_str(output.trim()).unwrap();
    let bytes = metrics["bytes"].as_u64().unwrap();
    println!("{} events, {bytes} bytes of documents, VmHWM {peak_kib} KiB", messages.len());
    assert!(bytes >= 10 * 1024 * 1024);
    assert!(peak_kib < 100 * 1024, "{peak_kib} KiB");
}

#[tokio::test]
async fn invalid_setting_ends_the_program_and_is_reported() {
    let output = with_timeout(function(&[("ENDPOINT", "https://a.test/path")]).unwrap().output()).await.unwrap();
    assert!(!output.status.success());
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("ENDPOINT: ") && err.contains("has a path"), "{err}");
}
