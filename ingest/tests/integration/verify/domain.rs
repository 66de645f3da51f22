//! Each change of the domain is named, and nothing else is, on real servers.

use std::collections::BTreeMap;
use std::process::Stdio;

use hyper::Method;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::time::Instant;
use trailgate_ingest::delivery::{Delivery, DeliveryLimits};
use trailgate_ingest::document::{DocumentId, DocumentOptions, IndexDay, build_degraded, build_document};
use trailgate_ingest::load::checkpoint::Checkpoint;
use trailgate_ingest::payload::{LogBatch, LogEvent};
use trailgate_ingest::settings::SetupPlan;
use trailgate_ingest::setup::set_up_domain;
use trailgate_ingest::verify::report::{Kind, Report, Verdict};
use trailgate_ingest::verify::{ComparedDomain, verify};
use trailgate_testkit::AWS_KEY;

use super::evidence::{PERIOD, evidence, no_progress};
use crate::rig::{Rig, TIMEOUT};
use crate::server::Server;
use trailgate_testkit::trail::{TrailBucket, day_of, key_list, log_key, milliseconds};

/// A domain with the month's events.
pub(super) struct Filled {
    pub(super) server: Server,
    pub(super) month: TrailBucket,
    pub(super) options: DocumentOptions,
    document_type: &'static str,
}

impl Filled {
    pub(super) async fn new(engine: &str, id: DocumentId) -> Self {
        Self::with(engine, id, TrailBucket::write()).await
    }

    /// Starts a domain with the events of `month`.
    pub(super) async fn with(engine: &str, id: DocumentId, month: TrailBucket) -> Self {
        let server = Server::start(engine, &[]).await;
        let setup = set_up_domain(&server.rig.domain, &SetupPlan::new("cwl-", None).unwrap(), TIMEOUT).await;
        let options = DocumentOptions { id, day: IndexDay::EventTime, ..DocumentOptions::default() };
        // As a function delivers them: under ids of CloudWatch Logs, some seconds later.
        let batch = LogBatch {
            owner: "123456789012".to_owned(),
            log_group: "group".to_owned(),
            log_stream: "stream".to_owned(),
            events: Vec::new(),
        };
        let log_event = |(number, event): (usize, &Value)| LogEvent {
            id: format!("{number:056}"),
            timestamp: milliseconds(event) + 90_000,
            message: event.to_string(),
            extracted_fields: Vec::new(),
        };
        let events: Vec<LogEvent> = month.events.iter().enumerate().map(log_event).collect();
        let documents = events.iter().map(|event| build_document(&batch, event, &options)).collect();
        let degrade = |number: usize, reason: &str| build_degraded(&batch, &events[number], &options, reason);
        let delivery = Delivery::new(server.rig.domain.clone(), DeliveryLimits::default(), true);
        let document_type = setup.engine.document_type();
        let report = delivery.deliver(documents, &degrade, document_type, Instant::now() + TIMEOUT).await;
        assert_eq!(report.failed.len(), 0);
        let filled = Self { server, month, options, document_type: document_type.unwrap_or("_doc") };
        filled.refresh().await;
        filled
    }

    fn rig(&self) -> &Rig {
        &self.server.rig
    }

    pub(super) async fn verify(&self) -> Report {
        self.refresh().await;
        let domain = ComparedDomain { domain: self.rig().domain.clone(), options: self.options.clone() };
        let evidence = evidence(&self.month, PERIOD).await;
        verify(&evidence, &domain, &mut Checkpoint::in_memory(), &no_progress()).await.unwrap()
    }

    pub(super) async fn expect(&self, case: &str, verdict: Verdict, expected: &[(Kind, &str)]) {
        let report = self.verify().await;
        let found: Vec<_> = report.findings().map(|it| (it.kind, it.subject.as_str())).collect();
        assert_eq!((report.verdict(), &found[..]), (verdict, expected), "{case}: {report}");
    }

    /// Runs the program; returns its exit code and the last line of its JSON.
    async fn run(&self, arguments: &[&str]) -> (Option<i32>, Value) {
        let (code, lines) = self.run_lines(arguments).await;
        (code, lines.last().cloned().unwrap_or_default())
    }

    /// Runs the program; returns its exit code and the lines of its JSON.
    pub(super) async fn run_lines(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
        self.refresh().await;
        self.run_now(arguments).await
    }

