//! Many hostile clients at once, and one that is not.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fake_domain::{FakeDomain, Fault, Options};
use futures_util::future::join_all;
use hyper::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::program::{Program, command, files, path};
use crate::support::{Connection, allow, get, patiently, request};

#[tokio::test(flavor = "multi_thread")]
async fn listed_clients_are_served_under_hostile_load() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    domain.judge_requests(|seen| (seen.target == "/large").then(|| Fault::status(200, Bytes::from_static(&LARGE))));
    let folder = files(&domain.url(), &allow("127.0.0.1"));
    let config = path(&folder, "trailgate.toml");
    // However long the machine takes for all of it, none of the slow heads and waiting uploads is out of time.
    let limits = "[limits]\nmax_body = \"4 MiB\"\nbuffer_memory = \"8 MiB\"\n\
                  header_timeout = \"1 h\"\nbody_timeout = \"1 h\"\n";
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + limits).unwrap();
    let program = Program::of(command(&["run", "--config", &config]), folder).await;
    assert_eq!(program.status().await, StatusCode::OK);
    let before = memory(&program, "VmRSS");

    let address = program.address;
    let mut idle = Vec::new();
    for _ in 0..1000 {
        let mut connection = Connection::open(address).await;
        assert_eq!(connection.send(get("/")).await.status(), StatusCode::OK);
        idle.push(connection);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    let slow = (0..100).map(|_| tokio::spawn(drip(address, b"x", 50, Arc::clone(&is_over))));
    let by_the_header = (0..10).map(|_| tokio::spawn(drip(address, b"x: 1\r\n", 1000, Arc::clone(&is_over))));
    let slow: Vec<_> = slow.chain(by_the_header).collect();
    let mut deaf = Vec::new();
    for _ in 0..10 {
        // The head has arrived, and the body is never read.
        deaf.push(Connection::open(address).await.begin(get("/large")).await);
    }
    let uploads = (0..200).map(|_| async move {
        let upload = request("POST", "/_upload", &[], vec![b'x'; 100 * 1024]);
        Connection::open(address).await.send(upload).await.status()
    });
    let uploads = tokio::spawn(join_all(uploads));

    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let asked = Instant::now();
        assert_eq!(program.status().await, StatusCode::OK);
        slowest = slowest.max(asked.elapsed());
    }
    let uploads = patiently(uploads).await.unwrap();
    let busy = uploads.iter().filter(|status| **status == StatusCode::SERVICE_UNAVAILABLE).count();
    is_over.store(true, Ordering::Relaxed);
    assert!(patiently(join_all(slow)).await.into_iter().all(|was_open| was_open.unwrap()), "a slow head was cut early");

    let taken = memory(&program, "VmHWM") - before;
    println!("slowest {slowest:?}, {busy} of 200 uploads turned away, {} KiB taken", taken / 1024);
    assert_eq!(busy, 0, "an upload was turned away, though there was time for all");
    assert!(taken < (8 + FIXED_MIB) * 1024 * 1024, "{} KiB were taken", taken / 1024);
}

#[tokio::test]
async fn list_of_100000_entries_is_loaded_in_little_memory() {
    let domain = FakeDomain::start(Options::default()).await.unwrap();
    let start = async |allowlist: &str| {
        let folder = files(&domain.url(), allowlist);
        let config = path(&folder, "trailgate.toml");
        Program::of(command(&["run", "--config", &config]), folder).await
    };
    let client = allow("127.0.0.1");
    let before = memory(&start(&client).await, "VmHWM");
    let entry = |n: u32| format!("[[allow]]\ncidr = \"{}\"\nname = \"user{n}@example.com\"\n", Ipv4Addr::from_bits(n));
    let list = (0..100_000).map(|n| entry(0x0a00_0000 + n)).chain([client]).collect::<String>();
    let mut program = start(&list).await;
    let taken = (memory(&program, "VmHWM") - before) / 1024 / 1024;
    // The previous list is in effect meanwhile.
    program.replace_allowlist(&list.replace("user167772160@", "other@"));
    assert_eq!(program.event("allowlist reloaded").await["added"], 1);
    let reloaded = (memory(&program, "VmHWM") - before) / 1024 / 1024;
    println!("{taken} MiB taken, {reloaded} by the reload");
    assert!(taken < 48 && reloaded < 64, "{taken} MiB taken, {reloaded} by the reload");
}

/// Sends a head piece by piece, and returns whether the proxy still accepted bytes at the end.
async fn drip(address: SocketAddr, piece: &[u8], pause_ms: u64, is_over: Arc<AtomicBool>) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n").await.unwrap();
    while !is_over.load(Ordering::Relaxed) {
        if stream.write_all(piece).await.is_err() {
            return false;
        }
        sleep(Duration::from_millis(pause_ms)).await;
    }
    true
}

/// Bytes, by what `/proc` calls them.
fn memory(program: &Program, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// The memory that 1,300 connections may use on top of the body budget, responses in flight included.
const FIXED_MIB: u64 = 48;

static LARGE: [u8; 4 * 1024 * 1024] = [0; 4 * 1024 * 1024];
