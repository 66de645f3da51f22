//! Runs one part of a request a number of times, for `benches/instructions/run` to count the instructions:
//! `instructions PART TIMES`.

use std::convert::Infallible;
use std::env;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use trailgate::allowlist::Entries;
use trailgate::proxy::Proxy;
use trailgate::{
    AccessLog, BoundListener, Config, DefaultRoles, LogFailurePolicy, LogFormat, NonBlockingWriter, RequestRecorder,
    SigningRoles, Worker, allowlist, daemon, proxy,
};
use trailgate_client::{CredentialCache, RoleArn, SessionUser, Signer, SigningParams, Target};

fn main() -> anyhow::Result<()> {
    let mut arguments = env::args().skip(1).filter(|argument| argument != "--bench");
    let (Some(part), Some(times)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: instructions PART TIMES");
    };
    let times = times.parse()?;
    match part.as_str() {
        "target" => target(times),
        "sign" => sign(times),
        "allowlist" => find(times),
        "request" => run(request(times, 0))?,
        "roles" => run(request(times, ROLES))?,
        _ => anyhow::bail!("no such part: {part}"),
    }
    Ok(())
}

fn target(times: u32) {
    for _ in 0..times {
        black_box(Target::canonical(black_box(PATH), black_box(Some(QUERY))).expect("is a good target"));
    }
}

fn sign(times: u32) {
    let signer = Signer::new(&Authority::from_static(HOST), "eu-west-1", "es");
    let target = Target::canonical(PATH, Some(QUERY)).expect("is a good target");
    let (method, credentials, time) = (&Method::GET, signing_key(), noon());
    let body_sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let signing = SigningParams { method, target: &target, body_sha256, credentials: &credentials, time };
    let mut headers = HeaderMap::new();
    for _ in 0..times {
        signer.sign(black_box(&signing), &mut headers);
    }
}

fn find(times: u32) {
    let (entries, now) = (entries(), noon());
    for _ in 0..times {
        black_box(entries.find(black_box(IpAddr::from([127, 0, 0, 1])), now).expect("is listed"));
    }
}

fn run(part: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(part)
}

/// Sends a search through the proxy, from a client's socket to the domain's and back, all on this thread.
///
/// With `roles`, there are as many clients, each with an entry and a role of its own, and they take turns.
async fn request(times: u32, roles: u8) -> anyhow::Result<()> {
    let domain = TcpListener::bind(LOOPBACK).await?;
    let text = format!(
        "[upstream]\nendpoint = \"http://{}\"\n[aws]\nregion = \"eu-west-1\"\nservice = \"es\"\n",
        domain.local_addr()?
    );
    tokio::spawn(answer(domain));
    let mut config = Config::parse(Path::new("trailgate.toml"), &text)?;
    let limits = config.connections;
    let mut listener = config.listeners.remove(0);
    listener.address = LOOPBACK;
    let bound = BoundListener::bind(listener, None).await?;
    let address = bound.address()?;
    let (cache, refresher) = CredentialCache::new(SharedCredentialsProvider::new(signing_key()));
    tokio::spawn(refresher.run());
    let writer = NonBlockingWriter::start(io::sink(), |_| String::new())?;
    let access_log = AccessLog::new(Some(writer), LogFormat::Json, LogFailurePolicy::Serve, false);
    let (_publisher, allowlist) = allowlist::channel(if roles == 0 { entries() } else { entries_with_roles(roles) });
    let metrics = Arc::default();
    let recorder = RequestRecorder::new(access_log, Arc::clone(&metrics));
    let upstream = daemon::build_upstream(config.domain, cache)?;
    let assumer = Box::new(|role: &RoleArn, _: &SessionUser| SharedCredentialsProvider::new(session_key(role)));
    let (sessions, keeper) = upstream.role_sessions(assumer, config.roles.limits);
    tokio::spawn(keeper.run());
    let signing_roles = SigningRoles::new(DefaultRoles::default(), sessions);
    let shared = Arc::new(proxy::Shared::new(config.proxy, allowlist, signing_roles, recorder, metrics));
    let workers = vec![Worker::here(Proxy { shared: Arc::clone(&shared), upstream })];
    tokio::spawn(async move { proxy::serve(vec![bound], workers, limits, &shared, std::future::pending()).await });

    let mut clients = Vec::new();
    for number in 0..roles.max(1) {
        let socket = TcpSocket::new_v4()?;
        let ip = if roles == 0 { [127, 0, 0, 1] } else { [127, 0, 1, number] };
        socket.bind(SocketAddr::from((ip, 0)))?;
        clients.push(socket.connect(address).await?);
    }
    let asked = format!("GET {PATH}?{QUERY} HTTP/1.1\r\n{REQUEST_HEADERS}\r\n");
    let mut answer = vec![0; 4096];
    // The first request of each client begins its session: not counted, as it is before the warm-up in both runs.
    for turn in 0..times as usize + clients.len() {
        let index = turn % clients.len();
        let client = &mut clients[index];
        client.write_all(asked.as_bytes()).await?;
        let mut length = 0;
        while !answer[..length].ends_with(b"end") {
            let read = client.read(&mut answer[length..]).await?;
            anyhow::ensure!(read > 0, "the proxy closed the connection");
            length += read;
        }
        anyhow::ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer[..length]));
    }
    Ok(())
}

