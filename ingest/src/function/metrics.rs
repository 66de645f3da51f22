//! The metrics of an invocation, in CloudWatch's embedded metric format.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::delivery::DeliveryReport;

/// The counts of one invocation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InvocationMetrics {
    /// Events in the payload.
    pub received: usize,
    /// Events in the index as they were.
    pub indexed: usize,
    /// Events in the index in degraded form.
    pub degraded: usize,
    /// Times that an event was sent again after an error that passes.
    pub retried: usize,
    /// Events that are not in the index as far as is known.
    pub failed: usize,
    /// Records that cannot be read.
    pub undecodable: usize,
    /// Lines of trailgate's log that are not indexed: its events, and access lines unless `ACCESS_LOG` is `index`.
    pub passed_over: usize,
    /// Bytes of the documents.
    pub bytes: usize,
    /// Milliseconds from the oldest event to now; none without events.
    pub lag_ms: Option<i64>,
}

impl InvocationMetrics {
    /// Copies the counts of `report`, and computes the lag from the oldest event to `now`.
    #[must_use]
    pub fn new(report: &DeliveryReport, undecodable: usize, oldest: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            received: report.received,
            indexed: report.indexed,
            degraded: report.degraded,
            retried: report.retried,
            failed: report.failed.len(),
            undecodable,
            passed_over: 0,
            bytes: report.bytes,
            lag_ms: oldest.map(|oldest| (now.as_millisecond() - oldest.as_millisecond()).max(0)),
        }
    }

    /// Returns the line of the log that CloudWatch turns into metrics.
    #[must_use]
    pub fn line(&self, function: &str, now: Timestamp) -> String {
        let mut values = vec![
            ("received", "Count", json!(self.received)),
            ("indexed", "Count", json!(self.indexed)),
            ("degraded", "Count", json!(self.degraded)),
            ("retried", "Count", json!(self.retried)),
            ("failed", "Count", json!(self.failed)),
            ("undecodable", "Count", json!(self.undecodable)),
            ("bytes", "Bytes", json!(self.bytes)),
        ];
        if self.passed_over > 0 {
            values.push(("passed_over", "Count", json!(self.passed_over)));
        }
        values.extend(self.lag_ms.map(|lag| ("lag_ms", "Milliseconds", json!(lag))));
        embedded_line(function, now, &values)
    }
}

/// Returns metrics of a function, each with its name, its unit and its value, as a line of the log.
pub(super) fn embedded_line(function: &str, now: Timestamp, values: &[(&str, &str, Value)]) -> String {
    let definitions: Vec<_> = values.iter().map(|(name, unit, _)| json!({ "Name": name, "Unit": unit })).collect();
    let mut line = Map::new();
    line.insert(
        "_aws".to_owned(),
        json!({
            "Timestamp": now.as_millisecond(),
            "CloudWatchMetrics": [
                { "Namespace": NAMESPACE, "Dimensions": [["FunctionName"]], "Metrics": definitions },
            ],
        }),
    );
    line.insert("FunctionName".to_owned(), function.into());
    line.extend(values.iter().map(|(name, _, value)| ((*name).to_owned(), value.clone())));
    Value::Object(line).to_string()
}

/// The namespace of the metrics in CloudWatch.
const NAMESPACE: &str = "trailgate";

#[cfg(test)]
mod tests {
    use crate::delivery::FailedDocument;

    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(millisecond).unwrap()
    }

    #[test]
    fn metrics_line_has_a_value_and_unit_for_each_metric() {
        let failed = vec![FailedDocument { document: 3, reason: "503".to_owned() }];
        let report = DeliveryReport { received: 4, indexed: 2, degraded: 1, retried: 5, bytes: 600, failed };
        let metrics = InvocationMetrics::new(&report, 0, Some(at(1_000)), at(61_000));
        let line = metrics.line("ingest", at(61_000));
        assert!(!line.contains('\n'));
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line,
            json!({
                "_aws": {
                    "Timestamp": 61_000,
                    "CloudWatchMetrics": [{
                        "Namespace": "trailgate",
                        "Dimensions": [["FunctionName"]],
                        "Metrics": [
                            { "Name": "received", "Unit": "Count" },
                            { "Name": "indexed", "Unit": "Count" },
                            { "Name": "degraded", "Unit": "Count" },
                            { "Name": "retried", "Unit": "Count" },
                            { "Name": "failed", "Unit": "Count" },
                            { "Name": "undecodable", "Unit": "Count" },
                            { "Name": "bytes", "Unit": "Bytes" },
                            { "Name": "lag_ms", "Unit": "Milliseconds" },
                        ],
                    }],
                },
                "FunctionName": "ingest",
                "received": 4, "indexed": 2, "degraded": 1, "retried": 5, "failed": 1, "undecodable": 0, "bytes": 600,
                "lag_ms": 60_000,
            })
        );
    }

    #[test]
    fn lag_is_absent_without_events_and_never_negative() {
        let lag = |oldest| InvocationMetrics::new(&DeliveryReport::default(), 0, oldest, at(5_000)).lag_ms;
        assert_eq!(lag(None), None);
        assert_eq!(lag(Some(at(9_000))), Some(0));
        assert!(!InvocationMetrics::default().line("ingest", at(0)).contains("lag_ms"));
    }

    #[test]
    fn lines_passed_over_are_a_metric_once_there_are_any() {
        let line =
            |passed_over| InvocationMetrics { passed_over, ..InvocationMetrics::default() }.line("ingest", at(0));
        assert!(line(3).contains(r#"{"Name":"passed_over","Unit":"Count"}"#) && line(3).contains(r#""passed_over":3"#));
        assert!(!line(0).contains("passed_over"));
    }
}
