//! Benchmarks of each part of a request on one core: `cargo bench --bench parts`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::Credentials;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method, Uri};
use trailgate::allowlist::Entries;
use trailgate::{AccessLog, ClientAddress, LogFailurePolicy, LogFormat, NonBlockingWriter, RequestId, RequestRecorder};
use trailgate_client::{Signer, SigningParams, Target};

criterion_group!(benches, allowlist, target, sign, access_line);
criterion_main!(benches);

/// Benchmarks lists of 10 and of 100,000 entries, each with as many clients as can be connected at a time.
fn allowlist(criterion: &mut Criterion) {
    let now = SystemTime::now();
    let mut random = fastrand::Rng::with_seed(1);
    let mut group = criterion.benchmark_group("allowlist");
    for size in [10, 100_000] {
        let blocks = blocks(size, &mut random);
        let entries = entries(&blocks);
        for clients in [16, 256, 4096] {
            let clients: Vec<IpAddr> = (0..clients).map(|_| client(&blocks, &mut random)).collect();
            let order: Vec<_> = (0..65_536).map(|_| clients[random.usize(..clients.len())]).collect();
            let mut turn = order.iter().cycle();
            let name = format!("{size}_entries");
            group.bench_function(BenchmarkId::new(name, format!("{}_clients", clients.len())), |bencher| {
                bencher
                    .iter(|| entries.find(*turn.next().expect("the order is endless"), now).expect("is listed").access);
            });
        }
    }
    group.finish();
}

fn target(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("target");
    for (name, path, query) in TARGETS {
        group.bench_function(*name, |bencher| {
            bencher.iter(|| Target::canonical(black_box(path), black_box(*query)).expect("is a good target"));
        });
    }
    group.finish();
}

fn sign(criterion: &mut Criterion) {
    let signer =
        Signer::new(&Authority::from_static("search-trail-abc123.eu-west-1.es.amazonaws.com"), "eu-west-1", "es");
    let body_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("token".repeat(200)), None, "bench");
    let mut group = criterion.benchmark_group("sign");
    for (name, path, query) in TARGETS {
        let target = Target::canonical(path, *query).expect("is a good target");
        let (method, time) = (&Method::GET, SystemTime::now());
        let signing = SigningParams { method, target: &target, body_sha256, credentials: &credentials, time };
        group.bench_function(*name, |bencher| {
            let mut headers = HeaderMap::new();
            bencher.iter(|| signer.sign(black_box(&signing), &mut headers));
        });
    }
    group.finish();
}

/// Benchmarks the cost of a line for a request. The log's own thread discards the lines, and lines beyond the queue's
/// capacity are dropped.
fn access_line(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("access_line");
    for (name, format) in [("json", LogFormat::Json), ("text", LogFormat::Text)] {
        let writer = NonBlockingWriter::start(io::sink(), |_| String::new()).expect("a thread can be started");
        let log = AccessLog::new(Some(writer), format, LogFailurePolicy::Serve, false);
        let recorder = RequestRecorder::new(log, Arc::default());
        let (peer, now) = (ClientAddress::new(IpAddr::from([203, 0, 113, 7])), SystemTime::now());
        let uri = Uri::from_static("/cwl-2026.01.01/_search");
        group.bench_function(name, |bencher| {
            bencher.iter(|| recorder.begin(now, RequestId::new(1), &peer, Some((&Method::GET, &uri))));
        });
    }
    group.finish();
}

/// Generates blocks as in a typical allowlist: mostly single addresses, some networks.
fn blocks(size: usize, random: &mut fastrand::Rng) -> Vec<(u32, u32)> {
    let mut blocks = std::collections::HashSet::new();
    while blocks.len() < size {
        let length = [32, 32, 32, 32, 28, 24, 24, 16][random.usize(..8)];
        blocks.insert((random.u32(..) & (u32::MAX << (32 - length)), length));
    }
    let mut blocks: Vec<_> = blocks.into_iter().collect();
    blocks.sort_unstable();
    blocks
}

fn entries(blocks: &[(u32, u32)]) -> Entries {
    let mut text = String::new();
    for &(address, length) in blocks {
        let cidr = format!("{}/{length}", Ipv4Addr::from(address));
        writeln!(text, "[[allow]]\ncidr = \"{cidr}\"\nname = \"{cidr}\"").expect("a string takes every write");
    }
    Entries::parse(Path::new("allowlist.toml"), &text).expect("the entries are good")
}

/// Returns a random address within one of the blocks.
fn client(blocks: &[(u32, u32)], random: &mut fastrand::Rng) -> IpAddr {
    let (address, length) = blocks[random.usize(..blocks.len())];
    let host = random.u32(..).checked_shr(length).unwrap_or(0);
    Ipv4Addr::from(address | host).into()
}

/// A search of an API client, a search of Kibana with rison, and one with many characters to encode.
const TARGETS: &[(&str, &str, Option<&str>)] = &[
    ("search", "/cwl-2026.01.01/_search", Some("size=100&sort=@timestamp:desc")),
    (
        "kibana",
        "/_plugin/kibana/app/kibana",
        Some(
            "_g=(refreshInterval:(display:Off,pause:!f,value:0),time:(from:now-7d,mode:quick,to:now))&\
             _a=(columns:!(_source),index:'cwl-*',interval:auto,query:(match_all:()),sort:!('@timestamp',desc))",
        ),
    ),
    (
        "date_math",
        "/%3Ccwl-%7Bnow%2Fd%7D%3E,%3Ccwl-%7Bnow%2Fd-1d%7D%3E/_search",
        Some("q=eventName:Consol*+AND+NOT+errorCode:*"),
    ),
];
