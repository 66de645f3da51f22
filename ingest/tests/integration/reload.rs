use std::time::Duration;

use serde_json::{Value, json};
use tokio::process::Child;
use trailgate_testkit::{FakeLambda, function};

use crate::bucket::{Bucket, NAME, REGION};
use crate::load::{record, records};
use crate::rig::{Rig, with_timeout};
use crate::server::Server;

/// The function in front of a domain, with a bucket that has three hours of CloudTrail's files in two regions.
struct Reloading {
    lambda: FakeLambda,
    _bucket: Bucket,
    _child: Child,
}

impl Reloading {
    async fn start(rig: &Rig) -> Self {
        let bucket = Bucket::start().await;
        for (region, stamp, events) in [
            (REGION, "20260130T1355Z", ["before", "before too"]),
            (REGION, "20260130T1405Z", ["one", "two"]),
            (REGION, "20260130T1510Z", ["three", "four"]),
            (REGION, "20260130T1600Z", ["after", "after too"]),
            ("us-east-1", "20260130T1455Z", ["five", "six"]),
        ] {
            let name = format!("123456789012_CloudTrail_{region}_{stamp}_0.json.gz");
            let key = format!("{FOLDER}{region}/2026/01/30/{name}");
            bucket.put(key, &records(&events.map(|id| record(id, "2026-01-30")))).await;
        }
        let lambda = FakeLambda::start(Duration::from_mins(3)).await.unwrap();
        let variables = [
            ("AWS_LAMBDA_RUNTIME_API", lambda.address()),
            ("ENDPOINT", &rig.stand_in.url()),
            ("AWS_ENDPOINT_URL_S3", &bucket.endpoint),
            ("DOCUMENT_ID", "event_id"),
        ];
        let child = function(&variables).unwrap().spawn().unwrap();
        Self { lambda, _bucket: bucket, _child: child }
    }

    async fn reload(&mut self, folder: &str, hour: &str) -> (bool, Value) {
        let payload = json!({ "reload": { "prefix": format!("s3://{NAME}/{folder}"), "hour": hour } });
        let (path, answer) = with_timeout(self.lambda.invoke(payload)).await.unwrap();
        (path.ends_with("/response"), answer)
    }
}

#[tokio::test]
#[ignore = "needs Python"]
async fn reload_of_an_hour_reads_its_files_of_all_regions() {
    let rig = Rig::new().await;
    let mut reloading = Reloading::start(&rig).await;
    let answer = reloading.reload(FOLDER, "2026-01-30T14").await;
    assert_eq!(answer, (true, json!({ "files": 3, "events": 6, "indexed": 6 })));
    let answer = reloading.reload(&format!("{FOLDER}us-east-1/"), "2026-01-30T14").await;
    assert_eq!(answer, (true, json!({ "files": 1, "events": 2, "indexed": 2 })));
}

#[tokio::test]
#[ignore = "needs Python"]
async fn failed_reload_is_an_error() {
    let rig = Rig::new().await;
    let mut reloading = Reloading::start(&rig).await;
    let (is_done, answer) = reloading.reload("nothing/", "2026-01-30T14").await;
    assert_eq!((is_done, &answer["errorType"]), (false, &json!("Reload")));
    let message = answer["errorMessage"].as_str().unwrap();
    assert!(message.starts_with("s3://trail/nothing/ has no folders"), "{message}");
}

#[tokio::test]
#[ignore = "needs Python, a JDK and Maven"]
async fn reload_of_a_failed_hour_is_complete_on_opensearch() {
    let server = Server::start("opensearch-2.19", &[]).await;
    let mut reloading = Reloading::start(&server.rig).await;
    // Twice: every document is there once.
    for _ in 0..2 {
        let answer = reloading.reload(FOLDER, "2026-01-30T14").await;
        assert_eq!(answer, (true, json!({ "files": 3, "events": 6, "indexed": 6 })));
    }
    server.rig.get("/cwl-*/_refresh").await;
    assert_eq!(server.rig.get("/cwl-2026.01.30/_count").await["count"], 6);
}

const FOLDER: &str = "AWSLogs/123456789012/CloudTrail/";
