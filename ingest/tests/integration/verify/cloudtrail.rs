//! The public keys from CloudTrail's API, and the files from S3.

use std::sync::{Arc, Mutex};

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;
use fake_domain::{Fault, Times};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use trailgate_ingest::verify::keys::PublicKeys;
use trailgate_ingest::verify::{Evidence, key_query, verify_bucket};
use trailgate_testkit::AWS_KEY;

use super::bucket::write_late;
use super::evidence::{PERIOD, evidence, no_progress};
use crate::bucket::{Bucket, NAME};
use crate::rig::Rig;
use trailgate_testkit::trail::{TrailBucket, key_list};

/// A stand-in for CloudTrail that lists public keys, one on each page.
pub(super) struct CloudTrail {
    pub(super) url: String,
    /// The headers and the bodies of the requests.
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl CloudTrail {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let record = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                let service = service_fn(move |request| answer(request, Arc::clone(&record)));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, seen }
    }

    /// Returns the number of requests.
    pub(super) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Vec<(String, Value)>>>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let (head, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await?.to_bytes()).unwrap();
    let other = json!({ "PublicKeyList": [{ "Value": "AAAA", "Fingerprint": "older" }], "NextToken": "second" });
    let page = if body["NextToken"] == "second" { key_list() } else { other.to_string() };
    let is_known = head.headers["x-amz-target"].to_str().unwrap().ends_with("CloudTrail_20131101.ListPublicKeys");
    seen.lock().unwrap().push((head.headers["authorization"].to_str().unwrap().to_owned(), body));
    let status = if is_known { 200 } else { 400 };
    Ok(Response::builder().status(status).body(page.into()).unwrap())
}

/// Puts the month's objects into a bucket, digests with their signatures as metadata.
pub(super) async fn upload(month: &TrailBucket, bucket: &Bucket) {
    for key in month.keys() {
        let mut put = bucket.client.put_object().bucket(NAME).key(&key);
        if let Ok(signature) = std::fs::read_to_string(month.path(&format!("{key}.sig"))) {
            put = put.metadata("signature", signature).metadata("signature-algorithm", "SHA256withRSA");
        }
        put.body(ByteStream::from(std::fs::read(month.path(&key)).unwrap())).send().await.unwrap();
    }
}

#[tokio::test]
async fn public_keys_are_fetched_page_by_page() {
    let cloudtrail = CloudTrail::start().await;
    let month = TrailBucket::write();
    let mut evidence = evidence(&month, PERIOD).await;
    let query = key_query(&evidence.sources, PERIOD, "2026-11-01T00:00:00Z".parse().unwrap());
    assert_eq!(query.regions.iter().collect::<Vec<_>>(), ["us-east-1"]);
    let fetched = PublicKeys::fetch(&query, trailgate_testkit::signing_key(None), Some(&cloudtrail.url));
    evidence.keys = fetched.await.unwrap();
    let report = verify_bucket(&evidence, &no_progress()).await.unwrap();
    assert_eq!(report.verdict().exit_code(), 0, "{report}");

    let seen = cloudtrail.seen.lock().unwrap();
    let [(authorization, first), (_, second)] = &seen[..] else { panic!("{seen:?}") };
    let signed = "SignedHeaders=content-type;host;x-amz-date;x-amz-target,";
    assert!(authorization.contains("/us-east-1/cloudtrail/aws4_request,"), "{authorization}");
    assert!(authorization.contains(signed), "{authorization}");
    assert_eq!(first, &json!({ "StartTime": 1_767_052_800, "EndTime": 1_770_076_800 }));
    assert_eq!(second["NextToken"], "second");
}

/// It is signed when it is made, perhaps weeks after the period.
#[tokio::test]
async fn backfill_digest_extends_the_query_for_keys() {
    let month = TrailBucket::write();
    let _ = write_late(&month);
    let query =
        |now: &str, evidence: &Evidence| key_query(&evidence.sources, PERIOD, now.parse().unwrap()).end.to_string();
    let evidence = evidence(&month, PERIOD).await;
    assert_eq!(query("2026-11-01T00:00:00Z", &evidence), "2026-11-01T00:00:00Z");
    // A time in the future may be one that CloudTrail rejects.
    assert_eq!(query("2026-02-01T00:00:00Z", &evidence), "2026-02-01T00:00:00Z");
}

/// The bucket in S3, with the signatures as metadata, keys from the API, and the domain empty: all events are missing.
#[tokio::test]
#[ignore = "needs Python"]
async fn bucket_in_s3_is_verified_with_keys_from_cloudtrail() {
    let (bucket, cloudtrail) = (Bucket::start().await, CloudTrail::start().await);
    let month = TrailBucket::write();
    upload(&month, &bucket).await;
    let rig = Rig::new().await;
    let empty = r#"{"_shards":{"failed":0},"hits":{"hits":[]},"count":0}"#;
    rig.stand_in.fault(Fault::status(200, empty), Times::UntilCleared);
    let report = month.path("evidence.html");
    let ran = Command::new(env!("CARGO_BIN_EXE_trailgate-ingest"))
        .args(["verify", "--json", "--region", "eu-west-1", "--service", "es", "--endpoint", &rig.stand_in.url()])
        .args(["--from", "2026-01-14", "--to", "2026-01-16", &format!("s3://{NAME}/AWSLogs"), "--done"])
        .arg(month.path("done"))
        .arg("--report")
        .arg(&report)
        .env_clear()
        .envs(AWS_KEY)
        .env("AWS_ENDPOINT_URL_S3", &bucket.endpoint)
        .env("AWS_ENDPOINT_URL_CLOUDTRAIL", &cloudtrail.url)
        .output()
        .await
        .unwrap();
    let (stdout, stderr) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    let last: Value = serde_json::from_str(stdout.lines().last().unwrap_or("null")).unwrap();
    let events: usize = (14..=16).map(|day| month.events_of(Date::constant(2026, 1, day)).count()).sum();
    assert_eq!((&last["digests"], &last["proven_files"]), (&json!(96), &json!(8)), "{last}{stderr}");
    assert_eq!((ran.status.code(), &last["counts"]), (Some(1), &json!({ "missing_event": events })), "{last}");
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.contains("s3://trail/AWSLogs") && page.contains("CloudTrail, ListPublicKeys"), "{page}");
}