    /// Does the same without a refresh before.
    pub(super) async fn run_now(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
        let ran = self.command(arguments).output().await.unwrap();
        let stdout = String::from_utf8(ran.stdout).unwrap();
        let lines: Result<_, _> = stdout.lines().map(serde_json::from_str).collect();
        (ran.status.code(), lines.unwrap())
    }

    pub(super) async fn refresh(&self) {
        self.rig().ask(Method::POST, "/cwl-*/_refresh", &Value::Null).await;
    }

    /// Returns a command for the program.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.month.put("keys.json", key_list().as_bytes());
        let mut command = Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"));
        command
            .args(["verify", "--json", "--region", "eu-west-1", "--service", "es", "--endpoint"])
            .arg(self.rig().stand_in.url())
            .arg("--public-keys")
            .arg(self.month.path("keys.json"))
            .arg("--done")
            .arg(self.month.path("done"))
            .args(arguments)
            .arg(self.month.path("AWSLogs"))
            .env_clear()
            .envs(AWS_KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Returns whether the domain got so many requests whose targets begin so.
    pub(super) fn has_seen(&self, target: &str, times: usize) -> bool {
        self.rig().stand_in.seen().iter().filter(|seen| seen.target.starts_with(target)).count() >= times
    }

    /// Returns the document of an event: its index, its id and its source.
    pub(super) async fn document(&self, event: &str) -> (String, String, Value) {
        let query = json!({ "query": { "term": { "eventID": event } } });
        let hit = &self.rig().ask(Method::POST, "/cwl-*/_search", &query).await["hits"]["hits"][0];
        (hit["_index"].as_str().unwrap().to_owned(), hit["_id"].as_str().unwrap().to_owned(), hit["_source"].clone())
    }

    pub(super) async fn put(&self, index: &str, id: &str, source: &Value) {
        self.rig().ask(Method::PUT, &format!("/{index}/{}/{id}", self.document_type), source).await;
    }

    pub(super) async fn delete(&self, index: &str, id: &str) {
        self.rig().ask(Method::DELETE, &format!("/{index}/{}/{id}", self.document_type), &Value::Null).await;
    }
}

async fn each_change_of_the_domain_is_named(engine: &str, id: DocumentId) {
    let filled = Filled::new(engine, id).await;
    filled.expect("unaltered", Verdict::Proven, &[]).await;

    let event = filled.month.events_of(Date::constant(2026, 1, 15)).next().unwrap();
    let event_id = event["eventID"].as_str().unwrap();
    let (index, id, source) = filled.document(event_id).await;
    let altered = [(Kind::AlteredEvent, event_id)];

    filled.delete(&index, &id).await;
    filled.expect("removed", Verdict::Differences, &[(Kind::MissingEvent, event_id)]).await;

    let edits: BTreeMap<&str, [bool; 2]> =
        [("field", [true, false]), ("message", [false, true]), ("both", [true, true])].into();
    for (case, [in_field, in_message]) in edits {
        let mut source = source.clone();
        if in_field {
            source["sourceIPAddress"] = json!("192.0.2.7");
        }
        if in_message {
            let mut record = event.clone();
            record["sourceIPAddress"] = json!("192.0.2.7");
            source["@message"] = json!(record.to_string());
        }
        filled.put(&index, &id, &source).await;
        filled.expect(case, Verdict::Differences, &altered).await;
    }

    // Searches of the period would not find it.
    for time in ["2016-01-15T00:00:00.000Z", "2026-03-01T00:00:00.000Z", "9999"] {
        let mut source = source.clone();
        source["@timestamp"] = json!(time);
        filled.put(&index, &id, &source).await;
        filled.expect(time, Verdict::Differences, &altered).await;
    }

    filled.delete(&index, &id).await;
    filled.put("cwl-2026.01.20", &id, &source).await;
    filled.expect("moved", Verdict::Differences, &altered).await;
    filled.delete("cwl-2026.01.20", &id).await;

    filled.put(&index, &id, &source).await;
    filled.put(&index, "second", &source).await;
    filled.expect("two ids", Verdict::Differences, &[(Kind::DuplicateEvent, event_id)]).await;
    filled.delete(&index, "second").await;

    // In the day's index, and in another one under a time of the period.
    for place in ["cwl-2026.01.15", "cwl-2020.01.01"] {
        let mut added = source.clone();
        added["eventID"] = json!("11111111-2222-3333-4444-555555555555");
        filled.put(place, "added", &added).await;
        let subject = format!("{place}/added");
        filled.expect("added", Verdict::Differences, &[(Kind::ExtraDocument, &subject)]).await;
        filled.delete(place, "added").await;
    }

    // Searches of the period find it by its `@timestamp`.
    for time in [Value::Null, json!("2016-01-15T00:00:00Z")] {
        let mut added = source.clone();
        (added["eventTime"], added["eventID"]) = (time, json!("11111111-2222-3333-4444-555555555555"));
        filled.put("cwl-other", "added", &added).await;
        filled.expect("by delivery", Verdict::Differences, &[(Kind::ExtraDocument, "cwl-other/added")]).await;
        filled.delete("cwl-other", "added").await;
    }

    // No delivery is so late.
    let mut added = source.clone();
    (added["eventTime"], added["@timestamp"]) = (json!("2025-06-01T00:00:00Z"), json!("2026-01-01T00:00:00.000Z"));
    added["eventID"] = json!("11111111-2222-3333-4444-555555555555");
    filled.put("cwl-2026.01.01", "added", &added).await;
    let extra = [(Kind::ExtraDocument, "cwl-2026.01.01/added")];
    filled.expect("before the period", Verdict::Differences, &extra).await;
    filled.delete("cwl-2026.01.01", "added").await;

    // Documents of a removed file are not called extra.
    let log = log_key(day_of(event), 0);
    filled.month.remove(&log);
    filled.expect("removed file", Verdict::Differences, &[(Kind::MissingFile, &log)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn extra_document_that_a_mapping_hides_is_named() {
    let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
    let event = filled.month.events_of(Date::constant(2026, 1, 15)).next().unwrap();
    let (_, _, source) = filled.document(event["eventID"].as_str().unwrap()).await;
    // Another template than the function's: no search finds the event's time.
    let hidden = json!({ "type": "object", "enabled": false });
    let properties = json!({ "eventTime": hidden, "@timestamp": { "type": "date" }, "eventID": { "type": "keyword" } });
    let template = json!({ "mappings": { "properties": properties } });
    let template = json!({ "index_patterns": ["cwl-hidden"], "priority": 100_000, "template": template });
    filled.rig().ask(Method::PUT, "/_index_template/hidden", &template).await;
    for time in ["2026-01-17T00:00:00Z", "2026-01-30T00:00:00Z"] {
        let mut added = source.clone();
        (added["eventTime"], added["eventID"]) = (json!(time), json!("11111111-2222-3333-4444-555555555555"));
        filled.put("cwl-hidden", "added", &added).await;
        filled.expect(time, Verdict::Differences, &[(Kind::ExtraDocument, "cwl-hidden/added")]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn exit_code_is_the_verdict() {
    let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
    let january = ["--from", "2026-01-01", "--to", "2026-01-31"];
    let (code, last) = filled.run(&january).await;
    assert_eq!((code, &last["verdict"], &last["digests"]), (Some(0), &json!("proven"), &json!(746)), "{last}");

    let (code, last) = filled.run(&["--from", "2026-01-01", "--to", "2026-02-10"]).await;
    assert_eq!((code, &last["verdict"]), (Some(2), &json!("undecided")), "{last}");

    let event = filled.month.events_of(Date::constant(2026, 1, 15)).next().unwrap();
    let (index, id, _) = filled.document(event["eventID"].as_str().unwrap()).await;
    filled.delete(&index, &id).await;
    let (code, last) = filled.run(&january).await;
    assert_eq!((code, &last["counts"]), (Some(1), &json!({ "missing_event": 1 })), "{last}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn each_change_is_reported_on_opensearch_2() {
    each_change_of_the_domain_is_named("opensearch-2.19", DocumentId::EventId).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn each_change_is_reported_on_opensearch_3() {
    each_change_of_the_domain_is_named("opensearch-3", DocumentId::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn each_change_is_reported_on_elasticsearch_5() {
    each_change_of_the_domain_is_named("elasticsearch-5.6", DocumentId::LogEvent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java and Maven"]
async fn each_change_is_reported_on_elasticsearch_7() {
    each_change_of_the_domain_is_named("elasticsearch-7.10", DocumentId::LogEvent).await;
}
