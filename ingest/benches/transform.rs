//! A benchmark of one core: the number of events a second that become documents, by step and up to a bulk body.

use std::hint::black_box;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::Timestamp;
use serde_json::json;
use trailgate_ingest::delivery::bulk;
use trailgate_ingest::document::{Document, DocumentOptions, build_degraded, build_document};
use trailgate_ingest::payload::{Invocation, LogBatch, decode_payload};
use trailgate_testkit::sample_lines;

criterion_group!(benches, transform);
criterion_main!(benches);

fn transform(criterion: &mut Criterion) {
    let payload = payload();
    let options = DocumentOptions::default();
    let batch = batch(&payload);
    let documents: Vec<_> = batch.events.iter().map(|event| build_document(&batch, event, &options)).collect();

    let mut group = criterion.benchmark_group("transform");
    group.throughput(Throughput::Elements(batch.events.len() as u64));
    group.bench_function("decode", |bencher| bencher.iter(|| self::batch(black_box(&payload))));
    group.bench_function("document", |bencher| {
        bencher.iter(|| {
            batch.events.iter().map(|event| build_document(&batch, event, &options).source.len()).sum::<usize>()
        });
    });
    group.bench_function("degraded", |bencher| {
        bencher.iter(|| {
            batch.events.iter().map(|event| build_degraded(&batch, event, &options, "no").source.len()).sum::<usize>()
        });
    });
    group.bench_function("bulk", |bencher| bencher.iter(|| body(black_box(&documents))));
    group.bench_function("payload_to_bulk", |bencher| {
        bencher.iter(|| {
            let batch = self::batch(black_box(&payload));
            let documents: Vec<_> = batch.events.iter().map(|event| build_document(&batch, event, &options)).collect();
            body(&documents)
        });
    });
    group.finish();
}

fn batch(payload: &[u8]) -> LogBatch {
    match decode_payload(payload, Timestamp::UNIX_EPOCH).unwrap() {
        Invocation::Subscription(batch) => batch,
        other => panic!("{other:?}"),
    }
}

fn body(documents: &[Document]) -> Vec<u8> {
    let mut body = Vec::with_capacity(documents.iter().map(bulk::estimate_bytes).sum());
    for document in documents {
        bulk::append_document(&mut body, document, None, bulk::BulkAction::Index);
    }
    body
}

/// Returns CloudWatch Logs' payload of the sample's events; writes it to the file that `PAYLOAD` names, too.
fn payload() -> Vec<u8> {
    let events = sample_lines().unwrap();
    let event = |(time, message)| json!({ "id": format!("{time:056}"), "timestamp": time, "message": message });
    let delivery = json!({
        "messageType": "DATA_MESSAGE",
        "owner": "123456789012",
        "logGroup": "CloudTrail/logs",
        "logStream": "123456789012_CloudTrail_us-east-1",
        "subscriptionFilters": ["all"],
        "logEvents": (1_688_990_000_000_i64..).zip(events.lines()).map(event).collect::<Vec<_>>(),
    });
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(delivery.to_string().as_bytes()).unwrap();
    let data = STANDARD.encode(gzip.finish().unwrap());
    let payload = json!({ "awslogs": { "data": data } }).to_string().into_bytes();
    if let Some(path) = std::env::var_os("PAYLOAD") {
        std::fs::write(path, &payload).unwrap();
    }
    payload
}
