use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::time::{sleep, timeout};
use trailgate_testkit::{AWS_KEY, AwsMock, ReservedPort, packaged_program};

use crate::payloads::log_data_of;
use crate::rig::{Rig, with_timeout};
use crate::server::Server;
use crate::{engines, events};

/// AWS's own emulator of Lambda, with the program in it.
pub(crate) struct Emulator {
    child: Child,
    port: ReservedPort,
    _runtime_api: ReservedPort,
}

impl Emulator {
    /// Starts the function in front of a domain, with more variables.
    pub(crate) async fn start(endpoint: &str, variables: &[(&str, &str)]) -> Self {
        let (port, runtime_api) = (ReservedPort::bind().unwrap(), ReservedPort::bind().unwrap());
        let [address, runtime_address] = [&port, &runtime_api].map(|port| port.address().to_string());
        let child = AwsMock::command("aws-lambda-rie")
            .await
            .unwrap()
            .args(["--runtime-interface-emulator-address", &address, "--runtime-api-address", &runtime_address])
            .arg(packaged_program("BOOTSTRAP", "bootstrap").unwrap())
            .env_clear()
            .envs(AWS_KEY)
            .envs([("AWS_LAMBDA_FUNCTION_NAME", "ingest"), ("AWS_LAMBDA_FUNCTION_TIMEOUT", "300")])
            .envs([("ENDPOINT", endpoint), ("REGION", "eu-west-1"), ("SERVICE", "es")])
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, port, _runtime_api: runtime_api }
    }

    /// Invokes the function as Lambda's clients do, and returns its response.
    pub(crate) async fn invoke(&self, payload: &Value) -> Value {
        // It says when it listens only to those who ask.
        let stream = async {
            loop {
                match TcpStream::connect(self.port.address()).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let stream = with_timeout(stream).await;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post("/2015-03-31/functions/function/invocations").header("host", "localhost");
        let request = request.body(Full::<Bytes>::from(payload.to_string())).unwrap();
        let answer =
            async { sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes() };
        serde_json::from_slice(&timeout(TIME, answer).await.unwrap()).unwrap()
    }

    /// Ends it, and returns the metrics that the function wrote.
    pub(crate) async fn metrics(mut self) -> Vec<Value> {
        self.child.start_kill().unwrap();
        let output = with_timeout(self.child.wait_with_output()).await.unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line.get("_aws").is_some()).collect()
    }
}

/// Asserts that each event is found once on a real server, although Lambda's emulator delivers each twice.
///
/// The events are real and hostile ones, odd messages, and one that no mapping fits. `degraded` of them are degraded:
/// three with an invalid time, one that breaks off, one that is nested too deep, and one whose identity is a string.
async fn every_event_is_found_once_on(engine: &str, degraded: usize) {
    let server = Server::start(engine, &[]).await;
    let rig = &server.rig;
    let events = events::real().into_iter().chain(events::hostile());
    let mut messages: Vec<String> = events.map(|event| event.to_string()).chain(events::odd()).collect();
    messages.push(json!({ "eventName": "Odd", "userIdentity": "not an object" }).to_string());
    let payload = json!({ "awslogs": { "data": log_data_of(0, &messages) } });

    let emulator = Emulator::start(&rig.stand_in.url(), &[]).await;
    for start in ["cold", "warm"] {
        let begin = Instant::now();
        assert_eq!(emulator.invoke(&payload).await, json!({ "batchItemFailures": [] }));
        println!("{engine}: {} events, {start}: {} ms", messages.len(), begin.elapsed().as_millis());
    }
    let metrics = emulator.metrics().await;
    let counts = metrics.iter().map(|line| [&line["indexed"], &line["degraded"], &line["retried"], &line["failed"]]);
    let expected = [messages.len() - degraded, degraded, 0, 0].map(|count| json!(count));
    assert_eq!(counts.collect::<Vec<_>>(), [expected.each_ref(), expected.each_ref()]);

    rig.ask(Method::POST, "/_refresh", &Value::Null).await;
    let all = rig.get("/cwl-2026.01.31/_search?size=10000&_source=false").await;
    let ids: Vec<usize> = all["hits"]["hits"].as_array().unwrap().iter().map(id).collect();
    assert_eq!(ids.len(), messages.len());
    assert_eq!(ids.into_iter().collect::<BTreeSet<_>>(), (0..messages.len()).collect());
    searches_find_what_was_sent(rig, &messages).await;
    let mappings = &rig.get("/cwl-2026.01.31/_mapping").await["cwl-2026.01.31"]["mappings"];
    let fields = engines::fields(mappings.get("event").unwrap_or(mappings));
    assert!((100..300).contains(&fields), "{fields} fields");
}

async fn searches_find_what_was_sent(rig: &Rig, messages: &[String]) {
    let records: Vec<Value> = messages.iter().map(|message| read(message)).collect();
    let path = "/cwl-2026.01.31/_search";
    let bucket = |record: &Value| record["requestParameters"]["bucketName"].as_str().map(str::to_owned);
    let wanted = records.iter().find_map(bucket).unwrap();
    let query = json!({ "size": 10000, "query": { "term": { "ct.bucket": wanted } } });
    let found = rig.ask(Method::POST, path, &query).await;
    let found = found["hits"]["hits"].as_array().unwrap();
    let in_bucket = records.iter().filter(|record| bucket(record).as_ref() == Some(&wanted));
    assert_eq!(found.len(), in_bucket.count());
    for hit in found {
        assert_eq!(hit["_source"]["@message"], messages[id(hit)]);
        assert_eq!(hit["_source"]["requestParameters"], records[id(hit)]["requestParameters"]);
    }

    let aggregations = json!({ "names": { "terms": { "field": "eventName.keyword", "size": 1000 } } });
    let answer = rig.ask(Method::POST, path, &json!({ "size": 0, "aggs": aggregations })).await;
    let names = answer["aggregations"]["names"]["buckets"].as_array().unwrap();
    for name in names {
        let sent = records.iter().filter(|record| record["eventName"] == name["key"]).count();
        assert_eq!(name["doc_count"], sent, "{name}");
    }
    let sent: BTreeSet<_> = records.iter().filter_map(|record| record["eventName"].as_str()).collect();
    assert_eq!(names.len(), sent.len());
}

/// Parses the record in a message. One that breaks off is parsed up to its last comma.
fn read(message: &str) -> Value {
    let whole = serde_json::from_str(message);
    let begun = || serde_json::from_str(&format!("{}}}", message.rsplit_once(',')?.0)).ok();
    whole.ok().or_else(begun).unwrap_or_default()
}

/// As long as a function may be given.
const TIME: Duration = Duration::from_mins(5);

fn id(hit: &Value) -> usize {
    hit["_id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_indexes_each_once_on_elasticsearch_2() {
    // It rejects a dot in a name.
    every_event_is_found_once_on("elasticsearch-2.4", 7).await;
}

#[tokio::test]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_indexes_each_once_on_elasticsearch_5() {
    every_event_is_found_once_on("elasticsearch-5.6", 6).await;
}

#[tokio::test]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_indexes_each_once_on_elasticsearch_6() {
    every_event_is_found_once_on("elasticsearch-6.8", 6).await;
}

#[tokio::test]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_indexes_each_once_on_elasticsearch_7() {
    every_event_is_found_once_on("elasticsearch-7.10", 6).await;
}

#[tokio::test]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_indexes_each_once_on_opensearch_2() {
    every_event_is_found_once_on("opensearch-2.19", 6).await;
}

#[tokio::test]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_indexes_each_once_on_opensearch_3() {
    every_event_is_found_once_on("opensearch-3", 6).await;
}
