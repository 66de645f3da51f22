use std::net::IpAddr;
use std::path::PathBuf;
use std::{env, fs};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use trailgate_testkit::sample_events;

/// Returns real events: those in the folder `CLOUDTRAIL_EVENTS`, or else the thousand of the repository.
pub(crate) fn real() -> Vec<Value> {
    match env::var_os("CLOUDTRAIL_EVENTS") {
        None => sample_events().unwrap(),
        Some(folder) => {
            let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            files.sort();
            let mut events: Vec<Value> = files.iter().flat_map(|file| records(&fs::read(file).unwrap())).collect();
            events.sort_by_key(|event| event["eventTime"].as_str().map(str::to_owned));
            events
        }
    }
}

fn records(file: &[u8]) -> Vec<Value> {
    match serde_json::from_slice(file) {
        Ok(Value::Object(mut file)) => match file.remove("Records") {
            Some(Value::Array(records)) => records,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// Returns an event as the stock function indexes it: the record's fields, and the six of the log event.
pub(crate) fn stock(event: &Value, id: usize) -> Map<String, Value> {
    let mut document = event.as_object().unwrap().clone();
    let time: Timestamp = event["eventTime"].as_str().unwrap().parse().unwrap();
    document.insert("@id".into(), json!(format!("{id:056}")));
    document.insert("@timestamp".into(), json!(time.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()));
    document.insert("@message".into(), json!(event.to_string()));
    document.insert("@owner".into(), json!("123837392027"));
    document.insert("@log_group".into(), json!("CloudTrail/audit"));
    document.insert("@log_stream".into(), json!("123837392027_CloudTrail_eu-west-1"));
    document
}

/// Returns the same with two promoted fields.
pub(crate) fn promoted(event: &Value, id: usize) -> Map<String, Value> {
    let mut document = stock(event, id);
    if let Some(ip) = event["sourceIPAddress"].as_str().filter(|address| address.parse::<IpAddr>().is_ok()) {
        document.insert("source".into(), json!({ "ip": ip }));
    }
    if let Some(bucket) = event["requestParameters"]["bucketName"].as_str() {
        document.insert("ct".into(), json!({ "bucket": bucket }));
    }
    document
}

/// Events that have cost others documents, each on top of a plain one.
pub(crate) fn hostile() -> Vec<Value> {
    let mut parts = Vec::new();
    // Each subtree as everything that JSON has, in changing order.
    for subtree in ["requestParameters", "responseElements", "additionalEventData", "serviceEventDetails"] {
        let values = [
            json!({ "a": 1 }),
            json!("HIDDEN_DUE_TO_SECURITY_REASONS"),
            json!(["a", 1, true, null, { "a": { "b": [[1], ["2"]] } }, []]),
            json!(null),
            json!(17),
            json!(1.5),
            json!(true),
            json!({ "a": { "b": 1 } }),
            json!({ "a": ["x", { "": "an empty key" }] }),
            json!({ "": { "": 1 }, ".": 1, "a.b": 1, "a.": 1, ".a": 1, "a..b": { "c.d": [] } }),
            json!({ "$x": 1, "_id": 1, "_type": {}, "_source": [] }),
            json!({ "Host": "a", "host": "b", "HOST": { "c": 1 }, "Host ": 1 }),
            json!({ "text": "x".repeat(40_000), "ümlaut": "€".repeat(40_000) }),
            json!({}),
        ];
        parts.extend(values.map(|value| json!({ subtree: value })));
        let deep = (0..60).fold(json!(1), |inner, _| json!({ "deeper": inner }));
        parts.push(json!({ subtree: deep }));
    }
    let many: Map<String, Value> = (0..3000).map(|n| (format!("key{n}"), json!({ "value": n }))).collect();
    parts.push(json!({ "requestParameters": many }));
    // Types that change from event to event in real trails.
    for value in [json!("2016-11-15"), json!("v20160216"), json!("2016_01_28"), json!(20_160_101), json!(1.1)] {
        parts.push(json!({ "apiVersion": value }));
    }
    for value in [json!(true), json!({ "value": true })] {
        parts.push(json!({ "requestParameters": { "disableApiTermination": value } }));
    }
    for value in [json!(true), json!("text")] {
        parts.push(json!({ "requestParameters": { "CreateNatGatewayRequest": { "Tag": { "Value": value } } } }));
    }
    for value in [json!({ "roleName": "r" }), json!("arn:aws:iam::123837392027:role/r")] {
        parts.push(json!({ "responseElements": { "role": value } }));
    }
    for value in [json!(true), json!("true"), json!("false"), json!(null)] {
        parts.push(json!({ "readOnly": value, "managementEvent": value }));
    }
    // Strings longer than a term can be, and where there is a type.
    let long = "x".repeat(40_000);
    parts.push(json!({ "errorMessage": "€".repeat(40_000), "userAgent": long, "unknown": long }));
    parts.push(json!({ "userIdentity": { "sessionContext": { "attributes": { "creationDate": "no date" } } } }));
    parts.push(json!({ "userIdentity": { "sessionContext": { "attributes": { "creationDate": "" } } } }));
    // What a later CloudTrail may add, and what other services log.
    for unknown in [json!("a"), json!(1), json!(true), json!(1.5), json!(["a", "b"]), json!([]), json!(null)] {
        parts.push(json!({ "unknown": unknown, "userIdentity": { "type": "IAMUser", "unknown": unknown } }));
    }
    for number in [json!(1), json!(1.5), json!("seventeen"), json!(9_007_199_254_740_993_u64)] {
        parts.push(json!({ "number": number }));
    }
    for object in
        [json!({ "a": 1 }), json!({ "a": { "b": 1 } }), json!([{ "a": "x" }, { "a": {} }]), json!("no object")]
    {
        parts.push(json!({ "eventContext": object, "edgeDeviceDetails": object }));
    }
    let attributes: Map<String, Value> = (0..500).map(|n| (format!("www.amazon.com:{n}"), json!("x"))).collect();
    let federated = json!({ "federatedProvider": "www.amazon.com", "attributes": attributes });
    parts.push(json!({ "userIdentity": { "sessionContext": { "webIdFederationData": federated } } }));
    parts.push(json!({ "userIdentity": { "sessionContext": { "webIdFederationData": {} } } }));
    let bucket = json!({ "ARN": "arn:aws:s3:::b", "accountId": "1", "type": "AWS::S3::Bucket" });
    parts.push(json!({ "resources": [bucket, { "ARNPrefix": "arn:aws:s3:::b/" }] }));
    parts.push(json!({ "resources": { "ARN": "arn:aws:s3:::b" } }));
    parts.push(json!({ "resources": null, "tlsDetails": null, "userIdentity": null, "addendum": null }));
    let context = json!({ "statistics": { "baseline": { "average": 0.1 } }, "attributions": [{ "attribute": "x" }] });
    let insight = json!({ "state": "Start", "insightType": "ApiCallRateInsight", "insightContext": context });
    parts.push(json!({ "insightDetails": insight }));
    parts.push(json!({ "addendum": { "reason": "UPDATED_DATA", "updatedFields": "x", "originalEventID": "x" } }));
    parts.push(json!({ "sourceIPAddress": "2001:db8::1" }));
    parts.push(json!({ "sourceIPAddress": "cloudformation.amazonaws.com" }));
    parts.into_iter().map(with_plain_event).collect()
}

/// Messages that the function has to make documents of first: names that engines refuse, JSON that no library writes,
/// and what is no JSON. The names differ, so that no event's types are in the way of another's.
pub(crate) fn odd() -> Vec<String> {
    let large = "x".repeat(100 * 1024);
    let mut messages = [
        r#"{"eventName":"Odd","one.b":1,"one.c":2}"#,
        r#"{"eventName":"Odd","two.b":1,"two":2,"two_b":3}"#,
        r#"{"eventName":"Odd",".":1,"..":2,"three.":3,".three":4,"three..b":5,"three. .b":6}"#,
        r#"{"eventName":"Odd","":1," ":2,"_id":3,"_source":4,"_type":5,"_mine":6}"#,
        r#"{"eventName":"Odd","four":{"":1,"a":2,"a.b":3,"_id":4}}"#,
        r#"{"eventName":"Odd","ct":1,"@degraded":2,"ct.x":3,"@id.x":4,"requestParameters.x":5,"source.ip":6}"#,
        r#"{"eventName":"Odd","requestParameters":{"":1," ":2,"a.b":3,"a":4,".":5,"..":6,"_id":7}}"#,
        r#"{"eventName":"First","eventName":"Odd","five":1,"five":2,"responseElements":{"x":1,"x":{"y":1,"y":2}}}"#,
        r#"{"six":"x\ud800","seven":"\ud83d\ude00","\udfff":1}"#,
        r#"{"requestParameters":{"x":12345678901234567890,"y":-0.0,"z":1e400}}"#,
        r#"{"eventName":"Odd","eventTime":"yesterday","sourceIPAddress":"256.1.2.3"}"#,
        r#"2026-01-31 INFO {"ten":1}"#,
        r#"{"eventName":"Odd","truncated":"#,
        "a line that is no JSON",
        "[1,2]",
        " ",
    ]
    .map(str::to_owned)
    .to_vec();
    let members: Vec<_> = (0..60_000).map(|key| format!(r#""key{key}":"\"{key}""#)).collect();
    messages.push(format!(r#"{{"eventName":"Odd","requestParameters":{{{}}}}}"#, members.join(",")));
    messages.push(format!(r#"{{"eventName":"Odd","errorMessage":"{large}","additionalEventData":{{"x":"{large}"}}}}"#));
    messages.push(r#"{"a":"#.repeat(100_000) + "1" + &"}".repeat(100_000));
    messages
}

fn with_plain_event(part: Value) -> Value {
    let mut event = json!({
        "eventVersion": "1.11",
        "eventTime": "2023-07-10T12:00:00Z",
        "eventSource": "hostile.amazonaws.com",
        "eventName": "HostileEvent",
        "awsRegion": "eu-west-1",
        "sourceIPAddress": "192.0.2.1",
    });
    if let (Some(event), Value::Object(part)) = (event.as_object_mut(), part) {
        event.extend(part);
    }
    event
}
