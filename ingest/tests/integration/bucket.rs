use std::convert::Infallible;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::Builder;
use aws_sdk_s3::types::{BucketLocationConstraint, CreateBucketConfiguration, StorageClass};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use trailgate_client::sdk_config;
use trailgate_ingest::load::days::Days;
use trailgate_ingest::load::source::Sources;
use trailgate_testkit::{AwsMock, gzip};

use crate::load::{Rig, assert_ran, assert_says, record, records};
use crate::rig::signing_key;

/// A bucket of a server that plays S3.
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) endpoint: String,
    _s3: AwsMock,
}

impl Bucket {
    pub(crate) async fn start() -> Self {
        let s3 = AwsMock::moto().await.unwrap();
        let endpoint = s3.url();
        let config =
            Builder::from(&sdk_config(REGION).await).endpoint_url(&endpoint).credentials_provider(signing_key());
        let client = Client::from_conf(config.build());
        let place = BucketLocationConstraint::from(REGION);
        let place = CreateBucketConfiguration::builder().location_constraint(place).build();
        client.create_bucket().bucket(NAME).create_bucket_configuration(place).send().await.unwrap();
        Self { client, endpoint, _s3: s3 }
    }

    pub(crate) async fn put(&self, key: String, content: &str) {
        self.client.put_object().bucket(NAME).key(key).body(gzip(content).into()).send().await.unwrap();
    }
}

/// Returns a key of the form that CloudTrail uses; `kind` is `CloudTrail`, `CloudTrail-Digest` or `CloudTrail-Insight`.
fn key(kind: &str, day: &str, nth: usize) -> String {
    let folder = day.replace('-', "/");
    let name = format!("123456789012_{kind}_{REGION}_{}T1200Z_{nth:016}", day.replace('-', ""));
    format!("AWSLogs/123456789012/{kind}/{REGION}/{folder}/{name}.json.gz")
}

fn insight() -> Value {
    let context = json!({ "statistics": { "baseline": { "average": 0.1 }, "insight": { "average": 7 } } });
    let details = json!({ "state": "Start", "insightType": "ApiCallRateInsight", "insightContext": context });
    json!({
        "eventVersion": "1.08", "eventType": "AwsCloudTrailInsight", "eventCategory": "Insight",
        "eventID": "of the insight", "eventTime": "2026-01-30T12:00:00Z", "awsRegion": REGION,
        "recipientAccountId": "123456789012", "insightDetails": details,
    })
}

#[tokio::test]
#[ignore = "needs Python"]
async fn requested_days_of_a_bucket_are_loaded() {
    let bucket = Bucket::start().await;
    // S3 lists a thousand keys at a time, in order: what is wanted is on the second page.
    let before = records(&[record("too early", "2026-01-29")]);
    stream::iter(0..1_000)
        .for_each_concurrent(8, |nth| bucket.put(key("CloudTrail", "2026-01-29", nth), &before))
        .await;
    bucket
        .put(key("CloudTrail", "2026-01-30", 0), &records(&[record("1", "2026-01-30"), record("2", "2026-01-30")]))
        .await;
    bucket.put(key("CloudTrail", "2026-01-31", 0), &records(&[record("3", "2026-01-31")])).await;
    bucket.put(key("CloudTrail", "2026-02-01", 0), &records(&[record("too late", "2026-02-01")])).await;
    let digest = json!({ "awsAccountId": "123456789012", "digestS3Bucket": NAME, "logFiles": [] });
    bucket.put(key("CloudTrail-Digest", "2026-01-30", 0), &digest.to_string()).await;
    bucket.put(key("CloudTrail-Insight", "2026-01-30", 0), &records(&[insight()])).await;

    let mut rig = Rig::new().await;
    rig.s3.clone_from(&bucket.endpoint);
    let from_here = format!("s3://{NAME}/AWSLogs");
    let ran = rig.load(&["--from", "2026-01-30", "--to", "2026-01-31", &from_here], b"").await;
    // What was delivered on the day after the last one may be of the last one.
    assert_ran(&ran, 0, "4 events in 4 files, 4 indexed");
    assert_says(&ran, "1 events skipped: of other days");
    for passed_over in ["1 files skipped: digest files", "1000 files skipped: of other days"] {
        assert!(ran.stdout.contains(passed_over), "{}", ran.stdout);
    }
    assert_eq!(rig.sent(), ["of the insight", "1", "2", "3"]);
}

