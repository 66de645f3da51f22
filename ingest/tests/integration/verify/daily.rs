//! The function that verifies a day, under AWS's own emulator of Lambda, with the bucket in moto and a real server.

use jiff::civil::Date;
use serde_json::{Value, json};
use trailgate_ingest::document::DocumentId;

use super::cloudtrail::{CloudTrail, upload};
use super::domain::Filled;
use crate::bucket::{Bucket, NAME};
use crate::emulator::Emulator;

/// The function and all that it reaches.
struct Daily {
    filled: Filled,
    bucket: Bucket,
    cloudtrail: CloudTrail,
    emulator: Emulator,
}

impl Daily {
    async fn start(pause_after: &str, variables: &[(&str, &str)]) -> Self {
        let (bucket, cloudtrail) = (Bucket::start().await, CloudTrail::start().await);
        let filled = Filled::new("opensearch-2.19", DocumentId::EventId).await;
        upload(&filled.month, &bucket).await;
        let (trail, states) = (format!("s3://{NAME}/AWSLogs/123456789012"), format!("s3://{NAME}/verification/"));
        let own = [
            ("TRAIL", trail.as_str()),
            ("CHECKPOINTS", &states),
            ("PAUSE_AFTER", pause_after),
            ("DOCUMENT_ID", "event_id"),
            ("INDEX_DAY", "event_time"),
            ("AWS_ENDPOINT_URL_S3", &bucket.endpoint),
            ("AWS_ENDPOINT_URL_CLOUDTRAIL", &cloudtrail.url),
        ];
        let variables: Vec<_> = own.iter().chain(variables).copied().collect();
        let emulator = Emulator::start(&filled.server.rig.stand_in.url(), &variables).await;
        Self { filled, bucket, cloudtrail, emulator }
    }

    async fn verify(&self) -> Vec<Value> {
        self.verify_request(json!({ "verify": { "day": DAY } })).await
    }

    /// Invokes the function as the state machine does, until the day is verified. Returns all responses.
    async fn verify_request(&self, request: Value) -> Vec<Value> {
        let mut responses = vec![self.emulator.invoke(&request).await];
        while let Some(response) = responses.last().filter(|response| response.get("verify").is_some()) {
            responses.push(self.emulator.invoke(&response.clone()).await);
        }
        responses
    }

    /// Returns the values of the metric, one for each verification.
    async fn problems(self) -> Vec<Value> {
        self.emulator.metrics().await.iter().map(|line| line["evidence_problems"].clone()).collect()
    }

    fn events(&self) -> usize {
        self.filled.month.events_of(DAY.parse::<Date>().unwrap()).count()
    }
}

/// In one invocation: proven, and after a document was altered no longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_verifies_a_day() {
    let daily = Daily::start("600", &[]).await;
    let responses = daily.verify().await;
    let [response] = &responses[..] else { panic!("{responses:?}") };
    let verified = &response["verified"];
    assert_eq!((&verified["day"], &verified["verdict"]), (&json!(DAY), &json!("proven")), "{response}");
    assert_eq!((&verified["events"], &verified["findings"]), (&json!(daily.events()), &json!(0)));

    let event = daily.filled.month.events_of(DAY.parse().unwrap()).next().unwrap();
    let (index, id, mut source) = daily.filled.document(event["eventID"].as_str().unwrap()).await;
    source["sourceIPAddress"] = json!("192.0.2.7");
    daily.filled.put(&index, &id, &source).await;
    daily.filled.refresh().await;
    let verified = &daily.verify().await[0]["verified"];
    assert_eq!((&verified["verdict"], &verified["findings"]), (&json!("differences"), &json!(1)));

    // What the state machine passes on when it gives up.
    let failed = json!({ "day": DAY, "failed": { "Error": "Verify", "Cause": "out of time" } });
    let response = daily.emulator.invoke(&json!({ "verify": failed })).await;
    assert_eq!(response["verified"]["verdict"], "undecided");
    assert_eq!(daily.problems().await, [0, 1, 1]);
}

/// In as many invocations as there are files, and one more. A state that was replaced is rejected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_pauses_and_resumes() {
    let daily = Daily::start("0", &[]).await;
    let responses = daily.verify().await;
    assert_eq!(responses.len(), 5, "{responses:?}");
    let verified = &responses[4]["verified"];
    assert_eq!((&verified["verdict"], &verified["events"]), (&json!("proven"), &json!(daily.events())), "{verified}");
    let states = daily.bucket.client.list_objects_v2().bucket(NAME).prefix("verification/").send().await.unwrap();
    assert_eq!(states.contents().len(), 4);

    let resume = &responses[2]["verify"]["resume"];
    assert_eq!(resume["invocations"], 3);
    let key = format!("verification/{}", resume["sha256"].as_str().unwrap());
    let other = responses[3]["verify"]["resume"]["sha256"].as_str().unwrap();
    let other =
        daily.bucket.client.get_object().bucket(NAME).key(format!("verification/{other}")).send().await.unwrap();
    let other = other.body.collect().await.unwrap();
    daily.bucket.client.put_object().bucket(NAME).key(&key).body(other.into_bytes().into()).send().await.unwrap();
    let response = daily.emulator.invoke(&responses[2]).await;
    let expected = format!("s3://{NAME}/{key} was changed: its SHA-256 is another one");
    assert_eq!((&response["errorType"], &response["errorMessage"]), (&json!("Verify"), &json!(expected)));
    // CloudTrail was asked for keys each time: a state has none.
    assert_eq!(daily.cloudtrail.requests(), 2 * responses.len());
    assert_eq!(daily.problems().await, [0]);
}

/// Outside the VPC the function adds the keys of which the one within it verifies, without CloudTrail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Python"]
async fn emulated_function_verifies_with_keys_of_its_request() {
    let outside = Daily::start("0", &[("LIST_PUBLIC_KEYS", "true")]).await;
    let request = outside.emulator.invoke(&json!({ "verify": { "day": DAY } })).await;
    let fingerprints: Vec<_> = request["verify"]["public_keys"]["PublicKeyList"].as_array().unwrap().iter().collect();
    assert_eq!(fingerprints.iter().map(|key| &key["Fingerprint"]).collect::<Vec<_>>(), ["older", "trail"]);

    let within = Daily::start("0", &[("AWS_ENDPOINT_URL_CLOUDTRAIL", "http://127.0.0.1:1")]).await;
    let responses = within.verify_request(request).await;
    assert_eq!((responses.len(), &responses[4]["verified"]["verdict"]), (5, &json!("proven")), "{responses:?}");
}

const DAY: &str = "2026-01-15";