/// Serves as the domain: responds with the same 1 KiB to every request, which has no body.
async fn answer(domain: TcpListener) -> io::Result<Infallible> {
    loop {
        let (mut connection, _) = domain.accept().await?;
        tokio::spawn(async move {
            let answer = format!("HTTP/1.1 200 OK\r\n{ANSWER_HEADERS}content-length: 1024\r\n\r\n{:>1024}", "end");
            let mut head = vec![0; 8192];
            loop {
                let mut length = 0;
                while !head[..length].ends_with(b"\r\n\r\n") {
                    match connection.read(&mut head[length..]).await {
                        Ok(0) | Err(_) => return,
                        Ok(read) => length += read,
                    }
                }
                if connection.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn entries() -> Entries {
    let others = (0..9).map(|n| format!("10.{n}.0.0/16"));
    let entry = |cidr| format!("[[allow]]\ncidr = \"{cidr}\"\nname = \"{cidr}\"\n");
    let text: Vec<_> = others.chain(["127.0.0.1".to_owned()]).map(entry).collect();
    Entries::parse(Path::new("allowlist.toml"), &text.concat()).expect("the entries are good")
}

fn entries_with_roles(count: u8) -> Entries {
    let entry = |n| {
        let role = format!("arn:aws:iam::123456789012:role/trailgate/Role{n}");
        format!("[[allow]]\ncidr = \"127.0.1.{n}\"\nname = \"user{n}@example.com\"\nrole = \"{role}\"\n")
    };
    let text: Vec<_> = (0..count).map(entry).collect();
    Entries::parse(Path::new("allowlist.toml"), &text.concat()).expect("the entries are good")
}

/// Returns keys of a session of `role`, with a token as long as those of [`signing_key`].
fn session_key(role: &RoleArn) -> Credentials {
    let token = format!("{:0>1000}", role.name());
    Credentials::new(format!("ASIA{}", role.name()), "secret", Some(token), None, "bench")
}

fn noon() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_hours(500_004)
}

fn signing_key() -> Credentials {
    Credentials::new("AKIDEXAMPLE", "secret", Some("token".repeat(200)), None, "bench")
}

/// Clients with a role of their own.
const ROLES: u8 = 200;
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const HOST: &str = "search-trail-abc123.eu-west-1.es.amazonaws.com";
const PATH: &str = "/cwl-2026.01.01/_search";
const QUERY: &str = "size=100&sort=@timestamp:desc";

/// The headers of a browser.
const REQUEST_HEADERS: &str = "host: gate.example:9200\r\nconnection: keep-alive\r\naccept: application/json, text/plain, */*\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36\r\n\
    accept-encoding: gzip, deflate\r\naccept-language: en-GB,en;q=0.9\r\ncookie: a=0123456789abcdef\r\n";

/// The headers of a domain.
const ANSWER_HEADERS: &str = "date: Thu, 26 Nov 2026 12:00:00 GMT\r\ncontent-type: application/json; charset=UTF-8\r\n\
    connection: keep-alive\r\naccess-control-allow-origin: *\r\nx-amzn-requestid: 0b6fd5b4-5b1c-4d2d-8f3f-6c1d0d0e0f00\r\n";