#[tokio::test]
#[ignore = "needs Python"]
async fn archived_object_is_reported_with_advice() {
    let bucket = Bucket::start().await;
    let mut rig = Rig::new().await;
    rig.s3.clone_from(&bucket.endpoint);
    let put = bucket.client.put_object().bucket(NAME).key("a.json").storage_class(StorageClass::Glacier);
    put.body(records(&[record("1", "2026-01-31")]).into_bytes().into()).send().await.unwrap();
    let ran = rig.load(&["s3://trail/"], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("restore the object from its archive first"), "{}", ran.stdout);
}

#[tokio::test]
#[ignore = "needs Python"]
async fn missing_bucket_is_reported() {
    let bucket = Bucket::start().await;
    let mut rig = Rig::new().await;
    rig.s3.clone_from(&bucket.endpoint);
    let ran = rig.load(&["s3://nowhere/AWSLogs"], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("trailgate-ingest: s3://nowhere/AWSLogs: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("NoSuchBucket"), "{}", ran.stderr);
}

/// Starts a server that plays S3 with one object in a bucket of `us-east-1`: as S3 does, it redirects requests that are
/// signed for another region, without a `location`. The policy permits lists of `a` and of what is below `AWSLogs/`.
async fn start_in_us_east_1() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(async |request| Ok::<_, Infallible>(answer_in_us_east_1(&request)));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    url
}

fn answer_in_us_east_1(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let is_signed_for_it = request.headers()["authorization"].to_str().unwrap().contains("/us-east-1/s3/aws4_request");
    let response = Response::builder().header("x-amz-bucket-region", "us-east-1");
    let list = "<ListBucketResult><Contents><Key>a/1.json</Key><Size>1</Size></Contents></ListBucketResult>";
    match request.uri().query() {
        Some(query) if query.split('&').any(|pair| pair == "prefix=AWSLogs") => {
            Response::builder().status(403).body("<Error/>".into())
        }
        _ if !is_signed_for_it => response.status(301).body(
            "<Error><Code>PermanentRedirect</Code><Message>The bucket you are attempting to access must be addressed using \
             the specified endpoint.</Message></Error>"
                .into(),
        ),
        Some(query) if query.contains("list-type") => response.body(list.into()),
        _ => response.body(records(&[record("1", "2026-01-31")]).into()),
    }
    .unwrap()
}

#[tokio::test]
async fn bucket_of_another_region_is_loaded() {
    let mut rig = Rig::new().await;
    rig.s3 = start_in_us_east_1().await;
    assert_ran(&rig.load(&["s3://trail/a"], b"").await, 0, "1 events in 1 files, 1 indexed");
}

#[tokio::test]
async fn response_without_a_reason_is_reported_by_its_status() {
    let mut rig = Rig::new().await;
    rig.s3 = start_in_us_east_1().await;
    let ran = rig.load(&["s3://trail/AWSLogs"], b"").await;
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("s3://trail/AWSLogs: status 403 without a reason"), "{}", ran.stderr);
}

#[tokio::test]
async fn bucket_of_another_region_is_listed_for_verify() {
    let url = start_in_us_east_1().await;
    let config = Builder::from(&sdk_config(REGION).await).endpoint_url(url).credentials_provider(signing_key());
    let day = Some(Date::constant(2026, 1, 31));
    let client = async || Client::from_conf(config.build());
    let sources = Sources::find_days("s3://trail/AWSLogs", Days { from: day, to: day }, client).await.unwrap();
    assert!(sources.list().is_empty());
}

#[tokio::test]
async fn path_without_a_bucket_is_rejected() {
    let rig = Rig::new().await;
    for (path, expected) in [
        ("s3://", "s3://: names no bucket; write s3://BUCKET/PREFIX"),
        ("s3:///a", "s3:///a: names no bucket; write s3://BUCKET/PREFIX"),
        (
            "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/a/b",
            "an ARN is not accepted; write the access point's alias: s3://ALIAS/PREFIX",
        ),
    ] {
        let ran = rig.load(&[path], b"").await;
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    }
}

pub(crate) const NAME: &str = "trail";
pub(crate) const REGION: &str = "eu-west-1";
